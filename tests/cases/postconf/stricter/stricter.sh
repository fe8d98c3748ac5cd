# stricter.sh PARAMETER VALUE [PARAMETER]: where main.cf has this, what is printed for it, what the commands make of it, and what
# the check says then.
rm -rf other
cp -pr etc other
sed -i "/^$1 =/d" other/main.cf
printf '%s = %s\n' "$1" "$2" >> other/main.cf
touch -d '1 minute ago' other/main.cf
postmapd postconf -c other > lines
grep -vc -e '^#' -e '^$' lines
grep -e "^$1 =" -e "^${3:-$1} =" -e Kept lines
# Every program of Postfix waits while main.cf has just changed.
postmapd postconf -c other --commands | sed "s/^postconf/touch -d '1 minute ago' other\/main.cf; &/" > commands
sh -eu commands
touch -d '1 minute ago' other/main.cf
postconf -c other -x "$1" smtp_tls_security_level | sort -u
postmapd postconf -c other --check
