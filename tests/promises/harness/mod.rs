//! The parts that the tests share.

pub(crate) mod addresses;
pub(crate) mod admin;
pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod cli;
pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod identities;
pub(crate) mod latency;
pub(crate) mod name_server;
pub(crate) mod observer;
pub(crate) mod postfix;
pub(crate) mod remote_directory;
pub(crate) mod resolver;
pub(crate) mod smtp_server;
pub(crate) mod starttls;
pub(crate) mod strace;
pub(crate) mod systemd;
pub(crate) mod versions;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// Observes until the condition holds, and returns how long that took. Fails the test with the last observation.
#[track_caller]
pub(crate) fn eventually<T: Debug>(observe: impl FnMut() -> T, condition: impl Fn(&T) -> bool) -> Duration {
    eventually_within(daemon::DEADLINE, observe, condition)
}

/// [`eventually`] with another deadline.
#[track_caller]
pub(crate) fn eventually_within<T: Debug>(
    deadline: Duration,
    mut observe: impl FnMut() -> T,
    condition: impl Fn(&T) -> bool,
) -> Duration {
    let begun = Instant::now();
    loop {
        let observed = observe();
        if condition(&observed) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < deadline, "it stays like this: {observed:?}");
        // Leaves the processor to the program that brings the change about.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Raises this process's limit of open files by `more`, and by 4000 for the tests that run at the same time.
#[track_caller]
pub(crate) fn raise_descriptor_limit(wanted: usize) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of descriptors");
    let wanted = u64::try_from(wanted + 4000).expect("a number");
    assert!(
        hard >= wanted,
        "`ulimit -Hn` is {hard}, and this test needs {wanted}"
    );
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).expect("a higher limit");
}

/// Whether a line of the log names this line of this file, with any column.
pub(crate) fn names_place(line: &str, file: &str, row: usize) -> bool {
    let place = format!("{file}:{row}:");
    line.split_once(&place)
        .is_some_and(|(_, column)| column.starts_with(|c: char| c.is_ascii_digit()))
}
