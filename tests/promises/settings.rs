//! Promise: settings come from defaults, file, environment and flags, in this order, and an invalid one is named.
//!
//! The cases in tests/cases/serve have those that are refused, with the messages.

use crate::harness::client::{Both, Reply, Socketmap, Stream};
use crate::harness::daemon::{Daemon, Setup};
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;

const INET: &str = "socketmap:inet:127.0.0.1:0";

fn setup() -> Setup {
    Setup::new().relaymap("@one.test [relay1.test]\nann@one.test [relay2.test]\n")
}

/// Starts it, and requests a sender's next hop.
fn hop_of(setup: Setup, sender: &str) -> Reply {
    let daemon = Daemon::start(setup);
    Socketmap::to(&daemon, 0).query("relayhost", sender)
}

#[test]
fn the_directory_can_come_from_the_environment() {
    let setup = setup();
    let named = setup.clone().without_dir_flag().env("POSTMAPD_DIR", setup.dir());
    // The flag overrides the variable.
    for setup in [named, setup.env("POSTMAPD_DIR", "/nonexistent")] {
        assert_eq!(hop_of(setup, "x@one.test"), Reply::found("[relay1.test]"));
    }
}

#[test]
fn endpoints_come_from_the_environment_or_from_the_settings_file() {
    let setup = setup();
    let unix = format!("socketmap:unix:{}/socket", setup.root().display());
    let endpoints = [&Both::ENDPOINTS[..], &[&unix]].concat();
    for (variable, text) in [
        (endpoints.join(","), String::new()),
        (String::new(), format!("listen = {endpoints:?}\n")),
    ] {
        let setup = setup.clone().settings(text).env("POSTMAPD_LISTEN", variable);
        let daemon = Daemon::start(setup.announces(&endpoints));
        Both::to(&daemon).finds("relayhost", "x@one.test", "[relay1.test]");
        Socketmap::to(&daemon, Both::ENDPOINTS.len()).finds("relayhost", "x@one.test", "[relay1.test]");
    }
}

#[test]
fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let file = "recipient_delimiter = \"-\"\n";
    let (extension, whole) = (Reply::found("[relay2.test]"), Reply::found("[relay1.test]"));

    let only_file = setup().settings(file);
    assert_eq!(hop_of(only_file.clone(), "ann-x@one.test"), extension);
    assert_eq!(hop_of(only_file.clone(), "ann+x@one.test"), whole);

    let environment = only_file.env("POSTMAPD_RECIPIENT_DELIMITER", "=");
    assert_eq!(hop_of(environment.clone(), "ann=x@one.test"), extension);
    assert_eq!(hop_of(environment.clone(), "ann-x@one.test"), whole);

    let flag = environment.arg("--recipient-delimiter").arg("~");
    assert_eq!(hop_of(flag.clone(), "ann~x@one.test"), extension);
    assert_eq!(hop_of(flag, "ann=x@one.test"), whole);
}

#[test]
fn endpoints_of_a_higher_source_replace_those_of_a_lower_one() {
    let setup = setup().settings("listen = [\"tcp:127.0.0.1:0:sasl\"]\n");
    let daemon = Daemon::start(setup.clone().env("POSTMAPD_LISTEN", INET).announces(&[INET]));
    Socketmap::to(&daemon, 0).query("relayhost", "x@one.test");
    assert!(!daemon.log().contains("tcp:127"), "{}", daemon.log());

    let daemon = Daemon::start(
        setup
            .env("POSTMAPD_LISTEN", "tcp:127.0.0.1:0:relayhost")
            .listen(INET),
    );
    Socketmap::to(&daemon, 0).query("relayhost", "x@one.test");
    assert!(!daemon.log().contains("tcp:127"), "{}", daemon.log());
}

#[test]
fn the_settings_file_can_be_outside_the_directory() {
    let setup = setup().settings("recipient_delimiter = \"-\"\n");
    let elsewhere = setup.root().join("other.toml");
    fs::write(&elsewhere, "recipient_delimiter = \"=\"\n").unwrap();
    let setup = setup.arg("--config").arg(&elsewhere);
    let hop = hop_of(setup.clone(), "ann=x@one.test");
    assert_eq!(hop, Reply::found("[relay2.test]"));
    assert_eq!(hop_of(setup, "ann-x@one.test"), Reply::found("[relay1.test]"));
}

#[test]
fn an_address_in_use_is_an_error_naming_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("socketmap:inet:{}", taken.local_addr().unwrap());
    let finished = setup().listen(&endpoint).serve_until_exit();
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains(&endpoint), "{}", finished.stderr);
}

#[test]
fn a_missing_owner_or_group_is_an_error_for_unix_sockets_only() {
    for key in ["socket_owner", "socket_group"] {
        let text = format!("{key} = \"no-such-name\"\n");
        drop(Daemon::start(setup().settings(&text).listen(INET)));
    }
}

#[test]
fn a_signal_ends_the_server_with_success_and_removes_its_sockets() {
    for signal in ["TERM", "INT"] {
        let setup = setup();
        let path = setup.root().join("socket");
        let unix = format!("socketmap:unix:{}", path.display());
        let mut daemon = Daemon::start(setup.listen(INET).listen(unix));
        // Idle connections do not delay it.
        let mut idle = Socketmap::to(&daemon, 0);
        let mut other = Socketmap::to(&daemon, 1);
        assert_eq!(
            idle.query("relayhost", "x@one.test"),
            Reply::found("[relay1.test]")
        );
        other.finds("relayhost", "x@one.test", "[relay1.test]");
        assert!(path.symlink_metadata().unwrap().file_type().is_socket());
        let status = daemon.end_by(signal);
        assert_eq!(status.code(), Some(0), "SIG{signal}: {status}");
        assert!(!path.exists(), "the socket file is still there after SIG{signal}");
        assert_eq!(daemon.stdout(), "", "standard output is for answers");
    }
}

#[test]
fn requests_sent_before_a_signal_are_answered() {
    let mut daemon = Daemon::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    let requests: Vec<u8> = (0..500)
        .flat_map(|_| crate::harness::client::framed("relayhost x@one.test"))
        .collect();
    client.stream.write_all(&requests).unwrap();
    // The first answer shows that the server has begun to read; the other requests were sent in the same write.
    assert_eq!(client.reply(), Reply::found("[relay1.test]"));
    let status = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    for _ in 1..500 {
        assert_eq!(client.reply(), Reply::found("[relay1.test]"));
    }
}

#[test]
fn requests_on_connections_not_yet_accepted_are_answered_after_a_signal() {
    let mut daemon = Daemon::start(setup());
    // So no connection is accepted before the signal arrives.
    daemon.signal("STOP");
    let mut clients: Vec<Socketmap> = (0..300).map(|_| Socketmap::to(&daemon, 0)).collect();
    for client in &mut clients {
        client.request("relayhost", "x@one.test");
    }
    daemon.signal("TERM");
    daemon.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.reply(), Reply::found("[relay1.test]"));
    }
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
}

#[test]
fn ipv6_endpoints_are_written_as_in_main_cf() {
    let daemon = Daemon::start(
        setup()
            .listen("socketmap:inet:[::1]:0")
            .listen("tcp:[::1]:0:relayhost"),
    );
    assert!(daemon.address(0).starts_with("[::1]:"));
    Socketmap::to(&daemon, 0).finds("relayhost", "x@one.test", "[relay1.test]");
    drop(Stream::to(&daemon, 1));
}

#[test]
fn several_listeners_of_one_protocol_are_all_served() {
    let daemon = Daemon::start(setup().listen(INET).listen(INET).listen(INET));
    for n in 0..3 {
        Socketmap::to(&daemon, n).finds("relayhost", "x@one.test", "[relay1.test]");
    }
    assert_ne!(daemon.address(0), daemon.address(1));
}

#[test]
fn a_unix_socket_is_accessible_to_its_owner_and_group_only() {
    let setup = setup();
    let path = setup.root().join("socket");
    let unix = format!("socketmap:unix:{}", path.display());
    let _daemon = Daemon::start(setup.clone().listen(&unix));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let other = setup
        .arg("--socket-mode")
        .arg("0600")
        .listen(unix.replace("/socket", "/other"));
    let daemon = Daemon::start(other);
    assert_eq!(
        fs::metadata(daemon.address(0)).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_stale_socket_is_replaced() {
    let setup = setup();
    let path = setup.root().join("socket");
    // Dropped without being removed, as after a crash.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let setup = setup.listen(format!("socketmap:unix:{}", path.display()));
    assert_eq!(hop_of(setup.clone(), "x@one.test"), Reply::found("[relay1.test]"));

    // The server's own socket, after it was killed.
    let mut daemon = Daemon::start(setup.clone());
    daemon.kill();
    assert!(path.exists());
    assert_eq!(hop_of(setup, "x@one.test"), Reply::found("[relay1.test]"));
}

#[test]
fn a_socket_served_by_another_server_is_not_replaced() {
    let setup = setup();
    let unix = format!("socketmap:unix:{}/socket", setup.root().display());
    let setup = setup.listen(unix);
    let daemon = Daemon::start(setup.clone());
    let finished = setup.serve_until_exit();
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    Socketmap::to(&daemon, 0).finds("relayhost", "x@one.test", "[relay1.test]");
}

#[test]
fn logs_come_in_three_formats() {
    let start = |format: &str| Daemon::start(setup().env("POSTMAPD_LOG_FORMAT", format));
    let daemon = start("json");
    for line in daemon.log().lines() {
        let parsed: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(parsed.is_object(), "{line}");
    }
    // systemd reads the level from the beginning of the line.
    for line in start("journald").log().lines() {
        assert!(line.starts_with('<') && line.as_bytes()[2] == b'>', "{line}");
    }
    // Without a terminal there are no colours.
    assert!(!start("text").log().contains('\u{1b}'));
}
