//! Which sources are waited for: those whose present content is not used yet, why, and since when.
//!
//! Each source waits by itself. What is saved together should take effect together, and so the others wait with it, but
//! for [`TOGETHER`] at most: a password that is revoked must not stay valid because another file is busy. A wait that
//! lasts is reported once ([`Waits::awaited`]): an edit that does not take effect must not go unnoticed.
//!
//! Nothing here reads a file or a clock.

use std::time::{Duration, Instant};

/// How long other files wait with one that is not used yet: enough for what is saved together.
pub(super) const TOGETHER: Duration = Duration::from_secs(2);

/// After how long a wait is reported.
const REPORTED: Duration = Duration::from_secs(3);

/// How much longer than the grace an empty file is waited for before that is reported: an end of the wait is in sight.
const AFTER_GRACE: Duration = Duration::from_secs(1);

/// Why the present content of a source is not used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It changes faster than it can be read.
    Changing,
    /// A program has it open for writing, since then.
    Written(Instant),
    /// It is missing or empty.
    Gone,
}

/// What is known of one source.
#[derive(Clone, Debug, Default)]
struct Source {
    wait: Option<Wait>,
    /// Since when it is gone, without a change in between. It stays so when the wait is over: it is not waited for once
    /// more where something else keeps it from being used.
    gone_since: Option<Instant>,
}

/// One wait.
#[derive(Clone, Copy, Debug)]
struct Wait {
    why: Why,
    /// Since when the source is waited for, whatever the reasons were.
    since: Instant,
    is_reported: bool,
}

/// A source that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    pub(super) source: usize,
    pub(super) why: Why,
    /// Whether it is waited for too long, and not only just now.
    pub(super) is_overdue: bool,
    /// Whether that was not reported yet.
    pub(super) is_news: bool,
    /// Whether the log should have it now: it is news, or was asked for.
    pub(super) is_to_log: bool,
}

/// The sources that are waited for.
#[derive(Debug)]
pub(super) struct Waits {
    sources: Vec<Source>,
}

impl Waits {
    /// No source of so many is waited for.
    pub(super) fn none(sources: usize) -> Self {
        Self {
            sources: vec![Source::default(); sources],
        }
    }

    /// Takes what a reading saw of one source: why it would not be used. `is_as_before` says whether it has not been
    /// touched since the reading before. Returns whether it is waited for: a source that is gone is used after `grace`.
    pub(super) fn observe(
        &mut self,
        source: usize,
        why: Option<Why>,
        is_as_before: bool,
        grace: Duration,
        now: Instant,
    ) -> bool {
        let Some(source) = self.sources.get_mut(source) else {
            return false;
        };
        let gone_since = source.gone_since.filter(|_| is_as_before).unwrap_or(now);
        source.gone_since = (why == Some(Why::Gone)).then_some(gone_since);
        let why = why.filter(|why| *why != Why::Gone || now < gone_since + grace);
        source.wait = why.map(|why| {
            let begins = match why {
                Why::Written(since) => since.min(now),
                Why::Changing | Why::Gone => now,
            };
            Wait {
                why,
                since: source.wait.map_or(begins, |before| before.since),
                is_reported: source.wait.is_some_and(|before| before.is_reported),
            }
        });
        source.wait.is_some()
    }

    fn waits(&self) -> impl Iterator<Item = &Wait> {
        self.sources.iter().filter_map(|source| source.wait.as_ref())
    }

    /// Whether any source is waited for.
    pub(super) fn is_any(&self) -> bool {
        self.waits().next().is_some()
    }

    /// Whether the other sources wait with one of these.
    pub(super) fn hold_up_others(&self, now: Instant) -> bool {
        self.waits().any(|wait| now < wait.since + TOGETHER)
    }

    /// When the next of all this changes by itself.
    pub(super) fn next(&self, grace: Duration, patience: Duration, now: Instant) -> Option<Instant> {
        let waits = self.sources.iter();
        let waits = waits.filter_map(|source| Some((source.wait.as_ref()?, source.gone_since)));
        let instants = waits.flat_map(|(wait, gone_since)| {
            let used = match wait.why {
                Why::Changing => None,
                Why::Written(since) => Some(since + patience),
                Why::Gone => gone_since.map(|since| since + grace),
            };
            [Some(wait.since + TOGETHER), Some(wait.due_at(grace)), used]
        });
        instants.flatten().filter(|instant| *instant > now).min()
    }

    /// The sources that are waited for too long, or all where that is asked for.
    pub(super) fn awaited(&mut self, grace: Duration, all: bool, now: Instant) -> Vec<Awaited> {
        let waits = self.sources.iter_mut().enumerate();
        let overdue = waits.filter_map(|(source, wait)| {
            let wait = wait.wait.as_mut()?;
            let is_overdue = wait.is_reported || wait.due_at(grace) <= now;
            let is_news = is_overdue && !std::mem::replace(&mut wait.is_reported, is_overdue);
            (is_overdue || all).then_some(Awaited {
                source,
                why: wait.why,
                is_overdue,
                is_news,
                is_to_log: is_news || all,
            })
        });
        overdue.collect()
    }
}

impl Wait {
    fn due_at(&self, grace: Duration) -> Instant {
        let longest = match self.why {
            Why::Changing | Why::Written(_) => REPORTED,
            Why::Gone => REPORTED.max(grace + AFTER_GRACE),
        };
        self.since + longest
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Awaited, REPORTED, TOGETHER, Waits, Why};

    const GRACE: Duration = Duration::from_secs(5);
    const PATIENCE: Duration = Duration::from_secs(30);

    fn after(begin: Instant, seconds: f64) -> Instant {
        begin + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_writer_is_waited_for_since_it_began() {
        let begin = Instant::now();
        let mut waits = Waits::none(1);
        let now = after(begin, 1.5);
        assert!(waits.observe(0, Some(Why::Written(begin)), true, GRACE, now));
        assert!(waits.hold_up_others(now));
        let mut expected = [begin + TOGETHER, begin + REPORTED, begin + PATIENCE].into_iter();
        let mut now = now;
        while let Some(next) = waits.next(GRACE, PATIENCE, now) {
            assert_eq!(Some(next), expected.next());
            now = next;
        }
        assert_eq!(expected.next(), None);
        // The reason changes, and the wait goes on.
        assert!(waits.observe(0, Some(Why::Changing), false, GRACE, now));
        for is_news in [true, false] {
            let expected = Awaited {
                source: 0,
                why: Why::Changing,
                is_overdue: true,
                is_news,
                is_to_log: is_news,
            };
            assert_eq!(waits.awaited(GRACE, false, now), [expected]);
        }
    }
}
