//! Replaces a small file whole: locks, reads and edits it, or leaves it unchanged.
//!
//! [`edit`] holds two locks (flock(2)): one on the directory of the file, which remains when the file is replaced, and
//! one on the file itself, for programs that see the same file through another directory (a bind mount). Neither leaves
//! anything behind. A program that does not lock (an editor, docker-mailserver's `setup`) is detected when the file
//! differs from what was read right before it is replaced, or, where it was written to recently, within the 10
//! milliseconds after the reading: then all starts over. Between the last check and the rename a few microseconds
//! remain.
//!
//! The new text is written to a temporary file in the same directory, which gets the owner, group, mode and extended
//! attributes (access control lists among them) of the old file, is flushed to the disk, and is renamed over it. Until
//! then only its owner can read it. A symbolic link stays, and its target is replaced, unless another user could have
//! created the link for that (`src/os/replace_file/location.rs`). Signals that would end the process are deferred, so
//! that no temporary file stays behind; after a loss of power or a SIGKILL one may, and an edit a minute later or more
//! removes it. A file size limit (RLIMIT_FSIZE) is a write error like a full disk, as long as SIGXFSZ is blocked
//! (`crate::cli`).
//!
//! A file that cannot be renamed over is written in place: a bind mount of a single file, one with several names, one
//! whose owner or attributes cannot be given to another file, one in a directory without write permission. Space is
//! reserved first, one call writes the whole text, and a shorter text is padded with empty lines before the file is
//! truncated, so that the states between the calls are valid. On any failure the old text is written back. A loss of
//! power or a SIGKILL at that moment may leave half of each.
//!
//! Limits: the times of the old file are not kept. A directory that two hosts mount (NFS) is locked on each host
//! separately.

mod in_place;
mod location;
mod lock;
mod pair;
mod temp_file;

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::Flock;
use rustix::fs::OFlags;
use thiserror::Error;

use crate::os::printable::printable_path;
use crate::os::secret::Secret;
use crate::os::whole_file::{self, ReadError};
use location::Location;
use lock::{DeferredSignals, LOCK_TIMEOUT, Opened, lock};
use temp_file::{TempFile, WriteError};

pub(crate) use pair::edit_pair;

/// How often to start over because a program that does not lock changed the file meanwhile, and the delay in between.
const ATTEMPTS: u32 = 10;
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// How long a file that was written to recently must stay unchanged after the reading: a program that writes it in
/// pieces may not be done, and would write the rest to a file without a name.
const SETTLE_TIME: Duration = Duration::from_millis(10);
const RECENT: Duration = Duration::from_secs(2);

/// Why a file was not replaced. Unless the kind says otherwise, the file is unchanged.
#[derive(Debug, Error)]
#[error("{} {kind}", printable_path(path))]
pub struct ReplaceError {
    /// The file, or what prevents the edit: a link, or the directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: ReplaceErrorKind,
}

/// The kinds of [`ReplaceError`].
#[derive(Debug, Error)]
pub enum ReplaceErrorKind {
    /// The file exists and cannot be read, or locked.
    #[error("cannot be read: {0}")]
    Unreadable(ReadError),
    /// The path is a symbolic link to nothing.
    #[error("is a dangling symbolic link; create its target, or remove the link")]
    DanglingLink,
    /// A symbolic link on the path belongs to another user and leads to what does not.
    #[error(
        "is a symbolic link owned by the user {link_owner} whose target is owned by the user {target_owner}; it is not followed, because \
         the owner of the link could redirect the edit to any file; set --dir to the directory itself, or change the owner of the \
         link to root (chown -h root)"
    )]
    ForeignLink {
        /// The owner of the link.
        link_owner: u32,
        /// The owner of its target.
        target_owner: u32,
    },
    /// The directory of the file does not exist, or cannot be opened.
    #[error("{}", unusable_directory(.0))]
    Directory(io::Error),
    /// The file system does not support locks.
    #[error(
        "cannot be locked: {0}; without a lock, concurrent edits could be lost, so edit the file by hand"
    )]
    NoLock(io::Error),
    /// Another program holds the lock.
    #[error("has been locked by another program for {} seconds; try again later", LOCK_TIMEOUT.as_secs())]
    Locked,
    /// A program that does not lock writes to the file.
    #[error("changes faster than it can be edited; try again when no other program is writing to it")]
    Changing,
    /// The file cannot be written. It is unchanged.
    #[error("cannot be written and is unchanged: {0}")]
    NotWritten(io::Error),
    /// Writing in place failed, and so did writing the old text back.
    #[error(
        "is damaged: writing failed ({source}), and so did restoring the old text ({restoring}); restore it from a backup"
    )]
    Damaged {
        /// The error of writing the new text.
        source: io::Error,
        /// The error of writing the old text back.
        restoring: io::Error,
    },
    /// The new text is in place, but a loss of power may undo it.
    #[error("is changed, but not flushed to disk, and a power loss could undo the change: {0}")]
    NotFlushed(io::Error),
}

/// Returns the message of [`ReplaceErrorKind::Directory`].
fn unusable_directory(error: &io::Error) -> String {
    if error.kind() == ErrorKind::NotFound {
        "does not exist; create it, or set another with --dir".to_owned()
    } else {
        format!("cannot be used as a directory: {error}; set another with --dir")
    }
}

impl ReplaceErrorKind {
    /// Returns the error of this kind about `path`.
    fn at(self, path: impl Into<PathBuf>) -> ReplaceError {
        ReplaceError {
            path: path.into(),
            kind: self,
        }
    }
}

/// The locks on a file and its directory, until it is dropped. Programs that do not lock can change the file nevertheless.
pub(crate) struct LockGuard {
    /// `None` where the guard of another file in it has it.
    _directory: Option<Flock<File>>,
    /// The file that was read, which is locked for those that lock files.
    _file: Option<Opened>,
}

/// Replaces the content of the file `path` with what `change` returns for it, and returns the locks. A missing file is
/// treated as empty, and is created with `new_mode`. If `change` returns `None`, nothing is written. `change` is called
/// again if another program changes the file in the meantime.
///
/// # Errors
///
/// That of `change`, one of the system, or [`ReplaceErrorKind::Changing`] after [`ATTEMPTS`] attempts.
pub(crate) fn edit<E: From<ReplaceError>>(
    path: &Path,
    new_mode: u32,
    mut change: impl FnMut(&[u8]) -> Result<Option<Secret>, E>,
) -> Result<LockGuard, E> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(RETRY_DELAY);
        }
        let location = Location::resolve(path)?;
        let directory = location
            .directory
            .try_clone()
            .map_err(|error| ReplaceErrorKind::Directory(error).at(location.directory_path()))?;
        let directory = lock(directory, location.directory_path())?
            .map_err(|(_, error)| ReplaceErrorKind::NoLock(error.into()).at(location.directory_path()))?;
        temp_file::remove_stale_temp_files(&location);
        let Some(old) = OldFile::read(&location, path)? else {
            continue;
        };
        if let Some(new) = change(old.text.expose())?
            && !location.replace(&old, &new, new_mode)?
        {
            continue;
        }
        return Ok(LockGuard {
            _directory: Some(directory),
            _file: old.file,
        });
    }
    Err(ReplaceErrorKind::Changing.at(path).into())
}

/// Checks that the directory of the file `path` exists.
pub(crate) fn check_directory(path: &Path) -> Result<(), ReplaceError> {
    Location::resolve(path).map(drop)
}

impl Location {
    /// Puts `new` in place. Returns `false` where the old text is no longer what was read.
    fn replace(&self, old: &OldFile, new: &Secret, new_mode: u32) -> Result<bool, ReplaceError> {
        let _deferred = DeferredSignals::new();
        let created = match &old.metadata {
            Some(metadata) if metadata.nlink() > 1 => {
                Err(WriteError::InPlace(io::Error::from(Errno::EMLINK)))
            }
            _ => TempFile::write(self, old, new, new_mode),
        };
        let renamed = match created {
            Ok(_) if !self.is_unchanged(old) => return Ok(false),
            Ok(temp_file) => temp_file.rename(old.metadata.is_some()),
            Err(error) => Err(error),
        };
        match renamed {
            Err(WriteError::CreatedMeanwhile) => return Ok(false),
            Ok(()) => self.flush_directory()?,
            Err(WriteError::InPlace(_)) if old.metadata.is_some() => {
                if !self.is_unchanged(old) {
                    return Ok(false);
                }
                in_place::write(self, old, new)?;
            }
            Err(WriteError::InPlace(error) | WriteError::Final(error)) => {
                return Err(ReplaceErrorKind::NotWritten(error).at(&self.path));
            }
        }
        Ok(true)
    }

    /// Flushes the directory after a rename.
    fn flush_directory(&self) -> Result<(), ReplaceError> {
        self.directory
            .sync_all()
            // Some file systems cannot flush a directory.
            .or_else(|source| match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINVAL | Errno::EACCES | Errno::EROFS) => Ok(()),
                _ => Err(source),
            })
            .map_err(|error| ReplaceErrorKind::NotFlushed(error).at(&self.path))
    }

    fn is_unchanged(&self, old: &OldFile) -> bool {
        self.metadata().ok().as_ref().map(file_stat) == old.metadata.as_ref().map(file_stat)
    }
}

/// The file as it was read, locked.
struct OldFile {
    /// `None` where there is no file.
    file: Option<Opened>,
    metadata: Option<Metadata>,
    text: Secret,
}

impl OldFile {
    /// Reads it. `None` where another program changed it meanwhile.
    fn read(location: &Location, path: &Path) -> Result<Option<Self>, ReplaceError> {
        let unreadable = |error| ReplaceErrorKind::Unreadable(error).at(path);
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        let file = match location.open(OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some(Self {
                    file: None,
                    metadata: None,
                    text: Secret::default(),
                }));
            }
            Err(error) => return Err(unreadable(error.into())),
        };
        let file = match lock(file, &location.path)? {
            Ok(lock) => Opened::Locked(lock),
            Err((file, _)) => Opened::Unlocked(file),
        };
        let metadata = file.file().metadata().map_err(|error| unreadable(error.into()))?;
        let to_read = file
            .file()
            .try_clone()
            .map_err(|error| unreadable(error.into()))?;
        let text = match whole_file::read_text(to_read, whole_file::MAX_FILE) {
            Ok(file) => file.text,
            Err(ReadError::Changing) => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
        let old = Self {
            file: Some(file),
            metadata: Some(metadata),
            text,
        };
        if age.is_none_or(|age| age < RECENT) {
            thread::sleep(SETTLE_TIME);
        }
        Ok(location.is_unchanged(&old).then_some(old))
    }
}

/// Returns the metadata that differs after any change of a file.
fn file_stat(metadata: &Metadata) -> impl PartialEq + use<> {
    let (times, identity) = (
        [
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ],
        [metadata.dev(), metadata.ino(), metadata.len(), metadata.nlink()],
    );
    (times, identity, [metadata.uid(), metadata.gid(), metadata.mode()])
}

#[cfg(test)]
mod tests;
