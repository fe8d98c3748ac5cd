//! A row of a query that no file can represent.

use std::time::{Duration, Instant};

use crate::apparatus::client::Reply;
use crate::apparatus::eventually;
use crate::apparatus::fleet::{Fleet, wait_for_generation};
use crate::apparatus::senders::{fill, login, next_hop, sender};

/// Tables that another program made, without any rule.
const TABLES: &str = "CREATE SCHEMA own; CREATE TABLE own.relay (key text, nexthop text); \
    CREATE TABLE own.credential (key text, \"user\" text, password text); \
    GRANT USAGE ON SCHEMA own TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA own TO reader";

/// The settings for these tables.
pub(crate) const QUERIES: &str = "[queries]\nrelay = 'SELECT key, nexthop FROM own.relay'\n\
    credentials = 'SELECT key, \"user\", password FROM own.credential'\nevery = '500ms'\n";

/// A fleet of one server that follows queries.
pub(crate) fn start(senders: u64) -> Fleet {
    let mut fleet = Fleet::new(0, 1);
    fleet.sql.run(TABLES);
    fill(&mut fleet.sql, "own", senders);
    let source = fleet.postgres.source("reader");
    let settings = format!("source = \"{source}\"\ntls = \"off\"\n{QUERIES}");
    let server = fleet.add(&settings);
    server.start_follower();
    wait_for_generation(server);
    server.start_serve();
    fleet.wait_for_transaction(senders - 1, 0);
    fleet
}

/// One transaction writes a bad row and a good one: the key of the bad one cannot be told, and the good one is answered.
/// Returns the time from the commit to both answers.
pub(crate) fn measure(senders: u64) -> Duration {
    let mut fleet = start(senders);
    let (bad, good, secret) = (sender(senders / 2), sender(1), "hunter2");
    let injected = format!("[{secret}.test]:587\n@injected.test [evil.test]:25");
    let begun = Instant::now();
    fleet.sql.run(&format!(
        "BEGIN; UPDATE own.relay SET nexthop = E'{}' WHERE key = '{bad}'; \
         UPDATE own.relay SET nexthop = '{}' WHERE key = '{good}'; \
         UPDATE own.credential SET password = 'password1' WHERE key = '{good}'; COMMIT",
        injected.replace('\n', "\\n"),
        next_hop(1),
    ));
    fleet.wait_for_transaction(1, 1);
    let took = begun.elapsed();
    let server = &fleet.servers[0];
    let mut client = server.client();
    for reply in client.pair(&bad) {
        assert!(reply.is_cannot_tell(), "{reply:?}");
    }
    let others = [next_hop(0), login(0)].map(|value| Reply::found(&value));
    assert_eq!(client.pair(&sender(senders / 2 + 1)), others);
    assert_eq!(client.ask_one("relayhost", "u@injected.test"), Reply::NotFound);
    // It is logged after the tables are published.
    let is_logged = |log: &String| log.contains(&bad) && log.contains("nexthop") && log.ends_with('\n');
    eventually(|| server.follower_log(), is_logged);
    let log = server.follower_log();
    assert!(!log.contains(secret) && !log.contains("injected"), "{log}");

    // Corrected, it is answered.
    fleet.sql.run(&format!(
        "UPDATE own.relay SET nexthop = '{}' WHERE key = '{bad}'",
        next_hop(2)
    ));
    server.wait_for_answer("relayhost", &bad, &Reply::found(&next_hop(2)));
    took
}
