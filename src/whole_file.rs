//! A file, read whole: the one way in which anybody here reads one.
//!
//! Only regular files are read: a FIFO would wait for a writer, a directory says nothing, a device never ends. What
//! is read is a [`Secret`] from the first byte, because nobody knows what stands in it.
//!
//! A file that grows or shrinks while it is read is an error. One in which somebody pauses half-way does not show
//! here; whoever wants to know asks [`WholeFile::is_as_it_was`] a moment later.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use thiserror::Error;

use crate::secret::Secret;

/// The largest file: some twenty million senders. The index of a table counts in 32 bits, of which the cutting of the
/// text into blocks costs two.
pub const MAX_FILE: u64 = 1 << 30;

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A directory, a FIFO, a socket, a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// More than [`MAX_FILE`].
    #[error("it is larger than 1 GiB")]
    TooLarge,
    /// It grew or shrank meanwhile.
    #[error("it changes while it is read")]
    Changing,
}

impl ReadError {
    /// Whether nothing has this name, or the name leads to nothing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// A file that was read.
pub struct WholeFile<T = Secret> {
    /// What stood in it.
    pub text: T,
    file: File,
    len: u64,
    modified: (i64, i64),
    links: u64,
}

impl<T> WholeFile<T> {
    /// Whether it had no name any more when it was read. Where it is still found by its path, it is mounted there by
    /// itself, and whoever owns the mount has replaced it since: its new version will never be seen here.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        self.links == 0
    }

    /// Whether it still has the length and the time that it had when it was read. A file that was replaced or removed
    /// since is as it was.
    #[must_use]
    pub fn is_as_it_was(&self) -> bool {
        self.file
            .metadata()
            .is_ok_and(|now| now.len() == self.len && modified(&now) == self.modified)
    }

    /// Whether it was written to within the last seconds, and somebody may be about to go on.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.modified.0 >= now - 2
    }
}

fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// Reads the file whole.
pub fn read(path: &Path) -> Result<WholeFile, ReadError> {
    read_as(path, whole)
}

/// Reads a file that was opened, from its beginning.
pub fn read_open(file: File) -> Result<WholeFile, ReadError> {
    read_open_as(file, whole)
}

fn whole(file: &mut dyn Read, len: usize) -> io::Result<Secret> {
    // The memory is reserved at once, so that no copy of a password stays behind in a smaller piece.
    let mut bytes = Vec::with_capacity(len.saturating_add(1));
    let result = file.read_to_end(&mut bytes);
    let text = Secret::from(bytes);
    result.map(|_| text)
}

/// Reads the file whole, as `read` makes it of its bytes, of which there should be as many as `read` is told. One more
/// is there to be read if the file has grown.
pub fn read_as<T>(
    path: &Path,
    read: impl FnOnce(&mut dyn Read, usize) -> io::Result<T>,
) -> Result<WholeFile<T>, ReadError> {
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    read_open_as(file, read)
}

fn read_open_as<T>(
    file: File,
    read: impl FnOnce(&mut dyn Read, usize) -> io::Result<T>,
) -> Result<WholeFile<T>, ReadError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    if metadata.len() > MAX_FILE {
        return Err(ReadError::TooLarge);
    }
    let expected = usize::try_from(metadata.len()).map_err(|_| ReadError::TooLarge)?;
    let mut limited = (&file).take(metadata.len() + 1);
    let text = read(&mut limited, expected)?;
    if limited.limit() != 1 {
        return Err(ReadError::Changing);
    }
    Ok(WholeFile {
        text,
        file,
        len: metadata.len(),
        modified: modified(&metadata),
        links: metadata.nlink(),
    })
}
