//! Decides what follows a read: apply it, keep the active configuration, or wait.
//!
//! Pure: it opens no file, reads no clock and writes no log. The thread of [`super`] passes what a read saw
//! ([`Decision::after_read`]) and, if told to evaluate it, the result ([`Decision::after_evaluation`]), each with the
//! time. So tests try any order of edits, errors and requests within microseconds.
//!
//! The rules:
//!
//! - sources that equal the active configuration change nothing;
//! - sources with an error are rejected, unless the active configuration has errors too: then fixing one of two errors
//!   takes effect. Settings with an error are rejected in any case: without them, the defaults would apply;
//! - a source that is missing or empty, open for writing, or always changing is held: it keeps its active content for
//!   as long as [`Waits`] says. The other sources wait for it for a moment, and are then applied without it;
//! - the secrets of the default relay are one source in several files: they are held together;
//! - where one table is applied while the other is held, next hops and logins that differ may not belong together
//!   ([`Contents::is_unpaired`]);
//! - a finding is logged once, until a read without it or a requested reload.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::waits::{Awaited, WaitReason, Waits};
use crate::lookup::table::spec::ValueKind;

/// What a source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Settings,
    /// A table with values of this kind.
    Table(ValueKind),
    /// A part of the default relay.
    Secret,
}

/// A source as a read saw it.
#[derive(Clone, Debug)]
pub(super) struct SourceState {
    /// The digest of its content. Equal digests mean equal content.
    pub(super) content: u64,
    /// Whether it is missing or has no byte.
    pub(super) is_empty: bool,
    /// Whether it changed while it was read, so that this content may never have existed.
    pub(super) is_unsettled: bool,
    /// The digest of an unsettled source that had the same content at each attempt to read it.
    pub(super) steady: Option<u64>,
    /// Since when a program has it open for writing.
    pub(super) written_since: Option<Instant>,
    /// Whether its metadata is unchanged since the last read.
    pub(super) is_unchanged: bool,
}

/// Why the sources were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The poll interval or a deadline passed.
    Poll,
    /// A change was reported.
    Change,
    /// A reload was requested (SIGHUP).
    Request,
}

/// How long to wait, by the active settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For a source that is missing or empty.
    pub(super) empty_grace: Duration,
    /// For a program that writes to a source.
    pub(super) writer_timeout: Duration,
}

/// What the sources contain. A held source counts with its active content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// The digest of each source.
    digests: Vec<u64>,
    /// Whether one table is held while the other, or the default relay, may belong to its new content.
    pub(super) is_unpaired: bool,
}

/// What to do after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing: the sources equal the active configuration.
    Unchanged {
        /// Whether the last read differed, and was rejected.
        is_return: bool,
        /// Whether this is recorded as a reload, and not only as a poll.
        is_reload: bool,
    },
    /// Nothing: the sources equal those that were rejected.
    StillRejected {
        /// Whether this is recorded as a reload, and not only as a poll.
        is_reload: bool,
    },
    /// Nothing yet: the changed sources wait for one that is held.
    Wait,
    /// Evaluate the sources, the held ones with their active content, and pass the result to
    /// [`Decision::after_evaluation`].
    Evaluate,
}

/// The result of [`Decision::after_read`].
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) action: Action,
    /// Which sources keep their active content.
    pub(super) is_held: Vec<bool>,
    /// The overdue sources, or all that are waited for if a reload was requested.
    pub(super) awaited: Vec<Awaited>,
}

/// What to do with the evaluated sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Publish them.
    Apply {
        /// Whether the tables may not belong together.
        is_unpaired: bool,
    },
    /// Nothing: they equal the active configuration.
    Same,
    /// They have errors: keep the active configuration.
    Reject,
}

/// What is active, what was read last, and what is waited for.
pub(super) struct Decision {
    roles: Vec<Role>,
    active: Contents,
    /// For each source, whether answers would change if it were missing or empty.
    loss_changes_answers: Vec<bool>,
    /// Whether the active configuration has no error.
    is_valid: bool,
    last_read: Contents,
    waits: Waits,
    /// The findings of the last read, which are logged.
    logged: HashSet<String>,
    /// The findings of the active configuration.
    logged_of_active: HashSet<String>,
}

impl Decision {
    /// Starts with the first read, which must be evaluated and becomes active even with errors. `logged` are findings
    /// that the log has already.
    pub(super) fn new(roles: Vec<Role>, digests: Vec<u64>, logged: HashSet<String>) -> Self {
        let contents = |digests| Contents {
            digests,
            is_unpaired: false,
        };
        Self {
            waits: Waits::new(roles.len()),
            roles,
            active: contents(Vec::new()),
            last_read: contents(digests),
            loss_changes_answers: Vec::new(),
            is_valid: false,
            logged_of_active: HashSet::new(),
            logged,
        }
    }

    /// Returns what to do after a read that saw these sources.
    pub(super) fn after_read(
        &mut self,
        seen: &[SourceState],
        cause: Cause,
        timing: Timing,
        now: Instant,
    ) -> Outcome {
        let mut is_held = Vec::with_capacity(seen.len());
        let mut is_unpaired = false;
        for (source, (seen, role)) in seen.iter().zip(&self.roles).enumerate() {
            let reason = self.reason(source, seen, timing, now);
            let held = self
                .waits
                .record_read(source, reason, seen.is_unchanged, timing.empty_grace, now);
            is_held.push(held);
            is_unpaired |= held && self.may_match_the_other(source, *role, seen, reason);
        }
        // Next hop and login of the default relay are in several files.
        let is_secret = |role: &Role| *role == Role::Secret;
        let mut secrets = is_held.iter().zip(&self.roles);
        if secrets.any(|(is_held, role)| *is_held && is_secret(role)) {
            for (is_held, role) in is_held.iter_mut().zip(&self.roles) {
                *is_held |= is_secret(role);
            }
        }
        let digests = seen.iter().zip(&is_held).zip(&self.active.digests);
        let digests: Vec<u64> = digests
            .map(|((seen, is_held), active)| if *is_held { *active } else { seen.content })
            .collect();
        let is_other = digests != self.active.digests || self.active.is_unpaired;
        let contents = Contents {
            digests,
            is_unpaired: is_unpaired && is_other,
        };
        Outcome {
            action: self.next_action(contents, cause, now),
            is_held,
            awaited: self
                .waits
                .awaited(timing.empty_grace, cause == Cause::Request, now),
        }
    }

    fn next_action(&mut self, contents: Contents, cause: Cause, now: Instant) -> Action {
        let is_requested = cause == Cause::Request;
        let is_waiting = self.waits.is_any();
        let is_reload = cause != Cause::Poll && !is_waiting;
        if contents == self.active && !is_requested {
            let is_return = self.last_read != self.active;
            if is_return {
                self.logged.clone_from(&self.logged_of_active);
            }
            self.last_read = contents;
            return Action::Unchanged {
                is_return,
                is_reload: is_reload || is_return,
            };
        }
        if contents == self.last_read && !is_requested {
            return Action::StillRejected { is_reload };
        }
        // Files that are saved together take effect together.
        if contents != self.active && is_waiting && self.waits.delay_others(now) {
            return Action::Wait;
        }
        if is_requested {
            // A requested reload logs all findings again.
            self.logged.clear();
        }
        self.last_read = contents;
        Action::Evaluate
    }

    /// Returns what to do with the last read, which has `errors` errors. `loss_changes_answers`
    /// has for each source whether answers would change if it were missing or empty.
    pub(super) fn after_evaluation(
        &mut self,
        errors: usize,
        are_settings_valid: bool,
        loss_changes_answers: Vec<bool>,
    ) -> Verdict {
        // No server starts with invalid settings, so those of the active configuration are valid.
        if !are_settings_valid || errors > 0 && self.is_valid {
            return Verdict::Reject;
        }
        if self.last_read == self.active {
            return Verdict::Same;
        }
        self.is_valid = errors == 0;
        self.active = self.last_read.clone();
        self.loss_changes_answers = loss_changes_answers;
        self.logged_of_active.clone_from(&self.logged);
        Verdict::Apply {
            is_unpaired: self.active.is_unpaired,
        }
    }

    /// Takes the findings of the last read. Returns for each whether it is not logged yet.
    pub(super) fn take_unlogged(&mut self, findings: Vec<String>) -> Vec<bool> {
        let is_new = findings.iter().map(|text| !self.logged.contains(text)).collect();
        self.logged = findings.into_iter().collect();
        is_new
    }

    /// Returns when another read may lead to another result without any change.
    pub(super) fn deadline(&self, timing: Timing, now: Instant) -> Option<Instant> {
        self.waits
            .next_deadline(timing.empty_grace, timing.writer_timeout, now)
    }

    /// Returns whether any source is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits.is_any()
    }

    /// Returns why the content of this source is not usable yet.
    fn reason(&self, source: usize, seen: &SourceState, timing: Timing, now: Instant) -> Option<WaitReason> {
        if seen.is_unsettled {
            return Some(WaitReason::Changing);
        }
        if let Some(since) = seen.written_since
            && now < since + timing.writer_timeout
        {
            return Some(WaitReason::OpenForWriting(since));
        }
        let changes_answers = self.loss_changes_answers.get(source).copied().unwrap_or_default();
        (seen.is_empty && changes_answers).then_some(WaitReason::MissingOrEmpty)
    }

    /// Returns whether the new content of a held table may belong to a change of the other table.
    fn may_match_the_other(
        &self,
        source: usize,
        role: Role,
        seen: &SourceState,
        reason: Option<WaitReason>,
    ) -> bool {
        let is_table = matches!(role, Role::Table(_));
        is_table
            && match reason {
                // An empty relay map moves no sender to another relay.
                Some(WaitReason::MissingOrEmpty) => role != Role::Table(ValueKind::NextHop),
                // A table that was only touched was read, and equals its active content.
                Some(WaitReason::Changing) => seen.steady != self.active.digests.get(source).copied(),
                Some(WaitReason::OpenForWriting(_)) | None => true,
            }
    }
}

#[cfg(test)]
mod tests;
