//! Promise: a command that queries a server ends, whatever the server does, and reports what it waited for and for how
//! long.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::harness::client::framed;
use crate::harness::daemon::{Daemon, Finished, Setup};

// A command that does not end by its own deadline of ten seconds is killed after twice that, and fails the test.

/// A server that reads something from each connection, then answers in this way.
fn server(answer: impl Fn(&mut TcpStream) + Send + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut piece = [0; 4096];
                if stream.read(&mut piece).is_ok_and(|read| read > 0) {
                    answer(&mut stream);
                }
            });
        }
    });
    address
}

/// Sends this, and then a byte every moment until the connection is closed.
fn trickle(stream: &mut TcpStream, begins: &str) {
    let mut bytes = begins.as_bytes();
    while stream.write_all(bytes).is_ok() {
        bytes = b"a";
        thread::sleep(Duration::from_millis(200));
    }
}

#[track_caller]
fn ends(ran: &Finished, code: i32, message: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:?}");
    assert!(ran.stderr.contains(message), "{ran:?}");
    assert!(!ran.stderr.contains("os error"), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
}

fn query(endpoint: &str) -> Finished {
    Setup::new().run_query(&["--server", endpoint, "sasl", "a@one.test"])
}

fn alive(address: &str) -> Finished {
    Setup::new().run_line(&format!("status --alive --admin {address}"))
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn query_ends_although_the_server_trickles_bytes() {
    let socketmap = server(|stream| trickle(stream, "9999:OK "));
    let tcp = server(|stream| trickle(stream, "200 "));
    let message = "the server did not send a complete reply within 10 seconds; ";
    thread::scope(|scope| {
        scope.spawn(|| ends(&query(&format!("socketmap:inet:{socketmap}")), 75, message));
        scope.spawn(|| ends(&query(&format!("tcp:{tcp}")), 75, message));
    });
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn a_health_check_ends_although_the_server_trickles_bytes() {
    let head = server(|stream| trickle(stream, "HTTP/1.1 200 OK\r\nX: "));
    let body = server(|stream| trickle(stream, "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n"));
    let nothing = server(|_| thread::sleep(Duration::from_secs(3600)));
    thread::scope(|scope| {
        for address in [&head, &body, &nothing] {
            let message = "the server did not send a complete reply within 10 seconds; if postmapd listens there, restart it";
            scope.spawn(move || ends(&alive(address), 69, message));
        }
    });
}

#[test]
fn a_reply_ends_at_its_stated_length_not_at_the_end_of_the_connection() {
    let address = server(|stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"));
        thread::sleep(Duration::from_secs(3600));
    });
    // After its deadline, it would fail.
    assert_eq!(alive(&address).code, Some(0));
}

#[test]
fn query_names_the_setting_that_makes_a_server_close_connections() {
    let address = server(|_| {});
    for endpoint in [format!("socketmap:inet:{address}"), format!("tcp:{address}")] {
        ends(&query(&endpoint), 75, "allow_networks");
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = query(&format!("socketmap:inet:{closed}"));
    assert!(!unreachable.stderr.contains("allow_networks"), "{unreachable:?}");
}

/// A UNIX socket whose queue holds one connection, which is never accepted.
fn listens_and_accepts_none(path: &Path) -> OwnedFd {
    let address = SocketAddrUnix::new(path).unwrap();
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    socket
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn commands_do_not_wait_for_a_server_that_accepts_no_connection() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listener = listens_and_accepts_none(&path);
    let _first = UnixStream::connect(&path).unwrap();

    let message = "the server did not accept a connection within 10 seconds; ";
    let path = path.display();
    thread::scope(|scope| {
        scope.spawn(|| ends(&query(&format!("socketmap:unix:{path}")), 75, message));
        scope.spawn(|| ends(&alive(&format!("unix:{path}")), 69, message));
    });
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn a_late_reply_is_not_mistaken_for_the_answer_to_another_key() {
    let late = server(|stream| {
        thread::sleep(Duration::from_secs(15));
        drop(stream.write_all(&framed("OK another:password")));
        thread::sleep(Duration::from_secs(3600));
    });
    let twice = server(|stream| {
        let reply = framed("OK another:password");
        drop(stream.write_all(&[reply.clone(), reply].concat()));
        thread::sleep(Duration::from_secs(3600));
    });
    thread::scope(|scope| {
        for address in [&late, &twice] {
            scope.spawn(move || {
                let endpoint = format!("socketmap:inet:{address}");
                let ran =
                    Setup::new().run_query(&["--server", &endpoint, "sasl", "a@one.test", "b@two.test"]);
                assert_eq!((ran.code, ran.stdout.as_str()), (Some(75), ""), "{ran:?}");
                let second = "b@two.test: ";
                let skipped = ran.stderr.lines().find(|line| line.contains(second)).unwrap();
                assert!(skipped.contains("skipped"), "{ran:?}");
            });
        }
    });
}

#[test]
fn bench_ends_although_the_server_trickles_bytes() {
    let address = server(|stream| trickle(stream, "9999:OK "));
    let setup = Setup::new().relaymap("@one.test [relay]\n");
    let line = format!(
        "bench socketmap:inet:{address} relayhost --connections 2 --count 4 --warm-up 0s --timeout 1s"
    );
    let ran = setup.run_line(&line);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("4  no reply within the timeout"), "{ran:?}");
}

#[test]
fn bench_reports_how_long_it_waited_for_a_connection() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listener = listens_and_accepts_none(&path);
    let setup = Setup::new().relaymap("@one.test [relay]\n");
    let endpoint = format!("socketmap:unix:{}", path.display());
    let ran = setup.run_line(&format!(
        "bench {endpoint} relayhost --timeout 1s --connections 9"
    ));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(69), ""), "{ran:?}");
    assert!(
        ran.stderr.contains("did not accept all connections within 1s"),
        "{ran:?}"
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn bench_does_not_write_a_plot_through_another_users_symbolic_link() {
    let daemon = Daemon::start(Setup::new().relaymap("@one.test [relay]\n"));
    let (file, link) = (daemon.root().join("roots.svg"), daemon.dir().join("plot.svg"));
    std::fs::write(&file, "root's").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(4711), Some(4711)).expect("the tests need to be root");
    let (endpoint, plot) = (daemon.endpoint(0), link.display());
    let words = format!("bench {endpoint} relayhost --count 10 --warm-up 0s --plot {plot}");
    let ran = daemon.setup().run_line(&words).exits(71);
    let message = "is a symbolic link owned by the user 4711";
    assert!(ran.stderr.contains(message), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "root's");
}
