//! Servers that end, hang or refuse, and queries that they refuse.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use postmapd_follow::engine::EngineErrorKind as Kind;

use super::database::mariadb::MariaDb;
use super::database::ports::CLOSED;
use super::database::processes::wait_for;
use super::follower::Follower;

const TABLES: &str = "CREATE TABLE relay (k VARCHAR(99) PRIMARY KEY, v VARCHAR(99));
                      INSERT INTO relay VALUES ('@example.com', 'hunter2');
                      CREATE TABLE credential (k VARCHAR(99) PRIMARY KEY, u VARCHAR(99), p VARCHAR(99));
                      INSERT INTO credential VALUES ('@example.com', 'u', 'hunter2');";

const RELAY: &str = "relay = \"SELECT k, v FROM relay\"";

fn start() -> MariaDb {
    let server = MariaDb::start();
    server.sql("mail", TABLES);
    server
}

fn follow(source: &str, settings: &str, queries: &str) -> Follower {
    Follower::new(&format!(
        "source = \"{source}\"\n{settings}\n[queries]\n{queries}"
    ))
}

#[test]
fn after_a_stop_or_a_kill_an_error_says_so_and_the_next_connection_reads() {
    let mut server = start();
    let mut follower = follow(&server.source("root"), "", RELAY);
    for end in [MariaDb::stop, MariaDb::kill] {
        let mut connection = follower.connect();
        let (before, _) = follower.read(&mut connection);
        end(&mut server);
        let error = follower.try_state(&mut connection).unwrap_err();
        assert!(matches!(error.kind, Kind::Lost(_)), "{error}");
        assert!(error.kind.is_temporary());
        assert_eq!(error.host, server.socket().to_str().unwrap());
        drop(connection);
        let error = follower.connect_error();
        assert!(matches!(error, Kind::Connect(_)), "{error}");
        server.start_again();
        let mut connection = follower.connect();
        assert_eq!(follower.read(&mut connection).0.version, before.version);
    }
}

#[test]
fn a_server_that_hangs_is_an_error_after_the_deadline_and_nothing_waits_for_it_afterwards() {
    let server = start();
    let mut follower = follow(
        &server.tcp_source("root", "127.0.0.1"),
        "tls = \"off\"\nhang = 2",
        RELAY,
    );
    let mut idle = follower.connect_patiently();
    let mut reading = follower.connect_patiently();
    server.freeze();
    for error in [
        follower.try_state(&mut idle).unwrap_err(),
        follower.try_read(&mut reading).0.unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Hang("2s".to_owned()));
        assert_eq!(error.host, format!("127.0.0.1:{}", server.port()));
    }
    // The kernel accepts connections for it. When many hosts return at once, a login takes longer.
    for deadline in ["2s", "4s"] {
        assert_eq!(follower.connect_error(), Kind::Hang(deadline.to_owned()));
    }
    drop((idle, reading));
    assert_eq!(follower.runtime.metrics().num_alive_tasks(), 0);
    server.thaw();
    let mut follower = follow(&server.source("root"), "hang = 30", RELAY);
    let mut connection = follower.connect();
    follower.read(&mut connection);
}

#[test]
fn a_server_that_ends_or_hangs_in_the_middle_of_the_rows_is_an_error() {
    // 40 MB of rows do not fit into the buffers of a socket.
    let rows = "relay = \"SELECT seq, REPEAT('x', 4000) FROM mail.long_table\"\nversion = \"SELECT 1\"";
    let server = MariaDb::start();
    server.sql(
        "mail",
        "CREATE TABLE long_table AS SELECT seq FROM seq_1_to_10000",
    );
    // Where the network only ends, no answer is late, however slow the machine is.
    for (end, hang, expected) in [
        (End::Hang, 2, Kind::Hang("2s".to_owned())),
        (
            End::Close,
            30,
            Kind::Lost("the server or the network has closed it".to_owned()),
        ),
    ] {
        let source = format!(
            "mysql://root@127.0.0.1:{}/mail",
            proxy(server.port(), 1_000_000, end)
        );
        let settings = format!("tls = \"off\"\nhang = {hang}\nstale_after = 100");
        let mut follower = follow(&source, &settings, rows);
        wait_for("an error after the first rows", || {
            let mut connection = follower.connect_patiently();
            let (reading, read) = follower.try_read(&mut connection);
            assert_eq!(reading.unwrap_err().kind, expected);
            drop(connection);
            assert_eq!(follower.runtime.metrics().num_alive_tasks(), 0);
            (!read.rows.is_empty()).then_some(())
        });
    }
}

#[test]
fn the_server_ends_a_query_for_which_nothing_waits_any_more() {
    let server = start();
    let sleeping = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(1000)%' AND info NOT LIKE '%LIKE%'";
    for setting in [
        "relay = \"SELECT k, SLEEP(1000) FROM relay\"",
        "relay = \"SELECT k, v FROM relay\"\nversion = \"SELECT SLEEP(1000)\"",
    ] {
        let mut follower = follow(&server.source("root"), "hang = 2", setting);
        let mut connection = follower.connect_patiently();
        let error = follower.try_state(&mut connection).unwrap_err();
        assert!(error.kind.is_temporary(), "{error}");
        let mut connection = follower.connect_patiently();
        let error = follower.try_read(&mut connection).0.unwrap_err();
        assert!(error.kind.is_temporary(), "{error}");
        wait_for("the end of the queries", || {
            (server.sql("mail", sleeping) == "0").then_some(())
        });
    }
}

/// What a proxy does at its end.
#[derive(Clone, Copy)]
enum End {
    Hang,
    Close,
}

/// Starts a proxy that passes a number of bytes from the server on. Returns its port.
fn proxy(to: u16, most: usize, end: End) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // An error is an end that the test sees, too.
            thread::spawn(move || pass(client, to, most, end));
        }
    });
    port
}

fn pass(mut client: TcpStream, to: u16, most: usize, end: End) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", to))?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let to_server = thread::spawn(move || io::copy(&mut from_client, &mut to_server));
    let mut buffer = [0; 16_384];
    let mut passed = 0;
    while passed < most {
        let length = server.read(&mut buffer)?;
        client.write_all(&buffer[..length])?;
        passed += length;
        if length == 0 {
            break;
        }
    }
    if matches!(end, End::Hang) {
        // Until the client has closed the connection.
        let _ = to_server.join();
    }
    client.shutdown(Shutdown::Both)
}

#[test]
fn hosts_are_tried_in_their_order_and_the_error_is_that_of_the_last() {
    let server = start();
    let sources = |last: &str| format!("mysql://root@127.0.0.1:{CLOSED},{last}/mail");
    let good = format!("127.0.0.1:{}", server.port());
    let mut follower = follow(&sources(&good), "tls = \"off\"", RELAY);
    let mut connection = follower.connect();
    follower.read(&mut connection);
    let socket = format!(
        "mysql://root@127.0.0.1:{CLOSED}/mail?socket={}",
        server.socket().display()
    );
    let mut follower = follow(&socket, "tls = \"off\"", RELAY);
    let mut connection = follower.connect();
    follower.read(&mut connection);
    let mut follower = follow(&sources("[::1]:1"), "tls = \"off\"", RELAY);
    let error = follower.try_connect().err().unwrap();
    assert_eq!(error.host, "[::1]:1");
    assert!(matches!(error.kind, Kind::Connect(_)), "{error}");
    // One that refuses the login, and one that may come back at any moment: it is tried again soon.
    for hosts in [
        format!("127.0.0.1:{CLOSED},{good}"),
        format!("{good},127.0.0.1:{CLOSED}"),
    ] {
        let mut follower = follow(&format!("mysql://unknown@{hosts}/mail"), "tls = \"off\"", RELAY);
        let error = follower.try_connect().err().unwrap();
        assert_eq!(error.host, format!("127.0.0.1:{CLOSED}"));
        assert!(matches!(error.kind, Kind::Connect(_)), "{error}");
    }
    let mut follower = follow(&server.tcp_source("unknown", "127.0.0.1"), "tls = \"off\"", RELAY);
    assert!(matches!(follower.connect_error(), Kind::Login(_)));
    // A name of this host that leads elsewhere would send the password there.
    let mut follower = follow("mysql://root@unknown.invalid/mail", "", RELAY);
    assert!(matches!(follower.connect_error(), Kind::NoAddress(_)));
}

#[test]
fn select_on_the_columns_is_the_only_right_that_is_needed() {
    let server = start();
    server.sql(
        "mail",
        "CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'hunter2';
         GRANT SELECT (k, v) ON mail.relay TO reader@'127.0.0.1';
         CREATE USER other@'127.0.0.1';
         GRANT SELECT (k) ON mail.relay TO other@'127.0.0.1'",
    );
    let temp = tempfile::tempdir().unwrap();
    let password = |text: &str| {
        let path = temp.path().join("password");
        super::database::server::write_private(&path, text.as_bytes());
        format!("tls = \"off\"\npassword_file = \"{}\"", path.display())
    };
    let source = server.tcp_source("reader", "127.0.0.1");
    let mut follower = follow(&source, &password("hunter2\n"), RELAY);
    let mut connection = follower.connect();
    follower.read(&mut connection);
    let credentials = "credentials = \"SELECT k, u, p FROM credential\"";
    let mut follower = follow(&source, &password("hunter2"), credentials);
    let error = follower.error();
    assert!(
        matches!(&error, Kind::Rights(text) if text.contains("credential")),
        "{error}"
    );
    let mut follower = follow(&source, &password("hunter3"), RELAY);
    let error = follower.error();
    assert!(
        matches!(&error, Kind::Login(text) if text.contains("'reader'")),
        "{error}"
    );
    assert!(!error.to_string().contains("hunter"), "{error}");
    let mut follower = follow(
        &server.tcp_source("unknown", "127.0.0.1"),
        &password("hunter2"),
        RELAY,
    );
    assert!(matches!(follower.error(), Kind::Login(_)));
    let mut follower = follow(&server.tcp_source("other", "127.0.0.1"), "tls = \"off\"", RELAY);
    let error = follower.error();
    assert!(
        matches!(&error, Kind::Rights(text) if text.contains("'v'")),
        "{error}"
    );
}

#[test]
fn a_query_that_the_server_refuses_is_an_error_that_says_what_to_do_without_a_value() {
    let server = start();
    server.sql(
        "mail",
        "DELIMITER //
         CREATE FUNCTION told(t VARCHAR(99)) RETURNS VARCHAR(99) DETERMINISTIC
         BEGIN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = t; RETURN t; END//",
    );
    for (query, expected) in [
        (
            "relay = \"SELECT k, v FROM relays\"",
            "the tables are not those that are expected: Table 'mail.relays' doesn't exist; correct",
        ),
        (
            "relay = \"SELECT k, nexthop FROM relay\"",
            "Unknown column 'nexthop'",
        ),
        (
            "relay = \"SELECT k, v FROM other.relay\"",
            "Table 'other.relay' doesn't exist",
        ),
        (
            "relay = '''SELECT k,\n v 'hunter2' FROM relay WHERE v == 'hunter2' '''",
            "the result of [queries] relay is unusable: error 1064 (42000): the syntax is wrong on line 2 of the query",
        ),
        (
            "credentials = \"SELECT k, p FROM credential\"",
            "the result of [queries] credentials is unusable: the number of its columns is wrong",
        ),
        (
            "relay = \"SELECT k, told(v) FROM relay\"",
            "the result of [queries] relay is unusable: error 1644 (45000): the message is not shown",
        ),
        (
            "relay = \"SELECT k, no_function(v) FROM relay\"",
            "mail.no_function does not exist",
        ),
    ] {
        let mut follower = follow(&server.source("root"), "", query);
        let error = follower.error().to_string();
        assert!(error.contains(expected), "{query}: {error}");
        assert!(!error.contains("hunter"), "{error}");
    }
}

#[test]
fn another_database_than_that_of_the_user_is_an_error_that_names_it_and_the_setting() {
    let server = start();
    server.sql(
        "mail",
        "CREATE USER reader@localhost; GRANT SELECT (k, v) ON mail.relay TO reader@localhost; CREATE DATABASE hidden",
    );
    let error = |user: &str, database: &str| {
        let source = server.source(user).replace("/mail?", &format!("/{database}?"));
        follow(&source, "", RELAY).error()
    };
    for (user, database) in [("root", "other"), ("reader", "other"), ("reader", "hidden")] {
        let error = error(user, database);
        assert!(
            matches!(&error, Kind::Tables(text, _) if text.contains(&format!("'{database}'"))),
            "{error}"
        );
        assert!(!error.is_temporary(), "{error}");
        let text = error.to_string();
        assert!(text.contains("correct the database in source"), "{text}");
    }
    // One that exists and has other tables.
    let text = error("root", "mysql").to_string();
    assert!(
        text.contains("'mysql.relay' doesn't exist; correct the database in source"),
        "{text}"
    );
}

#[test]
fn a_result_with_other_columns_or_several_statements_is_refused_without_a_fingerprint_too() {
    let server = start();
    for (query, expected) in [
        (
            "credentials = \"SELECT k, p FROM credential\"",
            "the result of [queries] credentials is unusable: it has 2 columns and must have 3: key, user, password",
        ),
        (
            "relay = \"SELECT k, v, v FROM relay\"",
            "the result of [queries] relay is unusable: it has 3 columns and must have 2: key, next hop",
        ),
        (
            "relay = \"SELECT k, v FROM relay; SELECT k, v FROM relay\"",
            "the result of [queries] relay is unusable: it is several statements; write one",
        ),
    ] {
        let mut follower = follow(
            &server.source("root"),
            "",
            &format!("{query}\nversion = \"SELECT 1\""),
        );
        let mut connection = follower.connect();
        let (reading, _) = follower.try_read(&mut connection);
        assert_eq!(reading.unwrap_err().kind.to_string(), expected);
    }
}

#[test]
fn a_server_that_asks_for_a_file_gets_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let read = |client: &mut TcpStream| {
            let mut header = [0; 4];
            client.read_exact(&mut header).unwrap();
            let length = usize::from(header[0]) + (usize::from(header[1]) << 8);
            let mut packet = vec![0; length];
            client.read_exact(&mut packet).unwrap();
        };
        client
            .write_all(&greeting("mysql_native_password", false))
            .unwrap();
        read(&mut client);
        client.write_all(&[7, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0]).unwrap();
        read(&mut client);
        client.write_all(b"\x0c\0\0\x01\xfb/etc/passwd").unwrap();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest);
        rest
    });
    let source = format!("mysql://root@127.0.0.1:{port}/mail");
    let mut follower = follow(&source, "tls = \"off\"\nhang = 30", RELAY);
    let error = follower.connect_error().to_string();
    assert!(error.contains("asks for a file of this host"), "{error}");
    let sent = server.join().unwrap();
    assert!(sent.len() <= 5, "{sent:?}");
}

/// The first packet of a server, with or without TLS.
pub fn greeting(plugin: &str, has_tls: bool) -> Vec<u8> {
    // PROTOCOL_41, SECURE_CONNECTION, CONNECT_WITH_DB and TRANSACTIONS; PLUGIN_AUTH; SSL.
    let low: u16 = 0x0200 | 0x8000 | 0x0008 | 0x2000 | if has_tls { 0x0800 } else { 0 };
    let mut packet = b"\x0a8.0.40\0\x01\0\0\0abcdefgh\0".to_vec();
    packet.extend(low.to_le_bytes());
    packet.extend([45, 2, 0, 8, 0, 21]);
    packet.extend([0; 10]);
    packet.extend(b"ijklmnopqrst\0");
    packet.extend(plugin.as_bytes());
    packet.push(0);
    let mut bytes = vec![u8::try_from(packet.len()).unwrap(), 0, 0, 0];
    bytes.append(&mut packet);
    bytes
}
