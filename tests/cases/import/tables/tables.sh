# tables.sh TYPE: imports a Postfix with tables of this type, and shows where that differs from texthash.
for table in relays logins; do [ "$1" = texthash ] || postmap -c etc "$1:$DIR/$table"; done
sh "$REPOSITORY/tests/cases/import.sh" 'smtp_sender_dependent_authentication = yes' "sender_dependent_relayhost_maps = $1:$DIR/relays" \
    "smtp_sasl_password_maps = $1:$DIR/logins" > "$1" 2>&1
if [ "$1" = texthash ]; then cat "$1"; else diff texthash "$1" && echo "$1: the same"; fi
rm -f relays.* logins.*
