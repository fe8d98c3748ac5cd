//! Hints from whoever notices something to the thread that reads: bounded, never blocking, never lost.
//!
//! What is kept is one hint and a wake-up, so that a thousand events while the reader is busy are one look
//! afterwards, and the names of the files that somebody holds open for writing.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What was noticed. Of several, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// Something changed.
    Changed,
    /// Somebody asked to read again now (SIGHUP).
    Reread,
    /// The server ends.
    Stop,
}

/// The hints.
#[derive(Default)]
pub struct Hints {
    noticed: Mutex<Noticed>,
    wake: Condvar,
}

#[derive(Default)]
struct Noticed {
    hint: Option<Hint>,
    /// How often somebody has asked to read again.
    requests: u64,
    /// Files that were written to and not closed, and since when. Only names that are watched come here.
    open: HashMap<OsString, Instant>,
}

impl Hints {
    /// Gives a hint. Returns at once.
    pub fn give(&self, hint: Hint) {
        self.note(|_| hint);
    }

    /// Asks to read again now, and says the how-manieth such request this is. Returns at once.
    pub fn ask(&self) -> u64 {
        let mut noticed = self.lock();
        noticed.requests += 1;
        noticed.hint = noticed.hint.max(Some(Hint::Reread));
        self.wake.notify_one();
        noticed.requests
    }

    /// How many requests to read again there were.
    pub(super) fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// The file of this name was written to, and will be closed.
    pub(super) fn written(&self, name: &OsStr) {
        self.note(|open| {
            open.entry(name.to_owned()).or_insert_with(Instant::now);
            Hint::Changed
        });
    }

    /// The file of this name was closed after writing, or the name went to something else.
    pub(super) fn closed(&self, name: &OsStr) {
        self.note(|open| {
            open.remove(name);
            Hint::Changed
        });
    }

    /// Since when some file is open for writing.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.lock().open.values().min().copied()
    }

    /// Waits no longer for the files that are open for writing.
    pub(super) fn forget_open(&self) {
        self.lock().open.clear();
    }

    /// Takes what was noticed since the last time, waiting for something until `deadline`.
    pub(super) fn take(&self, deadline: Instant) -> Option<Hint> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .wake
            .wait_timeout_while(self.lock(), left, |noticed| noticed.hint.is_none());
        let (mut noticed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        noticed.hint.take()
    }

    fn note(&self, note: impl FnOnce(&mut HashMap<OsString, Instant>) -> Hint) {
        let mut noticed = self.lock();
        let hint = note(&mut noticed.open);
        noticed.hint = noticed.hint.max(Some(hint));
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Noticed> {
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
