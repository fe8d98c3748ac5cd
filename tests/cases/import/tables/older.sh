# older.sh TYPE LIST: imports a table whose source was edited after it was built, by proxymap(8).
echo '[one.test] one.test' > source
postmap -c etc "$1:$DIR/source"
echo '[one.test] two.test' > source
touch -d '30 seconds ago' source.*
sh "$REPOSITORY/tests/cases/import.sh" "$2 = proxy:$1:$DIR/source"
rm source.*
