//! The files of a generation while a connection reads the tables.
//!
//! Each row becomes a line of a file of the new generation at once. Of changes, each line goes between those of the active
//! file, which are copied meanwhile, and a file without changes is the same one under a second name. So the memory does not
//! depend on the size of the tables.
//!
//! Limits: rows whose keys are invalid are in no file, so they are counted only by the read that returned them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use postmapd::os::secret::Secret;

use super::disk::Disk;
use super::error::{DirectoryError, DirectoryErrorKind};
use super::generation::{Generation, KEY_FILE, Readers, SOURCE_FILE, TableFile};
use super::held::HeldFiles;
use super::lines::{Counts, LineReader, LineWriter, NO_ENTRIES};
use super::merge::Merge;
use super::provenance::{Provenance, SourceFile};
use crate::engine::{Extent, Rows, Table};
use crate::rows::{BadRow, BadRows, Line, Row};

/// Takes the rows of one read, for [`Directory::publish`](super::Directory::publish). The first error ends the work, and
/// is returned there. A staging that is dropped removes its files.
pub struct Staging {
    pub(super) disk: Arc<dyn Disk>,
    /// The new generation.
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) readers: Readers,
    /// The key of its digests.
    pub(super) key: Secret,
    /// The active generation.
    pub(super) base: Option<Arc<Generation>>,
    pub(super) parent: PathBuf,
    pub(super) extent: Option<Extent>,
    pub(super) files: BTreeMap<Table, TableFile>,
    current: Option<Current>,
    /// The rows in no file.
    left_out: BTreeMap<Table, u64>,
    bad_rows: BadRows,
    error: Option<DirectoryError>,
    /// Whether the files stay.
    is_kept: bool,
}

/// The table whose rows come now.
struct Current {
    table: Table,
    to: LineWriter,
    /// The active file, if it is to be changed and exists.
    from: Option<Merge>,
    /// The counts of the active file.
    before: Counts,
    /// The counts of the new file with what is left of the active one.
    counts: Counts,
    /// The last changed key.
    key: Option<Secret>,
    /// The rows up to now.
    rows: u64,
}

fn inconsistent<T>(reason: &'static str, path: impl Into<PathBuf>) -> Result<T, DirectoryError> {
    Err(DirectoryErrorKind::Inconsistent(reason).at(path))
}

impl Staging {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        parent: PathBuf,
        readers: Readers,
        name: String,
        key: Secret,
        base: Option<Arc<Generation>>,
    ) -> Self {
        Self {
            disk,
            path: parent.join(&name),
            name,
            readers,
            key,
            base,
            parent,
            extent: None,
            files: BTreeMap::new(),
            current: None,
            left_out: BTreeMap::new(),
            bad_rows: BadRows::default(),
            error: None,
            is_kept: false,
        }
    }

    /// Returns the number of rows that a table has now, bad ones included. Rows that are in no file, because their key is
    /// invalid, are counted only if they came in this read.
    #[must_use]
    pub fn rows(&self, table: Table) -> u64 {
        self.counts(table).entries + self.left_out.get(&table).copied().unwrap_or_default()
    }

    /// Returns the number of bad rows of all tables, as [`Staging::rows`] counts them.
    #[must_use]
    pub fn bad_rows(&self) -> u64 {
        let in_files: u64 = Table::ALL.into_iter().map(|table| self.counts(table).bad).sum();
        in_files + self.left_out.values().sum::<u64>()
    }

    /// Returns the first bad rows of this read, at most [`BadRows::MAX_FIRST`].
    #[must_use]
    pub fn first_bad_rows(&self) -> &[BadRow] {
        self.bad_rows.first()
    }

    /// Returns a table that was read, has no entry now, and has some in the active generation. `None` after an error, because
    /// of which rows were not taken.
    #[must_use]
    pub fn emptied(&self) -> Option<Table> {
        let base = self.base.as_deref().filter(|_| self.error.is_none())?;
        let current = self.current.as_ref().map(|current| current.table);
        let had_entries = |table: &Table| base.files.get(table).is_some_and(|file| file.counts.entries > 0);
        let mut read = self.files.keys().copied().chain(current);
        read.find(|table| had_entries(table) && self.counts(*table).entries == 0)
    }

    /// Returns a table that was read, has rows and has no entry, because each row has an invalid key.
    #[must_use]
    pub fn unusable(&self) -> Option<Table> {
        let mut left_out = self
            .left_out
            .iter()
            .filter(|(_, rows)| **rows > 0)
            .map(|(table, _)| *table);
        left_out.find(|table| self.error.is_none() && self.counts(*table).entries == 0)
    }

    /// Returns the counts of the file of a table.
    fn counts(&self, table: Table) -> Counts {
        if let Some(current) = self.current.as_ref().filter(|current| current.table == table) {
            return current.counts;
        }
        let kept = match self.extent {
            Some(Extent::Changes) => self.base.as_deref().and_then(|base| base.files.get(&table)),
            Some(Extent::Everything) | None => None,
        };
        let file = self.files.get(&table).or(kept);
        file.map(|file| file.counts).unwrap_or_default()
    }

    /// Does what can fail, unless something has failed.
    fn attempt(&mut self, step: impl FnOnce(&mut Self) -> Result<(), DirectoryError>) {
        if self.error.is_none()
            && let Err(error) = step(self)
        {
            self.error = Some(error);
        }
    }

    fn create(&mut self, extent: Extent) -> Result<(), DirectoryError> {
        if self.extent.replace(extent).is_some() {
            return inconsistent("the source returned two reads as one", &self.parent);
        }
        if extent == Extent::Changes && self.base.is_none() {
            let reason = "the source returned changes, but there are no active files that they could change";
            return inconsistent(reason, &self.parent);
        }
        self.disk
            .create_directory(&self.path, self.readers.directory_mode())
            .map_err(DirectoryErrorKind::system("create it", &self.path))
    }

    fn start(&mut self, table: Table) -> Result<(), DirectoryError> {
        self.finish_table()?;
        if self.extent.is_none() || self.files.contains_key(&table) {
            return inconsistent(
                "the source returned a table twice, or before its read began",
                &self.parent,
            );
        }
        let (mut from, mut before) = (None, Counts::default());
        if self.extent == Some(Extent::Changes)
            && let Some(base) = self.base.as_deref()
            && let Some(file) = base.files.get(&table)
        {
            let path = self.parent.join(&base.name).join(table.spec().file);
            from = Some(Merge::open(path, table.spec())?);
            before = file.counts;
        }
        let path = self.path.join(table.spec().file);
        self.current = Some(Current {
            table,
            to: LineWriter::create(&self.disk, path, self.readers.file_mode(), &self.key)?,
            from,
            before,
            counts: before,
            key: None,
            rows: 0,
        });
        Ok(())
    }

    fn take(&mut self, row: Row<'_>) -> Result<(), DirectoryError> {
        let Some(current) = self
            .current
            .as_mut()
            .filter(|current| current.table.spec() == row.spec())
        else {
            return inconsistent("the source returned a row of another table", &self.parent);
        };
        current.rows += 1;
        let is_change = self.extent == Some(Extent::Changes);
        if is_change {
            current.go_to(row.key())?;
        }
        let line = Line::new(row, (!is_change).then_some(current.rows));
        let is_bad = line.error.is_some();
        if line.text.is_empty() {
            *self.left_out.entry(current.table).or_default() += 1;
        } else {
            current.to.append(line.text.expose())?;
            current.counts.entries += 1;
            current.counts.bad += u64::from(is_bad);
        }
        self.bad_rows.add(line.error);
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), DirectoryError> {
        match &mut self.current {
            Some(current) if self.extent == Some(Extent::Changes) => current.go_to(key),
            _ => inconsistent("the source returned a removed key and no changes", &self.parent),
        }
    }

    fn finish_table(&mut self) -> Result<(), DirectoryError> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        if let Some(from) = current.from
            && from.copy_rest(&mut current.to)? != current.before
        {
            let path = current.to.path();
            return inconsistent("the active file has lost or gained lines", path);
        }
        if current.counts.entries == 0 {
            current.to.append(NO_ENTRIES)?;
        }
        let file = TableFile {
            digest: current.to.finish()?,
            counts: current.counts,
        };
        self.files.insert(current.table, file);
        Ok(())
    }

    /// Completes the files. Of the tables `required`, each must have been read.
    ///
    /// # Errors
    ///
    /// The first error of the read.
    pub(super) fn complete(&mut self, required: &[Table]) -> Result<(), DirectoryError> {
        self.attempt(Self::finish_table);
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.extent {
            None => return inconsistent("the source returned nothing", &self.parent),
            Some(Extent::Changes) => self.keep_other_files()?,
            Some(Extent::Everything) => {}
        }
        if required.iter().any(|table| !self.files.contains_key(table)) {
            return inconsistent("the source did not return all tables", &self.parent);
        }
        // A file without entries would hide that there may be a local one. But the server waits before it takes a file that is
        // missing now for an empty table, so one generation has such a file between entries and no file.
        let is_empty = |file: Option<&TableFile>| file.is_none_or(|file| file.counts.entries == 0);
        let active = self.base.as_deref().and_then(|base| base.files.get(&Table::Tls));
        if self.files.contains_key(&Table::Tls) && is_empty(self.files.get(&Table::Tls)) && is_empty(active) {
            self.files.remove(&Table::Tls);
            let path = self.path.join(Table::Tls.spec().file);
            self.disk
                .remove(&path)
                .map_err(DirectoryErrorKind::system("remove it", path))?;
        }
        Ok(())
    }

    /// Takes over the active files of the tables without changes.
    fn keep_other_files(&mut self) -> Result<(), DirectoryError> {
        let Some(base) = self.base.clone() else {
            return Ok(());
        };
        for (table, file) in &base.files {
            if self.files.contains_key(table) {
                continue;
            }
            let name = table.spec().file;
            let active = self.parent.join(&base.name).join(name);
            if base.has_current_modes && self.disk.hard_link(&active, &self.path.join(name)).is_ok() {
                self.files.insert(*table, file.clone());
            } else {
                // The file has the modes of an earlier start, or the file system has no hard links.
                self.start(*table)?;
                self.finish_table()?;
            }
        }
        Ok(())
    }

    /// Writes the files of the active generation again, which are held open. Returns whether they are whole.
    pub(super) fn copy_held(&mut self, held: &HeldFiles) -> Result<bool, DirectoryError> {
        self.create(Extent::Everything)?;
        let Some(base) = self.base.clone() else {
            return Ok(false);
        };
        for (table, file) in &base.files {
            let name = table.spec().file;
            let Ok(open) = held.file(name) else {
                return Ok(false);
            };
            let path = self.path.join(name);
            let mut from = LineReader::new(open);
            let mut to = LineWriter::create(&self.disk, path, self.readers.file_mode(), &self.key)?;
            loop {
                match from.peek() {
                    Ok(Some(line)) => {
                        to.append(line)?;
                        let length = line.len();
                        from.consume(length);
                    }
                    Ok(None) => break,
                    Err(_) => return Ok(false),
                }
            }
            if to.finish()? != file.digest {
                return Ok(false);
            }
            self.files.insert(*table, file.clone());
        }
        Ok(true)
    }

    /// Writes what is missing beside the files of the tables, `source.json` last.
    pub(super) fn write_generation(&self, provenance: &Provenance) -> Result<Generation, DirectoryError> {
        let write = |name: &str, mode, content: &[u8]| {
            let path = self.path.join(name);
            let written = self
                .disk
                .create_file(&path, mode)
                .and_then(|mut file| self.disk.append(&mut file, content));
            written.map_err(DirectoryErrorKind::system("write it", path))
        };
        write(KEY_FILE, 0o600, self.key.expose())?;
        let digests = self.files.iter();
        let digests = digests.map(|(table, file)| (table.spec().file.to_owned(), file.digest.clone()));
        let mut json = serde_json::to_vec(&SourceFile::new(provenance, digests.collect()))
            .map_err(|error| DirectoryErrorKind::system("write it", &self.path)(error.into()))?;
        json.push(b'\n');
        write(SOURCE_FILE, self.readers.file_mode(), &json)?;
        Ok(Generation {
            name: self.name.clone(),
            files: self.files.clone(),
            key: self.key.clone(),
            provenance: provenance.clone(),
            has_current_modes: true,
        })
    }

    /// Lets the files stay.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Current {
    /// Copies the active lines before this key, and drops those with it.
    fn go_to(&mut self, key: &[u8]) -> Result<(), DirectoryError> {
        if self.key.as_ref().is_some_and(|last| last.expose() >= key) {
            let reason = "the source returned changed keys that are not in ascending order";
            return inconsistent(reason, self.to.path());
        }
        self.key = Some(Secret::from(key.to_vec()));
        if let Some(from) = &mut self.from {
            from.copy_before(key, &mut self.to)?;
            self.counts.remove(from.drop_lines(key)?);
        }
        Ok(())
    }
}

impl Rows for Staging {
    fn begin(&mut self, extent: Extent) {
        self.attempt(|staging| staging.create(extent));
    }

    fn table(&mut self, table: Table) {
        self.attempt(|staging| staging.start(table));
    }

    fn row(&mut self, row: Row<'_>) {
        self.attempt(|staging| staging.take(row));
    }

    fn removed(&mut self, key: &[u8]) {
        self.attempt(|staging| staging.remove(key));
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_kept && self.extent.is_some() {
            // What cannot be removed now is removed after the next flush.
            let _ = self.disk.remove_directory(&self.path);
        }
    }
}
