//! What became of the requests, counted.
//!
//! Every request that was due is a reply or missing, and a reply may be wrong:
//!
//! ```text
//! requests = replies + missing           replies = found + not_found + cannot_tell
//! missing  = malformed + closed + timeout + unsent
//! ```

use serde::{Serialize, Serializer};

/// What is wrong with a reply, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The files say otherwise.
    Wrong,
    /// *Cannot tell*, and nobody knows what would be right: Postfix would defer the mail.
    CannotTell,
    /// Not the protocol.
    Malformed,
    /// The connection ended before the reply.
    Closed,
    /// No reply in time.
    Timeout,
    /// It was due, and no connection became free to send it on.
    Unsent,
    /// Bytes that nobody asked for.
    Extra,
    /// A connection could not be opened again.
    Connect,
}

impl Fault {
    /// Of each, in the order above, its name in JSON and CSV, and in words.
    const NAMES: [(&'static str, &'static str); 8] = [
        ("wrong", "other than in the files"),
        ("cannot_tell", "cannot tell"),
        ("malformed", "not the protocol"),
        ("closed", "closed before the reply"),
        ("timeout", "no reply in time"),
        ("unsent", "due, but every connection was busy"),
        ("extra", "bytes that nobody asked for"),
        ("connect", "could not connect again"),
    ];
}

/// How many faults of each kind, in the order of [`Fault`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults([u64; Fault::NAMES.len()]);

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A value.
    Found,
    /// That there is none.
    NotFound,
    /// That it cannot tell, or does not want to.
    CannotTell,
}

impl Outcome {
    /// As it is printed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not found",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// What became of the requests of one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests that were sent, or should have been.
    pub requests: u64,
    /// Replies that found a value.
    pub found: u64,
    /// Replies that found none.
    pub not_found: u64,
    /// Replies that could not tell.
    pub cannot_tell: u64,
    /// What went wrong.
    pub faults: Faults,
}

impl Faults {
    /// Counts faults.
    pub(crate) fn add(&mut self, fault: Fault, number: u64) {
        if let Some(sum) = self.0.get_mut(fault as usize) {
            *sum += number;
        }
    }

    /// Counts those of `other`, too.
    fn append(&mut self, other: &Self) {
        for (sum, number) in self.0.iter_mut().zip(other.0) {
            *sum += number;
        }
    }

    /// Each kind with its name in JSON and CSV, and in words.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let kinds = Fault::NAMES.into_iter().zip(self.0);
        kinds.map(|((name, words), number)| (name, words, number))
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Serialize for Faults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.each().map(|(name, _, number)| (name, number)))
    }
}

impl Tally {
    /// All replies.
    pub(crate) fn replies(&self) -> u64 {
        self.found + self.not_found + self.cannot_tell
    }

    /// Counts a reply.
    pub(crate) fn reply(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Found => &mut self.found,
            Outcome::NotFound => &mut self.not_found,
            Outcome::CannotTell => &mut self.cannot_tell,
        } += 1;
    }

    /// Counts those of `other`, too.
    pub(crate) fn append(&mut self, other: &Self) {
        self.requests += other.requests;
        self.found += other.found;
        self.not_found += other.not_found;
        self.cannot_tell += other.cannot_tell;
        self.faults.append(&other.faults);
    }
}
