# edit.sh ARGUMENT…: what the check says after this edit by postconf(1), for people and for machines.
rm -rf other
cp -pr etc other
postconf -c other "$@"
touch -d '1 minute ago' other/m*
postmapd postconf --check -c other
postmapd postconf --check -c other --format json
