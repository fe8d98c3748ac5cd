//! What to do after a reading: apply it, keep the active configuration, or wait.
//!
//! Pure: it opens no file, asks no clock and writes no log. The thread of [`super`] reports what a reading saw
//! ([`Decision::read`]) and, where it is told to, how the sources were judged ([`Decision::judged`]), each with the time.
//! So every order of edits, faults and requests can be tried within microseconds (`tests`).
//!
//! The rules:
//!
//! - what reads as the active configuration changes nothing;
//! - what has an error is rejected, unless the active configuration has errors too, so that fixing one of two has its
//!   effect;
//! - a source that is missing or empty, open for writing, or changes all the time is held: it stays as it is active, for
//!   as long as [`Waits`] says. The others wait for it for a moment and are then applied without it;
//! - the secrets of the default relay are one source in several files: they are held together;
//! - where one table is applied while the other is held, the next hops and logins that differ belong together no more
//!   ([`Version::is_unpaired`]);
//! - a finding is logged once, until a reading without it, or until a reload is requested.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::waits::{Awaited, Waits, Why};
use crate::lookup::table::spec::ValueKind;

/// What a source is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Settings,
    /// A table with such values.
    Table(ValueKind),
    /// A part of the default relay.
    Secret,
}

/// A source as one reading saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// A digest of its content: equal digests, equal content.
    pub(super) content: u64,
    /// Whether it is missing, or has not one byte.
    pub(super) is_empty: bool,
    /// Whether it changed while it was read, so that this content need never have been there.
    pub(super) is_unsettled: bool,
    /// The digest that it had each time it was read, where it was unsettled and that was always the same.
    pub(super) steady: Option<u64>,
    /// Since when a program has it open for writing.
    pub(super) written_since: Option<Instant>,
    /// Whether nothing has touched it since the reading before.
    pub(super) is_untouched: bool,
}

/// Why the sources were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// It was time to.
    Poll,
    /// A change was noticed.
    Change,
    /// It was requested (SIGHUP).
    Request,
}

/// How long to wait, as of the active settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For a source that is missing or empty.
    pub(super) grace: Duration,
    /// For a program that writes to it.
    pub(super) patience: Duration,
}

/// What the sources have, those that are held as they are active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// A digest of each source.
    contents: Vec<u64>,
    /// Whether one of the tables is held, and the other or the default relay may belong to what it will be.
    pub(super) is_unpaired: bool,
}

/// What to do after a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it is the active configuration.
    Unchanged {
        /// Whether the reading before was another, which was rejected.
        is_return: bool,
        /// Whether this is a reload that found nothing new, and not just a look at the files.
        is_reload: bool,
    },
    /// Nothing: it is what was rejected already.
    StillRejected {
        /// Likewise.
        is_reload: bool,
    },
    /// Nothing yet: what changed waits for a source that is held.
    Wait,
    /// Judge it, with the held sources as they are active, and report that to [`Decision::judged`].
    Judge,
}

/// What came of a reading.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) next: Next,
    /// Which sources are to be taken as they are active.
    pub(super) is_held: Vec<bool>,
    /// Those that are waited for too long, or at all where the reading was requested.
    pub(super) awaited: Vec<Awaited>,
}

/// What to do with what was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Publish it.
    Apply {
        /// Whether the tables belong together no more for certain.
        is_unpaired: bool,
    },
    /// It is the active configuration, judged once more.
    Same,
    /// It has errors: keep the active configuration.
    Reject,
}

/// What is active, what was read last, and what is waited for.
pub(super) struct Decision {
    roles: Vec<Role>,
    active: Version,
    /// Of each source, whether being missing or empty would change something.
    matters: Vec<bool>,
    /// Whether the active configuration has no error.
    is_valid: bool,
    last_read: Version,
    waits: Waits,
    /// The findings that the log has, as texts.
    logged: HashSet<String>,
    /// Those of the active configuration.
    logged_of_active: HashSet<String>,
}

impl Decision {
    /// Begins with the first reading, which is to be judged and becomes active whatever is wrong with it. `logged` are the
    /// findings that the log has already.
    pub(super) fn new(roles: Vec<Role>, contents: Vec<u64>, logged: HashSet<String>) -> Self {
        let version = |contents| Version {
            contents,
            is_unpaired: false,
        };
        Self {
            waits: Waits::none(roles.len()),
            roles,
            active: version(Vec::new()),
            last_read: version(contents),
            matters: Vec::new(),
            is_valid: false,
            logged_of_active: HashSet::new(),
            logged,
        }
    }

    /// What to do after a reading that saw these sources.
    pub(super) fn read(&mut self, seen: &[Seen], trigger: Trigger, timing: Timing, now: Instant) -> Outcome {
        let mut is_held = Vec::with_capacity(seen.len());
        let mut is_unpaired = false;
        for (source, (seen, role)) in seen.iter().zip(&self.roles).enumerate() {
            let why = self.why(source, seen, timing, now);
            let held = self
                .waits
                .observe(source, why, seen.is_untouched, timing.grace, now);
            is_held.push(held);
            is_unpaired |= held && self.may_have_the_other_half(source, *role, seen, why);
        }
        // Next hop and login of the default relay are in several files.
        let is_secret = |role: &Role| *role == Role::Secret;
        let mut secrets = is_held.iter().zip(&self.roles);
        if secrets.any(|(is_held, role)| *is_held && is_secret(role)) {
            for (is_held, role) in is_held.iter_mut().zip(&self.roles) {
                *is_held |= is_secret(role);
            }
        }
        let contents = seen.iter().zip(&is_held).zip(&self.active.contents);
        let contents: Vec<u64> = contents
            .map(|((seen, is_held), active)| if *is_held { *active } else { seen.content })
            .collect();
        let is_other = contents != self.active.contents || self.active.is_unpaired;
        let version = Version {
            contents,
            is_unpaired: is_unpaired && is_other,
        };
        Outcome {
            next: self.next_after(version, trigger, now),
            is_held,
            awaited: self.waits.awaited(timing.grace, trigger == Trigger::Request, now),
        }
    }

    fn next_after(&mut self, version: Version, trigger: Trigger, now: Instant) -> Next {
        let is_requested = trigger == Trigger::Request;
        let is_waiting = self.waits.is_any();
        let is_reload = trigger != Trigger::Poll && !is_waiting;
        if version == self.active && !is_requested {
            let is_return = self.last_read != self.active;
            if is_return {
                self.logged.clone_from(&self.logged_of_active);
            }
            self.last_read = version;
            return Next::Unchanged {
                is_return,
                is_reload: is_reload || is_return,
            };
        }
        if version == self.last_read && !is_requested {
            return Next::StillRejected { is_reload };
        }
        // What is saved together takes effect together.
        if version != self.active && is_waiting && self.waits.hold_up_others(now) {
            return Next::Wait;
        }
        if is_requested {
            // The answer to a request has all findings, whether or not the log has them.
            self.logged.clear();
        }
        self.last_read = version;
        Next::Judge
    }

    /// What to do with what was read last, which has so many errors. `matters` says of each source whether being missing or
    /// empty would change something.
    pub(super) fn judged(&mut self, errors: usize, matters: Vec<bool>) -> Verdict {
        if errors > 0 && self.is_valid {
            return Verdict::Reject;
        }
        if self.last_read == self.active {
            return Verdict::Same;
        }
        self.is_valid = errors == 0;
        self.active = self.last_read.clone();
        self.matters = matters;
        self.logged_of_active.clone_from(&self.logged);
        Verdict::Apply {
            is_unpaired: self.active.is_unpaired,
        }
    }

    /// Takes the findings of what was read last, and says of each whether the log does not have it yet.
    pub(super) fn take_news(&mut self, findings: Vec<String>) -> Vec<bool> {
        let is_news = findings.iter().map(|text| !self.logged.contains(text)).collect();
        self.logged = findings.into_iter().collect();
        is_news
    }

    /// When a reading may come to something else though nothing changes.
    pub(super) fn deadline(&self, timing: Timing, now: Instant) -> Option<Instant> {
        self.waits.next(timing.grace, timing.patience, now)
    }

    /// Whether any source is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits.is_any()
    }

    /// Why the content of this source would not be used.
    fn why(&self, source: usize, seen: &Seen, timing: Timing, now: Instant) -> Option<Why> {
        if seen.is_unsettled {
            return Some(Why::Changing);
        }
        if let Some(since) = seen.written_since
            && now < since + timing.patience
        {
            return Some(Why::Written(since));
        }
        let matters = self.matters.get(source).copied().unwrap_or_default();
        (seen.is_empty && matters).then_some(Why::Gone)
    }

    /// Whether the new content of a table that is held may have what belongs to a change of the other.
    fn may_have_the_other_half(&self, source: usize, role: Role, seen: &Seen, why: Option<Why>) -> bool {
        let is_table = matches!(role, Role::Table(_));
        is_table
            && match why {
                // An empty relay map moves nobody to another relay.
                Some(Why::Gone) => role != Role::Table(ValueKind::NextHop),
                // One that is only touched has been read, and is as it is active.
                Some(Why::Changing) => seen.steady != self.active.contents.get(source).copied(),
                Some(Why::Written(_)) | None => true,
            }
    }
}

#[cfg(test)]
mod tests;
