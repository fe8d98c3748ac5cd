# import.sh LINE…: imports a Postfix with these lines in main.cf into a copy of $FROM, or into a new directory, and prints its
# files. The case has the other lines of main.cf in `base`.
rm -rf new
if [ "$FROM" ]; then cp -pr "$FROM" new; else mkdir new; fi
cat base > etc/main.cf
printf '%s\n' "$@" >> etc/main.cf
touch -d '1 minute ago' etc/*
postmapd import -c etc --dir new $FORCE || echo "code $?"
for file in $(ls new); do echo "-- $file"; sed s/CANARY/secret/i "new/$file"; done
