//! The tables: senders with a relay and a login each, both of which say in which transaction they were written.

use super::sql::Sql;

/// The address of a sender. There are 25 in a domain.
pub(crate) fn sender(number: u64) -> String {
    format!("sender{number}@domain{}.test", number / 25)
}

/// The relay that a transaction writes.
pub(crate) fn next_hop(transaction: u64) -> String {
    format!("[relay{transaction}.test]:587")
}

/// The login that a transaction writes.
pub(crate) fn login(transaction: u64) -> String {
    format!("user:password{transaction}")
}

/// The transaction of a relay.
pub(crate) fn transaction_of_next_hop(text: &str) -> Option<u64> {
    text.strip_prefix("[relay")?
        .strip_suffix(".test]:587")?
        .parse()
        .ok()
}

/// The transaction of a login.
pub(crate) fn transaction_of_login(text: &str) -> Option<u64> {
    text.strip_prefix("user:password")?.parse().ok()
}

/// Writes all senders in one transaction, whose number is 0.
pub(crate) fn fill(sql: &mut Sql, schema: &str, senders: u64) {
    let (relay, last) = (next_hop(0), senders - 1);
    let key = "'sender' || i || '@domain' || i / 25 || '.test'";
    sql.run(&format!(
        "BEGIN; \
         INSERT INTO {schema}.relay (key, nexthop) SELECT {key}, '{relay}' FROM generate_series(0, {last}) i; \
         INSERT INTO {schema}.credential (key, \"user\", password) SELECT {key}, 'user', 'password0' FROM generate_series(0, {last}) i; \
         COMMIT"
    ));
    sql.run("VACUUM ANALYZE");
}

/// The statements of a transaction that changes the relay and the login of one sender, without COMMIT.
pub(crate) fn change_one(number: u64, transaction: u64) -> String {
    let (key, relay) = (sender(number), next_hop(transaction));
    format!(
        "BEGIN; UPDATE postmapd.relay SET nexthop = '{relay}' WHERE key = '{key}'; \
         UPDATE postmapd.credential SET password = 'password{transaction}' WHERE key = '{key}'"
    )
}

/// The statements of a transaction that changes the relays and logins of all senders, without COMMIT.
pub(crate) fn change_all(transaction: u64) -> String {
    let relay = next_hop(transaction);
    format!(
        "BEGIN; UPDATE postmapd.relay SET nexthop = '{relay}'; \
         UPDATE postmapd.credential SET password = 'password{transaction}'"
    )
}
