# blocked.sh NAME: imports where there is a directory of this name, and where there is a link that leads nowhere.
rm -rf new
mkdir -p "new/$1"
postmapd import -c etc --dir new --force || echo "code $?"
ls -A new
rmdir "new/$1"
ln -s nowhere "new/$1"
postmapd import -c etc --dir new --force || echo "code $?"
ls -A new
rm -rf new
