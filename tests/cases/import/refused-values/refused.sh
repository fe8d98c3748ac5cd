# refused.sh LIST LINE [--dry-run]: imports a table of that list with a good line and this one, and says where that changes a file.
rm -rf other
cp -pr etc other
printf '@fine.test %s\n%s\n' "$([ "$1" = relays ] && echo fine || echo u:p)" "$2" > other/table
case $1 in
    relays) echo "sender_dependent_relayhost_maps = texthash:$DIR/other/table" ;;
    passwords) echo "smtp_sasl_password_maps = texthash:$DIR/other/table" ;;
    relayhost) echo "relayhost = $2" ;;
esac >> other/main.cf
touch -d '1 minute ago' other/*
postmapd import -c other --force $3
echo "code $?"
rm -rf other
ls -A > names
diff names.before names
md5sum --quiet -c sums
