//! Hints from the threads that notice something to the one that reads: bounded, never blocking, never lost.
//!
//! What is kept is one hint and a wake-up, so that a thousand events while the reader is busy are one look
//! afterwards, and the names of the files that a program holds open for writing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What was noticed. Of several, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hint {
    /// Something changed.
    Changed,
    /// A request to read again now (SIGHUP).
    Reread,
    /// The server ends.
    Stop,
}

/// A name in a directory that is watched. The same name in another directory is another place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// Device and inode of the directory.
    pub(super) directory: (u64, u64),
    /// The name in it.
    pub(super) name: OsString,
}

/// The hints.
#[derive(Default)]
pub(super) struct Hints {
    noticed: Mutex<Noticed>,
    wake: Condvar,
}

#[derive(Default)]
struct Noticed {
    hint: Option<Hint>,
    /// How many requests to read again there were.
    requests: u64,
    /// Files that were written to and not closed, and since when. Only places that are watched come here.
    open: HashMap<Place, Instant>,
}

impl Hints {
    /// Gives a hint. Returns at once.
    pub(super) fn give(&self, hint: Hint) {
        self.note(|_| hint);
    }

    /// Asks to read again now, and says the how-manieth such request this is. Returns at once.
    pub(super) fn ask(&self) -> u64 {
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

    /// The file at this place was written to, and will be closed.
    pub(super) fn written(&self, place: &Place) {
        self.note(|open| {
            open.entry(place.clone()).or_insert_with(Instant::now);
            Hint::Changed
        });
    }

    /// The file at this place was closed after writing, or the name went to something else.
    pub(super) fn closed(&self, place: &Place) {
        self.note(|open| {
            open.remove(place);
            Hint::Changed
        });
    }

    /// The files that are open for writing, and since when.
    pub(super) fn open(&self) -> Vec<(Place, Instant)> {
        let noticed = self.lock();
        noticed
            .open
            .iter()
            .map(|(place, since)| (place.clone(), *since))
            .collect()
    }

    /// When a file was opened for writing, of those for which that was after `since`: the last of them.
    pub(super) fn opened_after(&self, since: Option<Instant>) -> Option<Instant> {
        let noticed = self.lock();
        noticed
            .open
            .values()
            .copied()
            .filter(|at| Some(*at) > since)
            .max()
    }

    /// Forgets those files that are open for writing and not to be kept.
    pub(super) fn retain_open(&self, mut keep: impl FnMut(&Place, Instant) -> bool) {
        self.lock().open.retain(|place, since| keep(place, *since));
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

    fn note(&self, note: impl FnOnce(&mut HashMap<Place, Instant>) -> Hint) {
        let mut noticed = self.lock();
        let hint = note(&mut noticed.open);
        noticed.hint = noticed.hint.max(Some(hint));
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Noticed> {
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Hints, Place};

    #[test]
    fn giving_up_one_writer_forgets_no_other_and_none_that_begins_again() {
        let place = |name: &str| Place {
            directory: (1, 1),
            name: name.into(),
        };
        let hints = Hints::default();
        hints.written(&place("slow"));
        std::thread::sleep(Duration::from_millis(2));
        let between = Instant::now();
        hints.written(&place("begun"));
        // It closes the file and opens it again, which is another wait.
        hints.written(&place("again"));
        hints.closed(&place("again"));
        hints.written(&place("again"));
        hints.retain_open(|_, since| since >= between);
        let mut open: Vec<_> = hints.open().into_iter().map(|(place, _)| place.name).collect();
        open.sort();
        assert_eq!(open, ["again", "begun"]);
    }
}
