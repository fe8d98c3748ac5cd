//! Counts of requests, replies and errors.
//!
//! Each request that was due has a reply or is missing, and a reply may be wrong:
//!
//! ```text
//! requests = replies + missing           replies = found + not_found + cannot_tell
//! missing  = malformed + closed + timeout + unsent
//! ```

use serde::{Serialize, Serializer};

/// What is wrong with a reply, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The reply differs from the files.
    Wrong,
    /// *Cannot tell*, without an expected reply to compare: Postfix would defer the mail.
    CannotTell,
    /// The reply violates the protocol.
    Malformed,
    /// The connection was closed before the reply.
    Closed,
    /// No reply arrived within the timeout.
    Timeout,
    /// The request was due, but no connection became free to send it.
    Unsent,
    /// The server sent bytes that belong to no request.
    Extra,
    /// A connection could not be reopened.
    Connect,
}

impl ErrorKind {
    /// For each kind, in the order above: its name in JSON and CSV, and its description.
    const NAMES: [(&'static str, &'static str); 8] = [
        ("wrong", "reply differs from the files"),
        ("cannot_tell", "cannot tell"),
        ("malformed", "malformed reply"),
        ("closed", "connection closed before the reply"),
        ("timeout", "no reply within the timeout"),
        ("unsent", "not sent when due, because every connection was busy"),
        ("extra", "unsolicited bytes"),
        ("connect", "reconnecting failed"),
    ];
}

/// The number of errors of each kind, in the order of [`ErrorKind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorCounts([u64; ErrorKind::NAMES.len()]);

/// The kind of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A value.
    Found,
    /// No value exists.
    NotFound,
    /// A temporary error or a refusal.
    CannotTell,
}

impl Outcome {
    /// Returns the name for display.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not found",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// The counts of one phase: the warm-up or the measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests that were sent or were due.
    pub requests: u64,
    /// Replies with a value.
    pub found: u64,
    /// Replies without a value.
    pub not_found: u64,
    /// Replies with a temporary error or a refusal.
    pub cannot_tell: u64,
    /// Errors.
    pub errors: ErrorCounts,
}

impl ErrorCounts {
    /// Adds `number` errors of a kind.
    pub(crate) fn add(&mut self, kind: ErrorKind, number: u64) {
        if let Some(sum) = self.0.get_mut(kind as usize) {
            *sum += number;
        }
    }

    /// Adds the errors of `other`.
    fn append(&mut self, other: &Self) {
        for (sum, number) in self.0.iter_mut().zip(other.0) {
            *sum += number;
        }
    }

    /// Returns each kind's name in JSON and CSV, its description and its number.
    pub(crate) fn by_kind(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let kinds = ErrorKind::NAMES.into_iter().zip(self.0);
        kinds.map(|((name, words), number)| (name, words, number))
    }

    /// Returns the number of all errors.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Serialize for ErrorCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.by_kind().map(|(name, _, number)| (name, number)))
    }
}

impl Tally {
    /// Returns the number of replies.
    pub(crate) fn replies(&self) -> u64 {
        self.found + self.not_found + self.cannot_tell
    }

    /// Counts a reply.
    pub(crate) fn count_reply(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Found => &mut self.found,
            Outcome::NotFound => &mut self.not_found,
            Outcome::CannotTell => &mut self.cannot_tell,
        } += 1;
    }

    /// Adds the counts of `other`.
    pub(crate) fn append(&mut self, other: &Self) {
        self.requests += other.requests;
        self.found += other.found;
        self.not_found += other.not_found;
        self.cannot_tell += other.cannot_tell;
        self.errors.append(&other.errors);
    }
}
