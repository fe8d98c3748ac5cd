//! Promise: with `reload.errors = "holes"`, an invalid entry is a temporary error for the lookups that depend on it, and
//! blocks no other change. What is no table at all, or cannot be read, still changes nothing.
//!
//! `src/source/decision/tests.rs` tests the rule in any order of events.

use crate::harness::admin::Admin;
use crate::harness::client::{Both, Reply};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::eventually;
use std::fs;
use std::os::unix::fs::symlink;

const HOLES: &str = "[reload]\nerrors = \"holes\"\n";

const RELAYS: &str =
    "@one.test [relay1.test]:587\n@two.test [relay2.test]:587\nann@one.test [relay3.test]:587\n";
const LOGINS: &str = "@one.test user1:secret1\n@two.test user2:secret2\nann@one.test user3:secret3\n";

fn setup() -> Setup {
    let setup = Setup::new().relaymap(RELAYS).credentials(LOGINS);
    setup.env("RELAY_HOST", "default.test").env("RELAY_PORT", "587")
}

/// Waits until the socketmap answers this. What is answered meanwhile must be the answer before the edit.
#[track_caller]
fn takes_effect(clients: &mut Both, map: &str, key: &str, before: &Reply, after: &Reply) {
    eventually(
        || clients.socketmap.query(map, key),
        |reply| {
            assert!(reply == before || reply == after, "{map} {key}: {reply:?}");
            reply == after
        },
    );
}

#[test]
fn an_invalid_entry_is_a_temporary_error_for_its_own_lookups_and_blocks_no_other_change() {
    let setup = Both::ENDPOINTS
        .into_iter()
        .fold(setup().settings(HOLES), Setup::listen);
    let (daemon, admin) = Admin::start(setup);
    let mut clients = Both::to(&daemon);
    let default = Reply::found("[default.test]:587");
    // The entry of a domain is invalid; another is new.
    daemon.replace(
        RELAYMAP,
        RELAYS.replace("[relay1.test]", "[relay1.test") + "@new.test [relay4.test]:587\n",
    );
    let new = Reply::found("[relay4.test]:587");
    takes_effect(&mut clients, "relayhost", "x@new.test", &default, &new);
    for map in ["relayhost", "transport", "sasl"] {
        assert!(clients.query(map, "x@one.test").is_cannot_tell(), "{map}");
    }
    clients.finds("relayhost", "ann@one.test", "[relay3.test]:587");
    clients.finds("sasl", "ann@one.test", "user3:secret3");
    clients.finds("sasl", "x@two.test", "user2:secret2");
    assert_eq!(clients.relayhost("x@other.test"), default);

    // As after a start with errors: the file is not valid, the reload failed, and the log says what it means.
    daemon.wait_for_log(|line| line.contains("ERROR") && line.contains("applied with errors; lookups"));
    let status = admin.status();
    assert_eq!((&status["generation"], &status["errors"]), (&2.into(), &1.into()));
    assert_eq!(status["last_reload"]["outcome"], "failed");
    let files = status["files"].as_array().unwrap();
    let file = files.iter().find(|file| file["map"] == "relayhost").unwrap();
    assert_eq!((&file["valid"], &file["active"]), (&false.into(), &true.into()));
    let metrics = admin.metrics();
    assert!(metrics.value("postmapd_reloads_total{outcome=\"failed\"}") >= 1.0);
    let ready = admin.get("/readyz");
    assert!(
        ready.code == 503 && ready.body.contains(RELAYMAP),
        "{}",
        ready.body
    );
    assert!(admin.get("/").body.contains("their valid entries are active"));

    // A line whose key cannot be read may belong to any sender, so there is no default for any.
    daemon.replace(RELAYMAP, RELAYS.to_owned() + "@example..com [relay4.test]:587\n");
    eventually(
        || clients.socketmap.query("relayhost", "x@other.test"),
        Reply::is_cannot_tell,
    );
    clients.finds("relayhost", "x@one.test", "[relay1.test]:587");
    clients.finds("sasl", "x@two.test", "user2:secret2");
    assert!(clients.sasl("x@other.test").is_cannot_tell());

    // Nor do many further changes take a login from a sender that has not moved.
    for number in 0..5 {
        let text = format!("{RELAYS}@example..com [relay4.test]:587\n@new{number}.test [relay5.test]:587\n");
        daemon.replace(RELAYMAP, text);
        let sender = format!("x@new{number}.test");
        clients
            .socketmap
            .eventually_finds("relayhost", &sender, "[relay5.test]:587");
        clients.finds("sasl", "x@two.test", "user2:secret2");
    }

    // Both have errors, and each is fixed on its own.
    daemon.replace(CREDENTIALS, LOGINS.replace("user1:secret1", "user1"));
    eventually(
        || clients.socketmap.query("sasl", "x@one.test"),
        Reply::is_cannot_tell,
    );
    clients.finds("relayhost", "x@one.test", "[relay1.test]:587");
    daemon.replace(RELAYMAP, RELAYS);
    eventually(
        || clients.socketmap.query("relayhost", "x@other.test"),
        |reply| *reply == default,
    );
    let reply = clients.sasl("x@one.test");
    assert!(reply.is_cannot_tell(), "{reply:?}");
    assert_eq!(admin.get("/readyz").code, 503);
    daemon.replace(CREDENTIALS, LOGINS);
    eventually(|| admin.get("/readyz").code, |code| *code == 200);
    clients.finds("sasl", "x@one.test", "user1:secret1");
    assert!(!daemon.log().contains("secret"), "{}", daemon.log());
}

/// The answers that must not change.
#[track_caller]
fn is_unchanged(clients: &mut Both, what: &str) {
    for (map, key, value) in [
        ("relayhost", "x@one.test", "[relay1.test]:587"),
        ("relayhost", "x@two.test", "[relay2.test]:587"),
        ("relayhost", "x@other.test", "[default.test]:587"),
        ("sasl", "x@one.test", "user1:secret1"),
        ("sasl", "x@other.test", ""),
    ] {
        let expected = match value {
            "" => Reply::NotFound,
            value => Reply::found(value),
        };
        assert_eq!(clients.query(map, key), expected, "{what}: {map} {key}");
    }
}

#[test]
fn what_is_no_table_cannot_be_read_or_is_invalid_as_a_whole_changes_nothing() {
    type Act = fn(&Daemon);
    let link = |daemon: &Daemon, name: &str| {
        let beside = daemon.dir().join("beside");
        symlink("nowhere/at/all", &beside).unwrap();
        fs::rename(beside, daemon.dir().join(name)).unwrap();
    };
    let (daemon, mut clients) = Both::start(setup().settings(HOLES));
    let cases: [(&str, Act); 4] = [
        (RELAYMAP, |daemon| {
            daemon.replace(RELAYMAP, "<html>\n<body>404</body>\n");
        }),
        (CREDENTIALS, |daemon| {
            daemon.replace(CREDENTIALS, "$ANSIBLE_VAULT;1.1;AES256\n6638643965\n");
        }),
        (SETTINGS, |daemon| {
            daemon.replace(SETTINGS, format!("allow_users = [\"no-such-user\"]\n{HOLES}"));
        }),
        (SETTINGS, |daemon| {
            daemon.replace(SETTINGS, "[reload]\nerrors = \"hole\"\n");
        }),
    ];
    for (number, (name, act)) in cases.into_iter().enumerate() {
        let what = format!("case {number}, {name}");
        let seen = daemon.log_lines();
        act(&daemon);
        daemon.wait_for_log_after(seen, |line| line.contains("reload rejected, keeping"));
        is_unchanged(&mut clients, &what);
        // Nor does an invalid entry beside it, which alone would take effect.
        let seen = daemon.log_lines();
        let other = if name == RELAYMAP { CREDENTIALS } else { RELAYMAP };
        let texts = [(RELAYMAP, RELAYS), (CREDENTIALS, LOGINS)];
        let (_, text) = texts.into_iter().find(|(file, _)| *file == other).unwrap();
        daemon.replace(other, format!("{text}@three.test [\n"));
        daemon.wait_for_log_after(seen, |line| line.contains("reload rejected, keeping"));
        is_unchanged(&mut clients, &what);
        let seen = daemon.log_lines();
        daemon.replace(other, text);
        daemon.replace(RELAYMAP, RELAYS);
        daemon.replace(CREDENTIALS, LOGINS);
        daemon.replace(SETTINGS, HOLES);
        daemon.wait_for_log_after(seen, |line| line.contains("match the active configuration again"));
    }
    // An unreadable file, while an invalid entry is active already.
    let seen = daemon.log_lines();
    daemon.replace(RELAYMAP, format!("{RELAYS}@three.test [\n"));
    daemon.wait_for_log_after(seen, |line| line.contains("applied with errors"));
    for name in [RELAYMAP, CREDENTIALS, SETTINGS] {
        let text = fs::read(daemon.dir().join(name)).unwrap();
        let seen = daemon.log_lines();
        link(&daemon, name);
        daemon.wait_for_log_after(seen, |line| line.contains("reload rejected, keeping"));
        is_unchanged(&mut clients, name);
        assert!(clients.relayhost("x@three.test").is_cannot_tell());
        let seen = daemon.log_lines();
        daemon.replace(name, text);
        daemon.wait_for_log_after(seen, |line| line.contains("match the active configuration again"));
    }
}

#[test]
fn a_missing_table_keeps_its_grace_period_and_the_setting_takes_effect_when_it_is_saved() {
    let (daemon, mut clients) = Both::start(setup());
    let bad = RELAYS.replace("[relay1.test]", "[relay1.test");
    let seen = daemon.log_lines();
    daemon.replace(RELAYMAP, &bad);
    daemon.wait_for_log_after(seen, |line| line.contains("reload rejected, keeping"));
    is_unchanged(&mut clients, "by default");
    daemon.replace(SETTINGS, format!("{HOLES}empty_grace = 600\n"));
    eventually(
        || clients.socketmap.query("relayhost", "x@one.test"),
        Reply::is_cannot_tell,
    );
    // The other file is applied without the missing one, which keeps its content.
    fs::remove_file(daemon.dir().join(RELAYMAP)).unwrap();
    daemon.replace(CREDENTIALS, format!("{LOGINS}[relay9.test]:587 hop:secret\n"));
    clients
        .socketmap
        .eventually_finds("sasl", "[relay9.test]:587", "hop:secret");
    clients.finds("relayhost", "x@two.test", "[relay2.test]:587");
    assert!(clients.relayhost("x@one.test").is_cannot_tell());
    // With the default again, an invalid entry is rejected, once all is valid.
    daemon.replace(SETTINGS, "# the default\n");
    daemon.replace(RELAYMAP, RELAYS);
    clients
        .socketmap
        .eventually_finds("relayhost", "x@one.test", "[relay1.test]:587");
    let seen = daemon.log_lines();
    daemon.replace(RELAYMAP, &bad);
    daemon.wait_for_log_after(seen, |line| line.contains("reload rejected, keeping"));
    clients.finds("relayhost", "x@one.test", "[relay1.test]:587");
}
