//! Reads a file whole. All files are read through this module.
//!
//! Only regular files are read: a FIFO would wait for a writer, and a device may never end. The content is a [`Secret`]
//! from the first byte, because it may contain a password.
//!
//! Limits: a file has at most [`MAX_FILE`] bytes, and one that is kept as a single text at most [`MAX_TEXT`], unless
//! the caller sets another limit. Memory is allocated fallibly: where the system has none, reading this file fails and
//! the process goes on.
//!
//! A file that grows or shrinks while it is read is an error. A writer that pauses within a file is not detected here;
//! [`WholeFile::is_unchanged`], a moment later, detects it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use thiserror::Error;

use crate::os::secret::Secret;

/// The maximum size of a file in bytes: about twenty million senders. The index of a table has 32-bit offsets, of which
/// splitting the text into blocks takes two bits.
pub const MAX_FILE: u64 = 1 << 30;

/// The maximum size in bytes of a file that is kept as a single text: settings, or a secret.
pub const MAX_TEXT: u64 = 1 << 20;

/// The bytes that must remain available after a reading, so that the threads that answer can allocate. More than glibc
/// takes from its heap instead of from the system, so that the test allocation is returned at once.
const HEADROOM: usize = 40 << 20;

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system reports an error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The path leads to a directory, a FIFO, a socket or a device.
    #[error("not a regular file")]
    NotRegularFile,
    /// The file is larger than this limit, in MiB.
    #[error("larger than {0} MiB")]
    TooLarge(u64),
    /// The file grew or shrank while it was read.
    #[error("it changes while being read")]
    Changing,
}

impl ReadError {
    /// Returns whether there is no such file, or the path is a link to nothing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// How much of a file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The whole file.
    Whole,
    /// The part that can be used. The rest was not read.
    Truncated,
}

/// A file that was read.
pub(crate) struct WholeFile<T = Secret> {
    /// The content.
    pub text: T,
    file: Option<File>,
    len: u64,
    modified: (i64, i64),
    links: u64,
}

impl<T> WholeFile<T> {
    /// Returns whether it had no name any more when it was read. If its path still leads to it, it is a bind mount of a
    /// single file that was replaced at its origin: the new version never becomes visible here.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.links == 0
    }

    /// Returns whether its length and modification time are still those of the reading. A file that was replaced or
    /// removed since is unchanged, and so is a closed one.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.file.as_ref().is_none_or(|file| {
            file.metadata()
                .is_ok_and(|now| now.len() == self.len && modified(&now) == self.modified)
        })
    }

    /// Closes the file, because an open file prevents its file system from being unmounted.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Returns whether it was written to within the last two seconds, so that a program may still be writing.
    pub(crate) fn is_recently_modified(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.modified.0 >= now - 2
    }
}

fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// Reads the file whole, up to [`MAX_FILE`] bytes.
pub(crate) fn read(path: &Path) -> Result<WholeFile, ReadError> {
    read_text(open(path)?, MAX_FILE)
}

/// Reads the open file whole, up to `max` bytes.
pub(crate) fn read_text(file: File, max: u64) -> Result<WholeFile, ReadError> {
    read_with(file, max, |file, len| {
        // The memory is reserved at once, so that no copy of a password remains in a smaller allocation.
        let mut bytes = try_with_capacity(len.saturating_add(1))?;
        let result = file.read_to_end(&mut bytes);
        let text = Secret::from(bytes);
        result.map(|_| (text, Extent::Whole))
    })
}

/// Returns the content of a file of up to `max` bytes.
pub fn read_secret(path: &Path, max: u64) -> Result<Secret, ReadError> {
    Ok(read_text(open(path)?, max)?.text)
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
}

/// Reads the open file whole. `read` gets its bytes and their expected number, and returns the content. One more byte
/// can be read if the file has grown.
pub(crate) fn read_with<T>(
    file: File,
    max: u64,
    read: impl FnOnce(&mut dyn Read, usize) -> io::Result<(T, Extent)>,
) -> Result<WholeFile<T>, ReadError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotRegularFile);
    }
    let too_large = ReadError::TooLarge(max >> 20);
    if metadata.len() > max {
        return Err(too_large);
    }
    let expected = usize::try_from(metadata.len()).map_err(|_| too_large)?;
    let mut limited = (&file).take(metadata.len() + 1);
    let (text, extent) = read(&mut limited, expected)?;
    if extent == Extent::Whole && limited.limit() != 1 {
        return Err(ReadError::Changing);
    }
    Ok(WholeFile {
        text,
        file: Some(file),
        len: metadata.len(),
        modified: modified(&metadata),
        links: metadata.nlink(),
    })
}

/// Returns an empty vector with room for exactly `capacity` elements, or an error where memory is short.
pub(crate) fn try_with_capacity<T>(capacity: usize) -> io::Result<Vec<T>> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(capacity).map_err(|_| out_of_memory())?;
    if size_of::<T>().saturating_mul(capacity) >= HEADROOM / 2 {
        check_headroom()?;
    }
    Ok(vector)
}

/// Returns an error unless [`HEADROOM`] is available for the threads that answer.
pub(crate) fn check_headroom() -> io::Result<()> {
    let mut headroom = Vec::<u8>::new();
    let result = headroom.try_reserve_exact(HEADROOM);
    // The compiler may remove an allocation that is never used.
    std::hint::black_box(&headroom);
    result.map_err(|_| out_of_memory())
}

fn out_of_memory() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "not enough memory to read it")
}
