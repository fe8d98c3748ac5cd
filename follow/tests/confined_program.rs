//! Promise: the running program is confined in all its threads, and follows its source all the same; and its alerts and its
//! dashboard use metrics that it has.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

mod database;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use database::one_sender::{PATIENT, server, set, wait_for_files};
use database::program::Setup;

/// The fields of proc(5) of each thread of a process.
fn threads(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).ok());
    status.collect()
}

#[test]
fn all_threads_of_the_program_are_confined_and_each_change_is_published() {
    let server = server();
    let unlimited = ["sh", "-c", "ulimit -c unlimited; exec \"$@\"", "sh"];
    let setup = Setup::new(&server.source("reader"), PATIENT).within(&unlimited);
    let mut program = setup.start();
    program.wait_for_log("sandbox enabled");
    wait_for_files(&setup, 1);
    let threads = threads(program.pid());
    assert!(threads.len() >= 2, "{threads:?}");
    for status in threads {
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapInh:\t0000000000000000"] {
            assert!(status.contains(line), "{line}: {status}");
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(core, ["0", "0"]);
    let log = program.log_with("sandbox enabled").remove(0);
    for measure in [
        "no core dumps",
        "(Landlock ABI",
        "system calls filtered",
        "TCP connections",
    ] {
        assert!(log.contains(measure), "{log}");
    }
    assert!(
        program.log_with("sandbox is incomplete").is_empty(),
        "{}",
        program.log()
    );
    // Generations are written, linked, replaced and removed.
    for number in 2..5 {
        set(&server, number);
        wait_for_files(&setup, number);
    }
    assert_eq!(program.end("TERM"), 0);
}

#[test]
fn the_sandbox_is_a_setting() {
    let server = server();
    let setup = Setup::new(&server.source("reader"), &format!("{PATIENT}\nsandbox = false"));
    let mut program = setup.start();
    program.wait_for_log("sandboxing is disabled by the setting sandbox");
    wait_for_files(&setup, 1);
    for status in threads(program.pid()) {
        assert!(
            status.contains("NoNewPrivs:\t0") && status.contains("Seccomp:\t0"),
            "{status}"
        );
    }
}

/// The metrics of a text whose names begin like those of the program.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    text.match_indices("postmapd_follow_")
        .map(|(at, _)| text[at..].split(|c| !is_of_name(c)).next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_alerts_and_the_dashboard_use_metrics_that_the_program_has() {
    let server = server();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let program = setup.start();
    program.wait_until_ready();
    let (_, exposed) = program.get("/metrics");
    let exposed = metrics(&exposed);
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib");
    for name in [
        "prometheus/postmapd-follow.rules.yml",
        "grafana/postmapd-follow.json",
    ] {
        let used = metrics(&fs::read_to_string(contrib.join(name)).unwrap());
        assert!(used.len() >= 3, "{used:?}");
        let unknown: Vec<_> = used.difference(&exposed).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?} of {exposed:?}");
    }
}
