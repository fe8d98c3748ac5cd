//! Hints from whoever notices something to the thread that reads: bounded, never blocking, never lost.
//!
//! What is kept is one hint and a wake-up. A thousand events while the reader is busy are one look afterwards.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// What was noticed. Of several, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// Something is being written.
    Unsettled,
    /// Something was closed after writing, renamed, removed.
    Settled,
    /// Somebody asked to read again now (SIGHUP).
    Reread,
    /// The server ends.
    Stop,
}

/// The hints.
#[derive(Default)]
pub struct Hints {
    noticed: Mutex<Option<Hint>>,
    wake: Condvar,
}

impl Hints {
    /// Gives a hint. Returns at once.
    pub fn give(&self, hint: Hint) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        *noticed = (*noticed).max(Some(hint));
        self.wake.notify_one();
    }

    /// Takes what was noticed since the last time, waiting for something until `deadline`.
    pub(super) fn take(&self, deadline: Instant) -> Option<Hint> {
        let noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .wake
            .wait_timeout_while(noticed, left, |noticed| noticed.is_none());
        let (mut noticed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        noticed.take()
    }
}
