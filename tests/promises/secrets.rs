//! Promise: a credential is only ever the answer to a client that may request it: it is not in a log of any level or
//! format, not in an error, and not on a command line.
//!
//! Every password here contains one word. Each test first receives that word in an answer, so that it cannot pass
//! because there is no password at all.

use crate::harness::admin::Admin;
use crate::harness::client::{Both, Reply, Stream};
use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup, finish};
use crate::harness::eventually;
use std::fs;
use std::io::Write as _;

const WORD: &str = "CANARY";

/// Fails where a text contains the word, in any case, or encoded as numbers or escapes.
#[track_caller]
fn expect_no_password(what: &str, text: &str) {
    let lower = text.to_lowercase();
    let spellings = [
        WORD.to_lowercase(),
        WORD.bytes()
            .map(|byte| byte.to_string())
            .collect::<Vec<_>>()
            .join(", "),
        "43414e415259".into(),
        // Base64, at each of the three offsets.
        "q0foqvj".into(),
        "nbtkfsw".into(),
        "dqu5bul".into(),
    ];
    for spelling in spellings {
        if let Some(at) = lower.find(&spelling) {
            let line = text[..at].lines().count();
            panic!("{what} holds a password, near line {line}:\n{text}");
        }
    }
}

#[track_caller]
fn expect_no_password_in_process(daemon: &Daemon) {
    expect_no_password("standard error", &daemon.log());
    expect_no_password("standard output", &daemon.stdout());
    expect_no_password(
        "the command line",
        &fs::read_to_string(format!("/proc/{}/cmdline", daemon.pid())).unwrap(),
    );
}

fn expect_no_password_on_stderr(finished: &Finished) {
    expect_no_password("the standard error of a query", &finished.stderr);
}

/// Valid files, with passwords in all places where a password can be.
fn valid_files() -> Setup {
    let setup = Setup::new()
        .relaymap("@one.test [relay1.test]:587\n@two.test [relay2.test]:587\n")
        .credentials(
            "@one.test user1:CANARY1\n@two.test user2:CANARY2 with spaces\n[relay1.test]:587 hop:CANARY3\n\
             @one.test again:CANARY4\n  @three.test indented:CANARY5\n",
        );
    let secret = setup.root().join("secret");
    fs::write(&secret, "CANARY6\n").unwrap();
    setup
        .env("RELAY_HOST", "default.test")
        .env("RELAY_USER", "default")
        .env("RELAY_PASSWORD_FILE", secret)
        .env("DEFAULT_RELAY_HOST", "[null.test]:587")
        .env("AWS_SES_HOST", "ses.test")
        .env("AWS_SES_USERPASS", "user:CANARY7")
        .env("POSTMAPD_PASSWORD", "CANARY8")
}

/// Invalid credentials, each in another way, with the file that each belongs to.
fn invalid_files() -> Vec<(&'static str, Vec<u8>)> {
    [
        (CREDENTIALS, "@one.test CANARYwithoutcolon\n"),
        (CREDENTIALS, "user1:CANARY @one.test\n"),
        (CREDENTIALS, "CANARY\n"),
        (CREDENTIALS, ":CANARY\n@one.test :CANARY\n"),
        (CREDENTIALS, "\"CANARY user:CANARY\n"),
        (CREDENTIALS, "@one.test user:CAN\x01CANARY\n"),
        (CREDENTIALS, "@one.test user:CANARY\0\n"),
        (CREDENTIALS, "@one.test\x02user:CANARY\n"),
        (
            CREDENTIALS,
            "@one.test user1:CANARYa\n@one.test user1:CANARYb\nx\x01 y\n",
        ),
        (CREDENTIALS, "@one.test [relay1.test]:587 user:CANARY\x1f\n"),
        (RELAYMAP, "@one.test user1:CANARY1\n"),
        (RELAYMAP, "@one.test [relay1.test]:CANARY\n"),
        (RELAYMAP, "@one.test [relay1.test]:587 user1:CANARY1\n"),
        (RELAYMAP, "user1:CANARY1 @one.test\n"),
        (RELAYMAP, "[relay1.test]:587 user1:CANARY1\n"),
        (RELAYMAP, "@one.test user1:CANARY\x01\n"),
        (RELAYMAP, "@one.test CANARY:CANARY:587\n"),
    ]
    .into_iter()
    .map(|(file, text)| (file, text.as_bytes().to_vec()))
    .chain([(CREDENTIALS, b"@latin.test user:CANARY\xff\xfe\n".to_vec())])
    // A second, invalid line makes sure that the file has an error, and so that the log has a line about it.
    .map(|(file, text)| (file, [text, b"@wrong.test [wrong\n".to_vec()].concat()))
    .collect()
}

fn with_trace_log(setup: Setup, format: &str) -> Setup {
    setup
        .env("POSTMAPD_LOG", "trace")
        .env("POSTMAPD_LOG_FORMAT", format)
}

#[test]
fn no_password_is_logged_by_a_server_that_answers_refuses_and_reloads() {
    for format in ["text", "json", "journald"] {
        let (daemon, mut clients) = Both::start(with_trace_log(valid_files(), format));
        for (key, credential) in [
            ("ann@one.test", "user1:CANARY1"),
            ("ann@two.test", "user2:CANARY2 with spaces"),
            ("[relay1.test]:587", "hop:CANARY3"),
            ("[default.test]:25", "default:CANARY6"),
        ] {
            assert_eq!(clients.sasl(key), Reply::found(credential));
        }
        assert_eq!(clients.sasl("unknown"), Reply::NotFound);
        assert!(clients.socketmap.query("nosuchmap", "ann@one.test").is_refused());
        for (endpoint, bytes) in [
            (0, b"999999999:".as_slice()),
            (0, b"x"),
            (2, b"put x y\n"),
            (2, b"get %z\n"),
        ] {
            let mut stream = Stream::to(&daemon, endpoint);
            stream.write_all(bytes).unwrap();
            stream.finish_sending();
            stream.read_until_closed();
        }

        fs::write(daemon.root().join("secret"), "CANARY6b\n").unwrap();
        clients
            .socketmap
            .eventually_finds("sasl", "[default.test]:25", "default:CANARY6b");

        for (file, text) in invalid_files() {
            let seen = daemon.log_lines();
            daemon.replace(file, text);
            daemon.hangup();
            daemon.wait_for_log_after(seen, |line| line.contains(file));
            clients.sasl("ann@one.test");
            // Back to a valid file, with a new password.
            daemon.replace(RELAYMAP, "@one.test [relay1.test]:587\n");
            daemon.replace(CREDENTIALS, format!("@one.test user1:CANARY{seen}\n"));
            let expected = Reply::Found(format!("user1:CANARY{seen}"));
            eventually(
                || clients.socketmap.query("sasl", "ann@one.test"),
                |reply| *reply == expected,
            );
        }
        expect_no_password_in_process(&daemon);
        let mut daemon = daemon;
        assert!(daemon.terminate().success());
        expect_no_password("standard error", &daemon.log());
        expect_no_password("standard output", &daemon.stdout());
        assert!(
            daemon.log().contains("ann@one.test"),
            "at trace level the log says something:\n{}",
            daemon.log()
        );
    }
}

#[test]
fn no_password_is_in_a_startup_error() {
    for (file, text) in invalid_files() {
        let (daemon, mut clients) = Both::start(with_trace_log(valid_files().file(file, &text), "text"));
        daemon.wait_for_log(|line| line.contains(file));
        let credential = clients.sasl("[default.test]:25");
        assert!(credential == Reply::found("default:CANARY6") || credential.is_cannot_tell());
        for key in [
            "ann@one.test",
            "@one.test",
            "[relay1.test]:587",
            "nobody@nowhere.test",
        ] {
            expect_no_password("a reason", clients.sasl(key).reason());
            expect_no_password("a reason", clients.relayhost(key).reason());
        }
        expect_no_password_in_process(&daemon);
    }
}

#[test]
fn no_password_is_on_the_standard_error_of_query() {
    for format in ["text", "json", "journald"] {
        let setup = with_trace_log(valid_files(), format);
        let found = setup.run_query(&["sasl", "ann@one.test"]);
        assert_eq!((found.code, found.stdout.as_str()), (Some(0), "user1:CANARY1\n"));
        expect_no_password_on_stderr(&found);
        let several = setup.run_query(&["sasl", "ann@two.test", "[default.test]:25", "unknown"]);
        assert_eq!(
            several.stdout,
            "ann@two.test\tuser2:CANARY2 with spaces\n[default.test]:25\tdefault:CANARY6\n"
        );
        expect_no_password_on_stderr(&several);
        for (file, text) in invalid_files() {
            let failed =
                with_trace_log(valid_files().file(file, text), format).run_query(&["sasl", "ann@one.test"]);
            expect_no_password_on_stderr(&failed);
        }
        expect_no_password_on_stderr(&setup.run_query(&["sasl"]));
        expect_no_password_on_stderr(&setup.run_query(&["sasl", "--nosuchflag", "ann@one.test"]));
    }
}

#[test]
fn no_password_is_printed_by_a_query_to_a_server() {
    let (daemon, _clients) = Both::start(with_trace_log(valid_files(), "text"));
    for endpoint in [0, 2] {
        let found =
            daemon
                .setup()
                .run_query(&["sasl", "--server", daemon.endpoint(endpoint), "ann@one.test"]);
        assert_eq!(
            (found.code, found.stdout.as_str()),
            (Some(0), "user1:CANARY1\n"),
            "{}",
            found.stderr
        );
        expect_no_password_on_stderr(&found);
    }
    expect_no_password_in_process(&daemon);
}

#[test]
fn no_password_is_printed_for_an_invalid_secret_file_or_variable() {
    let contents: [&[u8]; 5] = [
        b"CANARY\nCANARY\n",
        b"CANARY\0\n",
        b"CANARY\xff\n",
        b"\n",
        b"user:CANARY\x01\n",
    ];
    let by_file = contents.map(|content| {
        let setup = valid_files();
        fs::write(setup.root().join("secret"), content).unwrap();
        setup
    });
    let by_variable = [
        ("RELAY_PASSWORD", "CANARY\nCANARY"),
        ("RELAY_PASSWORD", "CANARY\u{1}"),
        ("RELAY_PASSWORD__FILE", ""),
        ("RELAY_USER", "us:er"),
        ("RELAY_PORT", "99999"),
    ];
    let by_variable = by_variable.map(|(name, value)| {
        Setup::new()
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "default")
            .env("RELAY_PASSWORD", "CANARY")
            .env("POSTMAPD_LISTN", "CANARY")
            .env(name, value)
    });
    for setup in by_file.into_iter().chain(by_variable) {
        // Other tests check whether such a value is served, cannot be told or is refused.
        match Daemon::try_start(with_trace_log(setup.clone(), "text").listen("socketmap:inet:127.0.0.1:0")) {
            Ok(daemon) => expect_no_password_in_process(&daemon),
            Err(error) => expect_no_password("the message of a refused start", &without_command(&error)),
        }
        expect_no_password_on_stderr(
            &with_trace_log(setup, "text").run_query(&["sasl", "[default.test]:25"]),
        );
    }
}

/// A startup error of the harness without its first line, which shows the command with the test's own environment.
fn without_command(error: &str) -> String {
    error.lines().skip(1).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_password_is_printed_for_an_invalid_settings_file() {
    for text in [
        "relay_password = \"CANARY\"\n",
        "password = CANARY\n",
        "listen = \"CANARY\n",
    ] {
        let setup = with_trace_log(valid_files().settings(text), "text");
        let refused = setup.serve_until_exit();
        assert_eq!(refused.code, Some(78), "{}", refused.stderr);
        expect_no_password("the message of a refused start", &refused.stderr);
        expect_no_password("standard output", &refused.stdout);
    }
}

#[test]
fn a_key_is_logged_at_debug_level_only() {
    for (level, shown) in [("", false), ("info", false), ("debug", true), ("trace", true)] {
        let setup = valid_files();
        let setup = if level.is_empty() {
            setup
        } else {
            setup.env("POSTMAPD_LOG", level)
        };
        let (daemon, mut clients) = Both::start(setup);
        clients.relayhost("CanaryKey@one.test");
        clients.sasl("CanaryKey@one.test");
        let mut daemon = daemon;
        assert!(daemon.terminate().success());
        assert_eq!(
            daemon.log().to_lowercase().contains("canarykey@one.test"),
            shown,
            "{level}: {}",
            daemon.log()
        );
    }
}

#[test]
fn the_search_for_passwords_finds_one() {
    // The search itself: what it must find, in every encoding.
    let base64 = ["Q0FOQVJZeno=", "YUNBTkFSWXp6", "YWJDQU5BUll6eg=="];
    for spelled in ["xCANARYx", "canary", "[67, 65, 78, 65, 82, 89]", "43414e415259"]
        .into_iter()
        .chain(base64)
    {
        let found = std::panic::catch_unwind(|| expect_no_password("this", spelled));
        assert!(found.is_err(), "{spelled}");
    }
    expect_no_password("this", "nothing of the kind");
    expect_no_password(
        "the output of true",
        &finish(&mut std::process::Command::new("true"), b"").stdout,
    );
}

#[test]
fn no_password_is_sent_by_the_admin_listener() {
    let check = |admin: &Admin, daemon: &Daemon| {
        let senders = [
            "ann@one.test",
            "u@else.test",
            "[relay1.test]:587",
            "[default.test]:25",
            "<>",
        ];
        let explanations = senders.iter().flat_map(|sender| {
            let sender = sender.replace('<', "%3C").replace('>', "%3E");
            let maps = ["relayhost", "sasl", "transport", "tls"]
                .map(|map| format!("/explain?map={map}&key={sender}"));
            maps.into_iter().chain([format!("/?sender={sender}")])
        });
        let others = "/ /healthz /readyz /status /metrics /CANARY /status?CANARY"
            .split(' ')
            .map(str::to_owned);
        for path in others.chain(explanations) {
            let check = admin.get(&path);
            expect_no_password(&path, &(check.head + &check.body));
        }
        for format in ["text", "json"] {
            let line = format!("status --admin {} --format {format}", admin.address);
            let check = daemon.setup().run_line(&line);
            expect_no_password("status", &(check.stdout + &check.stderr));
        }
    };
    let (daemon, mut clients) = Both::start(Admin::wanted(with_trace_log(valid_files(), "text")));
    let admin = Admin::of(&daemon);
    assert_eq!(clients.sasl("ann@one.test"), Reply::found("user1:CANARY1"));
    // Nor does the log contain what a peer sent, not even if it is a password.
    clients.finds("relayhost", "CANARY@CANARY.test", "[default.test]:25");
    assert!(clients.socketmap.query("CANARY", "CANARY").is_refused());
    check(&admin, &daemon);
    for (file, text) in invalid_files() {
        let seen = daemon.log_lines();
        daemon.replace(file, &text);
        daemon.wait_for_log_after(seen, |line| line.contains("reload rejected"));
        assert_eq!(admin.get("/readyz").code, 503);
        check(&admin, &daemon);
    }
    for (file, text) in invalid_files() {
        let daemon = Daemon::start(Admin::wanted(valid_files().file(file, &text)));
        check(&Admin::of(&daemon), &daemon);
    }
    let refused = with_trace_log(valid_files().settings("admin = \"CANARY\"\n"), "text").serve_until_exit();
    assert_eq!(refused.code, Some(78));
    expect_no_password("the message of a refused start", &refused.stderr);
}
