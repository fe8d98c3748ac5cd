//! Promise: `postmapd check --against-server` shows what the checked files would change in the running server, before they
//! are moved into place, and no password.
//!
//! The oracle is the server: the files are moved into place, and exactly the announced senders get other answers.
//!
//! The server's environment is readable for root alone, so these tests need root.

use crate::harness::admin::Admin;
use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAY_TLS, RELAYMAP, SETTINGS, Setup};
use crate::harness::eventually;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const OLD: [(&str, &str); 3] = [
    (
        RELAYMAP,
        "@kept.test [relay1.test]:587\n@moved.test [relay1.test]:587\n@gone.test [relay1.test]:587\n\
         @excluded.test [relay1.test]:587\n@included.test\nboss@gone.test [relay2.test]:465\n",
    ),
    (
        CREDENTIALS,
        "@kept.test user:CANARY1\n@moved.test user:CANARY2\n[relay1.test]:587 user:CANARY3\n",
    ),
    (RELAY_TLS, "[relay1.test]:587 encrypt\n"),
];

const NEW: [(&str, &str); 3] = [
    (
        RELAYMAP,
        "# Comments and order change nothing.\n@moved.test [relay2.test]:465\n@Kept.test   [relay1.test]:587\n@excluded.test\n\
         @included.test [relay1.test]:587\n@new.test [relay3.test]\n",
    ),
    (
        CREDENTIALS,
        "@kept.test user:CANARY4\n[relay1.test]:587 user:CANARY3\n@new.test other:CANARY5\nboss@kept.test\n",
    ),
    (RELAY_TLS, "[relay1.test]:587 verify\n"),
];

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

/// A server of these files, and a directory beside its own.
fn start(files: &[(&str, &str)]) -> (Daemon, Admin, Setup) {
    let setup = Setup::new();
    write(setup.dir(), files);
    let (daemon, admin) = Admin::start(setup);
    let new = daemon.root().join("new");
    fs::create_dir(&new).unwrap();
    (daemon, admin, Setup::in_directory(&new))
}

fn check(setup: &Setup, admin: &Admin, words: &str) -> Finished {
    let ran = setup.run_line(&format!(
        "check --against-server --admin {} {words}",
        admin.address
    ));
    assert!(!format!("{ran:?}").contains("CANARY"), "{ran:?}");
    ran
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_changes_are_those_of_the_files_and_no_login_is_shown() {
    let (daemon, admin, new) = start(&OLD);
    write(new.dir(), &NEW);
    let ran = check(&new, &admin, "--format json").exits(1);
    let expected = json!({
        "generation": 1,
        "senders": [
            {"sender": "@excluded.test", "change": "excluded", "before": "[relay1.test]:587", "after": null},
            {"sender": "@gone.test", "change": "removed", "before": "[relay1.test]:587", "after": null},
            {"sender": "@included.test", "change": "moved", "before": null, "after": "[relay1.test]:587"},
            {"sender": "@moved.test", "change": "moved", "before": "[relay1.test]:587", "after": "[relay2.test]:465"},
            {"sender": "@new.test", "change": "added", "before": null, "after": "[relay3.test]"},
            {"sender": "boss@gone.test", "change": "removed", "before": "[relay2.test]:465", "after": null},
        ],
        "logins": [
            {"key": "@kept.test", "change": "changed"},
            {"key": "@moved.test", "change": "removed"},
            {"key": "@new.test", "change": "added"},
            {"key": "boss@kept.test", "change": "excluded"},
        ],
        "tls": [{"nexthop": "[relay1.test]:587", "before": "starttls encrypt", "after": "starttls verify"}],
        "default_relay": [],
        "settings": false,
        "restart": [],
    });
    assert_eq!(ran.json()["changes"], expected, "{}", ran.stderr);
    let text = check(&new, &admin, "").exits(1).stdout;
    let lines: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("the running server"))
        .collect();
    assert_eq!(lines[0], "the running server (generation 1): 11 changes");
    assert_eq!(lines.len(), 12, "{text}");
    for line in [
        "  @moved.test: moved: [relay1.test]:587 -> [relay2.test]:465",
        "  @excluded.test: excluded: [relay1.test]:587 -> direct",
        "  @kept.test: login changed",
        "  [relay1.test]:587: TLS: starttls encrypt -> starttls verify",
    ] {
        assert!(lines.contains(&line), "{line}\n{text}");
    }
    assert_eq!(admin.status()["generation"], 1, "it changes nothing");
    drop(daemon);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn in_place_exactly_the_announced_senders_get_other_answers_and_then_nothing_changes() {
    let (daemon, admin, new) = start(&OLD);
    write(new.dir(), &NEW);
    let changes = check(&new, &admin, "--format json").exits(1).json()["changes"].take();
    let announced: BTreeSet<&str> = changes["senders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["sender"].as_str().unwrap())
        .collect();
    let mut client = Socketmap::to(&daemon, 0);
    let mut answers = || -> BTreeMap<String, Reply> {
        let names = ["kept", "moved", "gone", "excluded", "included", "new", "other"];
        let domains = names.map(|name| format!("@{name}.test"));
        let senders = [domains.to_vec(), vec!["boss@gone.test".to_owned()]].concat();
        let ask = |sender: String| {
            let key = sender.strip_prefix('@').map(|domain| format!("x@{domain}"));
            let reply = client.query("relayhost", key.as_deref().unwrap_or(&sender));
            (sender, reply)
        };
        senders.into_iter().map(ask).collect()
    };
    let before = answers();
    for (name, _) in NEW {
        fs::rename(new.dir().join(name), daemon.dir().join(name)).unwrap();
    }
    let expected = Reply::found("[relay3.test]");
    eventually(&mut answers, |now| now["@new.test"] == expected);
    let after = answers();
    let differing: BTreeSet<&str> = before
        .iter()
        .filter(|(sender, reply)| after[*sender] != **reply)
        .map(|(sender, _)| sender.as_str())
        .collect();
    assert_eq!(differing, announced);
    // The last file may still be taking effect.
    let same = || check(&daemon.setup(), &admin, "");
    eventually(same, |ran| {
        ran.code == Some(0) && ran.stdout.ends_with("nothing changes\n")
    });
    let json = check(&daemon.setup(), &admin, "--format json").exits(0).json();
    assert_eq!(json["changes"]["senders"], json!([]));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn an_entry_for_many_senders_is_a_change_of_its_own() {
    let (_daemon, admin, new) = start(&OLD);
    let relay_map = format!("{}@.kept.test [relay4.test]\n@* [relay9.test]\n", OLD[0].1);
    let new = new
        .relaymap(relay_map.replace("@gone.test [relay1.test]:587\n", ""))
        .credentials(format!("{}@.kept.test user:CANARY7\n", OLD[1].1))
        .file(RELAY_TLS, OLD[2].1);
    let changes = check(&new, &admin, "--format json").exits(1).json()["changes"].take();
    assert_eq!(
        changes["senders"],
        json!([
            {"sender": "@*", "change": "added", "before": null, "after": "[relay9.test]"},
            {"sender": "@.kept.test", "change": "added", "before": null, "after": "[relay4.test]"},
            {"sender": "@gone.test", "change": "removed", "before": "[relay1.test]:587", "after": "[relay9.test]"},
        ])
    );
    assert_eq!(
        changes["logins"],
        json!([{"key": "@.kept.test", "change": "added"}])
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_key_or_a_next_hop_that_may_be_a_password_is_not_shown() {
    let (_daemon, admin, new) = start(&OLD);
    // A line of the credentials in the relay map, and a password in the column of the key.
    let new = new
        .relaymap("@one.test CANARYHOST\n")
        .credentials("CANARYWORD user:CANARY1\n");
    let changes = check(&new, &admin, "--format json").exits(1).json()["changes"].take();
    let of = |list: &Value, name: &str, key: &str| {
        let mut all = list.as_array().unwrap().iter();
        all.find(|change| change[name] == key).cloned()
    };
    let sender = of(&changes["senders"], "sender", "@one.test").unwrap();
    assert_eq!(sender["after"], "********");
    let login = of(&changes["logins"], "key", "********").unwrap();
    assert_eq!(login["change"], "added");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn files_with_an_error_change_nothing_and_are_reported() {
    let (_daemon, admin, new) = start(&OLD);
    write(new.dir(), &[(RELAYMAP, "@one.test [\n")]);
    let ran = check(&new, &admin, "").exits(1);
    assert!(ran.stdout.contains("bad-next-hop"), "{ran:?}");
    assert!(
        ran.stderr.contains("the server would reject these files"),
        "{ran:?}"
    );
    let json = check(&new, &admin, "--format json").exits(1).json();
    assert_eq!((&json["errors"], &json["changes"]), (&1.into(), &Value::Null));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn with_holes_an_invalid_entry_is_a_change_and_a_file_that_is_no_table_is_rejected() {
    let holes = "[reload]\nerrors = \"holes\"\n";
    let (daemon, admin, new) = start(&[&OLD[..], &[(SETTINGS, holes)]].concat());
    let bad = OLD[0]
        .1
        .replace("@moved.test [relay1.test]:587", "@moved.test [relay1.test");
    write(new.dir(), &[(RELAYMAP, &bad), OLD[1], OLD[2], (SETTINGS, holes)]);
    let ran = check(&new, &admin, "").exits(1);
    assert!(ran.stdout.contains("bad-next-hop"), "{ran:?}");
    let line = "  @moved.test: moved: [relay1.test]:587 -> cannot tell\n";
    assert!(ran.stdout.contains(line), "{ran:?}");
    // And so it is.
    fs::rename(new.dir().join(RELAYMAP), daemon.dir().join(RELAYMAP)).unwrap();
    let mut client = Socketmap::to(&daemon, 0);
    eventually(
        || client.query("relayhost", "x@moved.test"),
        Reply::is_cannot_tell,
    );
    write(new.dir(), &[(RELAYMAP, "<html>\n")]);
    let ran = check(&new, &admin, "").exits(1);
    assert!(
        ran.stderr.contains("the server would reject these files"),
        "{ran:?}"
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn what_is_active_and_no_longer_on_disk_is_unknown() {
    let (daemon, admin, new) = start(&OLD);
    write(new.dir(), &NEW);
    let path = daemon.dir().join(CREDENTIALS).display().to_string();
    daemon.replace(CREDENTIALS, "@one.test CANARY\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    let ran = check(&new, &admin, "--format json").exits(75);
    assert_eq!(ran.json()["changes"], Value::Null);
    let message = format!("the version of {path} that the server has active is no longer on disk");
    assert!(ran.stderr.contains(&message), "{ran:?}");
    daemon.replace(CREDENTIALS, OLD[1].1);
    eventually(|| check(&new, &admin, "").code, |code| *code == Some(1));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_files_of_a_server_with_a_relative_directory_are_known_where_it_runs() {
    let root = Setup::new();
    let tables = Setup::in_directory(root.dir()).relaymap(OLD[0].1);
    let relative = tables.without_dir_flag().env("POSTMAPD_DIR", "tables").within([
        "env",
        "-C",
        root.root().to_str().unwrap(),
    ]);
    let (_daemon, admin) = Admin::start(relative);
    let new = root.root().join("new");
    fs::create_dir(&new).unwrap();
    let new = Setup::in_directory(&new).relaymap(NEW[0].1);
    let within = new.clone().within(["env", "-C", root.root().to_str().unwrap()]);
    check(&within, &admin, "").exits(1);
    let ran = check(&new, &admin, "").exits(75);
    assert!(
        ran.stderr
            .contains("relative to the working directory of the server"),
        "{ran:?}"
    );
}

#[test]
fn without_an_answer_of_the_server_the_changes_are_unknown() {
    let setup = Setup::new().relaymap("@one.test [relay1.test]:587\n");
    let nowhere = Admin {
        address: "unix:/no/such".to_owned(),
    };
    let ran = check(&setup, &nowhere, "--format json").exits(75);
    let json = ran.json();
    assert_eq!((&json["errors"], &json["changes"]), (&0.into(), &Value::Null));
    assert!(
        ran.stderr.contains("what would change is unknown: /no/such"),
        "{ran:?}"
    );
    let none = setup.run_line("check --against-server").exits(75);
    assert!(
        none.stderr.contains("no admin listener is configured"),
        "{none:?}"
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_default_relay_and_its_login_are_compared_with_those_of_the_server() {
    let setup = Setup::new()
        .relaymap("@one.test [relay1.test]:587\n")
        .env("RELAY_HOST", "relay8.test")
        .env("RELAY_USER", "user")
        .env("RELAY_PASSWORD", "CANARY1");
    let (daemon, admin) = Admin::start(setup);
    let new = daemon.root().join("new");
    fs::create_dir(&new).unwrap();
    // Not the setup of the daemon, whose environment the command would have.
    let new = Setup::in_directory(&new).file(RELAYMAP, "");
    let changes =
        |setup: &Setup, code| check(setup, &admin, "--format json").exits(code).json()["changes"].take();
    let removed = changes(&new, 1);
    assert_eq!(
        removed["senders"],
        json!([{"sender": "@one.test", "change": "removed", "before": "[relay1.test]:587", "after": "[relay8.test]:25"}])
    );
    let text = check(&new, &admin, "").exits(1).stdout;
    let origin = format!(
        "evaluated with the environment of process {} (user root), whose files these are to replace",
        daemon.pid()
    );
    assert!(text.contains(&origin), "{text}");
    assert_eq!(
        (&removed["default_relay"], &removed["logins"]),
        (&json!([]), &json!([]))
    );
    let variables = "RELAY_HOST=relay9.test\nRELAY_USER=user\nRELAY_PASSWORD=CANARY2\n";
    let new = new
        .file("postmapd.env", variables)
        .relaymap("@one.test [relay1.test]:587\n")
        .settings("recipient_delimiter = \"-\"\n[limits]\nconnections = 7\n");
    let replaced = changes(&new, 1);
    assert_eq!(replaced["senders"], json!([]));
    assert_eq!(
        replaced["default_relay"],
        json!([{"variable": "RELAY_HOST", "before": "[relay8.test]:25", "after": "[relay9.test]:25"}])
    );
    assert_eq!(
        replaced["logins"],
        json!([{"key": "RELAY_USER and RELAY_PASSWORD", "change": "changed"}])
    );
    assert_eq!(
        (&replaced["settings"], &replaced["restart"]),
        (&true.into(), &json!(["limits.connections"]))
    );
}
