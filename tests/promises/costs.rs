//! Promise: a lookup costs the server one read, one write and a wait; a connection costs it some kilobytes; and without
//! requests and changes of files, it does nothing.

use crate::harness::client::{Reply, Socketmap, TcpTable};
use crate::harness::daemon::{Daemon, Setup};
use crate::harness::latency::Baseline;
use crate::harness::{eventually, raise_descriptor_limit, strace};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Both protocols, and both kinds of socket.
fn served(settings: &str) -> Daemon {
    let setup = Setup::new()
        .settings(settings)
        .relaymap("@one.test [relay1.test]:587\nann@one.test [relay2.test]:587\n@none.test\n")
        .credentials("@one.test user:password\n");
    let unix = format!("socketmap:unix:{}/socket", setup.root().display());
    Daemon::start(
        setup
            .listen("socketmap:inet:127.0.0.1:0")
            .listen(unix)
            .listen("tcp:127.0.0.1:0:relayhost"),
    )
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_lookup_costs_one_read_one_write_and_one_wait() {
    const ROUNDS: usize = 100;
    const LOOKUPS: usize = 7 * ROUNDS;
    const LOOKUPS_OVER_UNIX: usize = 3 * ROUNDS;
    let daemon = served("");
    let (mut inet, mut unix) = (Socketmap::to(&daemon, 0), Socketmap::to(&daemon, 1));
    let mut line = TcpTable::to(&daemon, 2);
    let mut round = || {
        for client in [&mut inet, &mut unix] {
            client.finds("relayhost", "Ann+x@ONE.test", "[relay2.test]:587");
            assert_eq!(client.query("relayhost", "x@none.test"), Reply::NotFound);
            assert_eq!(client.query("sasl", "x@one.test"), Reply::found("user:password"));
        }
        assert_eq!(line.query("x@one.test"), Reply::found("[relay1.test]:587"));
    };
    round();

    let trace = daemon.root().join("trace");
    let mut strace = strace::attach(&daemon, [OsStr::new("-o"), trace.as_os_str()]);
    (0..ROUNDS).for_each(|_| round());
    let interrupt = Command::new("kill")
        .args(["-INT", &strace.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    strace.wait().unwrap();

    let trace = fs::read_to_string(trace).unwrap();
    let mut calls = BTreeMap::new();
    for name in trace.lines().filter_map(|line| line.split_once('(')) {
        *calls.entry(name.0).or_insert(0) += 1;
    }
    // Each wait that found or lost the connection is counted. A UNIX socket also wakes its server when the client takes
    // a reply after the server has begun to wait.
    let waits = calls.remove("epoll_wait").unwrap_or_default();
    assert!(
        waits <= LOOKUPS + LOOKUPS_OVER_UNIX + 2,
        "{waits} waits for {LOOKUPS} lookups\n{trace}"
    );
    assert_eq!(
        calls,
        BTreeMap::from([("recvfrom", LOOKUPS), ("sendto", LOOKUPS)]),
        "{trace}"
    );
}

/// The context switches of its threads: a thread that does anything at all has one at its end.
fn context_switches(daemon: &Daemon) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let of_task = |status: String| {
        let counts = status
            .lines()
            .filter_map(|line| line.split_once("ctxt_switches:"));
        counts
            .map(|(_, count)| count.trim().parse::<u64>().unwrap())
            .sum::<u64>()
    };
    // A thread may have ended since it was listed.
    tasks
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok())
        .map(of_task)
        .sum()
}

#[test]
fn an_idle_server_does_nothing_between_two_polls() {
    let daemon = served("[reload]\npoll_interval = 3600\n");
    let mut clients: Vec<_> = (0..100).map(|n| Socketmap::to(&daemon, n % 2)).collect();
    for client in &mut clients {
        assert_eq!(client.query("relayhost", "x@none.test"), Reply::NotFound);
    }
    let rests = || {
        let before = context_switches(&daemon);
        thread::sleep(Duration::from_secs(2));
        context_switches(&daemon) == before
    };
    // The work left from the startup comes first.
    eventually(rests, |rested| *rested);
    for client in &mut clients {
        assert_eq!(client.query("relayhost", "x@none.test"), Reply::NotFound);
    }
}

fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    kilobytes * 1024
}

#[test]
fn ten_thousand_used_connections_cost_less_than_64_mib_and_delay_no_lookup() {
    // The server's connection limit (limits::CONNECTIONS), less a few for other clients.
    const CONNECTIONS: usize = 9_990;
    raise_descriptor_limit(CONNECTIONS);
    let daemon = served("[limits]\nconnections_per_peer = 10000\n");
    let mut clients = vec![Socketmap::to(&daemon, 0), Socketmap::to(&daemon, 1)];
    let query = |client: &mut Socketmap| {
        client.finds("relayhost", "Ann+x@ONE.test", "[relay2.test]:587");
    };
    clients.iter_mut().for_each(query);
    let baseline = Baseline::measure(|| query(&mut clients[0]));
    let idle = resident(&daemon);
    while clients.len() < CONNECTIONS {
        let mut client = Socketmap::to(&daemon, clients.len() % 2);
        query(&mut client);
        clients.push(client);
    }
    // The buffer of a request of the largest size is not kept either.
    let long = format!("{}@none.test", "x".repeat(9_000));
    for client in clients.iter_mut().step_by(10) {
        assert_eq!(client.query("relayhost", &long), Reply::NotFound);
    }
    let more = resident(&daemon).saturating_sub(idle);
    assert!(
        more <= 64 << 20,
        "{CONNECTIONS} connections cost {more} bytes, {} each",
        more / 9_990
    );
    baseline.expect_no_delay("ten thousand that are idle", || query(&mut clients[0]));
    clients.iter_mut().for_each(query);
}
