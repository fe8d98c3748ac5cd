//! A table after edits of its text, made from the one before, compared with the table of the text read from scratch.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};
use std::path::Path;
use std::sync::Arc;

use postmapd::lookup::address::{Delimiters, LookupKeys};
use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP, TableSpec, ValueKind};
use postmapd::lookup::table::text::{Block, Text};
use postmapd::lookup::table::{Hit, Table};

use super::plain::address;
use super::plain::table::{self, Meaning};
use super::tables;

/// The first byte chooses the map and the quality of the hash, the second how much is read at once. Then come edits of
/// four bytes each (operation, position, number of lines, parameter), until [`MOST_EDITS`] or the end.
pub fn generations(data: &[u8]) {
    let (&[first, drip], edits) = data.split_first_chunk().unwrap_or((&[0, 0], &[]));
    let spec = if first & 1 == 0 { &RELAY_MAP } else { &CREDENTIALS };
    let hasher = Digests {
        bits: if first & 2 == 0 { 64 } else { 3 },
    };
    let mut history = History {
        spec,
        hasher,
        drip: (usize::from(drip) + 1) * 1111,
        lines: (0..LINES).map(|number| line(spec, number, 0)).collect(),
        table: None,
    };
    history.generation();
    for edit in edits.as_chunks().0.iter().take(MOST_EDITS) {
        if !history.edit(*edit) {
            history.generation();
        }
    }
    history.generation();
}

/// Long enough for several blocks of some 40 lines each.
const LINES: usize = 250;
const MOST_EDITS: usize = 12;
/// The limit, however often lines are doubled.
const MOST_LINES: usize = 600;

/// A hash without a key, so that an input has the same block boundaries in every process; and optionally a bad one,
/// with which different blocks have the same digest.
#[derive(Clone, Copy)]
struct Digests {
    bits: u32,
}

struct Digest(DefaultHasher, u32);

impl BuildHasher for Digests {
    type Hasher = Digest;

    fn build_hasher(&self) -> Digest {
        Digest(
            BuildHasherDefault::<DefaultHasher>::new().build_hasher(),
            self.bits,
        )
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish() >> (64 - self.1)
    }
}

/// An entry with a long value or a long comment, so that few lines make a block.
fn line(spec: &TableSpec, number: usize, version: u8) -> Vec<u8> {
    let padding = "x".repeat(700 + number % 7 * 90);
    let key = match number % 5 {
        0 => format!("@.user{number}.test"),
        _ => format!("user{number}@test"),
    };
    match spec.format.values {
        ValueKind::NextHop => format!("{key} [r{version}.test]:25 # {padding}\n"),
        ValueKind::Login => format!("{key} u{version}:{padding}\n"),
        ValueKind::Tls => format!("relay{number}.test secure match=m{version} # {padding}\n"),
    }
    .into_bytes()
}

/// A line that is not a plain entry.
fn odd_line(spec: &TableSpec, kind: u8, of: usize) -> Vec<u8> {
    match kind % 14 {
        0 => "# a comment\n".into(),
        1 => "\n".into(),
        2 => format!("USER{of}@TEST\n"),
        3 => format!(" user{of}@test [indented.test]\n"),
        4 => format!("user{of}@test [wrong\n"),
        5 => format!("\"user{of}@test open\n"),
        6 => format!("\u{feff}user{of}@test a:b\n"),
        7 => format!("new{of}@test a.test\n").repeat(1 + of % 2),
        8 => format!("# {}\n", "x".repeat(40_000)),
        9 => format!("# {}\n", "x".repeat(280_000)),
        10 => format!("long{of}@test u:{}\n", "x".repeat(60_000)),
        11 => "#\n".repeat(20_000),
        13 => "@* [any.test]\n@.test [wide.test]\n".into(),
        _ => return [b"\xFF", line(spec, of, 1).as_slice()].concat(),
    }
    .into_bytes()
}

struct History {
    spec: &'static TableSpec,
    hasher: Digests,
    drip: usize,
    lines: Vec<Vec<u8>>,
    table: Option<Arc<Table>>,
}

impl History {
    /// Changes the lines. Returns `false` where a generation is due.
    fn edit(&mut self, [what, place, many, of]: [u8; 4]) -> bool {
        let at = self.lines.len() * usize::from(place) / 256;
        let end = (at + usize::from(many)).min(self.lines.len());
        let _map = self.spec;
        match what % 8 {
            0 => return false,
            1 => drop(self.lines.drain(at..end)),
            2 => self.lines.insert(at, line(self.spec, usize::from(of) + LINES, 0)),
            3 => self.lines.insert(at, odd_line(self.spec, many, usize::from(of))),
            4 => {
                if let Some(changed) = self.lines.get_mut(at) {
                    *changed = line(self.spec, at, of);
                }
            }
            5 => {
                // From here on, whole blocks may occur twice.
                let copy = self.lines[at..end].to_vec();
                if self.lines.len() + copy.len() <= MOST_LINES {
                    self.lines.splice(at..at, copy);
                }
            }
            6 => {
                let moved: Vec<_> = self.lines.drain(at..end).collect();
                let to = self.lines.len() * usize::from(of) / 256;
                self.lines.splice(to..to, moved);
            }
            _ => {
                // The last line without its end, or with a part of it.
                if let Some(last) = self.lines.last_mut() {
                    last.truncate(last.len().saturating_sub(1 + usize::from(many)));
                }
            }
        }
        true
    }

    /// Reads the current text, and compares.
    fn generation(&mut self) {
        let bytes = self.lines.concat();
        let previous: Vec<Arc<Block>> = self
            .table
            .iter()
            .flat_map(|table| table.blocks())
            .cloned()
            .collect();
        let mut arriving = Arriving(&bytes, self.drip);
        let text = Text::read(&mut arriving, bytes.len(), &previous, &self.hasher).unwrap();
        let readable = table::until_too_long(&bytes);
        self.the_blocks_are(&text, readable);
        let path = Path::new("t");
        let table = Table::rebuild(self.table.as_ref(), self.spec, path, &text);
        let fresh = Text::read(&mut bytes.as_slice(), bytes.len(), &[], &self.hasher).unwrap();
        self.compare(&table, &Table::rebuild(None, self.spec, path, &fresh));
        self.compare_with_the_text(&table, readable);
        // Reading it once more gives the same table.
        let blocks: Vec<Arc<Block>> = table.blocks().cloned().collect();
        let again = Text::read(&mut bytes.as_slice(), bytes.len(), &blocks, &self.hasher).unwrap();
        if self.hasher.bits == 64 && table.is_complete() {
            assert!(Arc::ptr_eq(
                &table,
                &Table::rebuild(Some(&table), self.spec, path, &again)
            ));
        }
        self.table = Some(table);
    }

    fn the_blocks_are(&self, text: &Text, bytes: &[u8]) {
        let mut rest = bytes;
        for block in text.blocks() {
            let (own, after) = rest.split_at(block.len());
            assert!(own == block.pieces().collect::<Vec<_>>().concat() && !own.is_empty());
            assert!(own.ends_with(b"\n") || after.is_empty());
            assert_eq!(
                table::lines(own).len(),
                block.newlines() + usize::from(!own.ends_with(b"\n"))
            );
            rest = after;
        }
        assert!(rest.is_empty() && text.len() == bytes.len() && text.is_empty() == bytes.is_empty());
    }

    fn compare(&self, table: &Table, fresh: &Table) {
        assert_eq!(
            (table.len(), table.is_complete()),
            (fresh.len(), fresh.is_complete())
        );
        let findings_of =
            |table: &Table| -> Vec<String> { table.findings().iter().map(ToString::to_string).collect() };
        assert_eq!(findings_of(table), findings_of(fresh));
        assert_eq!(table.findings().dropped(), fresh.findings().dropped());
    }

    /// Checks that every key, also a removed one, has the answer of the plain reader, from its line.
    fn compare_with_the_text(&self, table: &Table, bytes: &[u8]) {
        let plain = table::read(self.spec.format, bytes);
        let expected = table::table(&plain);
        assert_eq!(table.len(), expected.len());
        let is_hidden = |key: &[u8]| plain.keys_unreadable && key == address::ANY_SENDER;
        for (key, entry) in &expected {
            if !is_hidden(key) {
                tables::found(self.spec, table, key, &entry.meaning);
            }
        }
        for number in (0..LINES + 256).step_by(17) {
            let (keys, _) = address::keys(format!("someone@a.user{number}.test").as_bytes(), "");
            let entry = keys
                .iter()
                .filter(|key| !is_hidden(key))
                .find_map(|key| expected.get(key));
            let keys = LookupKeys::of(&keys[0], &Delimiters::default());
            match (table.find_all(&keys), entry.map(|entry| &entry.meaning)) {
                (Hit::Value(value), Some(Meaning::Value(expected))) => assert_eq!(value, expected),
                (Hit::NoValue, Some(Meaning::Nothing)) | (Hit::CannotTell(_), Some(Meaning::Fault)) => {}
                (Hit::Absent | Hit::CannotTell(_), None) => {}
                _ => panic!("{} is not {entry:?}", keys.whole().escape_ascii()),
            }
            let key = format!("user{number}@test").into_bytes();
            match expected.get(&key) {
                Some(entry) => assert_eq!(
                    table.locate([key.as_slice().into()]),
                    Some((0, entry.line as usize))
                ),
                None => assert!(matches!(
                    table.find([key.as_slice().into()]),
                    Hit::Absent | Hit::CannotTell(_)
                )),
            }
        }
        let mut entries = plain.entries.iter();
        table.for_each(|record| assert!(entries.next().is_some_and(|entry| entry.written == record.key)));
        assert!(entries.next().is_none());
        let last = u32::try_from(table::lines(bytes).len()).unwrap();
        assert!(last == 0 || table.line(last).is_some());
    }
}

/// A text that arrives in pieces.
struct Arriving<'b>(&'b [u8], usize);

impl std::io::Read for Arriving<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = into.len().min(self.1);
        self.0.read(&mut into[..most])
    }
}
