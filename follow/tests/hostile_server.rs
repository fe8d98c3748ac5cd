//! What a server sends that PostgreSQL does not: each is an error, and what was active stays so.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use database::processes::wait_for;
use database::program::Setup;

const LINES: &str = "tls = \"off\"\nhang = 30\nstale_after = 60";
const VERSION: &str = "00000000-0000-4000-8000-000000000001";

/// The answers of a server.
#[derive(Clone)]
struct Answers {
    version: String,
    /// The time of the state in microseconds.
    at: String,
    relay: Vec<Vec<u8>>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            version: VERSION.to_owned(),
            at: "1700000000000000".to_owned(),
            relay: vec![row(&["@a.test", "[r.test]:587"])],
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

fn row(values: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value.as_bytes());
    }
    message(b'D', &body)
}

/// A result with so many columns.
fn result(columns: u16, rows: &[Vec<u8>]) -> Vec<u8> {
    [
        message(b'T', &columns.to_be_bytes()),
        rows.concat(),
        message(b'C', b"SELECT\0"),
    ]
    .concat()
}

fn read_message(stream: &mut TcpStream, has_kind: bool) -> Option<String> {
    let mut header = vec![0; 4 + usize::from(has_kind)];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_be_bytes(*header.last_chunk().unwrap());
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).ok()?;
    Some(String::from_utf8_lossy(&body).into_owned())
}

/// Serves connections, and returns the port.
fn serve(serve_one: impl Fn(TcpStream) -> Option<()> + Send + Copy + 'static) -> u16 {
    serve_with((), move |stream, &()| serve_one(stream))
}

fn serve_with<A: Clone + Send + 'static>(
    answers: A,
    serve_one: impl Fn(TcpStream, &A) -> Option<()> + Send + Copy + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answers = answers.clone();
            // Ends when the program closes the connection.
            thread::spawn(move || serve_one(stream.unwrap(), &answers));
        }
    });
    port
}

/// Answers as PostgreSQL with the tables of postmapd does, with these answers.
fn postgres(mut stream: TcpStream, answers: &Answers) -> Option<()> {
    read_message(&mut stream, false)?;
    let ready = message(b'Z', b"I");
    stream
        .write_all(&[message(b'R', &[0; 4]), ready.clone()].concat())
        .ok()?;
    loop {
        let sql = read_message(&mut stream, true)?;
        let state = ["1", "7", &answers.version, &answers.at];
        let answer = if sql.contains("BEGIN") {
            result(7, &[row(&[&state[..], &["f", "f", ""]].concat())])
        } else if sql.contains(".state s") {
            result(4, &[row(&state)])
        } else if sql.contains(".relay ") {
            result(2, &answers.relay)
        } else if sql.contains(".credential ") {
            result(3, &[])
        } else if sql.contains(".relay_tls ") {
            result(2, &[])
        } else {
            message(b'C', b"OK\0")
        };
        stream.write_all(&answer).ok()?;
        stream.write_all(&ready).ok()?;
    }
}

fn source(ports: &[u16]) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("postgres://reader@{}/mail", hosts.join(","))
}

#[test]
fn a_state_from_before_1970_or_after_9999_is_published() {
    for (at, committed) in [
        ("-62135596800000000", "1970-01-01T00:00:00"),
        ("253402300800000000", "9999-12-31T23:59:59"),
        ("9223372036854775807", "9999-12-31T23:59:59"),
    ] {
        let answers = Answers {
            at: at.to_owned(),
            ..Answers::default()
        };
        let setup = Setup::new(&source(&[serve_with(answers, postgres)]), LINES);
        let program = setup.start();
        setup.wait_for_relay("@a.test [r.test]:587");
        program.wait_until_ready();
        let status = program.status();
        let found = status["state"]["committed"].as_str().unwrap();
        assert!(found.starts_with(committed), "{found}");
    }
}

#[test]
fn a_row_that_lacks_a_column_is_not_a_row_with_null() {
    for rows in [
        vec![row(&["@a.test"])],
        vec![row(&["@a.test", "[r.test]:587"]), row(&["@b.test"])],
    ] {
        let answers = Answers {
            relay: rows,
            ..Answers::default()
        };
        let setup = Setup::new(&source(&[serve_with(answers, postgres)]), LINES);
        let mut program = setup.start();
        program.wait_for_log("does not answer as PostgreSQL does");
        assert_eq!(setup.files(), None);
    }
}

#[test]
fn a_version_is_a_uuid() {
    let long = "a".repeat(1_000_000);
    for version in ["x'; --", "a\nb", &long, ""] {
        let answers = Answers {
            version: version.to_owned(),
            ..Answers::default()
        };
        let setup = Setup::new(&source(&[serve_with(answers, postgres)]), LINES);
        let ended = setup.run(&["once", "--timeout", "60s"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("the result of the table state is unusable"));
        assert!(ended.err.len() < 1000);
        assert_eq!(setup.files(), None);
    }
}

#[test]
fn a_login_without_end_does_not_keep_the_next_host_from_being_tried() {
    let endless = serve(|mut stream| {
        read_message(&mut stream, false)?;
        loop {
            stream.write_all(&message(b'N', b"Mnotice\0\0")).ok()?;
            thread::sleep(Duration::from_millis(10));
        }
    });
    let ports = [endless, serve_with(Answers::default(), postgres)];
    let setup = Setup::new(&source(&ports), "tls = \"off\"\nhang = 0.5\nstale_after = 60");
    let _program = setup.start();
    wait_for("the other host", || {
        setup.files().filter(|[relay, _]| relay.contains("[r.test]:587"))
    });
}
