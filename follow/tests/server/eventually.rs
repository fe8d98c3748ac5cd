//! Waiting for what a program brings about.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use super::DEADLINE;

/// Observes until the condition holds, and returns how long that took. Fails the test with the last observation.
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
        thread::sleep(Duration::from_millis(1));
    }
}
