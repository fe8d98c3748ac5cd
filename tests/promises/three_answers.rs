//! Promise: found, not found and cannot tell are three answers, and in doubt the answer is *cannot tell*.
//!
//! The cases in tests/cases/answers have the answer for each key and client. They also start with invalid files:
//! without a valid snapshot to fall back to.

use crate::harness::client::{Both, Reply, Socketmap, TcpTable};
use crate::harness::daemon::{Daemon, RELAYMAP, SETTINGS, Setup};
use std::fs;

/// main.cf has the relays, and the server only the credentials.
const MAIN_CF: &str = "next_hops = \"main.cf\"\n";

/// Two domains and their credentials.
fn two_domains() -> Setup {
    Setup::new()
        .relaymap("@one.test [relay1.test]:587\n@two.test [relay2.test]:2525\n@direct.test\n")
        .credentials(
            "@one.test user1:secret1\n@two.test user2:secret2\n@direct.test user3:secret3\n\
             @elsewhere.test user4:secret4\n[relay1.test]:587 hop:hopsecret\nrelay2.test host:hostsecret\n",
        )
}

#[test]
fn found_and_not_found_are_encoded_as_their_protocol_specifies() {
    let (daemon, mut clients) = Both::start(two_domains());
    clients.socketmap.request("relayhost", "ann@one.test");
    assert_eq!(clients.socketmap.payload(), "OK [relay1.test]:587");
    clients.socketmap.request("relayhost", "ann@nowhere.test");
    assert_eq!(clients.socketmap.payload(), "NOTFOUND ");
    let mut table = TcpTable::to(&daemon, 1);
    table.send(b"get ann@one.test\n");
    assert_eq!(table.line(), b"200 [relay1.test]:587");
    table.send(b"get ann@nowhere.test\n");
    assert!(table.line().starts_with(b"500 "));
}

#[test]
fn a_missing_directory_is_not_an_empty_table() {
    let setup = Setup::new();
    fs::remove_dir(setup.dir()).unwrap();
    let setup = Both::ENDPOINTS.into_iter().fold(setup, Setup::listen);
    // It refuses to start or cannot tell, but it never answers that a sender has no relay.
    if let Ok(daemon) = Daemon::try_start(setup) {
        let mut clients = Both::to(&daemon);
        assert!(clients.relayhost("ann@one.test").is_cannot_tell());
        assert!(clients.sasl("ann@one.test").is_cannot_tell());
    }
}

#[test]
fn unknown_maps_and_malformed_requests_are_refused() {
    let (daemon, mut clients) = Both::start(two_domains());
    assert!(clients.socketmap.query("nosuchmap", "ann@one.test").is_refused());
    assert!(clients.socketmap.query("", "ann@one.test").is_refused());
    assert!(clients.socketmap.query("RELAYHOSTS", "ann@one.test").is_refused());
    // An unknown map is answered, and does not end the connection.
    clients.finds("relayhost", "ann@one.test", "[relay1.test]:587");

    for payload in ["", "relayhost", "hello"] {
        let mut client = Socketmap::to(&daemon, 0);
        netstring::WriteNetstring::write_netstring(&mut client.stream, payload).unwrap();
        assert!(client.reply().is_refused(), "{payload:?}");
    }
    for line in [
        "\n",
        "hello\n",
        "get\n",
        "gett ann@one.test\n",
        "put ann@one.test [x]\n",
        "get %zz\n",
        "get a%4\n",
    ] {
        let mut client = TcpTable::to(&daemon, 1);
        client.send(line.as_bytes());
        assert!(client.reply().is_cannot_tell(), "{line:?}");
    }
}

#[test]
fn no_reason_contains_a_key_a_value_or_a_credential() {
    let (daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("@one.test [CANARYHOST\n")
            .credentials("@one.test CANARYLOGIN:CANARYPASSWORD\n[CANARYHOP]:25 CANARYVALUE\n"),
    );
    let mut reasons = vec![
        clients.relayhost("canarysender@one.test").reason().to_owned(),
        clients.sasl("canarysender@one.test").reason().to_owned(),
        clients.sasl("[CANARYHOP]:25").reason().to_owned(),
        clients
            .socketmap
            .query("nosuchmap", "canarysender@one.test")
            .reason()
            .to_owned(),
    ];
    let mut table = TcpTable::to(&daemon, 2);
    table.send(b"put canarysender@one.test CANARYVALUE\n");
    reasons.push(table.reply().reason().to_owned());
    for reason in reasons {
        assert!(!reason.is_empty());
        assert!(!reason.to_lowercase().contains("canary"), "{reason:?}");
        assert!(reason.len() <= 200, "Postfix logs 200 characters: {reason:?}");
    }
}

#[test]
fn without_a_relay_map_and_a_default_relay_no_password_is_released_unless_relays_are_in_main_cf() {
    let credentials = "@one.test user1:secret1\n[relay1.test]:587 hop:hopsecret\n";
    let (daemon, mut clients) = Both::start(Setup::new().credentials(credentials));
    assert!(clients.sasl("ann@one.test").reason().contains("next_hops"));
    // A sender without a password has none, and a password of a next hop is only for that relay.
    assert_eq!(clients.sasl("nobody@nowhere.test"), Reply::NotFound);
    assert_eq!(clients.sasl("[relay1.test]:587"), Reply::found("hop:hopsecret"));
    daemon.replace(SETTINGS, MAIN_CF);
    clients
        .socketmap
        .eventually_finds("sasl", "ann@one.test", "user1:secret1");
    daemon.replace(RELAYMAP, "@one.test\n");
    clients.socketmap.eventually_finds("sasl", "ann@one.test", "");
}

#[test]
fn a_relay_map_lost_at_runtime_releases_no_password() {
    let settings = "[reload]\nempty_grace = 0.05\nin_flight = 0\n";
    let (daemon, mut clients) = Both::start(two_domains().settings(settings));
    assert_eq!(clients.sasl("ann@elsewhere.test"), Reply::NotFound);
    fs::remove_file(daemon.dir().join(RELAYMAP)).unwrap();
    // Over one protocol, because the edit may take effect between two requests.
    clients
        .socketmap
        .eventually_finds("relayhost", "ann@one.test", "");
    assert!(clients.sasl("ann@one.test").is_cannot_tell());
    assert!(clients.sasl("ann@elsewhere.test").is_cannot_tell());
}
