//! A small file, replaced whole: locked, read, changed, and in its place or not changed at all.
//!
//! [`edit`] holds two locks (flock(2)) while it works: one on the folder of the file, which stays the same when the
//! file is replaced, and one on the file itself, for whoever sees the same file through another folder (a bind mount).
//! Neither leaves anything behind. Who does not lock (an editor, docker-mailserver's `setup`) is noticed when the file
//! is not what was read any more right before it is replaced, or within the next 10 milliseconds where it was written
//! to lately: then all begins anew. Between the last look and the rename a few microseconds remain.
//!
//! The new text is written to a new file beside the old one, given the owner, the group, the mode and the extended
//! attributes (access control lists among them) of the old one, flushed to the disk, and renamed over it. Until then it is
//! readable by its owner alone. A symbolic link stays, and what it leads to is replaced, unless another user could have made
//! it for that (`src/replace_file/place.rs`). Signals that would end the process wait, so that no such file stays behind; after a loss of
//! power or a SIGKILL one may, and an edit takes it away that comes a minute later. A limit of the size of files
//! (RLIMIT_FSIZE) is an error of writing like a full disk, as long as SIGXFSZ is blocked (`crate::cli`).
//!
//! A file that cannot be renamed over is written in place: one that is mounted by itself, one with several names, one
//! whose owner or attributes we may not give to another file, one in a folder where we may not write. Room is reserved
//! first, all is written with one call, a shorter text is filled up with blank lines before the file is cut, so that
//! the states between the calls are right ones, and what was there is put back where anything fails. A loss of power
//! or a SIGKILL in that moment may leave half of each.
//!
//! Limits: the times of the old file are not kept. A folder that two hosts mount (NFS) is locked on each host by itself.

mod beside;
mod in_place;
mod lock;
mod place;

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

use crate::os::printable::of_path;
use crate::os::secret::Secret;
use crate::os::whole_file::{self, ReadError};
use beside::{Beside, Obstacle};
use lock::{DeferredSignals, Opened, PATIENCE, lock};
use place::Place;

/// How often all begins anew because somebody who does not lock changed the file meanwhile, and how long is waited in
/// between.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);

/// How long a file that was written to lately must stay as it was read: whoever writes it piece by piece is in the
/// middle, perhaps, and what comes next would go to a file without a name.
const STAYS: Duration = Duration::from_millis(10);
const LATELY: Duration = Duration::from_secs(2);

/// Why a file was not replaced. Unless it says otherwise, the file is as it was.
#[derive(Debug, Error)]
#[error("{} {problem}", of_path(path))]
pub struct ReplaceError {
    /// The file, or what stands in its way: a link, or its folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file that was to be replaced.
#[derive(Debug, Error)]
pub enum Problem {
    /// It is there and cannot be read, or locked.
    #[error("cannot be read: {0}")]
    Unreadable(ReadError),
    /// It is a symbolic link to nothing.
    #[error("is a symbolic link that leads nowhere; create the file that it names, or remove it")]
    LeadsNowhere,
    /// It is a symbolic link on the way, is another user's, and leads to what is not.
    #[error(
        "is a symbolic link of the user {of} and leads to what belongs to the user {owner}: it is not followed, because \
         that user could have any file edited by way of it; name the directory itself with --dir, or give the link to root \
         (chown -h root)"
    )]
    ForeignLink {
        /// Its owner.
        of: u32,
        /// The owner of what it leads to.
        owner: u32,
    },
    /// It is the folder of the file, and is not there, or not for us.
    #[error("cannot be used as a folder: {0}; create it, or name another with --dir")]
    Folder(io::Error),
    /// The file system has no locks.
    #[error("cannot be locked, and two edits at once could lose one: {0}; edit the file by hand")]
    NoLock(io::Error),
    /// Another program has the lock.
    #[error("is locked by another program for {} seconds already; try again later", PATIENCE.as_secs())]
    Locked,
    /// A program that does not lock writes to it.
    #[error("changes faster than it can be edited; try again when no other program writes to it")]
    Changing,
    /// It cannot be written. It is as it was.
    #[error("cannot be written, and is as it was: {0}")]
    NotWritten(io::Error),
    /// Writing in place failed, and so did putting back what was there.
    #[error(
        "could not be written ({source}), nor could what was there be put back ({restoring}): it is damaged; restore it \
         from a backup"
    )]
    Damaged {
        /// Why it could not be written.
        source: io::Error,
        /// Why it could not be put back.
        restoring: io::Error,
    },
    /// The new text is in place, and may not be after a loss of power.
    #[error("is changed, but a loss of power may undo it: {0}")]
    NotFlushed(io::Error),
}

impl Problem {
    /// The error that `path` has it.
    fn of(self, path: impl Into<PathBuf>) -> ReplaceError {
        ReplaceError {
            path: path.into(),
            problem: self,
        }
    }
}

/// The locks. As long as this is held, nobody who locks changes the file.
pub(crate) struct Held {
    _folder: Flock<File>,
    _file: Option<Opened>,
}

/// Lets `change` make a new text of the text of the file `path`, and puts it in place. A file that is not there has an
/// empty text, and is created with `new_mode`. Where `change` returns `None`, nothing is written. It is called again
/// where somebody else changed the file meanwhile.
pub(crate) fn edit<E: From<ReplaceError>>(
    path: &Path,
    new_mode: u32,
    mut change: impl FnMut(&[u8]) -> Result<Option<Secret>, E>,
) -> Result<Held, E> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(BETWEEN_ATTEMPTS);
        }
        let place = Place::of(path)?;
        let folder = place
            .folder
            .try_clone()
            .map_err(|error| Problem::Folder(error).of(place.folder_path()))?;
        let folder = lock(folder, place.folder_path())?
            .map_err(|(_, error)| Problem::NoLock(error.into()).of(place.folder_path()))?;
        beside::take_away_what_was_left_behind(&place);
        let Some(old) = Old::read(&place, path)? else {
            continue;
        };
        if let Some(new) = change(old.text.expose())?
            && !place.replace(&old, &new, new_mode)?
        {
            continue;
        }
        return Ok(Held {
            _folder: folder,
            _file: old.file,
        });
    }
    Err(Problem::Changing.of(path).into())
}

/// Whether there is a folder for the file `path` to be in.
pub(crate) fn folder_is_there(path: &Path) -> Result<(), ReplaceError> {
    Place::of(path).map(drop)
}

impl Place {
    /// Whether `new` is in place; `false` where the old text is not what was read any more.
    fn replace(&self, old: &Old, new: &Secret, new_mode: u32) -> Result<bool, ReplaceError> {
        let _deferred = DeferredSignals::begin();
        let created = match &old.metadata {
            Some(metadata) if metadata.nlink() > 1 => Err(Obstacle::InPlace(io::Error::from(Errno::EMLINK))),
            _ => Beside::write(self, old, new, new_mode),
        };
        let renamed = match created {
            Ok(_) if !self.is_still(old) => return Ok(false),
            Ok(beside) => beside.rename(old.metadata.is_some()),
            Err(obstacle) => Err(obstacle),
        };
        match renamed {
            Err(Obstacle::SomebodyElse) => return Ok(false),
            Ok(()) => self
                .folder
                .sync_all()
                // Some file systems cannot flush a folder.
                .or_else(|source| match source.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINVAL | Errno::EACCES | Errno::EROFS) => Ok(()),
                    _ => Err(source),
                })
                .map_err(|error| Problem::NotFlushed(error).of(&self.path))?,
            Err(Obstacle::InPlace(_)) if old.metadata.is_some() => {
                if !self.is_still(old) {
                    return Ok(false);
                }
                in_place::write(self, old, new)?;
            }
            Err(Obstacle::InPlace(error) | Obstacle::Final(error)) => {
                return Err(Problem::NotWritten(error).of(&self.path));
            }
        }
        Ok(true)
    }

    fn is_still(&self, old: &Old) -> bool {
        self.metadata().ok().as_ref().map(stamp) == old.metadata.as_ref().map(stamp)
    }
}

/// The file as it was read, locked.
struct Old {
    /// `None` where it is not there.
    file: Option<Opened>,
    metadata: Option<Metadata>,
    text: Secret,
}

impl Old {
    /// `None` where somebody changed it meanwhile.
    fn read(place: &Place, path: &Path) -> Result<Option<Self>, ReplaceError> {
        let unreadable = |error| Problem::Unreadable(error).of(path);
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        let file = match place.open(OFlags::RDONLY | OFlags::NONBLOCK) {
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
        let file = match lock(file, &place.path)? {
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
        if age.is_none_or(|age| age < LATELY) {
            thread::sleep(STAYS);
        }
        Ok(place.is_still(&old).then_some(old))
    }
}

/// What tells a file from itself after a change.
fn stamp(metadata: &Metadata) -> impl PartialEq + use<> {
    let (times, place) = (
        [
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ],
        [metadata.dev(), metadata.ino(), metadata.len(), metadata.nlink()],
    );
    (times, place, [metadata.uid(), metadata.gid(), metadata.mode()])
}

#[cfg(test)]
mod tests;
