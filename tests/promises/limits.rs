//! Promise: no peer can hurt another. What a peer can make the server hold, wait for or repeat has a limit, and a peer
//! below its limit is answered as if it were alone.
//!
//! src/server/session/tests.rs tests deadlines of a hundred seconds with a simulated clock.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::harness::admin::Admin;
use crate::harness::client::{Reply, Socketmap, Stream, TcpTable, framed, payloads};
use crate::harness::daemon::{DEADLINE, Daemon, Setup};
use crate::harness::identities::{as_user, uid_of};
use crate::harness::latency::Baseline;
use crate::harness::{eventually, raise_descriptor_limit, strace};

const NEXT_HOP: &str = "[relay.test]:587";
const CREDENTIALS: &str = "user:password";
const SENDER: &str = "ann@one.test";
/// A user number without a name.
const UNNAMED_USER: u32 = 54321;

/// Postfix's limits, as observed in its client: a key, a reply over socketmap, a reply over `tcp_table`.
const KEY: usize = 10_000;
const REPLY: usize = 100_000;
const LINE: usize = 4096;

/// A setup with every kind of endpoint and these settings.
fn setup(settings: &str) -> Setup {
    let setup = Setup::new()
        .settings(settings)
        .relaymap(format!("@one.test {NEXT_HOP}\n"))
        .credentials(format!("@one.test {CREDENTIALS}\n"));
    let unix = format!("socketmap:unix:{}/socket", setup.root().display());
    setup
        .listen("socketmap:inet:127.0.0.1:0")
        .listen(unix)
        .listen("tcp:127.0.0.1:0:relayhost")
        .arg("--socket-mode")
        .arg("0666")
}

#[track_caller]
fn expect_answer(client: &mut Socketmap) {
    assert_eq!(client.query("relayhost", SENDER), Reply::found(NEXT_HOP));
}

/// A new connection on which a request was answered, or `None` if it was closed instead.
fn answered(daemon: &Daemon, endpoint: usize) -> Option<Stream> {
    let mut stream = Stream::to(daemon, endpoint);
    // The write may fail where the server closes at once.
    let _ = stream.write_all(&framed(&format!("relayhost {SENDER}")));
    let expected = framed(&format!("OK {NEXT_HOP}"));
    let mut reply = vec![0; expected.len()];
    match stream.read_exact(&mut reply) {
        Ok(()) => {
            assert_eq!(reply, expected);
            Some(stream)
        }
        Err(error) => {
            let closed = [
                ErrorKind::UnexpectedEof,
                ErrorKind::ConnectionReset,
                ErrorKind::BrokenPipe,
            ];
            assert!(closed.contains(&error.kind()), "{error}");
            None
        }
    }
}

fn set_nonblocking(stream: &Stream, is_set: bool) {
    match stream {
        Stream::Tcp(stream) => stream.set_nonblocking(is_set).unwrap(),
        Stream::Unix(stream) => stream.set_nonblocking(is_set).unwrap(),
    }
}

/// A peer that sends requests without end and never reads.
struct NonReader {
    stream: Stream,
    burst: Vec<u8>,
    sent: usize,
}

impl NonReader {
    fn to(daemon: &Daemon, endpoint: usize) -> Self {
        let stream = Stream::to(daemon, endpoint);
        set_nonblocking(&stream, true);
        let burst = framed(&format!("relayhost {SENDER}")).repeat(1000);
        let mut non_reader = Self {
            stream,
            burst,
            sent: 0,
        };
        non_reader.send_until_full();
        non_reader
    }

    /// Sends until the socket is full, and returns whether it sent anything.
    fn send_until_full(&mut self) -> bool {
        let before = self.sent;
        loop {
            // The rest of a partly sent request comes first.
            match self.stream.write(&self.burst[self.sent % self.burst.len()..]) {
                Ok(sent) => self.sent += sent,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "it is served");
                    return self.sent > before;
                }
            }
        }
    }
}

#[test]
fn a_request_may_have_postfixs_longest_key_and_a_map_name_of_100_bytes_and_no_more() {
    let daemon = Daemon::start(setup(""));
    let key = |length: usize| format!("{}@one.test", "x".repeat(length - "@one.test".len()));
    let mut socketmap = Socketmap::to(&daemon, 0);
    let name = "relayhost ".len();
    for length in [KEY - 1, KEY, KEY + 99 - name, KEY + 100 - name] {
        socketmap.finds("relayhost", &key(length), NEXT_HOP);
    }
    let mut over = Stream::to(&daemon, 0);
    let _ = over.write_all(&framed(&format!("relayhost {}", key(KEY + 101 - name))));
    let replies = payloads(&over.read_until_closed());
    assert!(
        replies.len() == 1 && Reply::from_socketmap(&replies[0]).is_refused(),
        "{replies:?}"
    );

    // A line of tcp_table: a key of that length, with every byte encoded.
    let line = |length: usize| {
        let plain = "@one.test";
        let encoded = (length - "get ".len() - plain.len()) / 3;
        let rest = length - "get ".len() - plain.len() - 3 * encoded;
        format!("get {}{}{plain}\n", "%78".repeat(encoded), "x".repeat(rest))
    };
    let mut table = TcpTable::to(&daemon, 2);
    for length in [3 * KEY + 3, 3 * KEY + 4] {
        table.send(line(length).as_bytes());
        assert_eq!(table.reply(), Reply::found(NEXT_HOP), "{length}");
    }
    let mut over = Stream::to(&daemon, 2);
    let _ = over.write_all(line(3 * KEY + 5).as_bytes());
    assert!(over.read_until_closed().starts_with(b"400 "));
}

#[test]
fn a_reply_longer_than_postfix_reads_is_cannot_tell() {
    // A default next hop is answered as configured, and can have any length.
    let list = |length: usize| {
        let one = "[relay.test]:587,";
        let several = one.repeat(length / one.len() - 1);
        let host = "x".repeat(length - several.len() - "[]:25".len());
        let list = format!("{several}[{host}]:25");
        assert_eq!(list.len(), length);
        list
    };
    for (endpoint, most) in [
        ("socketmap:inet:127.0.0.1:0", REPLY - "OK ".len()),
        ("tcp:127.0.0.1:0:relayhost", LINE - "200 \n".len()),
    ] {
        for length in [most - 1, most, most + 1] {
            let value = list(length);
            let setup = Setup::new();
            let file = setup.root().join("next-hop");
            fs::write(&file, &value).unwrap();
            let setup = setup.env("DEFAULT_RELAY_HOST_FILE", &file).listen(endpoint);
            let daemon = Daemon::start(setup);
            let reply = if endpoint.starts_with("socketmap:") {
                Socketmap::to(&daemon, 0).query("relayhost", SENDER)
            } else {
                TcpTable::to(&daemon, 0).query(SENDER)
            };
            if length > most {
                assert!(reply.is_cannot_tell(), "{endpoint} {length}");
            } else {
                assert!(reply == Reply::Found(value), "{endpoint} {length}");
            }
        }
    }
}

#[test]
fn a_connection_over_the_total_limit_waits_in_the_kernels_queue() {
    const MOST: usize = 5;
    let (daemon, admin) = Admin::start(setup(&format!(
        "[limits]\nconnections = {MOST}\nconnections_per_peer = {MOST}\n"
    )));
    // All endpoints share the limit, and none has a reserved connection.
    let mut table = TcpTable::to(&daemon, 2);
    assert_eq!(table.query(SENDER), Reply::found(NEXT_HOP));
    let mut clients: Vec<Socketmap> = (1..MOST).map(|n| Socketmap::to(&daemon, n % 2)).collect();
    clients.iter_mut().for_each(expect_answer);
    for endpoint in [0, 1] {
        let mut one_too_many = Socketmap::to(&daemon, endpoint);
        one_too_many.request("relayhost", SENDER);
        for _ in 0..20 {
            clients.iter_mut().for_each(expect_answer);
            assert_eq!(table.query(SENDER), Reply::found(NEXT_HOP));
        }
        set_nonblocking(&one_too_many.stream, true);
        let waits = one_too_many.stream.read(&mut [0]).unwrap_err();
        assert_eq!(waits.kind(), ErrorKind::WouldBlock);
        assert_eq!(admin.status()["connections"], MOST);
        clients.pop();
        set_nonblocking(&one_too_many.stream, false);
        assert_eq!(one_too_many.reply(), Reply::found(NEXT_HOP));
        drop(one_too_many);
        // Its connection is free again.
        clients.push(Socketmap::to(&daemon, endpoint));
        clients.iter_mut().for_each(expect_answer);
    }
    assert_eq!(admin.metrics().not_zero("postmapd_refusals_total"), []);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn connections_over_a_peers_share_are_closed_and_no_other_peers() {
    const MOST: usize = 4;
    let (daemon, admin) = Admin::start(setup(&format!("[limits]\nconnections_per_peer = {MOST}\n")));
    let postfix = uid_of("postfix");
    let mut held: Vec<Stream> = (0..MOST - 1)
        .map(|n| answered(&daemon, n % 2).expect("below"))
        .collect();
    held.push(answered(&daemon, 1).expect("at"));
    for n in 0..10 {
        assert!(answered(&daemon, n % 2).is_none(), "above");
    }
    // Another user is accepted; the same one again only after it has closed a connection.
    let of_another: Vec<Stream> = as_user(postfix, || {
        (0..MOST).map_while(|n| answered(&daemon, n % 2)).collect()
    });
    assert_eq!(of_another.len(), MOST);
    held.pop();
    eventually(|| answered(&daemon, 0).is_some(), |answered| *answered);
    let refused = admin.metrics().not_zero("postmapd_refusals_total");
    let [(label, times)] = refused.as_slice() else {
        panic!("{refused:?}")
    };
    assert_eq!(label, "{reason=\"connections\"}");
    assert!(times.parse::<usize>().unwrap() >= 10, "{times}");
    daemon.wait_for_log(|line| {
        line.contains("connections_per_peer") && line.contains("connections=4 client=user root (0)")
    });
    let log = daemon.log();
    assert_eq!(log.matches("connections_per_peer").count(), 1, "{log}");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn unprivileged_peers_leave_half_of_all_connections_to_others() {
    let daemon = Daemon::start(setup("[limits]\nconnections = 16\n"));
    let mut others = Vec::new();
    for uid in UNNAMED_USER..UNNAMED_USER + 5 {
        let more = as_user(uid, || (0..10).map_while(|n| answered(&daemon, n % 2)).collect());
        let more: Vec<Stream> = more;
        assert!(more.len() <= 4, "{} of user {uid}", more.len());
        others.extend(more);
    }
    assert_eq!(others.len(), 8);
    let allowed: Vec<Stream> = (0..8).map_while(|n| answered(&daemon, n % 2)).collect();
    assert_eq!(allowed.len(), 8);
    daemon.wait_for_log(|line| line.contains("cannot query sasl") && line.contains("connections=8"));
}

fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_hostile_user_with_all_its_connections_costs_little_and_excludes_no_other_peer() {
    // The default limits, and five services of Postfix with all their processes.
    const SHARE: usize = 2500;
    const OF_POSTFIX: usize = 500;
    raise_descriptor_limit(SHARE + OF_POSTFIX + 100);
    let daemon = Daemon::start(setup(""));
    assert!(answered(&daemon, 0).is_some());
    let idle = resident(&daemon);
    let hostile = as_user(UNNAMED_USER, || {
        let begun = [b"10100:relayhost ".as_slice(), &[b'x'; 10_000]].concat();
        let mut hostile = Vec::new();
        while let Some(mut stream) = answered(&daemon, hostile.len() % 2) {
            stream.write_all(&begun).unwrap();
            hostile.push(stream);
        }
        hostile
    });
    assert_eq!(hostile.len(), SHARE);
    as_user(uid_of("postfix"), || {
        let mut postfix: Vec<Socketmap> = (0..OF_POSTFIX).map(|n| Socketmap::to(&daemon, n % 2)).collect();
        for client in &mut postfix {
            assert_eq!(client.query("sasl", SENDER), Reply::found(CREDENTIALS));
        }
    });
    let more = resident(&daemon).saturating_sub(idle);
    assert!(more < 64 << 20, "{more} bytes");
    // The server answers requests that they have begun.
    let mut one = hostile.into_iter().next().unwrap();
    one.write_all(&[b'x'; 90]).unwrap();
    one.write_all(b",").unwrap();
    assert!(matches!(Socketmap { stream: one }.reply(), Reply::NotFound));
}

#[test]
fn a_peer_that_never_reads_its_replies_costs_only_some_kilobytes() {
    const CONNECTIONS: usize = 50;
    let daemon = Daemon::start(setup(""));
    let idle = resident(&daemon);
    // A UNIX socket has a small buffer, so all of these block.
    let mut non_readers: Vec<NonReader> = (0..CONNECTIONS).map(|_| NonReader::to(&daemon, 1)).collect();
    let rests = || {
        let before = daemon.ticks();
        let asked = non_readers
            .iter_mut()
            .map(NonReader::send_until_full)
            .filter(|took| *took)
            .count();
        thread::sleep(Duration::from_millis(50));
        asked == 0 && daemon.ticks() == before
    };
    eventually(rests, |rests| *rests);
    expect_answer(&mut Socketmap::to(&daemon, 0));
    let more = resident(&daemon).saturating_sub(idle);
    let each = more / u64::try_from(CONNECTIONS).unwrap();
    assert!(each < 64 << 10, "{each} bytes each");
}

/// The number of connects that the kernel accepts without waiting.
fn connects(path: &str, most: usize) -> Vec<impl AsFd> {
    let address = SocketAddrUnix::new(path).unwrap();
    let one = || {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        connect(&socket, &address).ok().map(|()| socket)
    };
    (0..most).map_while(|_| one()).collect()
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_burst_of_connects_fits_into_the_kernels_queue() {
    let system = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let backlog: usize = system.trim().parse().unwrap();
    let backlog = backlog.min(4096);
    raise_descriptor_limit(backlog + 500);
    let daemon = Daemon::start(setup(""));
    // While the server is stopped, only the kernel accepts connects.
    daemon.signal("STOP");
    let stopped = || fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    eventually(stopped, |stat| stat.contains(") T "));
    // Linux compares the queue before it adds a connection, so the queue holds one more than its configured length.
    let waiting = connects(daemon.address(1), backlog + 10);
    assert_eq!(waiting.len(), backlog + 1);
    // Over TCP, the default of Rust's library is 128, and each of the next 170 connects would wait a second until it
    // repeats its SYN.
    let begun = Instant::now();
    let burst: Vec<Stream> = (0..300).map(|_| Stream::to(&daemon, 0)).collect();
    assert!(begun.elapsed() < DEADLINE, "connects had to be repeated");
    let listening = Command::new("ss")
        .args(["-Hltn", &format!("sport = :{}", daemon.socket_address(0).port())])
        .output();
    let listening = String::from_utf8(listening.expect("ss, of the package iproute2").stdout).unwrap();
    assert_eq!(
        listening.split_whitespace().nth(2),
        Some(backlog.to_string().as_str()),
        "{listening}"
    );
    daemon.signal("CONT");
    drop((waiting, burst));
    expect_answer(&mut Socketmap::to(&daemon, 0));
}

fn limit_descriptors(daemon: &Daemon, soft: &str) {
    let limits = format!("--pid {} --nofile={soft}:20000", daemon.pid());
    let limited = Command::new("prlimit").args(limits.split(' ')).status();
    assert!(limited.expect("prlimit, of the package util-linux").success());
}

#[test]
fn out_of_descriptors_the_server_logs_it_once_and_serves_open_connections() {
    let daemon = Daemon::start(setup(""));
    let mut held = Socketmap::to(&daemon, 0);
    expect_answer(&mut held);
    // From here on it gets no more descriptors, as where the whole system has none left.
    limit_descriptors(&daemon, "1");
    let mut waiting: Vec<Socketmap> = (0..20).map(|n| Socketmap::to(&daemon, n % 2)).collect();
    for client in &mut waiting {
        client.request("relayhost", SENDER);
    }
    daemon.wait_for_log(|line| line.contains("cannot accept connections"));
    let (before, begun) = (daemon.ticks(), Instant::now());
    let mut lookups = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        expect_answer(&mut held);
        lookups += 1;
        thread::sleep(Duration::from_millis(10));
    }
    // A busy loop would use all of the time.
    let busy = daemon.ticks() - before;
    assert!(busy < 30, "{busy} hundredths of a second for {lookups} lookups");
    limit_descriptors(&daemon, "10000");
    for client in &mut waiting {
        assert_eq!(client.reply(), Reply::found(NEXT_HOP));
    }
    let log = daemon.log();
    assert_eq!(log.matches("cannot accept connections").count(), 1, "{log}");
}

/// Injects a fault into a system call of the server. Returns once it is active.
fn inject(daemon: &Daemon, call: &str, how: &str) -> Child {
    let arguments = format!("-o /dev/null -e trace={call} -e inject={call}:{how}");
    strace::attach(daemon, arguments.split(' '))
}

fn end(mut strace: Child) {
    let interrupt = Command::new("kill")
        .args(["-INT", &strace.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    strace.wait().unwrap();
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_server_survives_any_shortage_while_accepting_a_connection() {
    let daemon = Daemon::start(setup(""));
    let mut held = Socketmap::to(&daemon, 0);
    expect_answer(&mut held);
    for error in "ENFILE ENOBUFS ENOMEM ECONNABORTED EPERM EHOSTUNREACH EINVAL".split(' ') {
        let strace = inject(&daemon, "accept4", &format!("error={error}:when=1..2"));
        for endpoint in [0, 1] {
            let mut client = Socketmap::to(&daemon, endpoint);
            client.request("relayhost", SENDER);
            expect_answer(&mut held);
            assert_eq!(client.reply(), Reply::found(NEXT_HOP), "after {error}");
        }
        end(strace);
    }
    daemon.wait_for_log(|line| line.contains("cannot accept connections"));
    let log = daemon.log();
    assert_eq!(log.matches("cannot accept connections").count(), 1, "{log}");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_server_logs_and_survives_any_shortage_while_polling_a_connection() {
    let daemon = Daemon::start(setup(""));
    let mut held = Socketmap::to(&daemon, 0);
    expect_answer(&mut held);
    let strace = inject(&daemon, "epoll_ctl", "error=ENOSPC:when=1");
    let lost = Socketmap::to(&daemon, 1);
    daemon.wait_for_log(|line| {
        line.contains("cannot accept connections; retrying error=No space left on device")
    });
    drop(lost);
    expect_answer(&mut held);
    expect_answer(&mut Socketmap::to(&daemon, 1));
    end(strace);
}

#[test]
fn peers_that_never_read_trickle_or_flood_connections_delay_no_lookup() {
    const NEVER_READ: usize = 40;
    const SLOW: usize = 1000;
    raise_descriptor_limit(NEVER_READ + SLOW + 500);
    let daemon = Daemon::start(setup(""));
    let mut client = Socketmap::to(&daemon, 0);
    let mut lookup = || expect_answer(&mut client);
    let baseline = Baseline::measure(&mut lookup);

    // TCP buffers megabytes before it blocks, so there are only some of these.
    let mut never_read: Vec<NonReader> = (0..NEVER_READ)
        .map(|n| NonReader::to(&daemon, usize::from(n % 10 > 0)))
        .collect();
    for non_reader in &mut never_read {
        non_reader.send_until_full();
    }
    baseline.expect_no_delay("peers that never read", &mut lookup);

    let mut slow: Vec<Stream> = (0..SLOW).map(|n| Stream::to(&daemon, n % 2)).collect();
    let request = framed(&format!("relayhost {SENDER}"));
    for stream in &mut slow {
        stream.write_all(&request[..1]).unwrap();
    }
    baseline.expect_no_delay("requests that were begun", &mut lookup);
    for byte in &request[1..] {
        for stream in &mut slow {
            stream.write_all(&[*byte]).unwrap();
        }
        lookup();
    }
    for stream in slow {
        assert_eq!(Socketmap { stream }.reply(), Reply::found(NEXT_HOP));
    }
    drop(never_read);

    let stop = AtomicBool::new(false);
    let connects = AtomicUsize::new(0);
    thread::scope(|scope| {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopping = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // A hundred connects at once, repeatedly.
                let storm: Vec<Stream> = (0..100).map(|_| Stream::to(&daemon, 1)).collect();
                connects.fetch_add(storm.len(), Ordering::Relaxed);
            }
        });
        eventually(|| connects.load(Ordering::Relaxed), |connects| *connects > 1000);
        baseline.expect_no_delay("a storm of connects", &mut lookup);
        drop(stopping);
    });
}

#[test]
fn a_change_of_the_limits_takes_effect_on_restart_and_is_logged() {
    let daemon = Daemon::start(setup("[limits]\nconnections_per_peer = 3\n"));
    daemon.replace("postmapd.toml", "[limits]\nconnections_per_peer = 5\n");
    daemon.wait_for_log(|line| line.contains("setting=limits.connections_per_peer"));
    let held: Vec<Stream> = (0..5).map_while(|_| answered(&daemon, 1)).collect();
    assert_eq!(held.len(), 3);
}

#[test]
fn fewer_descriptors_than_connections_are_reported_at_startup() {
    let limited = setup("").within(["prlimit", "--nofile=300:300"]);
    let daemon = Daemon::start(limited);
    let line = daemon.wait_for_log(|line| line.contains("connection limit lowered"));
    assert!(
        line.contains("connections=172 configured=10000 open_files_limit=300 "),
        "{line}"
    );
    // The limit is logged too where the descriptors do not even suffice for the server itself.
    let scarce = Daemon::start(setup("").within(["prlimit", "--nofile=40:40"]));
    let line = scarce.wait_for_log(|line| line.contains("connection limit lowered"));
    assert!(
        line.contains("connections=1 ") && line.contains("open_files_limit=40 "),
        "{line}"
    );
    // One peer gets half of the connections.
    let held: Vec<Stream> = (0..200).map_while(|_| answered(&daemon, 1)).collect();
    assert_eq!(held.len(), 86);
}
