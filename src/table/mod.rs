//! One table: the text of a `.cf` file, judged and indexed.
//!
//! A table says of a key: this value, nothing on purpose, a wrong entry, absent for certain, or absent as far as
//! could be read ([`Hit`]). What each means for mail is decided in [`crate::routes`].

pub mod grammar;
pub mod index;

use std::path::Path;

use crate::address::{Delimiters, SenderKeys};
use crate::answer::{Map, Reason};
use crate::diagnostic::{Finding, Findings, Position};
use grammar::{Content, Format};
use index::{Index, Insertion, Stored};

/// What a table says of a key.
#[derive(Clone, Copy)]
pub enum Hit<'a> {
    /// An entry with this value.
    Value(&'a [u8]),
    /// An entry without value, on purpose.
    Nothing,
    /// No entry, for certain.
    Absent,
    /// An entry that is wrong, or no entry in a table that could not be read whole.
    Unsure(Reason),
}

/// A table, immutable once built.
pub struct Table {
    map: Map,
    index: Index,
    /// Why a miss is not certain, where it is not.
    incomplete: Option<Reason>,
}

impl Table {
    /// The table of a file that is not there: empty, for certain.
    #[must_use]
    pub fn empty(map: Map) -> Self {
        Self {
            map,
            index: Index::default(),
            incomplete: None,
        }
    }

    /// The table of a file that cannot be read, for this reason: nothing is certain.
    #[must_use]
    pub fn unreadable(map: Map, reason: Reason) -> Self {
        Self {
            incomplete: Some(reason),
            ..Self::empty(map)
        }
    }

    /// Builds the table of `map` from the text of the file `path`.
    pub fn build(map: Map, path: &Path, text: &[u8], findings: &mut Findings) -> Self {
        let format = match map {
            Map::Relayhost => Format::RelayMap,
            Map::Sasl => Format::Credentials,
        };
        let lines = memchr::memchr_iter(b'\n', text).count() + 1;
        let mut index = Index::with_capacity(lines, text.len());
        let mut keys = SenderKeys::default();
        let whole = Delimiters::default();
        let mut full = false;
        let reading = grammar::read(format, path, text, findings, |record, findings| {
            keys.read(record.key, &whole);
            let stored = match record.content {
                Content::Value(value) => Stored::Value(value),
                Content::Nothing => Stored::Nothing,
                Content::Fault => Stored::Fault,
            };
            let position = Some(Position {
                line: record.line,
                column: record.column,
            });
            match index.insert(keys.whole(), stored, record.line) {
                Insertion::Done => {}
                Insertion::Duplicate(line) => findings.push(
                    Finding::warning("duplicate-key", path, position)
                        .says(format!("line {line} has this key already, and the first wins"))
                        .help("remove one of the two lines"),
                ),
                Insertion::Full if full => {}
                Insertion::Full => {
                    full = true;
                    findings.push(
                        Finding::error("table-full", path, position)
                            .says("from here on the table is larger than 4 GiB")
                            .help("split it between several servers"),
                    );
                }
            }
        });
        Self {
            map,
            index,
            incomplete: (reading.keys_unreadable || full).then_some(Reason::LineWithoutKey(map)),
        }
    }

    /// How many entries there are, those without a value and those with an error included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// What the table says of the first of these keys that it has.
    pub fn find<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> Hit<'_> {
        for key in keys {
            match self.index.find(key).map(|entry| entry.stored) {
                Some(Stored::Value(value)) => return Hit::Value(value),
                Some(Stored::Nothing) => return Hit::Nothing,
                Some(Stored::Fault) => return Hit::Unsure(Reason::EntryWithError(self.map)),
                None => {}
            }
        }
        self.incomplete.map_or(Hit::Absent, Hit::Unsure)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Hit, Table};
    use crate::answer::Map;
    use crate::diagnostic::Findings;

    #[test]
    fn the_first_of_two_lines_with_one_key_wins_and_the_second_is_a_warning() {
        let mut findings = Findings::default();
        let text = b"@A.example [one]\n\"x y\"@a r\n@a.EXAMPLE [two]\n\"X Y\"@a r\n";
        let table = Table::build(Map::Relayhost, Path::new("t"), text, &mut findings);
        assert!(matches!(table.find([&b"@a.example"[..]]), Hit::Value(b"[one]")));
        assert!(matches!(table.find([&b"x y@a"[..]]), Hit::Value(b"r")));
        assert_eq!((table.len(), findings.errors(), findings.warnings()), (2, 0, 2));
        assert!(
            findings
                .iter()
                .next()
                .unwrap()
                .to_string()
                .starts_with("t:3:1: warning: line 1 has")
        );
    }
}
