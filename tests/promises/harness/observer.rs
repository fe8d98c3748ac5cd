//! A client that repeats the same requests while a test acts, and records each change of the answers.

use super::client::{Reply, Socketmap};
use super::daemon::{DEADLINE, Daemon};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The answers so far, all on one connection that stays open.
#[derive(Default)]
pub(crate) struct Observer {
    seen: Mutex<Seen>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct Seen {
    /// Each set of answers that differs from the one before, and when it came.
    history: Vec<(Instant, Vec<Reply>)>,
    rounds: usize,
    ended: bool,
}

impl Seen {
    fn answers(&self) -> Vec<Vec<Reply>> {
        self.history.iter().map(|(_, answers)| answers.clone()).collect()
    }
}

/// Sends all of `questions` at once, repeatedly, while `act` runs.
pub(crate) fn observe<R>(daemon: &Daemon, requests: &[(&str, &str)], act: impl FnOnce(&Observer) -> R) -> R {
    struct Stop<'a>(&'a Observer);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop.store(true, Ordering::Relaxed);
        }
    }
    let observer = Observer::default();
    thread::scope(|scope| {
        scope.spawn(|| observer.query(daemon, requests));
        let _stop = Stop(&observer);
        act(&observer)
    })
}

impl Observer {
    fn query(&self, daemon: &Daemon, requests: &[(&str, &str)]) {
        struct Ended<'a>(&'a Observer);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.lock().ended = true;
                self.0.changed.notify_all();
            }
        }
        let _ended = Ended(self);
        let mut client = Socketmap::to(daemon, 0);
        while !self.stop.load(Ordering::Relaxed) {
            let replies = client.query_all(requests);
            let mut seen = self.lock();
            seen.rounds += 1;
            if seen.history.last().is_none_or(|(_, last)| *last != replies) {
                seen.history.push((Instant::now(), replies));
            }
            drop(seen);
            self.changed.notify_all();
            // Leaves the processor to the program that brings a change about.
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, granted: impl Fn(&Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = self.lock();
        loop {
            if let Some(granted) = granted(&seen) {
                return granted;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !seen.ended,
                "{what} does not come; the answers were {:?}",
                seen.answers()
            );
            seen = self
                .changed
                .wait_timeout(seen, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until these are the answers, and returns since when.
    #[track_caller]
    pub(crate) fn wait_for(&self, answers: &[Reply]) -> Instant {
        self.wait(&format!("{answers:?}"), |seen| {
            seen.history
                .last()
                .filter(|(_, last)| last == answers)
                .map(|(at, _)| *at)
        })
    }

    /// Waits for that number of further rounds, each of which takes a millisecond or more.
    #[track_caller]
    pub(crate) fn wait_for_rounds(&self, more: usize) {
        let until = self.lock().rounds + more;
        self.wait("the next round", |seen| (seen.rounds >= until).then_some(()));
    }

    /// Each set of answers that differs from the one before it.
    pub(crate) fn answers(&self) -> Vec<Vec<Reply>> {
        self.lock().answers()
    }
}
