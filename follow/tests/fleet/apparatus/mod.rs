//! What the tests and the benchmark of fleets share: a PostgreSQL, mail servers, and clients. It uses no code of postmapd or
//! postmapd-follow, only their programs.

pub(crate) mod client;
pub(crate) mod fleet;
pub(crate) mod mail_server;
pub(crate) mod pairs;
pub(crate) mod pgbouncer;
pub(crate) mod process;
#[path = "../../server/program.rs"]
mod program;
pub(crate) mod random;
pub(crate) mod senders;
pub(crate) mod sql;

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use crate::database::processes::DEADLINE;
pub(crate) use program::POSTMAPD;

/// The program postmapd-follow.
pub(crate) const FOLLOW: &str = env!("CARGO_BIN_EXE_postmapd-follow");

/// Observes until the condition holds, and returns how long that took. Fails with the last observation.
#[track_caller]
pub(crate) fn eventually<T: Debug>(
    mut observe: impl FnMut() -> T,
    condition: impl Fn(&T) -> bool,
) -> Duration {
    let begun = Instant::now();
    loop {
        let observed = observe();
        if condition(&observed) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < DEADLINE, "it stays like this: {observed:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
