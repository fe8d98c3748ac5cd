//! The location of a file: an open directory and a name in it, which no other user can redirect.
//!
//! A symbolic link is followed only if it belongs to root, to the user that edits, or to the owner of its target: the
//! rule of fs.protected_symlinks (proc(5)), applied to every link on the path and in every directory. Otherwise a user
//! with write permission for a directory on the path could make root edit any file.
//!
//! The path is walked component by component, each from the open directory before it, and the file is opened, created
//! and renamed in the last one. Replacing a component after its check has no effect.
//!
//! Limits: directories of other users are entered. Only links lead out of what a user owns; hard links to files of
//! another user are left to fs.protected_hardlinks (proc(5)), which every distribution sets.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{Problem, ReplaceError};
use crate::os::user_namespace;
use crate::os::whole_file::ReadError;

/// The maximum number of symbolic links on a path, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The location of a file, or of one to create.
pub(super) struct Place {
    /// Its directory.
    pub(super) folder: File,
    /// Its name in the directory.
    pub(super) name: OsString,
    /// The path of the file, for messages.
    pub(super) path: PathBuf,
}

impl Place {
    /// Resolves `path`.
    pub(super) fn of(path: &Path) -> Result<Self, ReplaceError> {
        let mut walk = Walk::begin(path).map_err(|error| unreadable(path, error))?;
        while let Some(next) = walk.ahead.pop() {
            match next {
                Ahead::Root => walk.enter_root().map_err(|error| unreadable(path, error))?,
                Ahead::Parent => walk.step_back().map_err(|error| unreadable(path, error))?,
                Ahead::EndOf(link) => {
                    let here = fstat(&walk.here).map_err(|error| unreadable(path, error.into()))?;
                    link.may_lead_to(here.st_uid)?;
                }
                Ahead::Name(name) => {
                    if let Some(place) = walk.step(name, path)? {
                        return Ok(place);
                    }
                }
            }
        }
        // The path ends in a directory.
        Err(Problem::Unreadable(ReadError::NotAFile).of(path))
    }

    /// Returns the path of the directory, for messages.
    pub(super) fn folder_path(&self) -> &Path {
        let folder = self.path.parent();
        folder
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    /// Returns the metadata of the file, without following a link.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.open(OFlags::PATH)?.metadata()
    }

    /// Opens the file with these flags, without following a link.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.folder, &self.name, flags, Mode::empty())?.into())
    }
}

fn unreadable(path: &Path, error: io::Error) -> ReplaceError {
    Problem::Unreadable(error.into()).of(path)
}

/// A component of the path that remains to be walked.
enum Ahead {
    Root,
    Parent,
    Name(OsString),
    /// The target of the link is reached here.
    EndOf(Link),
}

struct Link {
    path: PathBuf,
    owner: u32,
    /// Whether it is the link to the file, and not to a directory on the path.
    is_last: bool,
}

impl Link {
    fn may_lead_to(&self, owner: u32) -> Result<(), ReplaceError> {
        let is_same = self.owner == owner && Some(owner) != user_namespace::number_of_the_unmapped();
        if self.owner == 0 || self.owner == geteuid().as_raw() || is_same {
            return Ok(());
        }
        let of = self.owner;
        Err(Problem::ForeignLink { of, owner }.of(&self.path))
    }
}

struct Walk {
    /// The current directory of the walk, opened with O_PATH.
    here: OwnedFd,
    path: PathBuf,
    /// The next component last.
    ahead: Vec<Ahead>,
    links: usize,
}

impl Walk {
    fn begin(path: &Path) -> io::Result<Self> {
        Ok(Self {
            here: directory(CWD, OsStr::new("."))?,
            path: PathBuf::new(),
            ahead: reversed(path),
            links: 0,
        })
    }

    fn enter_root(&mut self) -> io::Result<()> {
        self.here = directory(CWD, OsStr::new("/"))?;
        self.path = PathBuf::from("/");
        Ok(())
    }

    fn step_back(&mut self) -> io::Result<()> {
        self.here = directory(&self.here, OsStr::new(".."))?;
        if self.path.file_name().is_none() && !self.path.has_root() || self.path.ends_with("..") {
            self.path.push("..");
        } else {
            self.path.pop();
        }
        Ok(())
    }

    fn is_last(&self) -> bool {
        self.ahead.iter().all(|ahead| matches!(ahead, Ahead::EndOf(_)))
    }

    /// Walks one component. Returns the location of the file, if it is the last one.
    fn step(&mut self, name: OsString, whole: &Path) -> Result<Option<Place>, ReplaceError> {
        let failed = |error: Errno| unreadable(whole, error.into());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(&self.here, &name, flags, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => return self.missing(name, whole).map(Some),
            Err(error) => return Err(failed(error)),
        };
        let about = fstat(&found).map_err(failed)?;
        let kind = FileType::from_raw_mode(about.st_mode);
        if kind.is_symlink() {
            self.links += 1;
            if self.links > MAX_LINKS {
                return Err(failed(Errno::LOOP));
            }
            let target = readlinkat(&found, "", Vec::new()).map_err(failed)?;
            let link = Link {
                path: self.path.join(&name),
                owner: about.st_uid,
                is_last: self.is_last(),
            };
            self.ahead.push(Ahead::EndOf(link));
            self.ahead
                .extend(reversed(Path::new(OsStr::from_bytes(target.as_bytes()))));
            return Ok(None);
        }
        if !self.is_last() {
            self.path.push(&name);
            self.here = found;
            return Ok(None);
        }
        for ahead in self.ahead.iter().rev() {
            if let Ahead::EndOf(link) = ahead {
                link.may_lead_to(about.st_uid)?;
            }
        }
        self.place(name).map(Some)
    }

    /// Returns the location where no file has this name, unless a link or a directory is missing.
    fn missing(&self, name: OsString, whole: &Path) -> Result<Place, ReplaceError> {
        let leads_nowhere = |ahead: &Ahead| matches!(ahead, Ahead::EndOf(link) if link.is_last);
        if self.ahead.iter().any(leads_nowhere) {
            return Err(Problem::LeadsNowhere.of(whole));
        }
        if !self.is_last() {
            let folder = whole.parent().unwrap_or(whole);
            return Err(Problem::Folder(io::ErrorKind::NotFound.into()).of(folder));
        }
        self.place(name)
    }

    fn place(&self, name: OsString) -> Result<Place, ReplaceError> {
        // A directory opened with O_PATH could not be locked, listed and flushed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&self.here, ".", flags, Mode::empty())
            .map_err(|error| Problem::Folder(error.into()).of(&self.path))?;
        Ok(Place {
            folder: folder.into(),
            path: self.path.join(&name),
            name,
        })
    }
}

fn directory(from: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(from, name, flags, Mode::empty())?)
}

fn reversed(path: &Path) -> Vec<Ahead> {
    let ahead = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(Ahead::Name(name.to_owned())),
        Component::ParentDir => Some(Ahead::Parent),
        Component::RootDir => Some(Ahead::Root),
        Component::CurDir | Component::Prefix(_) => None,
    });
    ahead.collect()
}
