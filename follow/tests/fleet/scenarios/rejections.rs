//! A database that has become another one: the last tables stay active.

use crate::apparatus::client::Reply;
use crate::apparatus::eventually;
use crate::apparatus::senders::{login, next_hop, sender};

/// What happens to the tables, what undoes it, and what the log must name.
const CASES: [(&str, &str, &str); 4] = [
    // All rows, with TRUNCATE, which records no keys.
    (
        "CREATE TABLE kept AS TABLE own.relay; TRUNCATE own.relay",
        "INSERT INTO own.relay SELECT * FROM kept; DROP TABLE kept",
        "a table has become empty",
    ),
    (
        "ALTER TABLE own.credential RENAME TO other",
        "ALTER TABLE own.other RENAME TO credential",
        "own.credential",
    ),
    (
        "REVOKE SELECT ON own.relay FROM reader",
        "GRANT SELECT ON own.relay TO reader",
        "permission denied",
    ),
    (
        "ALTER TABLE own.relay RENAME COLUMN nexthop TO other",
        "ALTER TABLE own.relay RENAME COLUMN other TO nexthop",
        "nexthop",
    ),
];

/// Each case in turn, with a change after it.
pub(crate) fn keep_the_last_tables(senders: u64) {
    let mut fleet = super::bad_rows::start(senders);
    let server = &fleet.servers[0];
    for ((broken, corrected, named), transaction) in CASES.into_iter().zip(1..) {
        let log = server.follower_log().len();
        fleet.sql.run(broken);
        eventually(
            || server.follower_log()[log..].to_owned(),
            |log| log.contains(named),
        );
        let last = [next_hop(transaction - 1), login(transaction - 1)].map(|value| Reply::found(&value));
        let mut client = server.client();
        let polls = (0..15).map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            client.pair(&sender(0))
        });
        for pair in polls.collect::<Vec<_>>() {
            assert_eq!(pair, last, "{broken}");
        }
        let lines = server.follower_log()[log..]
            .lines()
            .filter(|line| line.contains(named))
            .count();
        assert!(lines <= 2, "{broken}: {}", &server.follower_log()[log..]);
        fleet.sql.run(corrected);
        fleet.sql.run(&format!(
            "BEGIN; UPDATE own.relay SET nexthop = '{}'; UPDATE own.credential SET password = 'password{transaction}'; COMMIT",
            next_hop(transaction)
        ));
        fleet.wait_for_transaction(0, transaction);
    }
}

/// With `empty = "allow"`, an empty result is taken.
pub(crate) fn take_an_empty_table_if_allowed(senders: u64) {
    let mut fleet = super::bad_rows::start(senders);
    fleet.sql.run("DELETE FROM own.relay");
    let source = fleet.postgres.source("reader");
    let queries = super::bad_rows::QUERIES;
    let server = &mut fleet.servers[0];
    server.stop_follower();
    server.set(&format!(
        "source = \"{source}\"\ntls = \"off\"\n{queries}empty = \"allow\"\n"
    ));
    server.start_follower();
    server.wait_for_answer("relayhost", &sender(0), &Reply::NotFound);
}
