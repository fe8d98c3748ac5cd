//! Starts while the database is away.

use std::time::{Duration, Instant};

use crate::apparatus::client::Reply;
use crate::apparatus::eventually;
use crate::apparatus::fleet::{Fleet, wait_for_generation};
use crate::apparatus::mail_server::MailServer;
use crate::apparatus::senders::{login, next_hop, sender};

/// A server starts with what its directory has. Returns the time from the start of `postmapd serve` to its first answer.
pub(crate) fn measure(senders: u64) -> Duration {
    let mut fleet = Fleet::start(1, senders);
    fleet.change_one(3, 7);
    fleet.wait_for_transaction(3, 7);
    let revision: u64 = fleet
        .sql
        .value("SELECT revision FROM postmapd.state")
        .parse()
        .unwrap();
    let server = &mut fleet.servers[0];
    server.stop_follower();
    server.stop_serve();
    fleet.postgres.stop();

    server.start_follower();
    let begun = Instant::now();
    server.start_serve();
    let pair = server.client().pair(&sender(3));
    let answered = begun.elapsed();
    assert_eq!(pair, [next_hop(7), login(7)].map(|value| Reply::found(&value)));
    let source = &server.serve_status()["source"];
    assert_eq!(source["revision"], revision, "{source}");
    assert!(server.follower().is_running(), "{}", server.follower_log());
    answered
}

/// A database that takes longer than `hang` for each login is followed, because later attempts wait longer.
pub(crate) fn with_slow_logins(senders: u64) {
    let mut fleet = Fleet::new(1, senders);
    // For each connection, in seconds, before it is authenticated.
    fleet.postgres.set("pre_auth_delay = 1");
    let source = fleet.postgres.source("reader");
    let server = &mut fleet.servers[0];
    server.set(&format!("source = \"{source}\"\ntls = \"off\"\nhang = 0.5\n"));
    server.start_follower();
    wait_for_generation(server);
    let log = server.follower_log();
    assert!(log.contains("no answer within 500ms"), "{log}");
}

/// Without a directory and without a database a server cannot tell, and it answers when the database is back.
pub(crate) fn without_a_directory(senders: u64) {
    let mut fleet = Fleet::new(1, senders);
    fleet.postgres.stop();
    let server = &mut fleet.servers[0];
    server.start_follower();
    let log = |server: &MailServer| server.follower_log();
    eventually(|| log(server), |log| !log.is_empty());
    server.start_serve();
    for key in [sender(0), "unknown@other.test".to_owned()] {
        for reply in server.client().pair(&key) {
            assert!(reply.is_cannot_tell(), "{key}: {reply:?}");
        }
    }
    fleet.postgres.start_again();
    fleet.reconnect();
    fleet.wait_for_transaction(0, 0);
    let unknown = fleet.servers[0]
        .client()
        .ask_one("relayhost", "unknown@other.test");
    assert_eq!(unknown, Reply::NotFound);
}
