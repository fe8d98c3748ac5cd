//! Promise: the server reports its state to a service manager, and serves sockets that the manager passes to it.
//!
//! The test is the manager, by the protocols documented in sd_notify(3) and sd_listen_fds(3). systemd's
//! `systemd-socket-activate` passes the sockets. The tests of the units are in units.rs.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::time::{ClockId, clock_gettime};

use crate::harness::admin::exchange;
use crate::harness::client::{Reply, Socketmap, TcpTable, framed, payloads};
use crate::harness::daemon::{CREDENTIALS, DEADLINE, Daemon, RELAYMAP, Setup};
use crate::harness::{eventually, strace};

fn setup() -> Setup {
    Setup::new()
        .relaymap("@one.test [relay1.test]\n")
        .credentials("@one.test user:secret-of-one\n")
}

/// A service manager as its service sees it.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    /// A manager with a socket at a path, as systemd has it.
    fn at(setup: &Setup) -> Self {
        let path = setup.root().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let name = path.to_str().unwrap().to_owned();
        Self { socket, name }.with_read_timeout()
    }

    /// A manager with an abstract socket.
    fn abstract_one(setup: &Setup) -> Self {
        let name = setup.root().join("abstract").to_str().unwrap().to_owned();
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let name = format!("@{name}");
        Self { socket, name }.with_read_timeout()
    }

    fn with_read_timeout(self) -> Self {
        self.socket.set_read_timeout(Some(DEADLINE)).unwrap();
        self
    }

    /// Starts the server as the manager's service.
    fn start(&self, setup: Setup) -> Daemon {
        Daemon::start(setup.env("NOTIFY_SOCKET", &self.name))
    }

    /// The next datagram. A call with a timeout may be interrupted by what other tests do with this process
    /// (signal(7)), which has nothing to do with the server.
    fn receives(&self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.recv(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => return received,
            }
        }
    }

    /// The next notice.
    fn next_notice(&self) -> Notice {
        let mut bytes = [0; 4096];
        let read = self.receives(&mut bytes).expect("a notice");
        let text = std::str::from_utf8(&bytes[..read]).expect("UTF-8");
        assert!(!text.contains("secret"), "{text}");
        let lines = text.lines().map(|line| line.split_once('=').expect("NAME=VALUE"));
        Notice(lines.map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The next notice that is not a ping.
    fn next_status(&self) -> Notice {
        loop {
            let notice = self.next_notice();
            if !notice.is("WATCHDOG") {
                return notice;
            }
        }
    }

    /// The next notice with this name. Fails the test where one with the other name comes before it.
    fn expect_notice(&self, name: &str, other: &str) -> Notice {
        loop {
            let notice = self.next_notice();
            if notice.is(name) {
                return notice;
            }
            assert!(!notice.is(other), "{notice:?}");
        }
    }

    /// Whether a ping comes in that time. Other notices are skipped.
    fn ping_within(&self, time: Duration) -> bool {
        let begun = Instant::now();
        let received = loop {
            let Some(left) = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
                break false;
            };
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut bytes = [0; 4096];
            match self.receives(&mut bytes) {
                Ok(read) if &bytes[..read] == b"WATCHDOG=1" => break true,
                Ok(_) => {}
                Err(error) => {
                    let is_over = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
                    assert!(is_over, "{error}");
                    break false;
                }
            }
        };
        self.socket.set_read_timeout(Some(DEADLINE)).unwrap();
        received
    }

    /// Checks that no notice is waiting.
    fn expect_no_notice(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        let more = self.receives(&mut bytes);
        assert!(
            more.is_err(),
            "{:?}",
            String::from_utf8_lossy(&bytes[..more.unwrap()])
        );
    }
}

/// One datagram.
#[derive(Debug)]
struct Notice(Vec<(String, String)>);

impl Notice {
    fn value(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.iter();
        lines.find(|line| line.0 == name).map(|line| line.1.as_str())
    }

    fn is(&self, name: &str) -> bool {
        self.value(name) == Some("1")
    }

    fn status(&self) -> &str {
        self.value("STATUS").unwrap_or_else(|| panic!("{self:?}"))
    }
}

fn monotonic_microseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// The server's life, as the manager is notified of it.
fn lifecycle(manager: &Manager, setup: Setup) {
    let path = setup.root().join("socket");
    let mut daemon = manager.start(setup.listen(format!("socketmap:unix:{}", path.display())));
    let ready = manager.next_notice();
    // It is ready, so the first attempt succeeds.
    let mut client = Socketmap::to(&daemon, 0);
    client.finds("relayhost", "x@one.test", "[relay1.test]");
    assert!(ready.is("READY"), "{ready:?}");
    assert_eq!(
        ready.status(),
        "generation 1: 1 relayhost entries, 1 sasl entries; last reload: changed"
    );

    // An edit is a new status, and not a requested reload.
    daemon.replace(RELAYMAP, "@one.test [relay2.test]\n@two.test [relay2.test]\n");
    // A program that was being started when this test wrote the files may close them late, which is an event.
    let news = loop {
        let news = manager.next_notice();
        assert!(!news.is("READY") && !news.is("RELOADING"), "{news:?}");
        if !news.status().starts_with("generation 1: ") {
            break news;
        }
    };
    assert_eq!(
        news.status(),
        "generation 2: 2 relayhost entries, 1 sasl entries; last reload: changed"
    );
    client.finds("relayhost", "x@one.test", "[relay2.test]");

    // SIGHUP is answered twice: at once, and when the reload is done.
    for (text, outcome) in [
        (
            None,
            "generation 2: 2 relayhost entries, 1 sasl entries; last reload: unchanged",
        ),
        (
            Some("@one.test user-without-password\n"),
            "generation 2: 2 relayhost entries, 1 sasl entries; last reload: failed (errors: 1; run postmapd check)",
        ),
        (
            Some("@one.test user:another-secret\n@three.test u:p\n"),
            "generation 3: 2 relayhost entries, 2 sasl entries; last reload: changed",
        ),
    ] {
        if let Some(text) = text {
            // The file stays open, so only the signal and the poll find the change.
            daemon.replace(CREDENTIALS, text);
        }
        let before = monotonic_microseconds();
        daemon.signal("HUP");
        let reloading = manager.expect_notice("RELOADING", "READY");
        let reported: i64 = reloading.value("MONOTONIC_USEC").unwrap().parse().unwrap();
        assert!(
            (before..=monotonic_microseconds()).contains(&reported),
            "{reloading:?}"
        );
        let ready = manager.expect_notice("READY", "RELOADING");
        assert!(
            ready.status().starts_with(outcome.split("; ").next().unwrap()),
            "{ready:?}"
        );
        // The edit may have been noticed before the signal, which then finds no change.
        let unchanged = outcome.replace("last reload: changed", "last reload: unchanged");
        assert!([outcome, &unchanged].contains(&ready.status()), "{ready:?}");
    }

    daemon.signal("TERM");
    let stopping = loop {
        let notice = manager.next_notice();
        assert!(!notice.is("READY"), "{notice:?}");
        if notice.value("STATUS").is_none() {
            break notice;
        }
    };
    assert!(stopping.is("STOPPING"), "{stopping:?}");
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
    manager.expect_no_notice();
}

#[test]
fn the_manager_is_notified_of_ready_reloading_outcomes_and_stopping() {
    let setup = setup();
    lifecycle(&Manager::at(&setup), setup);
}

#[test]
fn an_abstract_notify_socket_gets_the_same_messages() {
    let setup = setup();
    lifecycle(&Manager::abstract_one(&setup), setup);
}

#[test]
fn tables_invalid_at_startup_do_not_delay_ready_and_are_reported() {
    let setup = setup().credentials("@one.test no-colon\n");
    let manager = Manager::at(&setup);
    let _daemon = manager.start(setup);
    let ready = manager.next_notice();
    assert!(
        ready.is("READY") && ready.status().contains("last reload: failed"),
        "{ready:?}"
    );
}

#[test]
fn reload_requests_during_a_reload_are_answered_too() {
    let setup = setup();
    let manager = Manager::at(&setup);
    let mut daemon = manager.start(setup);
    for _ in 0..50 {
        daemon.signal("HUP");
    }
    daemon.signal("TERM");
    let mut reloading = false;
    loop {
        let notice = manager.next_notice();
        if notice.is("STOPPING") {
            break;
        }
        // READY is expected only where it was missing, and never twice.
        if notice.is("RELOADING") {
            reloading = true;
        } else if notice.is("READY") && notice.status().ends_with("unchanged") {
            assert!(std::mem::take(&mut reloading), "{notice:?}");
        }
    }
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
}

#[test]
fn watchdog_pings_are_sent_twice_per_watchdog_timeout() {
    const LIMIT: Duration = Duration::from_secs(4);
    let setup = setup().env("WATCHDOG_USEC", LIMIT.as_micros().to_string());
    let manager = Manager::at(&setup);
    let begun = Instant::now();
    let _daemon = manager.start(setup);
    let ping = || {
        assert!(manager.ping_within(LIMIT), "the manager would have replaced it");
    };
    ping();
    ping();
    ping();
    // Nor is there a ping for each idle moment: the third is not due before the second watchdog timeout begins.
    assert!(begun.elapsed() > LIMIT * 3 / 4, "{:?}", begun.elapsed());
}

#[test]
fn watchdog_pings_are_sent_only_by_the_process_they_are_requested_of() {
    let start = |process: &str| {
        let setup = setup().env("WATCHDOG_USEC", "20000");
        let manager = Manager::at(&setup);
        let set = format!("WATCHDOG_PID={process} exec \"$@\"");
        let daemon = manager.start(setup.within(["sh", "-c", &set, "sh"]));
        (manager, daemon)
    };
    let (manager, _daemon) = start("$$");
    assert!(manager.ping_within(DEADLINE));
    let (manager, _daemon) = start("1");
    assert!(manager.next_notice().is("READY"));
    assert!(!manager.ping_within(Duration::from_millis(500)));
}

/// A process that ends with its test in any case.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_stuck_lookup_thread_sends_no_watchdog_ping() {
    const LIMIT: Duration = Duration::from_secs(1);
    let setup = setup().env("WATCHDOG_USEC", LIMIT.as_micros().to_string());
    let manager = Manager::at(&setup);
    let daemon = manager.start(setup);
    assert!(manager.next_notice().is("READY"));
    assert!(manager.ping_within(DEADLINE));
    // Only the lookup thread is delayed: a call that begins takes an hour.
    let delay = "-o /dev/null -e inject=epoll_wait:delay_enter=3600000000";
    let hold = Process(strace::attach(&daemon, delay.split(' ')));
    // A ping may have been sent before, and the thread may have begun to wait before and answer once more.
    while manager.ping_within(Duration::from_millis(1)) {}
    let once_more = manager.ping_within(LIMIT * 2);
    assert!(
        !once_more || !manager.ping_within(LIMIT * 2),
        "it pings, but answers no lookup"
    );
    drop(hold);
    assert!(manager.ping_within(DEADLINE));
}

#[test]
fn a_manager_that_does_not_read_delays_neither_lookups_nor_shutdown() {
    let setup = setup().env("WATCHDOG_USEC", "2000");
    let manager = Manager::at(&setup);
    let mut daemon = manager.start(setup);
    // The queue of the manager's socket fills up, and stays full.
    let queue = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    thread::sleep(Duration::from_millis(2) * queue.trim().parse().unwrap());
    let mut client = Socketmap::to(&daemon, 0);
    for _ in 0..100 {
        client.finds("relayhost", "x@one.test", "[relay1.test]");
    }
    daemon.signal("HUP");
    daemon.signal("TERM");
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
}

#[test]
fn without_a_manager_nothing_is_sent_and_an_invalid_one_is_no_error() {
    let plain = Daemon::start(setup().env("WATCHDOG_USEC", "1000000"));
    assert!(!plain.log().contains("service manager"));
    for wrong in ["relative/path", "vsock:2:1234"] {
        let daemon = Daemon::start(setup().env("NOTIFY_SOCKET", wrong));
        daemon.wait_for_log(|line| line.contains("WARN") && line.contains("NOTIFY_SOCKET"));
    }
    let daemon = Daemon::start(setup().env("NOTIFY_SOCKET", "/nonexistent/socket"));
    daemon.wait_for_log(|line| line.contains("WARN") && line.contains("cannot notify the service manager"));
    let reply = Socketmap::to(&daemon, 0).query("relayhost", "x@one.test");
    assert_eq!(reply, Reply::found("[relay1.test]"));
}

/// Free ports: systemd-socket-activate cannot choose one.
fn free_ports() -> [u16; 3] {
    // All are bound at once, so that they differ.
    [(); 3]
        .map(|()| TcpListener::bind("127.0.0.1:0").unwrap())
        .map(|socket| socket.local_addr().unwrap().port())
}

/// Starts the server with these arguments and with sockets that systemd opens and passes by these names. systemd waits
/// for the first connection to the socket at path `first`, and the server answers it.
fn with_passed_sockets(setup: Setup, sockets: &[(&str, &str)], first: &Path) -> (Daemon, Vec<String>) {
    let mut words = vec!["systemd-socket-activate".to_owned()];
    for (address, _) in sockets {
        words.extend(["-l".to_owned(), (*address).to_owned()]);
    }
    let names: Vec<&str> = sockets.iter().map(|(_, name)| *name).collect();
    words.push(format!("--fdname={}", names.join(":")));
    let request = framed("relayhost x@one.test");
    let path = first.to_owned();
    let client = thread::spawn(move || {
        let mut stream = None;
        eventually(
            || {
                stream = UnixStream::connect(&path).ok();
                stream.is_some()
            },
            |connected| *connected,
        );
        let mut stream = stream.unwrap();
        io::Write::write_all(&mut stream, &request).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.read_to_end(&mut reply).unwrap();
        payloads(&reply)
    });
    let daemon = Daemon::start(setup.within(words));
    (daemon, client.join().unwrap())
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn passed_sockets_are_served_by_their_names() {
    let setup = setup();
    let path = setup.root().join("socket");
    let unix = path.to_str().unwrap().to_owned();
    let [relayhost, sasl, admin] = free_ports().map(|port| format!("127.0.0.1:{port}"));
    let [everything, ..] = free_ports().map(|port| format!("[::1]:{port}"));
    let sockets = [
        (unix.as_str(), "socketmap"),
        (&relayhost, "relayhost"),
        (&sasl, "sasl"),
        (&everything, "socketmap"),
        (&admin, "admin"),
    ];
    let announced = [
        format!("socketmap:unix:{unix}"),
        format!("tcp:{relayhost}:relayhost"),
        format!("tcp:{sasl}:sasl"),
        format!("socketmap:inet:{everything}"),
    ];
    let (mut daemon, waited) = with_passed_sockets(
        setup.announces(&announced.each_ref().map(String::as_str)),
        &sockets,
        &path,
    );
    // The request was sent before there was a server.
    assert_eq!(waited, ["OK [relay1.test]"]);
    let found = Reply::found("[relay1.test]");
    let credentials = Reply::found("user:secret-of-one");
    assert_eq!(Socketmap::to(&daemon, 0).query("sasl", "x@one.test"), credentials);
    assert_eq!(TcpTable::to(&daemon, 1).query("x@one.test"), found);
    assert_eq!(TcpTable::to(&daemon, 2).query("x@one.test"), credentials);
    assert_eq!(Socketmap::to(&daemon, 3).query("sasl", "x@one.test"), credentials);
    daemon.wait_for_log(|line| line.contains(&format!("listening for admin requests address={admin}")));
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(&admin, request).code, 200);
    // With passed sockets, the default endpoint is not served.
    assert!(!daemon.log().contains(":10451"), "{}", daemon.log());
    // The passed sockets are not inherited by other programs.
    for descriptor in 3..8 {
        let about = fs::read_to_string(format!("/proc/{}/fdinfo/{descriptor}", daemon.pid())).unwrap();
        let flags = about
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap();
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        assert_ne!(flags & 0o2_000_000, 0, "O_CLOEXEC of {descriptor}: {flags:o}");
        assert_ne!(flags & 0o4000, 0, "O_NONBLOCK of {descriptor}: {flags:o}");
    }
    let inode = fs::symlink_metadata(&path).unwrap().ino();
    daemon.signal("TERM");
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
    assert_eq!(
        fs::symlink_metadata(&path).unwrap().ino(),
        inode,
        "the socket is not ours to remove"
    );
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn configured_endpoints_are_bound_unless_their_socket_was_passed() {
    let setup = setup();
    let path = setup.root().join("socket");
    let unix = format!("socketmap:unix:{}", path.display());
    let setup = setup
        .settings(format!("listen = [\"{unix}\", \"tcp:127.0.0.1:0:relayhost\"]\n"))
        .announces(&[&unix, "tcp:127.0.0.1:0:relayhost"]);
    let (daemon, waited) = with_passed_sockets(setup, &[(path.to_str().unwrap(), "socketmap")], &path);
    assert_eq!(waited, ["OK [relay1.test]"]);
    assert_eq!(
        TcpTable::to(&daemon, 1).query("x@one.test"),
        Reply::found("[relay1.test]")
    );
}

/// The cases in tests/cases/serve/handed-over have the other sockets that cannot be served.
#[test]
fn a_passed_socket_that_is_connected_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=socketmap; exec \"$@\" 3<>/dev/tcp/127.0.0.1/{port}"
    );
    let setup = setup().within(["bash", "-c", &script, "bash"]);
    let ended = setup.serve_until_exit().exits(78);
    let reported = "(descriptor 3): not a listening stream socket";
    assert!(ended.stderr.contains(reported), "{ended:?}");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_passed_unix_socket_cannot_serve_tcp_table() {
    let setup = setup();
    let path = setup.root().join("socket");
    let poke = path.clone();
    let poked = thread::spawn(move || eventually(|| UnixStream::connect(&poke).is_ok(), |ok| *ok));
    let unix = path.to_str().unwrap();
    let ended = setup
        .within(["systemd-socket-activate", "-l", unix, "--fdname=sasl"])
        .serve_until_exit();
    poked.join().unwrap();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended.stderr.contains("Postfix queries tcp_table over TCP only"),
        "{ended:?}"
    );
}

#[test]
fn sockets_passed_to_another_process_are_not_used() {
    for variables in [
        "LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=smtp",
        "LISTEN_PID= LISTEN_FDS=0",
    ] {
        let set = format!(
            "export {variables}; [ -n \"$LISTEN_PID\" ] || unset LISTEN_PID; exec \"$@\" 3</dev/null"
        );
        let daemon = Daemon::start(setup().within(["sh", "-c", &set, "sh"]));
        let reply = Socketmap::to(&daemon, 0).query("relayhost", "x@one.test");
        assert_eq!(reply, Reply::found("[relay1.test]"));
    }
}

/// Executes the program with standard error announced as the journal's, or as `stream` says.
fn with_journal_stream(stream: &str) -> [String; 4] {
    let set = format!("export JOURNAL_STREAM={stream}; exec \"$@\"");
    ["sh".into(), "-c".into(), set, "sh".into()]
}

const STANDARD_ERROR: &str = "$(stat -L -c %d:%i /proc/self/fd/2)";

#[test]
fn on_a_journal_stream_log_lines_have_priorities_by_default() {
    let daemon = Daemon::start(setup().within(with_journal_stream(STANDARD_ERROR)));
    let log = daemon.log();
    assert!(log.lines().all(|line| line.starts_with("<6>")), "{log}");
    let broken = setup().relaymap("@one.test [relay\n@two.test [relay]\n@two.test [relay]\n");
    let daemon = Daemon::start(broken.within(with_journal_stream(STANDARD_ERROR)));
    daemon.wait_for_log(|line| line.starts_with("<3>") && line.contains("postfix-relaymap.cf:1:"));
    daemon.wait_for_log(|line| line.starts_with("<4>") && line.contains("postfix-relaymap.cf:3:"));
    // Another stream is not the journal, and a configured format is kept.
    for daemon in [
        setup().within(with_journal_stream("1:1")),
        setup()
            .within(with_journal_stream(STANDARD_ERROR))
            .env("POSTMAPD_LOG_FORMAT", "text"),
    ] {
        let log = Daemon::start(daemon).log();
        assert!(log.lines().all(|line| !line.starts_with('<')), "{log}");
    }
}

#[test]
fn every_startup_error_has_its_priority_in_the_journal() {
    let setup = setup()
        .settings("lisen = 1\nsocket_mode = 1\n")
        .within(with_journal_stream(STANDARD_ERROR));
    let ended = setup.serve_until_exit();
    assert_eq!(ended.code, Some(78));
    assert!(ended.stderr.lines().count() >= 2, "{}", ended.stderr);
    assert!(
        ended.stderr.lines().all(|line| line.starts_with("<3>")),
        "{}",
        ended.stderr
    );
}

#[test]
fn socket_activation_variables_are_not_inherited_by_other_programs() {
    // The server starts no process, so none inherits a socket or a variable.
    let setup = setup();
    let manager = Manager::at(&setup);
    let daemon = manager.start(setup);
    assert!(manager.next_notice().is("READY"));
    daemon.signal("HUP");
    while !manager.next_status().is("READY") {}
    let pid = daemon.pid();
    let children = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap())
        .collect::<String>();
    assert_eq!(children, "");
}

#[test]
fn a_passed_socket_outlives_the_server_and_refuses_no_connection() {
    let setup = setup();
    let path = setup.root().join("socket");
    // Kept open here, as by systemd, and passed to one server after another.
    let listener = UnixListener::bind(&path).unwrap();
    let announced = format!("socketmap:unix:{}", path.display());
    let give = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=socketmap; exec \"$@\" 3<&0 0</dev/null";
    for _ in 0..5 {
        let server = setup
            .clone()
            .within(["sh", "-c", give, "sh"])
            .command("serve")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(
                listener.try_clone().unwrap(),
            )))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Process(server);
        let query = setup.run_line(&format!("query --server {announced} relayhost x@one.test"));
        assert_eq!(query.exits(0).stdout, "[relay1.test]\n");
        kill(
            Pid::from_raw(i32::try_from(server.0.id()).unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        // From now on there is no server, and connections wait.
        assert!(server.0.wait().unwrap().success());
        drop(UnixStream::connect(&path).unwrap());
    }
}
