# sh.sh FILE: runs the commands of this file. Every program of Postfix waits while main.cf has just changed.
sed "s/^postconf/touch -d '1 minute ago' etc\/main.cf; &/" "$1" > commands
sh -eu commands
touch -d '1 minute ago' etc/main.cf
