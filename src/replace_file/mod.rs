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

use crate::printable::of_path;
use crate::secret::Secret;
use crate::whole_file::{self, ReadError};
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
pub enum ReplaceError {
    /// It is there and cannot be read, or locked.
    #[error("{} cannot be read: {source}", of_path(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// It is a symbolic link to nothing.
    #[error("{} is a symbolic link that leads nowhere; create the file that it names, or remove it", of_path(.0))]
    LeadsNowhere(PathBuf),
    /// A symbolic link on the way is another user's, and leads to what is not.
    #[error(
        "{} is a symbolic link of the user {of} and leads to what belongs to the user {owner}: it is not followed, because \
         that user could have any file edited by way of it; name the directory itself with --dir, or give the link to root \
         (chown -h root)",
        of_path(link)
    )]
    ForeignLink {
        /// The link.
        link: PathBuf,
        /// Its owner.
        of: u32,
        /// The owner of what it leads to.
        owner: u32,
    },
    /// Its folder is not there, or not for us.
    #[error(
        "the folder {} cannot be used: {source}; create it, or name another with --dir",
        of_path(folder)
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file system has no locks.
    #[error(
        "{} cannot be locked, and two edits at once could lose one: {source}; edit the file by hand",
        of_path(path)
    )]
    NoLock {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has the lock.
    #[error("somebody else holds a lock on {} for {} seconds already; try again later", of_path(.0), PATIENCE.as_secs())]
    Locked(PathBuf),
    /// Somebody who does not lock writes to it.
    #[error("{} changes faster than it can be edited; try again when nobody else writes to it", of_path(.0))]
    Changing(PathBuf),
    /// It cannot be written. It is as it was.
    #[error("{} cannot be written, and is as it was: {source}", of_path(path))]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing in place failed, and so did putting back what was there.
    #[error(
        "{} could not be written ({source}), nor could what was there be put back ({restoring}): it is damaged; restore \
         it from a backup",
        of_path(path)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why it could not be written.
        source: io::Error,
        /// Why it could not be put back.
        restoring: io::Error,
    },
    /// The new text is in place, and may not be after a loss of power.
    #[error("{} is changed, but a loss of power may undo it: {source}", of_path(path))]
    NotFlushed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The locks. As long as this is held, nobody who locks changes the file.
pub struct Held {
    _folder: Flock<File>,
    _file: Option<Opened>,
}

/// Lets `change` make a new text of the text of the file `path`, and puts it in place. A file that is not there has an
/// empty text, and is created with `new_mode`. Where `change` returns `None`, nothing is written. It is called again
/// where somebody else changed the file meanwhile.
pub fn edit<E: From<ReplaceError>>(
    path: &Path,
    new_mode: u32,
    mut change: impl FnMut(&[u8]) -> Result<Option<Secret>, E>,
) -> Result<Held, E> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(BETWEEN_ATTEMPTS);
        }
        let place = Place::of(path)?;
        let folder = place.folder.try_clone().map_err(|source| ReplaceError::Folder {
            folder: place.folder_path().to_owned(),
            source,
        })?;
        let folder = lock(folder, place.folder_path())?.map_err(|(_, error)| ReplaceError::NoLock {
            path: place.folder_path().to_owned(),
            source: error.into(),
        })?;
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
    Err(ReplaceError::Changing(path.to_owned()).into())
}

/// Whether there is a folder for the file `path` to be in.
pub fn folder_is_there(path: &Path) -> Result<(), ReplaceError> {
    Place::of(path).map(drop)
}

impl Place {
    /// Whether `new` is in place; `false` where the old text is not what was read any more.
    fn replace(&self, old: &Old, new: &Secret, new_mode: u32) -> Result<bool, ReplaceError> {
        let _deferred = DeferredSignals::begin();
        let not_written = |source| ReplaceError::NotWritten {
            path: self.path.clone(),
            source,
        };
        let created = match &old.stamp {
            Some(stamp) if stamp.links > 1 => Err(Obstacle::InPlace(io::Error::from(Errno::EMLINK))),
            _ => Beside::write(self, old, new, new_mode),
        };
        let renamed = match created {
            Ok(_) if !self.is_still(old) => return Ok(false),
            Ok(beside) => beside.rename(old.stamp.is_some()),
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
                .map_err(|source| ReplaceError::NotFlushed {
                    path: self.path.clone(),
                    source,
                })?,
            Err(Obstacle::InPlace(_)) if old.stamp.is_some() => {
                if !self.is_still(old) {
                    return Ok(false);
                }
                in_place::write(self, old, new)?;
            }
            Err(Obstacle::InPlace(source) | Obstacle::Final(source)) => return Err(not_written(source)),
        }
        Ok(true)
    }

    fn is_still(&self, old: &Old) -> bool {
        let now = self.metadata().ok().map(|metadata| Stamp::of(&metadata));
        now == old.stamp
    }
}

/// The file as it was read, locked.
struct Old {
    /// `None` where it is not there.
    file: Option<Opened>,
    stamp: Option<Stamp>,
    text: Secret,
}

impl Old {
    /// `None` where somebody changed it meanwhile.
    fn read(place: &Place, path: &Path) -> Result<Option<Self>, ReplaceError> {
        let unreadable = |source| ReplaceError::Unreadable {
            path: path.to_owned(),
            source,
        };
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        let file = match place.open(OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some(Self {
                    file: None,
                    stamp: None,
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
        let old = Self {
            file: Some(file),
            stamp: Some(Stamp::of(&metadata)),
            text,
        };
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
        if age.is_none_or(|age| age < LATELY) {
            thread::sleep(STAYS);
        }
        Ok(place.is_still(&old).then_some(old))
    }
}

/// What tells a file from itself after a change.
#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    links: u64,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            links: metadata.nlink(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode() & 0o7777,
        }
    }
}

#[cfg(test)]
mod tests;
