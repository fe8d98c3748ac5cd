//! Promise: the explanation of a running server is that of the files it has active, for the same answer as a lookup gets,
//! with its generation and age, and what has changed on disk since; and without any login.

use crate::harness::admin::{Admin, percent_encoded};
use crate::harness::client::{Both, Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Finished, RELAYMAP, Setup};
use crate::harness::eventually;
use serde_json::{Value, json};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

const RELAYS: &str =
    "@one.test [relay1.test]:587\nboss@one.test relay9.test\n@direct.test\n<> [bounce.test]\n@bad.test [x\n";
const PASSWORDS: &str =
    "@one.test SECRETUSER:CANARY\n[bounce.test] SECRETUSER:CANARY\n@direct.test SECRETUSER:CANARY\n";

fn setup() -> Setup {
    Setup::new().relaymap(RELAYS).credentials(PASSWORDS)
}

#[track_caller]
fn explained(admin: &Admin, map: &str, key: &str) -> Value {
    let reply = admin.get(&format!("/explain?map={map}&key={}", percent_encoded(key)));
    assert_eq!(
        (reply.code, reply.header("content-type")),
        (200, Some("application/json")),
        "{}",
        reply.body
    );
    reply.json()
}

fn explain_by_command(admin: &Admin, setup: &Setup, arguments: &str) -> Finished {
    setup.run_line(&format!("query --explain --admin {} {arguments}", admin.address))
}

/// Removes what only a running server says, and what it masks.
fn without_masks(mut explanation: Value) -> Value {
    for field in [
        "generation",
        "loaded",
        "age_seconds",
        "differing_files",
        "environment",
        "value",
        "postfix",
    ] {
        explanation.as_object_mut().unwrap().remove(field);
    }
    for list in ["credentials", "tls"] {
        if let Some(others) = explanation[list].as_array() {
            explanation[list] = others.iter().cloned().map(without_masks).collect();
        }
    }
    if explanation["relayhost"].is_object() {
        explanation["relayhost"] = without_masks(explanation["relayhost"].clone());
    }
    explanation
}

#[test]
fn the_server_explains_what_query_explains_from_its_files() {
    let (daemon, admin) = Admin::start(setup().env("DEFAULT_RELAY_HOST", "[default.test]"));
    for (map, key) in [
        ("relayhost", "Ann+x@One.test"),
        ("relayhost", "boss@one.test"),
        ("relayhost", "\"a b\"@one.test"),
        ("relayhost", "u@direct.test"),
        ("relayhost", "u@bad.test"),
        ("relayhost", "u@else.test"),
        ("relayhost", "<>"),
        ("relayhost", "ünï&=%+@one.test"),
        ("relayhost", ""),
        ("sasl", "ann@one.test"),
        ("sasl", "u@direct.test"),
        ("sasl", "[bounce.test]"),
        ("sasl", "relay1.test"),
        ("transport", "ann@one.test"),
        ("transport", "u@bad.test"),
        ("tls", "[relay1.test]:587"),
        ("tls", "nowhere.test"),
    ] {
        let of_server = explained(&admin, map, key);
        let of_files = daemon
            .setup()
            .run("query", &["--explain", "--format", "json", map, key]);
        let of_files: Value = of_files.json();
        assert_eq!(
            without_masks(of_server.clone()),
            without_masks(of_files.clone()),
            "{map} {key}"
        );
        let is_found = of_server["outcome"] == "found";
        match map {
            "sasl" if is_found => assert_eq!(of_server["value"], "********"),
            _ => assert_eq!(of_server["value"], of_files["value"], "{map} {key}"),
        }
        assert_eq!(
            (&of_server["generation"], &of_server["differing_files"]),
            (&json!(1), &json!([]))
        );
        let text = of_server.to_string();
        assert!(!text.contains("SECRETUSER") && !text.contains("CANARY"), "{text}");
        let reply = Socketmap::to(&daemon, 0).query(map, key);
        let outcome = match reply {
            Reply::Found(_) => "found",
            Reply::NotFound => "not_found",
            _ => "cannot_tell",
        };
        assert_eq!(of_server["outcome"], outcome, "{map} {key}");
    }
    // As a program may write it: a plus sign that is not encoded, and the encoding of forms.
    for (key, understood) in [
        ("ann+x@one.test", "ann+x@one.test"),
        ("%22a+b%22@one.test", "\"a b\"@one.test"),
    ] {
        let reply = admin.get(&format!("/explain?key={key}&map=relayhost"));
        assert_eq!(reply.json()["key"], understood);
    }
}

#[test]
fn of_a_long_list_the_first_next_hops_are_explained() {
    let list: Vec<String> = (0..3000).map(|number| format!("[r{number}.test]:587")).collect();
    let setup = Setup::new().relaymap(format!("@one.test {}\n", list.join(",")));
    let (daemon, admin) = Admin::start(setup);
    let object = explained(&admin, "relayhost", "x@one.test");
    assert_eq!(object["value"], list.join(","));
    // The sender, and a host and a next hop for each.
    assert_eq!(object["credentials"].as_array().unwrap().len(), 1 + 2 * 20);
    assert_eq!(object["next_hops_not_explained"], 2980);
    assert_eq!(
        explained(&admin, "transport", "x@one.test")["tls"]
            .as_array()
            .unwrap()
            .len(),
        20
    );
    let page = admin.get("/?sender=x@one.test").body;
    assert!(page.contains("Next hops that are not explained: 2980"), "{page}");
    assert!(page.len() < 1_000_000, "{}", page.len());
    let text = daemon
        .setup()
        .run_line("query --explain relayhost x@one.test")
        .exits(0)
        .stdout;
    assert!(
        text.contains("\nnext hops that are not explained: 2980\n"),
        "{text}"
    );
}

#[test]
fn a_query_without_a_map_or_a_key_is_refused_with_the_form_of_one() {
    let (_daemon, admin) = Admin::start(setup());
    for (query, message) in [
        ("", "/explain?map=MAP&key=KEY"),
        ("?map=sasl", "/explain?map=MAP&key=KEY"),
        ("?key=x", "/explain?map=MAP&key=KEY"),
        (
            "?map=nosuchmap&key=x",
            "the maps are relayhost, sasl, transport and tls",
        ),
        ("?map=sasl&key=%zz", "write %25"),
    ] {
        let reply = admin.get(&format!("/explain{query}"));
        assert_eq!(reply.code, 400, "{query}");
        assert!(
            reply.body.contains(message) && reply.body.ends_with('\n'),
            "{}",
            reply.body
        );
    }
}

#[test]
fn query_explains_by_the_running_server_with_the_exit_codes_of_query() {
    let (daemon, admin) = Admin::start(setup().env("DEFAULT_RELAY_HOST", "[default.test]:26"));
    // The command has neither these files nor these variables.
    let elsewhere = Setup::new();
    let ask = |arguments: &str| explain_by_command(&admin, &elsewhere, arguments);
    let path = daemon.dir().join(RELAYMAP).display().to_string();
    let answer = ask("relayhost Ann+x@One.test").exits(0);
    assert_eq!(answer.stderr, "");
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(lines[0], "relayhost Ann+x@One.test");
    assert_eq!(lines[2], "  answer   found: [relay1.test]:587");
    assert_eq!(lines[3], format!("  from     {path}:1"));
    assert!(
        lines.contains(&"sasl Ann+x@One.test") && lines.contains(&"  answer   found: ********"),
        "{lines:?}"
    );
    let last = lines.last().unwrap();
    assert_eq!(*last, "", "a blank line between answers");
    let server = lines[lines.len() - 2];
    assert!(
        server.starts_with("answered by the running server: generation 1, active since 20"),
        "{server}"
    );
    assert!(
        server.ends_with(" ago); the files on disk are the same"),
        "{server}"
    );
    assert!(
        ask("relayhost u@else.test")
            .exits(0)
            .stdout
            .contains("from     DEFAULT_RELAY_HOST")
    );
    ask("sasl u@direct.test").exits(1);
    let unsure = ask("relayhost u@bad.test").exits(75);
    assert!(
        unsure.stderr.starts_with("postmapd: u@bad.test: "),
        "{}",
        unsure.stderr
    );
    ask("relayhost u@bad.test ann@one.test").exits(75);
    ask("relayhost u@direct.test ann@one.test").exits(0);
    // Several, as JSON: what the server sends, one a line.
    let several = ask("--format json sasl ann@one.test <>").exits(0).stdout;
    let objects: Vec<Value> = several
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(
        (&objects[0]["value"], &objects[0]["generation"]),
        (&json!("********"), &json!(1))
    );
    assert_eq!(objects[1]["outcome"], "not_found");
    assert!(!several.contains("SECRETUSER"), "{several}");

    elsewhere
        .run_line("query --admin 127.0.0.1:1 relayhost x@one.test")
        .exits(2);
    let both = "query --explain --admin 127.0.0.1:1 --server socketmap:inet:127.0.0.1:1 relayhost x@one.test";
    elsewhere.run_line(both).exits(2);
    let nonsense = elsewhere
        .run_line("query --explain --admin nonsense relayhost x@one.test")
        .exits(2);
    assert!(
        nonsense
            .stderr
            .contains("is not the address of an admin listener"),
        "{}",
        nonsense.stderr
    );
    let nowhere = elsewhere.root().join("no-socket").display().to_string();
    let unreachable = elsewhere.run_line(&format!(
        "query --explain --admin unix:{nowhere} relayhost a@b.test c@d.test"
    ));
    let unreachable = unreachable.exits(75);
    assert_eq!(unreachable.stderr.lines().count(), 1, "{}", unreachable.stderr);
    // A server that is no admin listener.
    let maps = daemon.address(0);
    elsewhere
        .run_line(&format!("query --explain --admin {maps} relayhost a@b.test"))
        .exits(75);
}

#[test]
fn an_explanation_says_which_files_differ_on_disk_at_once() {
    let (daemon, admin) = Admin::start(setup());
    let path = |name: &str| daemon.dir().join(name).display().to_string();
    let differing = || explained(&admin, "relayhost", "ann@one.test")["differing_files"].clone();
    let generation = || explained(&admin, "relayhost", "ann@one.test")["generation"].clone();
    assert_eq!(differing(), json!([]));
    // Before the server has read it, or after, but never the same files with the old answer.
    for number in 0..20 {
        let relay = format!("[relay{number}.new.test]");
        daemon.replace(RELAYMAP, format!("@one.test {relay}\n"));
        let object = explained(&admin, "relayhost", "ann@one.test");
        assert!(
            object["value"] == relay || object["differing_files"] == json!([path(RELAYMAP)]),
            "{object}"
        );
    }
    eventually(differing, |files| *files == json!([]));
    // A rejected file, and one that waits for it.
    let before = generation();
    daemon.replace(RELAYMAP, "@one.test [relay\n");
    daemon.replace(CREDENTIALS, "@one.test other:other\n");
    eventually(|| admin.get("/readyz").body.lines().count(), |lines| *lines == 2);
    assert_eq!(differing(), json!([path(RELAYMAP), path(CREDENTIALS)]));
    assert_eq!(generation(), before);
    let answer = explain_by_command(&admin, &Setup::new(), "relayhost ann@one.test").exits(0);
    let expected = format!(
        "; these files differ on disk: {}, {}\n",
        path(RELAYMAP),
        path(CREDENTIALS)
    );
    assert!(answer.stdout.contains(&expected), "{}", answer.stdout);
    let status = admin.status();
    let files = status["files"].as_array().unwrap().iter();
    let differs: Vec<&Value> = files
        .filter(|file| file["differs"] == true)
        .map(|file| &file["path"])
        .collect();
    assert_eq!(differs, [&json!(path(RELAYMAP)), &json!(path(CREDENTIALS))]);
    // A file that vanished differs, while its content stays active.
    daemon.replace(RELAYMAP, "@one.test [relay1.test]:587\n");
    eventually(differing, |files| *files == json!([]));
    std::fs::remove_file(daemon.dir().join(CREDENTIALS)).unwrap();
    assert_eq!(differing(), json!([path(CREDENTIALS)]));
    let status = daemon
        .setup()
        .run_line(&format!("status --admin {}", admin.address))
        .stdout;
    assert!(
        status.contains("1 entry, changed on disk, not active yet"),
        "{status}"
    );
    let loaded = explained(&admin, "relayhost", "x")["loaded"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(humantime::parse_rfc3339(&loaded).unwrap() <= SystemTime::now());
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn files_that_only_the_reading_thread_may_look_at_differ_as_it_saw_them() {
    let setup = Setup::new()
        .relaymap("@one.test [relay1.test]:587\n")
        .credentials("");
    let directory = setup.dir().to_owned();
    set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    let (daemon, admin) = Admin::start(setup.arg("--user=daemon"));
    let differing = || explained(&admin, "relayhost", "ann@one.test")["differing_files"].clone();
    assert_eq!(differing(), json!([]));
    daemon.replace(RELAYMAP, "@one.test [relay1.test\n");
    let expected = json!([directory.join(RELAYMAP)]);
    eventually(differing, |files| *files == expected);
    daemon.replace(RELAYMAP, "@one.test [relay1.test]:587\n");
    eventually(differing, |files| *files == json!([]));
}

#[test]
fn the_lookups_of_a_moved_sender_are_explained_as_they_are_answered() {
    let setup = Setup::new()
        .relaymap("@one.test [old.test]:587\n")
        .credentials("@one.test SECRETUSER:OLD\nnew.test SECRETUSER:HOST\n");
    let (daemon, mut clients) = Both::start(Admin::wanted(setup));
    let admin = Admin::of(&daemon);
    daemon.replace(RELAYMAP, "@one.test [new.test]:587\n");
    eventually(
        || explained(&admin, "relayhost", "ann@one.test"),
        |object| object["generation"] == 2,
    );
    let object = explained(&admin, "relayhost", "ann@one.test");
    let lookups: Vec<(String, String)> = object["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lookup| {
            let word = |field: &str| lookup[field].as_str().unwrap().to_owned();
            (word("key"), word("outcome"))
        })
        .collect();
    let expected = [
        ("ann@one.test", "not_found"),
        ("new.test", "not_found"),
        ("[new.test]:587", "found"),
    ];
    assert_eq!(
        lookups,
        expected.map(|(key, outcome)| (key.to_owned(), outcome.to_owned()))
    );
    // The answers on one connection, in this order.
    assert_eq!(clients.socketmap.query("sasl", "ann@one.test"), Reply::NotFound);
    assert_eq!(clients.socketmap.query("sasl", "new.test"), Reply::NotFound);
    assert_eq!(
        clients.socketmap.query("sasl", "[new.test]:587"),
        Reply::found("SECRETUSER:OLD")
    );
    let alone = explained(&admin, "sasl", "ann@one.test");
    assert_eq!(alone["outcome"], "not_found");
    assert!(
        alone["reason"]
            .as_str()
            .unwrap()
            .contains("next hop changed within reload.in_flight"),
        "{alone}"
    );
    assert_eq!(alone["tried"], json!(["ann@one.test", "@one.test", "@.test"]));
    assert_eq!(alone["relayhost"]["value"], "[new.test]:587");
    explain_by_command(&admin, &Setup::new(), "sasl ann@one.test").exits(1);
}
