//! The lines of the active file, between which the changed ones go.
//!
//! Both come in ascending order of the bytes of their keys, as PostgreSQL sorts them with `COLLATE "C"`, so neither is ever in
//! memory as a whole. The order of the file is checked while it is copied: in a file that is not sorted, a change would
//! leave an old line beside the new one, and the first of them would answer.

use std::path::PathBuf;

use postmapd::lookup::table::spec::TableSpec;
use postmapd::os::secret::Secret;

use super::error::{DirectoryError, DirectoryErrorKind};
use super::lines::{Counts, LineReader, LineWriter, NO_ENTRIES, split};

/// The rest of an active file.
pub(super) struct Merge {
    path: PathBuf,
    spec: &'static TableSpec,
    lines: LineReader,
    /// The key of the last line that was copied or dropped, and room for more.
    previous: Secret,
    previous_length: usize,
    /// The lines that were copied or dropped.
    counts: Counts,
}

impl Merge {
    pub(super) fn open(path: PathBuf, spec: &'static TableSpec) -> Result<Self, DirectoryError> {
        let lines = LineReader::open(&path).and_then(|mut lines| {
            if lines.peek()? == Some(NO_ENTRIES) {
                lines.consume(NO_ENTRIES.len());
            }
            Ok(lines)
        });
        let lines = lines.map_err(DirectoryErrorKind::system("read it", &path))?;
        Ok(Self {
            path,
            spec,
            lines,
            previous: Secret::default(),
            previous_length: 0,
            counts: Counts::default(),
        })
    }

    /// Copies the lines before those of a key.
    pub(super) fn copy_before(&mut self, key: &[u8], to: &mut LineWriter) -> Result<(), DirectoryError> {
        while self.take_if(|own| own < key, Some(to))? {}
        Ok(())
    }

    /// Drops the lines of a key, which are the next ones, and returns how many there were.
    pub(super) fn drop_lines(&mut self, key: &[u8]) -> Result<Counts, DirectoryError> {
        let before = self.counts;
        while self.take_if(|own| own == key, None)? {}
        let mut dropped = self.counts;
        dropped.remove(before);
        Ok(dropped)
    }

    /// Copies all other lines, and returns how many the file had.
    pub(super) fn copy_rest(mut self, to: &mut LineWriter) -> Result<Counts, DirectoryError> {
        while self.take_if(|_| true, Some(to))? {}
        Ok(self.counts)
    }

    /// Takes the next line if its key is the wanted one, and returns whether it was.
    fn take_if(
        &mut self,
        is_wanted: impl FnOnce(&[u8]) -> bool,
        to: Option<&mut LineWriter>,
    ) -> Result<bool, DirectoryError> {
        let unreadable = DirectoryErrorKind::system("read it", &self.path);
        let (line, (key, value)) = match self.lines.peek() {
            Ok(None) => return Ok(false),
            Ok(Some(line)) => match split(self.spec, line) {
                Ok(parts) => (line, parts),
                Err(error) => return Err(unreadable(error)),
            },
            Err(error) => return Err(unreadable(error)),
        };
        if !is_wanted(key) {
            return Ok(false);
        }
        if self
            .previous
            .expose()
            .get(..self.previous_length)
            .is_some_and(|previous| key < previous)
        {
            let reason =
                "the keys of the active file are not in ascending order, so changes cannot be merged into it";
            return Err(DirectoryErrorKind::Inconsistent(reason).at(&self.path));
        }
        if self.previous.len() < key.len() {
            self.previous = Secret::from(vec![0; 2 * key.len()]);
        }
        // Without wiping what will be overwritten, for each line.
        if let Some(previous) = self.previous.expose_mut().get_mut(..key.len()) {
            previous.copy_from_slice(key);
        }
        self.previous_length = key.len();
        self.counts.add(value);
        let length = line.len();
        if let Some(to) = to {
            to.append(line)?;
        }
        self.lines.consume(length);
        Ok(true)
    }
}
