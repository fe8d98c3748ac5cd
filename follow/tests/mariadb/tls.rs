//! TLS: which servers are refused, and what each of them has received by then.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use postmapd_follow::engine::EngineErrorKind as Kind;
use tempfile::TempDir;

use super::database::certificates::{Authority, Certificate};
use super::database::mariadb::MariaDb;
use super::database::proxy::Proxy;
use super::database::server::write_private;
use super::failures::greeting;
use super::follower::Follower;

const USER: &str = "reader_of_mail";
const PASSWORD: &str = "hunter2hunter2";

/// Starts a server with a certificate, and with the user.
fn start(certificate: &Certificate) -> MariaDb {
    let text = |path: &Path| std::fs::read(path).unwrap();
    let (certificate, key) = (text(&certificate.certificate), text(&certificate.key));
    // The server runs in the directory of these files.
    let settings = "ssl_cert = ../server.pem\nssl_key = ../server.key";
    let server = MariaDb::start_with(settings, |directory| {
        write_private(&directory.join("server.pem"), &certificate);
        write_private(&directory.join("server.key"), &key);
    });
    create_user(&server);
    server
}

fn create_user(server: &MariaDb) {
    server.sql(
        "mail",
        &format!(
            "CREATE TABLE relay (k VARCHAR(99), v VARCHAR(99)); INSERT INTO relay VALUES ('@example.com', '[r1]');
             CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON mail.relay TO {USER}@'%'"
        ),
    );
}

/// The settings of a follower, and the files that they name.
struct Settings {
    temp: TempDir,
}

impl Settings {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        write_private(&temp.path().join("password"), PASSWORD.as_bytes());
        Self { temp }
    }

    fn follow(&self, host: &str, port: u16, settings: &str) -> Follower {
        Follower::new(&format!(
            "source = \"mysql://{USER}@{host}:{port}/mail\"\nhang = 30\npassword_file = \"{}\"\n{settings}\n\
             [queries]\nrelay = \"SELECT k, v FROM relay\"",
            self.temp.path().join("password").display()
        ))
    }
}

fn ca(authority: &Authority) -> String {
    format!("ca = \"{}\"", authority.certificate().display())
}

/// Checks that neither the user nor the password was readable.
fn assert_nothing_readable(sent: &[u8]) {
    for text in [USER, PASSWORD] {
        let is_text = |window: &[u8]| window == text.as_bytes();
        assert!(!sent.windows(text.len()).any(is_text), "{text} was sent");
    }
}

#[test]
fn a_server_with_a_certificate_for_its_name_is_read_and_neither_user_nor_password_is_readable_on_the_way() {
    let authority = Authority::new();
    let server = start(&authority.issue("server", "DNS:localhost"));
    let settings = Settings::new();
    let proxy = Proxy::before(server.port());
    let mut follower = settings.follow("localhost", proxy.port(), &ca(&authority));
    let mut connection = follower.connect();
    follower.read(&mut connection);
    assert!(!proxy.sent().is_empty());
    assert_nothing_readable(&proxy.sent());
    // Without TLS, which only loopback may have, the same proxy sees the user.
    let proxy = Proxy::before(server.port());
    let mut follower = settings.follow("localhost", proxy.port(), "tls = \"off\"");
    let mut connection = follower.connect();
    follower.read(&mut connection);
    assert!(proxy.has_seen(USER.as_bytes()));
    assert!(!proxy.has_seen(PASSWORD.as_bytes()));
}

#[test]
fn a_server_that_does_not_prove_its_name_is_refused_before_it_has_user_or_password() {
    let [authority, other] = [Authority::new(), Authority::new()];
    let settings = Settings::new();
    let server = start(&authority.issue("server", "DNS:localhost"));
    let expired = start(&authority.issue_expired("server", "DNS:localhost"));
    for (server, host, ca, expected) in [
        (
            &server,
            "localhost",
            ca(&other),
            "the certificate is from an authority that is not trusted",
        ),
        // The authorities of the system.
        (
            &server,
            "localhost",
            String::new(),
            "the certificate is from an authority that is not trusted",
        ),
        (
            &server,
            "127.0.0.1",
            ca(&authority),
            "the certificate is for another name than the host in source",
        ),
        (
            &expired,
            "localhost",
            ca(&authority),
            "the certificate has expired",
        ),
    ] {
        let proxy = Proxy::before(server.port());
        let mut follower = settings.follow(host, proxy.port(), &ca);
        let error = follower.connect_error();
        assert_eq!(error, Kind::Tls(expected.to_owned()));
        assert!(!error.is_temporary());
        assert_nothing_readable(&proxy.sent());
    }
}

#[test]
fn a_server_without_tls_is_refused_before_anything_is_sent_to_it() {
    let server = MariaDb::start();
    create_user(&server);
    let (authority, settings) = (Authority::new(), Settings::new());
    let proxy = Proxy::before(server.port());
    let mut follower = settings.follow("localhost", proxy.port(), &ca(&authority));
    assert_eq!(follower.connect_error(), Kind::NoTls);
    assert!(proxy.sent().is_empty());
    for plugin in [
        "mysql_native_password",
        "caching_sha2_password",
        "mysql_clear_password",
    ] {
        let (port, sent) = answer(greeting(plugin, false), Vec::new());
        let mut follower = settings.follow("127.0.0.1", port, &ca(&authority));
        assert_eq!(follower.connect_error(), Kind::NoTls, "{plugin}");
        assert!(sent.join().unwrap().is_empty(), "{plugin}");
    }
}

#[test]
fn what_answers_in_plain_text_after_it_has_offered_tls_is_refused_too() {
    let (authority, settings) = (Authority::new(), Settings::new());
    // An OK, a request for the password as it is, an error, and nothing.
    for plain in [
        &[7, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0][..],
        b"\x16\0\0\x02\xfemysql_clear_password\0",
        b"\x0b\0\0\x02\xff\x15\x04#28000no",
        b"",
    ] {
        let (port, sent) = answer(greeting("mysql_native_password", true), plain.to_vec());
        let mut follower = settings.follow("127.0.0.1", port, &ca(&authority));
        let error = follower.connect_error();
        assert!(matches!(error, Kind::Tls(_) | Kind::Lost(_)), "{error}");
        assert_nothing_readable(&sent.join().unwrap());
    }
}

/// Starts a server that sends a greeting, reads a request for TLS, sends an answer and closes the connection. Returns its port and
/// what it receives.
fn answer(greeting: Vec<u8>, plain: Vec<u8>) -> (u16, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut client, _): (TcpStream, _) = listener.accept().unwrap();
        client.write_all(&greeting).unwrap();
        let mut received = vec![0; 36];
        // The client closes the connection if it refuses the greeting.
        let Ok(length) = client.read(&mut received) else {
            return Vec::new();
        };
        received.truncate(length);
        let _ = client.write_all(&plain);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut received);
        received
    });
    (port, server)
}

#[test]
fn a_connection_that_is_cut_in_the_handshake_is_an_error_and_the_next_one_works() {
    let authority = Authority::new();
    let server = start(&authority.issue("server", "DNS:localhost"));
    let settings = Settings::new();
    let proxy = Proxy::before(server.port());
    let mut follower = settings.follow("localhost", proxy.port(), &ca(&authority));
    for bytes in [0, 1, 50, 100, 150, 300, 600, 900] {
        proxy.cut_after(bytes);
        let error = follower.connect_error();
        assert!(matches!(error, Kind::Lost(_) | Kind::Tls(_)), "{bytes}: {error}");
    }
    assert_nothing_readable(&proxy.sent());
    proxy.cut_after(usize::MAX);
    let mut connection = follower.connect();
    follower.read(&mut connection);
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_requires_one() {
    let authority = Authority::new();
    let certificate = authority.issue("server", "DNS:localhost");
    let text = std::fs::read(authority.certificate()).unwrap();
    let server = start(&certificate);
    server.sql("mail", &format!("ALTER USER {USER}@'%' REQUIRE X509"));
    let settings = Settings::new();
    let mut follower = settings.follow("localhost", server.port(), &ca(&authority));
    assert!(matches!(follower.connect_error(), Kind::Login(_)));
    drop(server);

    let client = authority.issue("client", "DNS:client.test");
    let read = |path: &Path| std::fs::read(path).unwrap();
    let (pem, key) = (read(&certificate.certificate), read(&certificate.key));
    let lines = "ssl_cert = ../server.pem\nssl_key = ../server.key\nssl_ca = ../ca.pem";
    let server = MariaDb::start_with(lines, |directory| {
        for (name, text) in [("server.pem", &pem), ("server.key", &key), ("ca.pem", &text)] {
            write_private(&directory.join(name), text);
        }
    });
    create_user(&server);
    server.sql("mail", &format!("ALTER USER {USER}@'%' REQUIRE X509"));
    let identity = format!(
        "{}\nclient_cert = \"{}\"\nclient_key = \"{}\"",
        ca(&authority),
        client.certificate.display(),
        client.key.display()
    );
    let mut follower = settings.follow("localhost", server.port(), &identity);
    let mut connection = follower.connect();
    follower.read(&mut connection);
}
