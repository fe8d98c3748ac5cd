# refused.sh TABLE: imports it after a good table, in either list, and says where that changes a file.
for list in sender_dependent_relayhost_maps smtp_sasl_password_maps; do
    rm -rf other
    cp -pr etc other
    printf '%s = texthash:%s/good, %s\n' "$list" "$DIR" "$1" >> other/main.cf
    touch -d '1 minute ago' other/main.cf
    postmapd import -c other --force
    echo "code $?"
done
rm -rf other
ls -A > names
diff names.before names
md5sum --quiet -c sums
