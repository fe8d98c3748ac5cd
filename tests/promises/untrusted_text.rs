//! Promise: text from others is shown but has no effect: no terminal interprets the name of a directory or the reply of
//! a server, and no log has a line that another program composed.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::thread;

use crate::harness::admin::{Admin, percent_encoded};
use crate::harness::client::{encoded, framed};
use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup, finish};

/// It would begin a new line, clear the screen, and reverse the text.
const HOSTILE: &str = "a\nFORGED\r\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200b}\u{7f}b";

/// What a terminal interprets or does not show: control characters, direction marks, and invisible characters. The list
/// is independent of the program's, so that it does not share its mistakes.
fn is_interpreted(c: char) -> bool {
    let marks = "\u{ad}\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\
                 \u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}";
    c.is_control() || marks.contains(c)
}

#[track_caller]
fn is_harmless(what: &str, text: &str) {
    for line in text.lines() {
        assert!(!line.chars().any(is_interpreted), "{what}: {line:?}");
        assert!(!line.starts_with("FORGED"), "{what}: {text}");
    }
}

#[track_caller]
fn harmless(what: &str, ran: Finished) -> Finished {
    is_harmless(what, &ran.stdout);
    is_harmless(what, &ran.stderr);
    ran
}

/// A directory with that name, in a temporary one.
fn setup() -> (tempfile::TempDir, Setup) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join(HOSTILE);
    fs::create_dir(&dir).unwrap();
    (temporary, Setup::in_directory(&dir))
}

#[test]
fn a_directory_name_cannot_forge_a_log_line_or_send_terminal_escapes() {
    for (form, begins) in [("text", "20"), ("json", "{\"timestamp\""), ("journald", "<")] {
        let (_temporary, setup) = setup();
        let setup = setup
            .relaymap("@one.test [relay\n")
            .credentials("@one.test user:CANARY\n")
            .env("POSTMAPD_LOG_FORMAT", form)
            .env("POSTMAPD_LOG", "debug");
        let daemon = Daemon::start(setup);
        daemon.wait_for_log(|line| line.contains(":1:11"));
        daemon.replace(RELAYMAP, "@one.test [relay]\n");
        daemon.wait_for_log(|line| line.contains("generation") && line.contains('2'));
        let log = daemon.log();
        is_harmless(form, &log);
        for line in log.lines() {
            assert!(line.starts_with(begins), "{form}: {line:?}");
            if form == "json" {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(event["message"].is_string(), "{line}");
            }
        }
        assert!(log.contains("FORGED"), "the name is nowhere: {log}");
    }
}

#[test]
fn no_command_prints_a_directory_name_unescaped() {
    let (_temporary, setup) = setup();
    let setup = setup
        .relaymap("@one.test [relay\n")
        .credentials("@one.test u:p\nx y z\n");
    let run = |line: &str| harmless(line, setup.run_line(line));
    for line in [
        "check",
        "query relayhost a@one.test",
        "query --explain relayhost a@one.test",
        "relay list",
        "relay add-auth two.test u p",
        "relay remove-domain three.test",
        "bench socketmap:inet:127.0.0.1:1 relayhost",
    ] {
        let ran = run(line);
        assert!(
            ran.stdout.contains("FORGED") || ran.stderr.contains("FORGED") || line.starts_with("bench"),
            "{line} does not name the file: {ran:?}"
        );
    }
    // In JSON the name is unchanged.
    let json = run("check --format json").json();
    let file = setup.dir().join(RELAYMAP);
    let mut named = json["findings"].as_array().unwrap().iter();
    assert!(
        named.any(|finding| finding["file"] == file.to_str().unwrap()),
        "{json}"
    );
    // A missing directory.
    let nowhere = Setup::in_directory(&setup.dir().join("gone")).env("POSTMAPD_LISTEN", "nonsense");
    for line in ["relay add-domain one.test relay", "check", "serve"] {
        harmless("a missing directory", nowhere.run_line(line));
    }
}

#[test]
fn names_from_an_admin_listener_are_escaped() {
    let (_temporary, setup) = setup();
    let (daemon, admin) = Admin::start(
        setup
            .relaymap("@one.test [relay\n")
            .credentials("@one.test u:p\n"),
    );
    let hostile = percent_encoded(HOSTILE);
    let explain = format!("/explain?map=relayhost&key={hostile}@one.test");
    let page = format!("/?sender={hostile}@one.test");
    for path in ["/readyz", "/status", "/metrics", "/", &explain, &page] {
        is_harmless(path, &admin.get(path).body);
    }
    for format in ["text", "json"] {
        let query = [
            "--explain",
            "--admin",
            admin.address.as_str(),
            "--format",
            format,
            "relayhost",
            HOSTILE,
            "a@one.test",
        ];
        let ran = harmless(format, daemon.setup().run_query(&query));
        assert!(
            ran.stdout.contains("FORGED") && ran.stdout.contains(RELAYMAP),
            "{ran:?}"
        );
    }
    let name = daemon.dir().join(RELAYMAP);
    let status = admin.status();
    let files = status["files"].as_array().unwrap();
    assert!(
        files.iter().any(|file| file["path"] == name.to_str().unwrap()),
        "{status}"
    );
    for format in ["text", "json"] {
        let line = format!("status --admin {} --format {format}", admin.address);
        let ran = harmless(format, daemon.setup().run_line(&line));
        assert!(
            ran.stdout.contains("FORGED") && ran.stdout.contains(RELAYMAP),
            "{ran:?}"
        );
    }
}

/// A server that reads a little of each connection and then sends this.
fn server(reply: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut piece = [0; 4096];
            while stream.read(&mut piece).is_ok_and(|read| read > 0) {
                if stream.write_all(&reply).is_err() {
                    break;
                }
            }
        }
    });
    address
}

fn query(endpoint: &str) -> std::process::Output {
    let mut command = Setup::new().command("query");
    command
        .args(["--server", endpoint, "sasl", "a@one.test"])
        .output()
        .unwrap()
}

#[test]
fn the_reason_from_a_server_is_printed_as_one_escaped_line() {
    let temp = server(framed(&format!("TEMP {HOSTILE}")));
    let perm = server(framed(&format!("PERM {HOSTILE}")));
    let tcp = server(format!("400 {}\n", encoded(HOSTILE.as_bytes())).into_bytes());
    for endpoint in [
        format!("socketmap:inet:{temp}"),
        format!("socketmap:inet:{perm}"),
        format!("tcp:{tcp}"),
    ] {
        let output = query(&endpoint);
        let stderr = String::from_utf8(output.stderr).unwrap();
        is_harmless(&endpoint, &stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("FORGED"), "{stderr}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(75), 0));
    }
}

#[test]
fn a_value_with_a_control_character_is_an_error() {
    for value in [
        "u:p\na@two.test\tu2:p2",
        "u:\u{1b}[2Jp",
        "u:p\0",
        "u:p\u{7f}",
        "u:p\rx",
    ] {
        let socketmap = format!("socketmap:inet:{}", server(framed(&format!("OK {value}"))));
        let answer = format!("200 {}\n", encoded(value.as_bytes())).into_bytes();
        for endpoint in [socketmap, format!("tcp:{}", server(answer))] {
            let output = query(&endpoint);
            let stderr = String::from_utf8(output.stderr).unwrap();
            is_harmless(&endpoint, &stderr);
            assert_eq!(
                (output.status.code(), output.stdout.len()),
                (Some(75), 0),
                "{value:?}: {stderr}"
            );
            assert!(stderr.contains("control character"), "{stderr}");
            assert!(!stderr.contains("u:p"), "{stderr}");
        }
    }
}

/// Values that a credential may have, and that a terminal would interpret or not show.
const UNUSUAL_VALUES: [&[u8]; 3] = [
    "u:p\u{202e}x\u{200b}".as_bytes(),
    "u:p\u{9b}31m".as_bytes(),
    b"u:p\xe9",
];

#[test]
fn a_value_is_printed_byte_for_byte_where_a_program_reads_it() {
    for value in UNUSUAL_VALUES {
        let payload = [b"OK ", value].concat();
        let frame = [payload.len().to_string().as_bytes(), b":", &payload, b","].concat();
        let answer = [b"200 ".as_slice(), encoded(value).as_bytes(), b"\n"].concat();
        let setup = Setup::new()
            .relaymap("@one.test [relay]\n")
            .file(CREDENTIALS, [b"@one.test ", value, b"\n"].concat());
        let own = setup
            .command("query")
            .args(["sasl", "a@one.test"])
            .output()
            .unwrap();
        for output in [
            query(&format!("socketmap:inet:{}", server(frame))),
            query(&format!("tcp:{}", server(answer))),
            own,
        ] {
            assert_eq!(output.stdout, [value, b"\n"].concat(), "{output:?}");
            assert_eq!(output.status.code(), Some(0));
        }
    }
}

#[test]
fn a_value_is_escaped_where_a_person_reads_it() {
    for (value, shown) in
        UNUSUAL_VALUES
            .into_iter()
            .zip(["u:p\\u{202e}x\\u{200b}", "u:p\\u{9b}31m", "u:p\\xe9"])
    {
        let setup = Setup::new()
            .relaymap("@one.test [relay]\n")
            .file(CREDENTIALS, [b"@one.test ", value, b"\n"].concat());
        // script(1) gives the command a terminal.
        let mut command = Command::new("script");
        command
            .args([
                "-qec",
                "\"$POSTMAPD\" query --dir \"$DIR\" sasl a@one.test",
                "/dev/null",
            ])
            .env("POSTMAPD", env!("CARGO_BIN_EXE_postmapd"))
            .env("DIR", OsStr::from_bytes(setup.dir().as_os_str().as_bytes()));
        let ran = finish(&mut command, b"");
        assert_eq!(ran.stdout.trim_end(), shown, "{ran:?}");
        assert!(!ran.stdout.trim_end().chars().any(is_interpreted));
    }
}

#[test]
fn a_false_admin_listener_cannot_send_terminal_escapes() {
    let daemon = Admin::start(Setup::new().relaymap("@one.test [relay\n"));
    let mut status = daemon.1.status();
    for field in ["version", "started", "loaded"] {
        status[field] = HOSTILE.into();
    }
    status["listeners"] = vec![HOSTILE].into();
    status["last_reload"]["outcome"] = HOSTILE.into();
    status["unknown"] = HOSTILE.into();
    let file = &mut status["files"][0];
    for field in ["path", "problem", "invalid_since"] {
        file[field] = HOSTILE.into();
    }
    for field in ["code", "file", "message", "help"] {
        status["findings"][0][field] = HOSTILE.into();
    }
    // serde_json does not escape direction marks.
    let body = status.to_string();
    assert!(body.contains('\u{202e}'));
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let address = server(reply.into_bytes());
    for format in ["text", "json"] {
        let line = format!("status --admin {address} --format {format}");
        let ran = harmless(format, Setup::new().run_line(&line));
        assert!(ran.stdout.contains("FORGED"), "{ran:?}");
        if format == "json" {
            let printed = ran.json();
            assert_eq!(printed, status);
        }
    }
}

#[test]
fn bench_prints_no_reply() {
    let address = server(framed(&format!("OK {HOSTILE}")));
    for format in ["text", "json", "csv"] {
        let setup = Setup::new().relaymap("@one.test [relay]\n");
        let line = format!(
            "bench socketmap:inet:{address} relayhost --count 10 --warm-up 0s --connections 1 --format {format}"
        );
        let ran = harmless(format, setup.run_line(&line));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(
            !ran.stdout.contains("FORGED") && !ran.stderr.contains("FORGED"),
            "{ran:?}"
        );
    }
}

#[test]
fn a_name_of_a_megabyte_does_not_pad_the_other_lines() {
    let daemon = Admin::start(Setup::new().relaymap("@one.test [relay]\n"));
    let mut status = daemon.1.status();
    let mut long = status["files"][0].clone();
    long["path"] = "x".repeat(1 << 20).into();
    let mut files = vec![long; 1];
    files.extend(vec![status["files"][0].clone(); 1000]);
    status["files"] = files.into();
    let body = status.to_string();
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let line = format!("status --admin {}", server(reply.into_bytes()));
    let ran = Setup::new().run_line(&line).exits(0);
    assert!(ran.stdout.len() < 2 << 20, "{}", ran.stdout.len());
    // Nor is a list of next hops as long as a line may be.
    let hops = ",[h.test]:587".repeat(5000);
    let setup = Setup::new().relaymap(format!("@a.test [h.test]{hops}\n@b.test [relay]\n"));
    let ran = setup.run_line("relay list").exits(0);
    assert!(ran.stdout.lines().last().unwrap().len() < 1000);
}
