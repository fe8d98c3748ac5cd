//! TLS and passwords between postmapd-follow and PostgreSQL, with all bytes that it sends recorded.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use database::certificates::{Authority, Certificate};
use database::follower::{Read, init, read, settings_of};
use database::postgres::Postgres;
use database::proxy::Proxy;
use postmapd_follow::engine::{EngineErrorKind, Table};
use tempfile::TempDir;

/// The SSLRequest of the protocol, which is all that a server without TLS gets.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A server with a row and TLS, whose certificate is for localhost alone.
fn server(certificate: &Certificate) -> Postgres {
    let server = Postgres::start();
    init(&server);
    server.psql(
        "mail",
        "INSERT INTO postmapd.relay VALUES ('@a.example', '[relay.test]:587')",
    );
    enable_tls(&server, certificate);
    server
}

fn enable_tls(server: &Postgres, certificate: &Certificate) {
    server.write_private("server.crt", &fs::read(&certificate.certificate).unwrap());
    server.write_private("server.key", &fs::read(&certificate.key).unwrap());
    server.set("ssl = on");
}

/// A password file.
fn password(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    (directory, path)
}

/// Reads from a port as the user reader.
fn read_from(host: &str, port: u16, password: &str, lines: &str) -> Read {
    let (_directory, path) = self::password(password);
    let lines = format!("password_file = \"{}\"\n{lines}", path.to_str().unwrap());
    read(
        &settings_of(&format!("postgres://reader@{host}:{port}/mail"), &lines),
        None,
    )
}

fn ca(authority: &Authority) -> String {
    format!("ca = \"{}\"", authority.certificate().to_str().unwrap())
}

fn error(read: &Read) -> EngineErrorKind {
    let error = read.reading.as_ref().unwrap_err();
    let text = error.to_string();
    assert!(!text.contains("of reader") && text.len() < 500, "{text}");
    error.kind.clone()
}

#[test]
fn rows_are_read_over_tls_and_neither_user_nor_password_nor_query_can_be_seen() {
    let authority = Authority::new();
    let server = server(&authority.issue("server", "DNS:localhost,IP:127.0.0.1"));
    let proxy = Proxy::before(server.port());
    for host in ["localhost", "127.0.0.1"] {
        let read = read_from(host, proxy.port(), "of reader\n", &ca(&authority));
        assert_eq!(
            read.rows.text(Table::Relay),
            "@a.example|[relay.test]:587",
            "{:?}",
            read.reading
        );
    }
    for text in [&b"reader"[..], b"postmapd", b"SELECT", b"SCRAM"] {
        assert!(!proxy.has_seen(text));
    }
    let read = read_from("localhost", proxy.port(), "of others", &ca(&authority));
    assert!(matches!(error(&read), EngineErrorKind::Login(_)), "{read:?}");
}

#[test]
fn a_server_that_does_not_prove_its_name_gets_neither_user_nor_password() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.issue("server", "DNS:localhost");
    let server = server(&good);
    let proxy = Proxy::before(server.port());
    let refused = |host: &str, ca: &str, expected: &str| {
        let error = error(&read_from(host, proxy.port(), "of reader", ca));
        assert!(
            matches!(&error, EngineErrorKind::Tls(text) if text.contains(expected)),
            "{error}"
        );
    };
    refused("localhost", &ca(&other), "an authority that is not trusted");
    refused("127.0.0.1", &ca(&authority), "for another name");
    // Those of the system.
    refused("localhost", "", "an authority that is not trusted");
    enable_tls(&server, &authority.issue_expired("server", "DNS:localhost"));
    refused("localhost", &ca(&authority), "has expired");

    enable_tls(&server, &authority.itself());
    refused("localhost", &ca(&authority), "CA:FALSE");

    server.set("ssl = off");
    let before = proxy.sent().len();
    let read = read_from("localhost", proxy.port(), "of reader", &ca(&authority));
    assert_eq!(error(&read), EngineErrorKind::NoTls);
    // One for each address of localhost that the proxy listens at.
    assert_eq!(proxy.sent().get(before..), Some(&SSL_REQUEST[..]));
    assert!(!proxy.has_seen(b"reader") && !proxy.has_seen(b"SCRAM"));
}

#[test]
fn what_comes_without_tls_after_the_consent_to_tls_is_not_used() {
    let authority = Authority::new();
    // AuthenticationOk and ReadyForQuery, as if a client with TLS had logged in.
    for answer in [&b"S"[..], b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"] {
        let proxy = Proxy::answering(answer);
        let read = read_from(
            "localhost",
            proxy.port(),
            "of reader",
            &format!("hang = 1\n{}", ca(&authority)),
        );
        assert!(
            matches!(error(&read), EngineErrorKind::Tls(_) | EngineErrorKind::Hang(_)),
            "{read:?}"
        );
        assert!(!proxy.has_seen(b"reader"));
    }
    for answer in [&b"N"[..], b"E\0\0\0\x0bSFATAL\0\0", b"R\0\0\0\x08\0\0\0\x03"] {
        let proxy = Proxy::answering(answer);
        let read = read_from("localhost", proxy.port(), "of reader", &ca(&authority));
        assert_eq!(error(&read), EngineErrorKind::NoTls);
        assert_eq!(proxy.sent(), SSL_REQUEST);
    }
}

#[test]
fn a_connection_that_is_cut_anywhere_is_an_error_and_never_a_short_table() {
    let authority = Authority::new();
    let server = server(&authority.issue("server", "DNS:localhost"));
    server.psql(
        "mail",
        "INSERT INTO postmapd.relay SELECT '@' || i || '.example', '[relay.test]:587' FROM generate_series(1, 2000) i",
    );
    let proxy = Proxy::before(server.port());
    for bytes in [0, 1, 100, 1000, 3000, 5000, 20_000, 60_000] {
        proxy.cut_after(bytes);
        let read = read_from("localhost", proxy.port(), "of reader", &ca(&authority));
        let error = error(&read);
        assert!(
            matches!(error, EngineErrorKind::Lost(_)) && error.is_temporary(),
            "{bytes}: {error}"
        );
    }
    proxy.cut_after(usize::MAX);
    let read = read_from("localhost", proxy.port(), "of reader", &ca(&authority));
    assert_eq!(read.rows.lines.len(), 2001);
}

#[test]
fn a_password_is_never_sent_in_clear_text_to_a_port_without_tls() {
    let server = Postgres::start();
    init(&server);
    let proxy = Proxy::before(server.port());
    let read = || read_from("127.0.0.1", proxy.port(), "of reader", "tls = \"off\"");
    // SCRAM, which does not send it.
    assert!(read().reading.is_ok());
    server.psql(
        "mail",
        "SET password_encryption = 'md5'; ALTER ROLE reader PASSWORD 'of reader'",
    );
    server.set_access("local all all trust\nhost all all all md5\n");
    assert!(read().reading.is_ok());
    server.set_access("local all all trust\nhost all all all password\n");
    let read = read();
    assert!(matches!(error(&read), EngineErrorKind::Login(_)), "{read:?}");
    assert!(proxy.has_seen(b"reader") && !proxy.has_seen(b"of reader"));
}

#[test]
fn a_client_certificate_takes_the_place_of_a_password() {
    let authority = Authority::new();
    let server = server(&authority.issue("server", "DNS:localhost"));
    server.write_private("root.crt", &fs::read(authority.certificate()).unwrap());
    server.set("ssl_ca_file = 'root.crt'");
    server.set_access("local all all trust\nhostssl all all all cert\n");
    let client = authority.issue("reader", "DNS:reader");
    let lines = format!(
        "client_cert = \"{}\"\nclient_key = \"{}\"\n{}",
        client.certificate.to_str().unwrap(),
        client.key.to_str().unwrap(),
        ca(&authority)
    );
    let source = server.tcp_source("reader", "localhost");
    let with = read(&settings_of(&source, &lines), None);
    assert_eq!(
        with.rows.text(Table::Relay),
        "@a.example|[relay.test]:587",
        "{:?}",
        with.reading
    );
    let without = read(&settings_of(&source, &ca(&authority)), None);
    assert!(
        matches!(error(&without), EngineErrorKind::Login(_)),
        "{without:?}"
    );
}
