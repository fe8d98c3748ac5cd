//! Writes a file in place, where no other can be renamed over it.
//!
//! Space is reserved first. One call writes the whole text, padded with line ends to the old length; then the file is
//! truncated. A program that reads in between gets the old text, or the new one with empty lines after it. On any
//! failure the old text is written back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::resource::{Resource, getrlimit};
use rustix::fs::OFlags;

use super::{Location, OldFile, ReplaceError, ReplaceErrorKind, file_stat};
use crate::os::secret::Secret;

/// Writes `new` over the old text in the file itself. On failure, writes the old text back.
pub(super) fn write(location: &Location, old: &OldFile, new: &Secret) -> Result<(), ReplaceError> {
    let not_written = |error| ReplaceErrorKind::NotWritten(error).at(&location.path);
    let file = location.open(OFlags::WRONLY).map_err(not_written)?;
    let metadata = file.metadata().map_err(not_written)?;
    if old.metadata.as_ref().map(file_stat) != Some(file_stat(&metadata)) {
        return Err(ReplaceErrorKind::Changing.at(&location.path));
    }
    let old = &old.text;
    // Beyond the limit the old text could not be written back, either.
    let longest = u64::try_from(old.len().max(new.len())).unwrap_or(u64::MAX);
    if getrlimit(Resource::RLIMIT_FSIZE).is_ok_and(|(limit, _)| longest > limit) {
        return Err(not_written(Errno::EFBIG.into()));
    }
    reserve(&file, new.len()).map_err(not_written)?;
    write_over(&file, new, old.len()).map_err(|source| match write_over(&file, old, 0) {
        Ok(()) => not_written(source),
        Err(restoring) => ReplaceErrorKind::Damaged { source, restoring }.at(&location.path),
    })
}

/// Reserves space for `bytes` bytes without changing the file. File systems that cannot reserve are assumed to have
/// space.
fn reserve(file: &File, bytes: usize) -> io::Result<()> {
    let Ok(length) = i64::try_from(bytes) else {
        return Ok(());
    };
    if length == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
        Err(error @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes `text` over a content of `length` bytes: padded with line ends first, then truncated.
fn write_over(file: &File, text: &Secret, length: usize) -> io::Result<()> {
    let mut filled = Secret::with_capacity(text.len().max(length));
    filled.append(text.expose());
    filled.append(&vec![b'\n'; length.saturating_sub(text.len())]);
    file.write_all_at(filled.expose(), 0)?;
    file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
    file.sync_all()
}
