//! What became of the requests, counted.
//!
//! Every request that was due is a reply or missing, and a reply may be wrong:
//!
//! ```text
//! requests = replies + missing           replies = found + not_found + cannot_tell
//! missing  = malformed + closed + timeout + unsent
//! ```

use serde::Serialize;

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

/// How many faults of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Faults {
    /// [`Fault::Wrong`]
    pub wrong: u64,
    /// [`Fault::CannotTell`]
    pub cannot_tell: u64,
    /// [`Fault::Malformed`]
    pub malformed: u64,
    /// [`Fault::Closed`]
    pub closed: u64,
    /// [`Fault::Timeout`]
    pub timeout: u64,
    /// [`Fault::Unsent`]
    pub unsent: u64,
    /// [`Fault::Extra`]
    pub extra: u64,
    /// [`Fault::Connect`]
    pub connect: u64,
}

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
    #[must_use]
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
        *match fault {
            Fault::Wrong => &mut self.wrong,
            Fault::CannotTell => &mut self.cannot_tell,
            Fault::Malformed => &mut self.malformed,
            Fault::Closed => &mut self.closed,
            Fault::Timeout => &mut self.timeout,
            Fault::Unsent => &mut self.unsent,
            Fault::Extra => &mut self.extra,
            Fault::Connect => &mut self.connect,
        } += number;
    }

    /// Each kind with its name in JSON and CSV, and in words.
    #[must_use]
    pub(crate) fn each(&self) -> [(&'static str, &'static str, u64); 8] {
        [
            ("wrong", "other than in the files", self.wrong),
            ("cannot_tell", "cannot tell", self.cannot_tell),
            ("malformed", "not the protocol", self.malformed),
            ("closed", "closed before the reply", self.closed),
            ("timeout", "no reply in time", self.timeout),
            ("unsent", "due, but every connection was busy", self.unsent),
            ("extra", "bytes that nobody asked for", self.extra),
            ("connect", "could not connect again", self.connect),
        ]
    }

    /// All of them.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        self.each().iter().map(|(_, _, number)| number).sum()
    }
}

impl Tally {
    /// All replies.
    #[must_use]
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
        let faults = &other.faults;
        for (fault, number) in [
            (Fault::Wrong, faults.wrong),
            (Fault::CannotTell, faults.cannot_tell),
            (Fault::Malformed, faults.malformed),
            (Fault::Closed, faults.closed),
            (Fault::Timeout, faults.timeout),
            (Fault::Unsent, faults.unsent),
            (Fault::Extra, faults.extra),
            (Fault::Connect, faults.connect),
        ] {
            self.faults.add(fault, number);
        }
    }
}
