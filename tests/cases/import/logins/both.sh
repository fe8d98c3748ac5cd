# both.sh LINE…: imports it with and without authentication by sender, and shows where that differs.
for by_sender in yes no; do
    sh "$REPOSITORY/tests/cases/import.sh" "smtp_sender_dependent_authentication = $by_sender" "$@" > "$by_sender" 2>&1
done
cat yes
diff yes no
