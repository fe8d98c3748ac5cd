//! Replaces two files together: both new texts are on the disk before either is in place, and then two renames follow each
//! other within microseconds, so that a program that watches both sees one edit.
//!
//! Limits: a file that must be written in place, or a failure of the second rename, parts the two.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use nix::fcntl::Flock;

use super::location::Location;
use super::lock::{DeferredSignals, lock};
use super::temp_file::{self, TempFile, WriteError};
use super::{ATTEMPTS, LockGuard, OldFile, RETRY_DELAY, ReplaceError, ReplaceErrorKind};
use crate::os::secret::Secret;

/// A file of a pair: its path, and the mode with which it is created.
pub(crate) type PairFile<'p> = (&'p Path, u32);

/// Replaces the content of two files with what `change` returns for them, as [`super::edit`] does for one, and returns the
/// locks.
pub(crate) fn edit_pair<E: From<ReplaceError>>(
    [first, second]: [PairFile<'_>; 2],
    mut change: impl FnMut(&[u8], &[u8]) -> Result<[Option<Secret>; 2], E>,
) -> Result<Vec<LockGuard>, E> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(RETRY_DELAY);
        }
        let locations = (Location::resolve(first.0)?, Location::resolve(second.0)?);
        // Two descriptors of one directory would lock each other out.
        let first_lock = lock_directory(&locations.0)?;
        let second_lock = if is_same_directory(&locations.0, &locations.1)? {
            None
        } else {
            Some(lock_directory(&locations.1)?)
        };
        temp_file::remove_stale_temp_files(&locations.0);
        temp_file::remove_stale_temp_files(&locations.1);
        let old = (
            OldFile::read(&locations.0, first.0)?,
            OldFile::read(&locations.1, second.0)?,
        );
        let (Some(old_first), Some(old_second)) = old else {
            continue;
        };
        let [new_first, new_second] = change(old_first.text.expose(), old_second.text.expose())?;
        let is_done = match (&new_first, &new_second) {
            (None, None) => true,
            (Some(new), None) => locations.0.replace(&old_first, new, first.1)?,
            (None, Some(new)) => locations.1.replace(&old_second, new, second.1)?,
            (Some(new_first), Some(new_second)) => replace_both(
                Replacement {
                    location: &locations.0,
                    old: &old_first,
                    new: new_first,
                    mode: first.1,
                },
                Replacement {
                    location: &locations.1,
                    old: &old_second,
                    new: new_second,
                    mode: second.1,
                },
            )?,
        };
        if is_done {
            return Ok(vec![
                LockGuard {
                    _directory: Some(first_lock),
                    _file: old_first.file,
                },
                LockGuard {
                    _directory: second_lock,
                    _file: old_second.file,
                },
            ]);
        }
    }
    Err(ReplaceErrorKind::Changing.at(first.0).into())
}

fn lock_directory(location: &Location) -> Result<Flock<File>, ReplaceError> {
    let path = location.directory_path();
    let directory = location.directory.try_clone();
    let directory = directory.map_err(|error| ReplaceErrorKind::Directory(error).at(path))?;
    lock(directory, path)?.map_err(|(_, error)| ReplaceErrorKind::NoLock(error.into()).at(path))
}

fn is_same_directory(one: &Location, other: &Location) -> Result<bool, ReplaceError> {
    let identity = |location: &Location| {
        let metadata = location.directory.metadata();
        let metadata =
            metadata.map_err(|error| ReplaceErrorKind::Directory(error).at(location.directory_path()))?;
        Ok::<_, ReplaceError>((metadata.dev(), metadata.ino()))
    };
    Ok(identity(one)? == identity(other)?)
}

/// A file, its content as it was read, its new content, and the mode of a new file.
#[derive(Clone, Copy)]
struct Replacement<'r> {
    location: &'r Location,
    old: &'r OldFile,
    new: &'r Secret,
    mode: u32,
}

impl<'r> Replacement<'r> {
    /// Writes the temporary file. `None` if the file must be written in place, or cannot be written.
    fn prepare(self) -> Option<TempFile<'r>> {
        let has_other_names = self
            .old
            .metadata
            .as_ref()
            .is_some_and(|metadata| metadata.nlink() > 1);
        let temp_file = || TempFile::write(self.location, self.old, self.new, self.mode).ok();
        (!has_other_names).then(temp_file).flatten()
    }

    /// Replaces this file alone.
    fn replace(self) -> Result<bool, ReplaceError> {
        self.location.replace(self.old, self.new, self.mode)
    }
}

/// Puts both in place. Returns `false` where one of the old texts is no longer what was read, and is not replaced.
fn replace_both(first: Replacement<'_>, second: Replacement<'_>) -> Result<bool, ReplaceError> {
    let _deferred = DeferredSignals::new();
    if let (Some(first_file), Some(second_file)) = (first.prepare(), second.prepare()) {
        if !(first.location.is_unchanged(first.old) && second.location.is_unchanged(second.old)) {
            return Ok(false);
        }
        match first_file.rename(first.old.metadata.is_some()) {
            Ok(()) => {
                return match second_file.rename(second.old.metadata.is_some()) {
                    Ok(()) => {
                        first.location.flush_directory()?;
                        second.location.flush_directory()?;
                        Ok(true)
                    }
                    Err(WriteError::CreatedMeanwhile) => Ok(false),
                    // It may be writable in place.
                    Err(_) => second.replace(),
                };
            }
            Err(WriteError::CreatedMeanwhile) => return Ok(false),
            // Each is written in place, or says what prevents it.
            Err(_) => {}
        }
    }
    Ok(first.replace()? && second.replace()?)
}
