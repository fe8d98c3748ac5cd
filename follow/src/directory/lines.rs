//! The lines of the file of a table, one after the other: files of 100 MB pass through buffers of this size, which are wiped.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postmapd::lookup::table::line;
use postmapd::lookup::table::spec::TableSpec;
use postmapd::os::digest::KeyedDigest;
use postmapd::os::secret::Secret;
use postmapd::os::whole_file::MAX_FILE;

use super::disk::Disk;
use super::error::{DirectoryError, DirectoryErrorKind};
use crate::rows;

/// The size of a buffer in bytes: any line has room.
const BUFFER: usize = line::MAX_LINE + 1;

/// The content of a file without entries. The server waits before it takes a file without content for an empty table, and
/// would answer from the other files of the state meanwhile.
pub(super) const NO_ENTRIES: &[u8] = b"# no rows\n";

/// How many entries a file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All of them.
    pub(super) entries: u64,
    /// Those of bad rows.
    pub(super) bad: u64,
}

impl Counts {
    /// Adds an entry with this value.
    pub(super) fn add(&mut self, value: &[u8]) {
        self.entries += 1;
        self.bad += u64::from(rows::is_bad_value(value));
    }

    /// Removes other entries from them.
    pub(super) fn remove(&mut self, other: Self) {
        self.entries = self.entries.saturating_sub(other.entries);
        self.bad = self.bad.saturating_sub(other.bad);
    }
}

/// Splits a line that this program wrote into key and value.
pub(super) fn split<'a>(spec: &TableSpec, line: &'a [u8]) -> io::Result<(&'a [u8], &'a [u8])> {
    line::entry_at(spec.format, line).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// Reads lines.
pub(super) struct LineReader {
    file: File,
    buffer: Secret,
    /// The part of the buffer that was read and not consumed.
    start: usize,
    end: usize,
    is_at_end: bool,
}

impl LineReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A FIFO would never end.
        if !fs::symlink_metadata(path)?.is_file() {
            return Err(ErrorKind::InvalidInput.into());
        }
        Ok(Self::new(File::open(path)?))
    }

    /// Reads from where the file is.
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            buffer: Secret::from(vec![0; BUFFER]),
            start: 0,
            end: 0,
            is_at_end: false,
        }
    }

    /// Returns the next line with its line end, which remains the next one until it is consumed. `None` at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has a line without end.
    pub(super) fn peek(&mut self) -> io::Result<Option<&[u8]>> {
        let mut searched = 0;
        let length = loop {
            let pending = self.buffer.expose().get(self.start..self.end).unwrap_or_default();
            if let Some(newline) = memchr::memchr(b'\n', pending.get(searched..).unwrap_or_default()) {
                break searched + newline + 1;
            }
            searched = pending.len();
            if self.is_at_end {
                return if searched == 0 {
                    Ok(None)
                } else {
                    Err(ErrorKind::InvalidData.into())
                };
            }
            self.fill()?;
        };
        Ok(self.buffer.expose().get(self.start..self.start + length))
    }

    /// Ends the line of this length that was the next one.
    pub(super) fn consume(&mut self, length: usize) {
        self.start = self.end.min(self.start + length);
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.expose_mut().copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let free = self.buffer.expose_mut().get_mut(self.end..).unwrap_or_default();
        if free.is_empty() {
            return Err(ErrorKind::InvalidData.into());
        }
        match self.file.read(free) {
            Ok(0) => self.is_at_end = true,
            Ok(read) => self.end += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Returns the digest of a file and its counts.
pub(super) fn measure(path: &Path, spec: &TableSpec, key: &Secret) -> io::Result<(String, Counts)> {
    let mut digest = KeyedDigest::new(key.expose()).ok_or(ErrorKind::InvalidInput)?;
    let mut lines = LineReader::open(path)?;
    let mut counts = Counts::default();
    while let Some(line) = lines.peek()? {
        if line != NO_ENTRIES {
            let (_, value) = split(spec, line)?;
            counts.add(value);
        }
        digest.update(line);
        let length = line.len();
        lines.consume(length);
    }
    Ok((digest.finish(), counts))
}

/// Writes lines into a new file.
pub(super) struct LineWriter {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: File,
    /// Wiped at the end, and not each time that it was written.
    buffer: Secret,
    /// How much of it is to be written.
    used: usize,
    /// How many bytes the file may still get: the server reads no larger one.
    pub(super) room: u64,
    digest: KeyedDigest,
}

impl LineWriter {
    /// Creates the file.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        mode: u32,
        key: &Secret,
    ) -> Result<Self, DirectoryError> {
        let created = KeyedDigest::new(key.expose())
            .ok_or_else(|| ErrorKind::InvalidInput.into())
            .and_then(|digest| Ok((digest, disk.create_file(&path, mode)?)));
        let (digest, file) = created.map_err(DirectoryErrorKind::system("create it", &path))?;
        Ok(Self {
            disk: Arc::clone(disk),
            path,
            file,
            buffer: Secret::from(vec![0; BUFFER]),
            used: 0,
            room: MAX_FILE,
            digest,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line.
    pub(super) fn append(&mut self, line: &[u8]) -> Result<(), DirectoryError> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let room = self.room.checked_sub(length);
        self.room = room.ok_or_else(|| DirectoryErrorKind::TooLarge(MAX_FILE >> 20).at(&self.path))?;
        if self.used + line.len() > BUFFER {
            self.write()?;
        }
        match self
            .buffer
            .expose_mut()
            .get_mut(self.used..self.used + line.len())
        {
            Some(free) => {
                free.copy_from_slice(line);
                self.used += line.len();
                Ok(())
            }
            None => Err(self.error(ErrorKind::InvalidInput.into())),
        }
    }

    /// Writes what is left, and returns the digest of the file.
    pub(super) fn finish(mut self) -> Result<String, DirectoryError> {
        self.write()?;
        Ok(self.digest.finish())
    }

    fn write(&mut self) -> Result<(), DirectoryError> {
        let text = self.buffer.expose().get(..self.used).unwrap_or_default();
        if text.is_empty() {
            return Ok(());
        }
        self.digest.update(text);
        if let Err(error) = self.disk.append(&mut self.file, text) {
            return Err(self.error(error));
        }
        self.used = 0;
        Ok(())
    }

    fn error(&self, error: io::Error) -> DirectoryError {
        DirectoryErrorKind::system("write it", &self.path)(error)
    }
}
