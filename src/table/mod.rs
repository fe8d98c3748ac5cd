//! One table: the text of a `.cf` file, judged and indexed.
//!
//! The table is the text itself, as it was read, and an index of it: no key and no value is copied, and so there is
//! no other place in memory that holds a password. A lookup reads the one line that the index points at, with the
//! same grammar that judged it.
//!
//! A table says of a key: this value, nothing on purpose, a wrong entry, absent for certain, or absent as far as
//! could be read ([`Hit`]). What each means for mail is decided in [`crate::routes`].

pub mod grammar;
mod index;

use std::collections::HashSet;
use std::path::Path;

use crate::address::{self, Delimiters, SenderKeys};
use crate::answer::{Map, Reason};
use crate::diagnostic::{Finding, Findings, Position};
use crate::secret::Secret;
use grammar::{Content, Format, Record};
use index::{Index, Keys};

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
    text: Text,
    index: Index,
    /// The offsets of the entries that are wrong. There are few: a table with any is served only where there never
    /// was one without.
    faults: HashSet<u32>,
    /// Why a miss is not certain, where it is not.
    incomplete: Option<Reason>,
}

/// A text, and the grammar by which to read it.
struct Text {
    format: Format,
    bytes: Secret,
}

impl Text {
    fn entry(&self, offset: u32) -> Option<(&[u8], &[u8])> {
        grammar::entry_at(self.format, self.bytes.expose(), usize::try_from(offset).ok()?)
    }

    /// The line of an offset, from 1.
    fn line(&self, offset: u32) -> usize {
        let before = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.expose().get(..offset));
        memchr::memchr_iter(b'\n', before.unwrap_or_default()).count() + 1
    }
}

impl Keys for Text {
    fn is(&self, offset: u32, key: &[u8]) -> bool {
        self.entry(offset)
            .is_some_and(|(written, _)| address::is_key_of(written, key))
    }

    fn with<T>(&self, offset: u32, with: impl FnOnce(&[u8]) -> T) -> T {
        let mut keys = SenderKeys::default();
        let written = self.entry(offset).map_or(&[][..], |(written, _)| written);
        keys.read(written, &Delimiters::default());
        with(keys.whole())
    }
}

/// A table that grows. Entries are put into the index in batches: each falls somewhere else in memory, and only
/// several in a row let the processor wait for all of them at once.
struct Builder<'a> {
    text: &'a Text,
    path: &'a Path,
    index: Index,
    faults: HashSet<u32>,
    batch: Vec<Pending>,
    keys: SenderKeys,
    no_extension: Delimiters,
}

struct Pending {
    hash: u64,
    offset: u32,
    position: Position,
    is_fault: bool,
}

impl<'a> Builder<'a> {
    const BATCH: usize = 256;

    fn new(text: &'a Text, path: &'a Path) -> Self {
        let lines = memchr::memchr_iter(b'\n', text.bytes.expose()).count() + 1;
        Self {
            text,
            path,
            index: Index::with_capacity(lines),
            faults: HashSet::new(),
            batch: Vec::with_capacity(Self::BATCH),
            keys: SenderKeys::default(),
            no_extension: Delimiters::default(),
        }
    }

    fn take(&mut self, record: &Record<'_>, findings: &mut Findings) {
        // The text is no longer than offsets reach.
        let Ok(offset) = u32::try_from(record.offset) else {
            return;
        };
        self.keys.read(record.key, &self.no_extension);
        self.batch.push(Pending {
            hash: self.index.hash(self.keys.whole()),
            offset,
            position: record.position,
            is_fault: matches!(record.content, Content::Fault),
        });
        if self.batch.len() == Self::BATCH {
            self.flush(findings);
        }
    }

    fn flush(&mut self, findings: &mut Findings) {
        for pending in self.batch.drain(..) {
            match self.index.insert(pending.hash, pending.offset, self.text) {
                Ok(()) if pending.is_fault => {
                    self.faults.insert(pending.offset);
                }
                Ok(()) => {}
                Err(first) => findings.push_with(
                    Finding::warning("duplicate-key", self.path, pending.position)
                        .help("remove one of the two lines"),
                    || {
                        format!(
                            "line {} has this key already, and the first wins",
                            self.text.line(first)
                        )
                    },
                ),
            }
        }
    }
}

fn format(map: Map) -> Format {
    match map {
        Map::Relayhost => Format::RelayMap,
        Map::Sasl => Format::Credentials,
    }
}

impl Table {
    /// The table of a file that is not there: empty, for certain.
    #[must_use]
    pub fn empty(map: Map) -> Self {
        Self {
            map,
            text: Text {
                format: format(map),
                bytes: Secret::default(),
            },
            index: Index::default(),
            faults: HashSet::new(),
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
    pub fn build(map: Map, path: &Path, text: Secret, findings: &mut Findings) -> Self {
        if u32::try_from(text.len()).is_err() {
            findings.push(
                Finding::error("file-too-large", path, None)
                    .says("the file is larger than 4 GiB")
                    .help("split it between several servers"),
            );
            return Self::unreadable(map, Reason::FileUnreadable(map));
        }
        let text = Text {
            format: format(map),
            bytes: text,
        };
        let mut builder = Builder::new(&text, path);
        let reading = grammar::read(
            text.format,
            path,
            text.bytes.expose(),
            findings,
            |record, findings| {
                builder.take(&record, findings);
            },
        );
        builder.flush(findings);
        let Builder { index, faults, .. } = builder;
        Self {
            map,
            index,
            faults,
            text,
            incomplete: reading.keys_unreadable.then_some(Reason::LineWithoutKey(map)),
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
        self.len() == 0
    }

    /// Whether there is no entry, and it is certain that there is none.
    #[must_use]
    pub fn is_empty_for_certain(&self) -> bool {
        self.is_empty() && self.incomplete.is_none()
    }

    /// What the table says of the first of these keys that it has.
    pub fn find<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> Hit<'_> {
        let found = keys.into_iter().find_map(|key| self.index.find(key, &self.text));
        let Some(offset) = found else {
            return self.incomplete.map_or(Hit::Absent, Hit::Unsure);
        };
        match self.text.entry(offset) {
            Some((_, value)) if !self.faults.contains(&offset) => {
                if grammar::is_nothing(self.text.format, value) {
                    Hit::Nothing
                } else {
                    Hit::Value(value)
                }
            }
            _ => Hit::Unsure(Reason::EntryWithError(self.map)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use proptest::prelude::*;

    use super::{Hit, Table};
    use crate::address::{Delimiters, SenderKeys};
    use crate::answer::Map;
    use crate::diagnostic::Findings;

    #[test]
    fn the_first_of_two_lines_with_one_key_wins_and_the_second_is_a_warning() {
        let mut findings = Findings::default();
        let text = b"@A.example [one]\n\"x y\"@a r\n@a.EXAMPLE [two]\n\"X Y\"@a r\n".to_vec();
        let table = Table::build(Map::Relayhost, Path::new("t"), text.into(), &mut findings);
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

    /// How a key may be written, and a query for it that is folded otherwise.
    fn key() -> impl Strategy<Value = String> {
        "(\"[a-c ]{0,2}\"|[a-cA-Cßé]{1,2})@[a-bA-B]|[a-cA-C]{1,2}|<>|\"<>\""
    }

    proptest! {
        /// The same keys and values go into the table and into the standard library's map.
        #[test]
        fn it_answers_as_a_hash_map_does(
            entries in prop::collection::vec((key(), prop::option::of("[a-z]{1,9}"), " {0,1}", "\r?\n"), 0..60),
            asked in prop::collection::vec(key(), 0..50),
        ) {
            let folded = |key: &str| {
                let mut keys = SenderKeys::default();
                keys.read(key.as_bytes(), &Delimiters::default());
                keys.whole().to_vec()
            };
            let mut text = String::from("# comment\n");
            let mut model: HashMap<Vec<u8>, Option<String>> = HashMap::new();
            for (key, value, indent, end) in entries {
                text.extend([&indent, &key, " \t", value.as_deref().unwrap_or_default(), &end]);
                model.entry(folded(&key)).or_insert(value);
            }
            let text = text.into_bytes();
            let table = Table::build(Map::Relayhost, Path::new("t"), text.into(), &mut Findings::default());
            prop_assert_eq!(table.len(), model.len());
            for key in asked.iter().map(|key| folded(key)).chain(model.keys().cloned()) {
                let found = match table.find([&key[..]]) {
                    Hit::Value(value) => Some(Some(String::from_utf8(value.to_vec()).unwrap())),
                    Hit::Nothing => Some(None),
                    Hit::Absent => None,
                    Hit::Unsure(reason) => panic!("{reason}"),
                };
                prop_assert_eq!(found.as_ref(), model.get(&key));
            }
        }
    }
}
