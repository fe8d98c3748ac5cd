//! Triggers, from the threads that detect changes to the one that reads: bounded, never blocking, never lost.
//!
//! Holds one trigger, so that a thousand events during a reload cause one further reload, and the names of the files
//! that programs have open for writing.
//!
//! Limit: after lost events, a program that pauses for [`QUIET_AFTER_LOSS`] in the middle of a file is not known to be
//! writing, and the file is read as it is.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After lost events, how long there must be no event until later ones are taken as complete again.
pub(super) const QUIET_AFTER_LOSS: Duration = Duration::from_secs(1);

/// Why the reload thread wakes up. The greatest of several wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trigger {
    /// A file changed.
    Changed,
    /// A reload was requested (SIGHUP).
    Reload,
    /// The server shuts down.
    Stop,
}

/// A file name in a watched directory. The same name in another directory is not equal to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WatchedName {
    /// Device and inode of the directory.
    pub(super) directory: (u64, u64),
    /// The name in that directory.
    pub(super) name: OsString,
}

/// The pending trigger, and the files that are open for writing.
#[derive(Default)]
pub(super) struct ReloadQueue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    trigger: Option<Trigger>,
    /// How many reloads were requested.
    requests: u64,
    /// Files that were written to and not closed, and since when. Bounded: only watched names are added.
    writers: HashMap<WatchedName, Instant>,
    /// Until when events may be missing, if some were lost.
    incomplete_until: Option<Instant>,
}

impl ReloadQueue {
    /// Sets a trigger. Never blocks.
    pub(super) fn notify(&self, trigger: Trigger) {
        self.update(|_| trigger);
    }

    /// Requests a reload and returns the number of the request. Never blocks.
    pub(super) fn request_reload(&self) -> u64 {
        let mut state = self.lock();
        state.requests += 1;
        state.trigger = state.trigger.max(Some(Trigger::Reload));
        self.wake.notify_one();
        state.requests
    }

    /// Returns how many reloads were requested.
    pub(super) fn request_count(&self) -> u64 {
        self.lock().requests
    }

    /// Records that the file of this name was written to, and will be closed.
    pub(super) fn writer_started(&self, name: &WatchedName) {
        self.update(|writers| {
            writers.entry(name.clone()).or_insert_with(Instant::now);
            Trigger::Changed
        });
    }

    /// Records that the file of this name was closed after writing, or that the name now belongs to another file.
    pub(super) fn writer_finished(&self, name: &WatchedName) {
        self.update(|writers| {
            writers.remove(name);
            Trigger::Changed
        });
    }

    /// Records that events were lost. Until there has been none for [`QUIET_AFTER_LOSS`], more may be missing (the kernel
    /// reports one loss while its queue is full, and not the next), so no file is known to be open for writing: the event
    /// of its closing may never come.
    pub(super) fn events_lost(&self) {
        let mut state = self.lock();
        state.incomplete_until = Some(Instant::now() + QUIET_AFTER_LOSS);
        state.writers.clear();
        state.trigger = state.trigger.max(Some(Trigger::Changed));
        self.wake.notify_one();
    }

    /// Returns until when events may be missing, at least; `None` if none are.
    pub(super) fn incomplete_until(&self) -> Option<Instant> {
        let now = Instant::now();
        self.lock().incomplete_until.filter(|until| *until > now)
    }

    /// Returns the files that are open for writing, and since when.
    pub(super) fn writers(&self) -> Vec<(WatchedName, Instant)> {
        let state = self.lock();
        state
            .writers
            .iter()
            .map(|(name, since)| (name.clone(), *since))
            .collect()
    }

    /// Returns when the last file was opened for writing, if that was after `since`.
    pub(super) fn last_writer_since(&self, since: Option<Instant>) -> Option<Instant> {
        let state = self.lock();
        state
            .writers
            .values()
            .copied()
            .filter(|at| Some(*at) > since)
            .max()
    }

    /// Forgets the files open for writing for which `keep` returns false.
    pub(super) fn retain_writers(&self, mut keep: impl FnMut(&WatchedName, Instant) -> bool) {
        self.lock().writers.retain(|name, since| keep(name, *since));
    }

    /// Waits for a trigger until `deadline`, and takes it.
    pub(super) fn wait(&self, deadline: Instant) -> Option<Trigger> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .wake
            .wait_timeout_while(self.lock(), left, |state| state.trigger.is_none());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.trigger.take()
    }

    fn update(&self, update: impl FnOnce(&mut HashMap<WatchedName, Instant>) -> Trigger) {
        let mut state = self.lock();
        let trigger = update(&mut state.writers);
        let now = Instant::now();
        if state.incomplete_until.is_some_and(|until| until > now) {
            state.incomplete_until = Some(now + QUIET_AFTER_LOSS);
            state.writers.clear();
        }
        state.trigger = state.trigger.max(Some(trigger));
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{QUIET_AFTER_LOSS, ReloadQueue, WatchedName};

    #[test]
    fn timing_out_one_writer_keeps_the_others_and_later_ones() {
        let name = |name: &str| WatchedName {
            directory: (1, 1),
            name: name.into(),
        };
        let queue = ReloadQueue::default();
        queue.writer_started(&name("slow"));
        std::thread::sleep(Duration::from_millis(2));
        let between = Instant::now();
        queue.writer_started(&name("begun"));
        // Closing the file and opening it again starts a new wait.
        queue.writer_started(&name("again"));
        queue.writer_finished(&name("again"));
        queue.writer_started(&name("again"));
        queue.retain_writers(|_, since| since >= between);
        let mut open: Vec<_> = queue.writers().into_iter().map(|(name, _)| name.name).collect();
        open.sort();
        assert_eq!(open, ["again", "begun"]);
    }

    #[test]
    fn after_lost_events_no_writer_is_known_until_there_was_none_for_a_second() {
        let name = WatchedName {
            directory: (1, 1),
            name: "t.cf".into(),
        };
        let queue = ReloadQueue::default();
        queue.writer_started(&name);
        queue.events_lost();
        assert_eq!(queue.writers(), []);
        let first = queue.incomplete_until().unwrap();
        // The event of the closing may be missing as well.
        queue.writer_started(&name);
        assert_eq!(queue.writers(), []);
        let second = queue.incomplete_until().unwrap();
        assert!(second > first && second <= Instant::now() + QUIET_AFTER_LOSS);
        std::thread::sleep(second.saturating_duration_since(Instant::now()));
        assert_eq!(queue.incomplete_until(), None);
        queue.writer_started(&name);
        assert_eq!(queue.writers().len(), 1);
    }
}
