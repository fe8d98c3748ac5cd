//! The answers for senders that have moved, and for others, over both protocols.

use super::save;
use crate::harness::admin::Admin;
use crate::harness::client::{Reply, Socketmap, TcpTable};
use crate::harness::daemon::{Daemon, Setup};
use crate::harness::eventually;

const BEFORE: [&str; 2] = [
    "@a.test [r1.test]:587\n@b.test [r1.test]:587\n",
    "@a.test a:old\n@b.test b:stays\nr1.test host:entry\n[r1.test]:587 hop:one\n",
];
const AFTER: [&str; 2] = [
    "@a.test [r2.test]:587\n@b.test [r1.test]:587\n",
    "@a.test a:new\n@b.test b:stays\nr1.test host:entry\n[r1.test]:587 hop:one\n",
];

fn start(settings: &str) -> Daemon {
    let [relay_map, credentials] = BEFORE;
    Daemon::start(
        Setup::new()
            .relaymap(relay_map)
            .credentials(credentials)
            .settings(settings)
            .listen("socketmap:inet:127.0.0.1:0")
            .listen("tcp:127.0.0.1:0:sasl"),
    )
}

fn relayhost_becomes(daemon: &Daemon, next_hop: &str) {
    let mut client = Socketmap::to(daemon, 0);
    client.eventually_finds("relayhost", "u@a.test", next_hop);
}

/// Waits until both files are those of [`AFTER`]: they are renamed one after the other, and may take effect so.
fn both_take_effect(daemon: &Daemon) {
    let mut client = Socketmap::to(daemon, 0);
    eventually(
        || client.login("u@a.test"),
        |login| *login == Reply::found("a:new"),
    );
}

#[test]
fn the_login_of_a_moved_sender_is_answered_at_its_next_hop_over_both_protocols() {
    let daemon = start("");
    save(&daemon, &AFTER.map(ToOwned::to_owned));
    both_take_effect(&daemon);
    let mut socketmap = Socketmap::to(&daemon, 0);
    let mut tcp = TcpTable::to(&daemon, 1);
    let mut query: [&mut dyn FnMut(&str) -> Reply; 2] =
        [&mut |key| socketmap.query("sasl", key), &mut |key| tcp.query(key)];
    for query in &mut query {
        for (next_hop, login) in [
            ("[r1.test]:587", Reply::found("a:old")),
            ("[R2.test]:587", Reply::found("a:new")),
        ] {
            let host = next_hop.trim_matches(['[', ']']).split(']').next().unwrap();
            assert_eq!(query("u@a.test"), Reply::NotFound);
            // So it is even where the file has an entry for the host, because that would hide the next hop.
            assert_eq!(query(host), Reply::NotFound);
            assert_eq!(query(next_hop), login);
        }
        assert_eq!(query("u@a.test"), Reply::NotFound);
        assert_eq!(query("fallback.test"), Reply::NotFound);
        assert!(query("[fallback.test]:587").is_cannot_tell());
        // Senders that did not move are answered as before, and so is mail of the null sender.
        assert_eq!(query("u@b.test"), Reply::found("b:stays"));
        assert_eq!(query("r1.test"), Reply::found("host:entry"));
        assert_eq!(query("[r1.test]:587"), Reply::found("hop:one"));
    }
}

#[test]
fn moved_senders_are_remembered_for_the_configured_time_and_no_longer() {
    let daemon = start("[reload]\nin_flight = 0.3\n");
    save(&daemon, &AFTER.map(ToOwned::to_owned));
    relayhost_becomes(&daemon, "[r2.test]:587");
    let mut client = Socketmap::to(&daemon, 0);
    client.eventually_finds("sasl", "u@a.test", "a:new");
    let daemon = start("[reload]\nin_flight = 0\n");
    save(&daemon, &AFTER.map(ToOwned::to_owned));
    relayhost_becomes(&daemon, "[r2.test]:587");
    Socketmap::to(&daemon, 0).eventually_finds("sasl", "u@a.test", "a:new");
}

#[test]
fn status_and_metrics_count_the_senders_in_flight() {
    let [relay_map, credentials] = BEFORE;
    let (daemon, admin) = Admin::start(Setup::new().relaymap(relay_map).credentials(credentials));
    let count = || admin.metrics().value("postmapd_senders_in_flight");
    assert!(count() < 0.5);
    save(&daemon, &AFTER.map(ToOwned::to_owned));
    eventually(count, |count| (0.5..1.5).contains(count));
    assert_eq!(admin.status()["senders_in_flight"], 1);
}

#[test]
fn two_moved_senders_at_once_on_one_connection_get_cannot_tell() {
    let daemon = start("");
    let both = [
        AFTER[0].replace("[r1.test]:587", "[r3.test]:587"),
        AFTER[1].to_owned(),
    ];
    save(&daemon, &both);
    relayhost_becomes(&daemon, "[r2.test]:587");
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(client.query("sasl", "u@a.test"), Reply::NotFound);
    for key in ["u@b.test", "r1.test", "[r1.test]:587", "u@a.test"] {
        let reply = client.query("sasl", key);
        assert!(
            reply.is_cannot_tell() && reply.reason().contains("proxy:"),
            "{key}: {reply:?}"
        );
    }
}
