//! Polls: whether files may have changed since the last read, seen by their metadata.
//!
//! With inotify, a poll confirms that nothing changed without an event. Without it, a poll is how a change is found, and
//! nothing reports the end of a write: a poll waits until the metadata has been the same for [`QUIET_PERIOD`], but no
//! longer than [`GROUP_WAIT`]. Files that never stop changing meanwhile are unsettled in the read that follows.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::decision::SourceState;
use super::load::{self, RawSources};
use super::path_walk::PathStat;
use super::reload_queue::{ReloadQueue, Trigger};
use super::waits::GROUP_WAIT;
use crate::config::{ReloadTiming, Sources};

/// How long a file must stay unchanged where the kernel does not report writers.
const QUIET_PERIOD: Duration = Duration::from_secs(1);

/// What polls compare with.
pub(super) struct Poll {
    /// The metadata of each path at the last read.
    stats: Vec<PathStat>,
    /// Whether equal metadata proves equal content.
    stats_are_reliable: bool,
    /// Which files never stopped changing during the last poll.
    still_changing: Vec<bool>,
}

impl Poll {
    /// Starts with the first read.
    pub(super) fn new(raw: &RawSources) -> Self {
        Self {
            stats: raw.stats.clone(),
            stats_are_reliable: are_stats_reliable(raw),
            still_changing: Vec::new(),
        }
    }

    /// Records a read. Returns the state of each file, compared with the read before.
    pub(super) fn record_read(&mut self, raw: &RawSources) -> Vec<SourceState> {
        let mut seen = raw.seen(&self.stats);
        for (seen, is_changing) in seen.iter_mut().zip(std::mem::take(&mut self.still_changing)) {
            seen.is_unsettled |= is_changing;
        }
        self.stats_are_reliable = are_stats_reliable(raw);
        self.stats.clone_from(&raw.stats);
        seen
    }

    /// Returns whether files may have changed without an event. `is_watched` says that events report all changes.
    ///
    /// Where they do not, metadata may be stale as well (a file server), so the answer is yes, once the files are quiet.
    /// An urgent trigger ends the wait, and is left to the caller.
    pub(super) fn may_have_changed(
        &mut self,
        sources: &Sources,
        queue: &ReloadQueue,
        timing: ReloadTiming,
        is_watched: bool,
    ) -> bool {
        let stats = load::path_stats(sources);
        let is_as_before = self.stats_are_reliable && self.stats == stats;
        if is_watched {
            return !is_as_before;
        }
        is_as_before || self.wait_until_quiet(stats, sources, queue, timing)
    }

    /// Returns `false` if an urgent trigger ended the wait.
    fn wait_until_quiet(
        &mut self,
        mut last: Vec<PathStat>,
        sources: &Sources,
        queue: &ReloadQueue,
        timing: ReloadTiming,
    ) -> bool {
        let deadline = Instant::now() + GROUP_WAIT.min(timing.writer_timeout);
        let quiet = QUIET_PERIOD.min(timing.poll_interval);
        loop {
            if let Some(urgent @ (Trigger::Reload | Trigger::Stop)) = queue.wait(Instant::now() + quiet) {
                queue.notify(urgent);
                return false;
            }
            let now = load::path_stats(sources);
            if now == last {
                return true;
            }
            if Instant::now() >= deadline {
                self.still_changing = now.iter().zip(&last).map(|(now, last)| now != last).collect();
                return true;
            }
            last = now;
        }
    }
}

/// Returns whether equal metadata at the next poll will prove equal content. A file changed within the last second may
/// change again with the same times, because the kernel's file clock is coarse. A file that the system failed to read
/// (no descriptors, a disk error) may be readable next time with the same metadata.
fn are_stats_reliable(raw: &RawSources) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut times = raw.stats.iter().flat_map(PathStat::times);
    !raw.unsettled.contains(&true) && !raw.has_io_error() && times.all(|changed| changed < now - 1)
}
