# with.sh TEXT [ARGUMENT…]: checks a Postfix with this at the end of main.cf, in place of the lines of the same parameter.
text=$1
shift
rm -rf other
cp -pr etc other
sed -i "/^${text%% *} =/d" other/main.cf
printf '%b\n' "$text" >> other/main.cf
touch -d '1 minute ago' other/main.cf
postmapd postconf --check -c other "$@"
