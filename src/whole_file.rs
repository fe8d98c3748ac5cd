//! A file, read whole: the one way in which anybody here reads one.
//!
//! Only regular files are read: a FIFO would wait for a writer, a directory says nothing, a device never ends. What
//! is read is a [`Secret`] from the first byte, because nobody knows what stands in it.
//!
//! A file that grows or shrinks while it is read is an error. One that is written over in place, to the same length,
//! does not show here; whoever reads several files as of one moment looks at their stamps before and after.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use thiserror::Error;

use crate::secret::Secret;

/// The largest file: the index of a table counts in 32 bits.
pub const MAX_FILE: u64 = u32::MAX as u64;

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
    #[error("it is larger than 4 GiB")]
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

/// Reads the file whole.
pub fn read(path: &Path) -> Result<Secret, ReadError> {
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    if metadata.len() > MAX_FILE {
        return Err(ReadError::TooLarge);
    }
    let expected = usize::try_from(metadata.len()).map_err(|_| ReadError::TooLarge)?;
    let text = read_up_to(&mut file, expected)?;
    if text.len() == expected {
        Ok(text)
    } else {
        Err(ReadError::Changing)
    }
}

/// Reads to the end, or to one byte more than `expected`. The memory is reserved at once, so that no copy of a
/// password stays behind in a smaller piece.
fn read_up_to(file: &mut File, expected: usize) -> io::Result<Secret> {
    let mut bytes = Vec::with_capacity(expected.saturating_add(1));
    let limit = u64::try_from(expected).unwrap_or(u64::MAX).saturating_add(1);
    let result = file.take(limit).read_to_end(&mut bytes);
    let text = Secret::from(bytes);
    result.map(|_| text)
}
