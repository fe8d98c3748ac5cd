//! Promise: the source of a directory that a program generates is reported as of the same moment as its tables, and
//! `relay` does not edit such a directory.

use crate::harness::admin::Admin;
use crate::harness::client::{Both, Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, RELAYMAP, Setup};
use crate::harness::eventually;
use crate::harness::versions::{link_through_data, repoint};
use serde_json::{Value, json};
use std::fs;

const FILE: &str = "source.json";

fn source(revision: u64) -> Value {
    json!({
        "source": "postgres://postmapd@db1,db2:5433/mail",
        "revision": revision,
        "version": format!("version-{revision}"),
        "committed": "2026-01-02T03:04:05.5+01:00",
        "digests": {RELAYMAP: "sha256:00"},
        "more": [{"nested": true}],
    })
}

fn setup() -> Setup {
    Setup::new()
        .relaymap("@one.test [relay1.test]:587\n")
        .credentials("@one.test user:secret\n")
}

#[test]
fn the_source_is_in_status_metrics_page_and_command() {
    let (daemon, admin) = Admin::start(setup().file(FILE, source(70).to_string()));
    let expected = json!({
        "source": "postgres://postmapd@db1,db2:5433/mail",
        "revision": 70,
        "version": "version-70",
        "committed": "2026-01-02T03:04:05.5+01:00",
    });
    assert_eq!(admin.status()["source"], expected);
    let metrics = admin.metrics();
    assert_eq!(metrics.value("postmapd_source_revision").to_string(), "70");
    let committed = metrics.value("postmapd_source_committed_timestamp_seconds");
    assert_eq!(committed.to_string(), "1767319445.5");
    let page = admin.get("/").body;
    for text in [
        "<code>postgres://postmapd@db1,db2:5433/mail</code>, revision 70, committed ",
        "<time>2026-01-02 02:04:05 UTC</time>",
    ] {
        assert!(page.contains(text), "{text}\n{page}");
    }
    let printed = daemon
        .setup()
        .run_line(&format!("status --admin {}", admin.address));
    let line = printed.stdout.lines().nth(1).unwrap();
    let wanted = "source: postgres://postmapd@db1,db2:5433/mail, revision 70, committed 2026-01-02T";
    assert!(line.starts_with(wanted), "{line}");

    // It is one of the files of the snapshot: with an error beside it, the active revision stays.
    daemon.replace(FILE, source(71).to_string());
    eventually(
        || admin.status()["source"]["revision"].clone(),
        |revision| *revision == 71,
    );
    assert_eq!(admin.status()["generation"], 2);
    daemon.replace(RELAYMAP, "@one.test [relay1.test\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    daemon.replace(FILE, source(72).to_string());
    daemon.replace(CREDENTIALS, "@one.test user:other\n");
    let differing = |file: &str| {
        let status = admin.status();
        let files = status["files"].as_array().unwrap();
        let is_it = |entry: &&Value| entry["path"].as_str().unwrap().ends_with(file);
        files.iter().find(is_it).unwrap()["active"] == false
    };
    eventually(
        || (differing(FILE), differing(CREDENTIALS)),
        |both| *both == (true, true),
    );
    assert_eq!(admin.status()["source"]["revision"], 71);
    // Without the file there is no source.
    daemon.replace(RELAYMAP, "@one.test [relay2.test]:587\n");
    eventually(
        || admin.status()["source"]["revision"].clone(),
        |revision| *revision == 72,
    );
    fs::remove_file(daemon.dir().join(FILE)).unwrap();
    eventually(|| admin.status()["source"].clone(), Value::is_null);
    assert!(!admin.metrics().0.contains("postmapd_source_"));
}

#[test]
fn the_source_is_that_of_the_same_generation_as_the_tables() {
    let setup = setup();
    let volume = setup.dir().to_owned();
    let write = |number: u64| {
        let directory = volume.join(format!("..{number}"));
        fs::create_dir(&directory).unwrap();
        let relays = format!("@one.test [relay{number}.test]:587\n");
        fs::write(directory.join(RELAYMAP), relays).unwrap();
        fs::write(directory.join(CREDENTIALS), format!("@one.test user:{number}\n")).unwrap();
        fs::write(directory.join(FILE), source(number).to_string()).unwrap();
        repoint(&volume.join("..data"), format!("..{number}"));
    };
    for file in [RELAYMAP, CREDENTIALS] {
        fs::remove_file(volume.join(file)).unwrap();
    }
    write(1);
    link_through_data(&volume, &[RELAYMAP, CREDENTIALS, FILE]);
    let (daemon, admin) = Admin::start(setup);
    let mut client = Socketmap::to(&daemon, 0);
    let number = |reply: Reply| {
        let Reply::Found(value) = reply else {
            panic!("{reply:?}");
        };
        let digits = value.trim_start_matches("[relay").split('.').next().unwrap();
        digits.parse::<u64>().unwrap()
    };
    for next in 2..30 {
        write(next);
        loop {
            // The generation says that both are of one snapshot.
            let before = admin.status();
            let answered = number(client.query("relayhost", "x@one.test"));
            let after = admin.status();
            if before["generation"] == after["generation"] {
                assert_eq!(before["source"]["revision"], answered);
            }
            if answered == next && after["source"]["revision"] == next {
                break;
            }
        }
    }
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
}

#[test]
fn a_source_that_is_not_valid_is_a_warning_that_quotes_nothing_and_holds_up_no_table() {
    let (daemon, admin) = Admin::start(setup().file(FILE, source(70).to_string()));
    let mut client = Socketmap::to(&daemon, 0);
    let texts = [
        json!({"source": "postgres://postmapd:CANARY@db/mail", "revision": 1}).to_string(),
        json!({"source": "postgres://db/mail?password=CANARY"}).to_string(),
        json!({"source": "db", "revision": "CANARY"}).to_string(),
        json!({"source": "db", "committed": "CANARY"}).to_string(),
        "{\"source\": \"CANARY".to_owned(),
        "[".repeat(100_000) + "CANARY",
        format!("{{\"source\": \"{}\"}}", "CANARY".repeat(300_000)),
        String::new(),
    ];
    for (number, text) in texts.into_iter().enumerate() {
        daemon.replace(FILE, text);
        daemon.replace(RELAYMAP, format!("@one.test [new{number}.test]:587\n"));
        client.eventually_finds("relayhost", "x@one.test", &format!("[new{number}.test]:587"));
        eventually(
            || admin.status(),
            |status| {
                let findings = status["findings"].as_array().unwrap();
                status["source"].is_null()
                    && findings
                        .iter()
                        .any(|finding| finding["code"] == "bad-directory-source")
            },
        );
        assert_eq!(admin.get("/readyz").code, 200);
        let setup = daemon.setup();
        let edit = setup.run_line("relay add-domain two.test r.test");
        assert_eq!(edit.code, Some(1), "{edit:?}");
        assert!(edit.stderr.contains("a source that is unknown ("), "{edit:?}");
        let check = setup.run_line("check");
        assert!(
            check.code == Some(0) && check.stdout.contains("bad-directory-source"),
            "{check:?}"
        );
        let shown = [
            admin.get("/status").body,
            admin.get("/metrics").body,
            admin.get("/").body,
            format!("{edit:?}{check:?}"),
            daemon.log(),
        ];
        assert!(!shown.concat().contains("CANARY"), "{}", shown.concat());
    }
}

#[test]
fn no_answer_depends_on_the_source() {
    let (daemon, mut clients) = Both::start(setup());
    for text in [source(1).to_string(), "{".to_owned()] {
        let seen = daemon.log_lines();
        daemon.replace(FILE, text);
        daemon.wait_for_log_after(seen, |line| line.contains("loaded"));
        clients.finds("relayhost", "x@one.test", "[relay1.test]:587");
        clients.finds("sasl", "x@one.test", "user:secret");
        clients.finds("relayhost", "x@two.test", "");
    }
}
