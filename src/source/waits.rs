//! Which sources are waited for: those with content that is not usable yet, why, and since when.
//!
//! Each source is waited for on its own. Files that are saved together should take effect together, so the others wait
//! with it, but no longer than [`GROUP_WAIT`]: a revoked password must not stay valid because another file is busy. A
//! long wait is reported once ([`Waits::awaited`]), so that an edit that does not take effect is noticed.
//!
//! Nothing here reads a file or a clock.

use std::time::{Duration, Instant};

/// How long the other files wait for one that is not usable yet: enough for files that are saved together.
pub(super) const GROUP_WAIT: Duration = Duration::from_secs(2);

/// How long a wait lasts before it is reported.
const REPORT_AFTER: Duration = Duration::from_secs(3);

/// How long after the end of its grace period an empty file is reported: a wait that is about to end needs no report.
const REPORT_AFTER_GRACE: Duration = Duration::from_secs(1);

/// Why the content of a source is not usable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitReason {
    /// It changes faster than it can be read.
    Changing,
    /// A program has had it open for writing since then.
    OpenForWriting(Instant),
    /// It is missing or empty.
    MissingOrEmpty,
}

/// The state of one source.
#[derive(Clone, Debug, Default)]
struct SourceWait {
    wait: Option<Wait>,
    /// Since when it has been missing or empty without a change. Stays set after the wait is over, so that it is not
    /// waited for again while something else delays it.
    empty_since: Option<Instant>,
}

/// A wait for one source.
#[derive(Clone, Copy, Debug)]
struct Wait {
    reason: WaitReason,
    /// When the wait started. Unaffected by changes of the reason.
    since: Instant,
    is_reported: bool,
}

/// A source that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    pub(super) source: usize,
    pub(super) reason: WaitReason,
    /// Whether the wait has lasted long enough to be reported.
    pub(super) is_overdue: bool,
    /// Whether it has not been reported before.
    pub(super) is_new: bool,
    /// Whether to log it: it is new, or the reload was requested.
    pub(super) is_to_log: bool,
}

/// The waits of all sources.
#[derive(Debug)]
pub(super) struct Waits {
    sources: Vec<SourceWait>,
}

impl Waits {
    /// Creates the state of this many sources, none of them waited for.
    pub(super) fn new(sources: usize) -> Self {
        Self {
            sources: vec![SourceWait::default(); sources],
        }
    }

    /// Records the result of reading one source: why it is not usable yet, if so, and whether it is unchanged since the
    /// previous read. Returns whether the reload must wait for it. A source that stays missing or empty for `empty_grace`
    /// is used as empty. If the reason changes, the wait and its report continue.
    pub(super) fn record_read(
        &mut self,
        index: usize,
        reason: Option<WaitReason>,
        is_unchanged: bool,
        empty_grace: Duration,
        now: Instant,
    ) -> bool {
        let Some(source) = self.sources.get_mut(index) else {
            return false;
        };
        let empty_since = source.empty_since.filter(|_| is_unchanged).unwrap_or(now);
        source.empty_since = (reason == Some(WaitReason::MissingOrEmpty)).then_some(empty_since);
        let reason =
            reason.filter(|reason| *reason != WaitReason::MissingOrEmpty || now < empty_since + empty_grace);
        source.wait = reason.map(|reason| {
            let started_at = match reason {
                WaitReason::OpenForWriting(since) => since.min(now),
                WaitReason::Changing | WaitReason::MissingOrEmpty => now,
            };
            Wait {
                reason,
                since: source.wait.map_or(started_at, |before| before.since),
                is_reported: source.wait.is_some_and(|before| before.is_reported),
            }
        });
        source.wait.is_some()
    }

    fn waits(&self) -> impl Iterator<Item = &Wait> {
        self.sources.iter().filter_map(|source| source.wait.as_ref())
    }

    /// Returns whether any source is waited for.
    pub(super) fn is_any(&self) -> bool {
        self.waits().next().is_some()
    }

    /// Returns whether the other sources wait too.
    pub(super) fn delay_others(&self, now: Instant) -> bool {
        self.waits().any(|wait| now < wait.since + GROUP_WAIT)
    }

    /// Returns when a wait next ends, or is due to be reported.
    pub(super) fn next_deadline(
        &self,
        empty_grace: Duration,
        writer_timeout: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let waits = self.sources.iter();
        let waits = waits.filter_map(|source| Some((source.wait.as_ref()?, source.empty_since)));
        let instants = waits.flat_map(|(wait, empty_since)| {
            let used = match wait.reason {
                WaitReason::Changing => None,
                WaitReason::OpenForWriting(since) => Some(since + writer_timeout),
                WaitReason::MissingOrEmpty => empty_since.map(|since| since + empty_grace),
            };
            [
                Some(wait.since + GROUP_WAIT),
                Some(wait.overdue_at(empty_grace)),
                used,
            ]
        });
        instants.flatten().filter(|instant| *instant > now).min()
    }

    /// Returns the overdue waits, or all of them, and marks the overdue ones as reported.
    pub(super) fn awaited(&mut self, empty_grace: Duration, all: bool, now: Instant) -> Vec<Awaited> {
        let waits = self.sources.iter_mut().enumerate();
        let overdue = waits.filter_map(|(source, wait)| {
            let wait = wait.wait.as_mut()?;
            let is_overdue = wait.is_reported || wait.overdue_at(empty_grace) <= now;
            let is_new = is_overdue && !std::mem::replace(&mut wait.is_reported, is_overdue);
            (is_overdue || all).then_some(Awaited {
                source,
                reason: wait.reason,
                is_overdue,
                is_new,
                is_to_log: is_new || all,
            })
        });
        overdue.collect()
    }
}

impl Wait {
    fn overdue_at(&self, empty_grace: Duration) -> Instant {
        let longest = match self.reason {
            WaitReason::Changing | WaitReason::OpenForWriting(_) => REPORT_AFTER,
            WaitReason::MissingOrEmpty => REPORT_AFTER.max(empty_grace + REPORT_AFTER_GRACE),
        };
        self.since + longest
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Awaited, GROUP_WAIT, REPORT_AFTER, WaitReason, Waits};

    const EMPTY_GRACE: Duration = Duration::from_secs(5);
    const WRITER_TIMEOUT: Duration = Duration::from_secs(30);

    fn after(begin: Instant, seconds: f64) -> Instant {
        begin + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_wait_for_a_writer_starts_when_it_opened_the_file() {
        let begin = Instant::now();
        let mut waits = Waits::new(1);
        let now = after(begin, 1.5);
        assert!(waits.record_read(0, Some(WaitReason::OpenForWriting(begin)), true, EMPTY_GRACE, now));
        assert!(waits.delay_others(now));
        let mut expected = [begin + GROUP_WAIT, begin + REPORT_AFTER, begin + WRITER_TIMEOUT].into_iter();
        let mut now = now;
        while let Some(next) = waits.next_deadline(EMPTY_GRACE, WRITER_TIMEOUT, now) {
            assert_eq!(Some(next), expected.next());
            now = next;
        }
        assert_eq!(expected.next(), None);
        // Another reason continues the same wait.
        assert!(waits.record_read(0, Some(WaitReason::Changing), false, EMPTY_GRACE, now));
        for is_new in [true, false] {
            let expected = Awaited {
                source: 0,
                reason: WaitReason::Changing,
                is_overdue: true,
                is_new,
                is_to_log: is_new,
            };
            assert_eq!(waits.awaited(EMPTY_GRACE, false, now), [expected]);
        }
    }
}
