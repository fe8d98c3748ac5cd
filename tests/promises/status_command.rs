//! Promise: `postmapd status` reports the state of a running server to a person, to a script and to a health check.

use crate::harness::admin::Admin;
use crate::harness::daemon::{CREDENTIALS, Finished, RELAY_TLS, RELAYMAP, Setup};
use crate::harness::eventually;
use std::net::TcpListener;

fn setup() -> Setup {
    Setup::new()
        .relaymap("@one.test [relay1.test]:587\n")
        .credentials("@one.test user:CANARY\n")
}

fn status(setup: &Setup, words: &str) -> Finished {
    let ran = setup.run_line(&format!("status {words}"));
    assert!(!format!("{ran:?}").contains("CANARY"), "{ran:?}");
    ran
}

#[test]
fn the_exit_code_says_whether_every_file_is_valid() {
    let (daemon, admin) = Admin::start(setup());
    let run_status = |words: &str| status(&daemon.setup(), &format!("{words} --admin {}", admin.address));
    let well = run_status("");
    assert_eq!((well.code, well.stderr.as_str()), (Some(0), ""), "{well:?}");
    let lines: Vec<&str> = well.stdout.lines().collect();
    assert!(lines[0].starts_with(concat!("postmapd ", env!("CARGO_PKG_VERSION"), ", started ")));
    assert!(lines[0].contains("; generation 1, active since "), "{}", lines[0]);
    for (line, file) in lines[1..3].iter().zip([RELAYMAP, CREDENTIALS]) {
        assert!(
            line.contains(file) && line.ends_with("  1 entry, valid"),
            "{line}"
        );
    }
    assert!(
        lines[3].contains(RELAY_TLS) && lines[3].ends_with("  missing"),
        "{}",
        lines[3]
    );
    assert!(lines[4].starts_with("last reload: changed, "), "{}", lines[4]);
    assert_eq!(
        lines[5],
        format!("listening on {}; connections: 0", daemon.endpoint(0))
    );
    assert_eq!(lines.len(), 6);

    daemon.replace(RELAYMAP, "@one.test [relay1.test\n");
    eventually(|| run_status("").code, |code| *code == Some(1));
    daemon.replace(CREDENTIALS, "@one.test user:CANARY2\n");
    eventually(
        || run_status("").stdout,
        |text| {
            text.matches("1 entry, INVALID since ").count() == 2
                && text.contains("    not used until the errors of the other files are fixed\n")
                && text.contains(
                    ":1:11: error: this is not a next hop: the bracket is not closed; write [host]:port",
                )
                && text.contains("last reload: failed, ")
        },
    );
    assert_eq!(run_status("--format json").code, Some(1));
    // The server answers as well as it can, so no restart is needed.
    let alive = run_status("--alive");
    assert_eq!(
        (alive.code, alive.stdout.as_str(), alive.stderr.as_str()),
        (Some(0), "", "")
    );
}

#[test]
fn the_json_output_is_the_servers_status() {
    let (daemon, admin) = Admin::start(setup());
    let run_status = status(
        &daemon.setup(),
        &format!("--format json --admin {}", admin.address),
    );
    assert_eq!(run_status.stdout, admin.get("/status").body);
}

#[test]
fn status_finds_the_address_as_the_server_does() {
    let (daemon, admin) = Admin::start(setup());
    let by_variable = daemon.setup().env("POSTMAPD_ADMIN", &admin.address);
    assert_eq!(status(&by_variable, "").code, Some(0));
    let by_file = daemon
        .setup()
        .settings(format!("admin = \"{}\"\n", admin.address));
    assert_eq!(status(&by_file, "--alive").code, Some(0));
    // It ignores other errors in the settings.
    let wrong = daemon
        .setup()
        .settings(format!("admin = \"{}\"\nsocket_mode = \"x\"\n", admin.address));
    assert_eq!(status(&wrong, "--alive").code, Some(0));
    for (setup, place) in [
        (daemon.setup().env("POSTMAPD_ADMIN", "nonsense"), "POSTMAPD_ADMIN"),
        (
            daemon.setup().settings("admin = \"nonsense\"\n"),
            "postmapd.toml:1:9",
        ),
    ] {
        let refused = status(&setup, "").exits(2);
        let message = format!("{place}: error: the value is not an address");
        assert!(refused.stderr.contains(&message), "{refused:?}");
    }
}

#[test]
fn a_path_as_the_address_gets_the_form_to_write() {
    let refused = status(&setup(), "--admin /run/postmapd/admin").exits(2);
    let help = "write unix:/run/postmapd/admin\n";
    assert!(refused.stderr.ends_with(help), "{refused:?}");
    // A variable or a setting may hold a misplaced password.
    let refused = status(&setup().env("POSTMAPD_ADMIN", "/CANARY"), "").exits(2);
    assert!(!refused.stderr.contains("CANARY"), "{refused:?}");
}

#[test]
fn an_unreachable_or_foreign_server_gives_exit_code_69() {
    let unreachable = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    for address in [unreachable.as_str(), "unix:/no/such"] {
        for flag in ["", "--alive "] {
            let ran = status(&setup(), &format!("{flag}--admin {address}")).exits(69);
            let message = format!("is postmapd running, and was it started with --admin {address}?");
            assert!(ran.stdout.is_empty() && ran.stderr.contains(&message), "{ran:?}");
        }
    }
    // The listener for lookups is not the admin listener.
    let (daemon, _admin) = Admin::start(setup());
    let ran = status(&daemon.setup(), &format!("--admin {}", daemon.address(0))).exits(69);
    let message = "not the admin listener of postmapd";
    assert!(ran.stderr.contains(message), "{ran:?}");
}
