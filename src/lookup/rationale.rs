//! Why an answer is given: the entry or the variable that decided, and a sentence.

use crate::lookup::address::{Key, Scope};
use crate::lookup::table::spec::TableSpec;
use crate::lookup::table::{Hit, Table};
use crate::os::printable::printable;

/// The source of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of a table file, from 1.
    Line(&'static TableSpec, usize),
    /// An environment variable, or the file in its place.
    Variable(&'static str),
}

/// The entry that was found.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    key: Key<'a>,
    source: Source,
    pub(super) has_value: bool,
}

impl<'a> Entry<'a> {
    /// Returns the entry of the first of these keys that has one in `table`, and the number of the key.
    pub(super) fn find(table: &Table, keys: &[Key<'a>]) -> Option<(usize, Self)> {
        let (number, line) = table.locate(keys.iter().copied())?;
        Some((number, Self::new(table, *keys.get(number)?, line)))
    }

    fn new(table: &Table, key: Key<'a>, line: usize) -> Self {
        Self {
            key,
            source: Source::Line(table.spec(), line),
            has_value: matches!(table.find([key]), Hit::Value(_)),
        }
    }

    pub(super) fn name(&self) -> String {
        printable(&self.key.to_vec())
    }

    /// Returns the key, and which senders it stands for if it does not say so itself.
    pub(super) fn describe(&self) -> String {
        let name = self.name();
        if self.key.scope() == Scope::AnySender {
            format!("{name} (all senders without another entry)")
        } else if self.key.is_of_subdomains() {
            format!("{name} (all subdomains)")
        } else {
            name
        }
    }
}

/// The reason for an answer.
pub struct Rationale {
    /// The reason, as a sentence without credentials.
    pub reason: String,
    /// The source of the answer.
    pub source: Option<Source>,
}

impl Rationale {
    /// Creates a rationale for the entry that was found, or for its absence.
    pub fn from_entry(entry: Option<Entry<'_>>, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: entry.map(|entry| entry.source),
        }
    }

    pub(super) fn from_variable(variable: &'static str, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: Some(Source::Variable(variable)),
        }
    }
}
