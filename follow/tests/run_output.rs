//! What `postmapd-follow run` shows of itself: the log, the admin listener, and what any other process can see.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use database::one_sender::{PATIENT, server, set, wait_for_files};
use database::processes::{DEADLINE, wait_for};
use database::program::{Program, Setup, exchange};

#[test]
fn the_log_has_the_formats_of_postmapd() {
    let server = server();
    for (format, start, end) in [
        ("text", "Z  INFO tables published revision=", ""),
        ("journald", "<6>tables published revision=", ""),
        (
            "json",
            "{\"timestamp\":\"",
            "\"message\":\"tables published\",\"revision\":",
        ),
    ] {
        let setup = Setup::new(&server.source("reader"), PATIENT).env("POSTMAPD_FOLLOW_LOG_FORMAT", format);
        let mut program = setup.start();
        program.wait_for_log("tables published");
        let line = program.log_with("tables published").remove(0);
        assert!(line.contains(start) && line.contains(end), "{line}");
        for field in ["relay", "credentials", "bad_rows", "duration"] {
            assert!(line.contains(field), "{line}");
        }
    }
    // The option takes precedence.
    let setup = Setup::new(&server.source("reader"), PATIENT)
        .env("POSTMAPD_FOLLOW_LOG_LEVEL", "debug")
        .arg("--log-level=error");
    let program = setup.start();
    wait_for_files(&setup, 1);
    assert_eq!(program.end("TERM"), 0);
    assert_eq!(fs::read_to_string(setup.root().join("log")).unwrap(), "");
}

#[test]
fn the_admin_listener_can_be_a_unix_socket_that_is_removed_at_the_end() {
    let server = server();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let socket = setup.root().join("admin");
    let text = fs::read_to_string(setup.settings()).unwrap();
    fs::write(
        setup.settings(),
        text.replace("127.0.0.1:0", &format!("unix:{}", socket.to_str().unwrap())),
    )
    .unwrap();
    let mut program = setup.start();
    program.wait_for_log("tables published");
    let stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (code, body) = exchange(stream, "/readyz");
    assert_eq!((code, body.as_str()), (200, "ok\n"));
    // Postfix does not connect here, so the socket keeps the group of the program.
    let group = |path: &Path| fs::metadata(path).unwrap().gid();
    assert_eq!(group(&socket), group(Path::new("/proc/self")));
    assert_eq!(program.end("TERM"), 0);
    assert!(!socket.exists());
}

#[test]
fn the_metrics_are_valid_and_have_the_figures_of_the_source() {
    let server = server();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let program = setup.start();
    program.wait_until_ready();
    set(&server, 2);
    wait_for_files(&setup, 2);
    server.psql(
        "mail",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'",
    );
    let metrics = wait_for("a new connection", || {
        let (_, metrics) = program.get("/metrics");
        let is_there = metrics.contains("postmapd_follow_reconnects_total 1\n")
            && metrics.contains("postmapd_follow_connected 1\n")
            && metrics.contains("{outcome=\"unchanged\"} 0\n");
        is_there.then_some(metrics)
    });
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(metrics.as_bytes()).unwrap();
    drop(input);
    let checked = promtool.wait_with_output().unwrap();
    let messages = [checked.stdout, checked.stderr].concat();
    assert!(
        checked.status.success() && messages.is_empty(),
        "{}",
        String::from_utf8_lossy(&messages)
    );
    let revision = server.psql("mail", "SELECT revision FROM postmapd.state");
    let committed = server.psql("mail", "SELECT floor(extract(epoch FROM at)) FROM postmapd.state");
    for sample in [
        format!("postmapd_follow_revision {revision}\n"),
        format!("postmapd_follow_committed_timestamp_seconds {committed}."),
        "postmapd_follow_publications_total{outcome=\"changed\"} 2\n".to_owned(),
        "postmapd_follow_publications_total{outcome=\"refused\"} 0\n".to_owned(),
        "postmapd_follow_publications_total{outcome=\"failed\"} 0\n".to_owned(),
        "postmapd_follow_rows{table=\"relay\"} 1\n".to_owned(),
        "postmapd_follow_rows{table=\"credentials\"} 1\n".to_owned(),
        "postmapd_follow_bad_rows 0\n".to_owned(),
        "postmapd_follow_lag_seconds_count 1\n".to_owned(),
        "postmapd_follow_lag_seconds_bucket{le=\"+Inf\"} 1\n".to_owned(),
        "\npostmapd_follow_confirmed_timestamp_seconds 1".to_owned(),
        "\nprocess_resident_memory_bytes ".to_owned(),
    ] {
        assert!(metrics.contains(&sample), "{sample}: {metrics}");
    }
}

/// What a program has said and shown of itself, wherever another process can see it.
fn everything_of(program: &Program<'_>) -> String {
    let process = |file: &str| {
        let bytes = fs::read(format!("/proc/{}/{file}", program.pid())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let of_admin = ["/status", "/metrics", "/readyz", "/healthz", "/nothing"].map(|path| program.get(path).1);
    [
        program.log(),
        process("cmdline"),
        process("environ"),
        of_admin.concat(),
    ]
    .concat()
}

#[test]
fn no_password_and_no_key_of_a_good_row_is_shown_anywhere_and_there_is_no_core() {
    let server = server();
    for (password, is_right) in [("of reader", true), ("hunter2", false)] {
        let setup = Setup::new(&server.tcp_source("reader", "127.0.0.1"), "")
            .env("POSTMAPD_FOLLOW_LOG_LEVEL", "trace");
        let file = setup.write_private("password", password);
        let lines = format!(
            "tls = \"off\"\nsandbox = {is_right}\npassword_file = \"{}\"\n{PATIENT}\n",
            file.to_str().unwrap()
        );
        let text = fs::read_to_string(setup.settings()).unwrap();
        fs::write(setup.settings(), text + &lines).unwrap();
        let mut program = setup.start();
        if is_right {
            program.wait_until_ready();
            set(&server, 2);
            wait_for_files(&setup, 2);
            set(&server, 1);
            wait_for_files(&setup, 1);
        } else {
            program.wait_for_log("the server rejects the user");
        }
        let shown = everything_of(&program);
        for secret in [password, "of row", "one.test"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        let limits = fs::read_to_string(format!("/proc/{}/limits", program.pid())).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(
            core.split_whitespace().collect::<Vec<_>>()[4..6],
            ["0", "0"],
            "{core}"
        );
    }
}
