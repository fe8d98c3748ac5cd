//! A file, read whole: the one way in which anybody here reads one.
//!
//! Only regular files are read: a FIFO would wait for a writer, a directory says nothing, a device never ends. What
//! is read is a [`Secret`] from the first byte, because it may have a password.
//!
//! Limits: a file has at most [`MAX_FILE`] bytes, and one that is kept as a single text at most [`MAX_TEXT`], unless
//! the caller says otherwise. Memory is asked for and not taken: where the system has none, that is an error of this
//! file and not the end of the process.
//!
//! A file that grows or shrinks while it is read is an error. A writer that pauses half-way does not show here;
//! [`WholeFile::is_unchanged`], a moment later, does.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use thiserror::Error;

use crate::os::secret::Secret;

/// The largest file: some twenty million senders. The index of a table counts in 32 bits, of which the cutting of the
/// text into blocks costs two.
pub(crate) const MAX_FILE: u64 = 1 << 30;

/// The largest file that is kept as a single text: settings, or a secret.
pub(crate) const MAX_TEXT: u64 = 1 << 20;

/// How much memory must be left after what a reading takes, so that the threads that answer do not fail for want of
/// it. More than glibc ever takes from its heap instead of from the system, so that asking gives it back at once.
const HEADROOM: usize = 40 << 20;

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A directory, a FIFO, a socket, a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// More than so many MiB.
    #[error("it is larger than {0} MiB")]
    TooLarge(u64),
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

/// How far a reading went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// To the end of the file.
    Whole,
    /// As far as the file can be used: what follows was not read.
    Cut,
}

/// A file that was read.
pub(crate) struct WholeFile<T = Secret> {
    /// What stood in it.
    pub text: T,
    file: Option<File>,
    len: u64,
    modified: (i64, i64),
    links: u64,
}

impl<T> WholeFile<T> {
    /// Whether it had no name any more when it was read. If its path still leads to it, it is a bind mount of its own,
    /// and was replaced where it comes from: its new version will never be seen here.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.links == 0
    }

    /// Whether it still has the length and the time of when it was read. A file that was replaced or removed since is
    /// unchanged.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.file.as_ref().is_none_or(|file| {
            file.metadata()
                .is_ok_and(|now| now.len() == self.len && modified(&now) == self.modified)
        })
    }

    /// Closes the file, which keeps its file system from being unmounted. From then on it counts as unchanged.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Whether it was written to within the last two seconds, so that a program may be about to continue.
    pub(crate) fn is_recently_modified(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.modified.0 >= now - 2
    }
}

fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// Reads the file whole, of which there are at most [`MAX_FILE`] bytes.
pub(crate) fn read(path: &Path) -> Result<WholeFile, ReadError> {
    read_text(open(path)?, MAX_FILE)
}

/// Reads the open file whole, of which there are at most `most` bytes.
pub(crate) fn read_text(file: File, most: u64) -> Result<WholeFile, ReadError> {
    read_as(file, most, |file, len| {
        // The memory is reserved at once, so that no copy of a password stays behind in a smaller piece.
        let mut bytes = reserved(len.saturating_add(1))?;
        let result = file.read_to_end(&mut bytes);
        let text = Secret::from(bytes);
        result.map(|_| (text, Extent::Whole))
    })
}

/// Opens a file to read it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
}

/// Reads the open file whole, as `read` makes it of its bytes, of which there should be as many as `read` is told. One
/// more is there to be read if the file has grown.
pub(crate) fn read_as<T>(
    file: File,
    most: u64,
    read: impl FnOnce(&mut dyn Read, usize) -> io::Result<(T, Extent)>,
) -> Result<WholeFile<T>, ReadError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    let too_large = ReadError::TooLarge(most >> 20);
    if metadata.len() > most {
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

/// An empty vector with room for exactly so many, or the error that there is no memory for it.
pub(crate) fn reserved<T>(room: usize) -> io::Result<Vec<T>> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(room).map_err(|_| out_of_memory())?;
    if size_of::<T>().saturating_mul(room) >= HEADROOM / 2 {
        has_headroom()?;
    }
    Ok(vector)
}

/// Fails unless there is memory left for the threads that answer.
pub(crate) fn has_headroom() -> io::Result<()> {
    let mut headroom = Vec::<u8>::new();
    let result = headroom.try_reserve_exact(HEADROOM);
    // Memory that is never used may otherwise never be asked for.
    std::hint::black_box(&headroom);
    result.map_err(|_| out_of_memory())
}

fn out_of_memory() -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "there is not enough memory to read it",
    )
}
