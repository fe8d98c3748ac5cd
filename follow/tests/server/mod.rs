//! `postmapd serve` on a directory of postmapd-follow, with the harness of its own tests.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test binary uses a part of it, and a test ends where something fails"
)]

#[path = "../../../tests/promises/harness/admin.rs"]
pub(crate) mod admin;
#[path = "../../../tests/promises/harness/client.rs"]
pub(crate) mod client;
#[path = "../../../tests/promises/harness/daemon.rs"]
pub(crate) mod daemon;
mod program;

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use program::POSTMAPD;

/// Observes until the condition holds, and returns how long that took. Fails the test with the last observation.
#[track_caller]
pub(crate) fn eventually<T: Debug>(
    mut observe: impl FnMut() -> T,
    condition: impl Fn(&T) -> bool,
) -> Duration {
    let start = Instant::now();
    loop {
        let observed = observe();
        if condition(&observed) {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < daemon::DEADLINE,
            "it stays like this: {observed:?}"
        );
        thread::sleep(Duration::from_millis(1));
    }
}
