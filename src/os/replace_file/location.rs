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
use std::path::{self, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{ReplaceError, ReplaceErrorKind};
use crate::os::user_namespace;
use crate::os::whole_file::ReadError;

/// The maximum number of symbolic links on a path, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The location of a file, or of one to create.
pub(super) struct Location {
    /// Its directory.
    pub(super) directory: File,
    /// Its name in the directory.
    pub(super) name: OsString,
    /// The path of the file, for messages.
    pub(super) path: PathBuf,
}

impl Location {
    /// Resolves `path`.
    pub(super) fn resolve(path: &Path) -> Result<Self, ReplaceError> {
        let mut walk = Walk::new(path).map_err(|error| unreadable(path, error))?;
        while let Some(next) = walk.remaining.pop() {
            match next {
                Component::Root => walk.enter_root().map_err(|error| unreadable(path, error))?,
                Component::Parent => walk.enter_parent().map_err(|error| unreadable(path, error))?,
                Component::LinkTarget(link) => {
                    let here = fstat(&walk.here).map_err(|error| unreadable(path, error.into()))?;
                    link.check_target_owner(here.st_uid)?;
                }
                Component::Name(name) => {
                    if let Some(location) = walk.enter(name, path)? {
                        return Ok(location);
                    }
                }
            }
        }
        // The path ends in a directory.
        Err(ReplaceErrorKind::Unreadable(ReadError::NotRegularFile).at(path))
    }

    /// Returns the path of the directory, for messages.
    pub(super) fn directory_path(&self) -> &Path {
        let directory = self.path.parent();
        directory
            .filter(|directory| !directory.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    /// Returns the metadata of the file, without following a link.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.open(OFlags::PATH)?.metadata()
    }

    /// Opens the file with these flags, without following a link.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.directory, &self.name, flags, Mode::empty())?.into())
    }
}

fn unreadable(path: &Path, error: io::Error) -> ReplaceError {
    ReplaceErrorKind::Unreadable(error.into()).at(path)
}

/// A component of the path that remains to be walked.
enum Component {
    Root,
    Parent,
    Name(OsString),
    /// The target of the link is reached here.
    LinkTarget(Link),
}

struct Link {
    path: PathBuf,
    owner: u32,
    /// Whether it is the link to the file, and not to a directory on the path.
    is_last: bool,
}

impl Link {
    fn check_target_owner(&self, target_owner: u32) -> Result<(), ReplaceError> {
        let is_same = self.owner == target_owner && Some(target_owner) != user_namespace::overflow_uid();
        if self.owner == 0 || self.owner == geteuid().as_raw() || is_same {
            return Ok(());
        }
        let link_owner = self.owner;
        Err(ReplaceErrorKind::ForeignLink {
            link_owner,
            target_owner,
        }
        .at(&self.path))
    }
}

struct Walk {
    /// The current directory of the walk, opened with O_PATH.
    here: OwnedFd,
    path: PathBuf,
    /// The next component last.
    remaining: Vec<Component>,
    links: usize,
}

impl Walk {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            here: open_directory(CWD, OsStr::new("."))?,
            path: PathBuf::new(),
            remaining: reversed_components(path),
            links: 0,
        })
    }

    fn enter_root(&mut self) -> io::Result<()> {
        self.here = open_directory(CWD, OsStr::new("/"))?;
        self.path = PathBuf::from("/");
        Ok(())
    }

    fn enter_parent(&mut self) -> io::Result<()> {
        self.here = open_directory(&self.here, OsStr::new(".."))?;
        if self.path.file_name().is_none() && !self.path.has_root() || self.path.ends_with("..") {
            self.path.push("..");
        } else {
            self.path.pop();
        }
        Ok(())
    }

    fn is_last(&self) -> bool {
        self.remaining
            .iter()
            .all(|component| matches!(component, Component::LinkTarget(_)))
    }

    /// Walks one component. Returns the location of the file, if it is the last one.
    fn enter(&mut self, name: OsString, whole: &Path) -> Result<Option<Location>, ReplaceError> {
        let failed = |error: Errno| unreadable(whole, error.into());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(&self.here, &name, flags, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => return self.missing(name, whole).map(Some),
            Err(error) => return Err(failed(error)),
        };
        let metadata = fstat(&found).map_err(failed)?;
        let kind = FileType::from_raw_mode(metadata.st_mode);
        if kind.is_symlink() {
            self.links += 1;
            if self.links > MAX_LINKS {
                return Err(failed(Errno::LOOP));
            }
            let target = readlinkat(&found, "", Vec::new()).map_err(failed)?;
            let link = Link {
                path: self.path.join(&name),
                owner: metadata.st_uid,
                is_last: self.is_last(),
            };
            self.remaining.push(Component::LinkTarget(link));
            self.remaining
                .extend(reversed_components(Path::new(OsStr::from_bytes(
                    target.as_bytes(),
                ))));
            return Ok(None);
        }
        if !self.is_last() {
            self.path.push(&name);
            self.here = found;
            return Ok(None);
        }
        for component in self.remaining.iter().rev() {
            if let Component::LinkTarget(link) = component {
                link.check_target_owner(metadata.st_uid)?;
            }
        }
        self.location(name).map(Some)
    }

    /// Returns the location where no file has this name, unless a link or a directory is missing.
    fn missing(&self, name: OsString, whole: &Path) -> Result<Location, ReplaceError> {
        let is_dangling =
            |component: &Component| matches!(component, Component::LinkTarget(link) if link.is_last);
        if self.remaining.iter().any(is_dangling) {
            return Err(ReplaceErrorKind::DanglingLink.at(whole));
        }
        if !self.is_last() {
            let directory = whole.parent().unwrap_or(whole);
            return Err(ReplaceErrorKind::Directory(Errno::NOENT.into()).at(directory));
        }
        self.location(name)
    }

    fn location(&self, name: OsString) -> Result<Location, ReplaceError> {
        // A directory opened with O_PATH could not be locked, listed and flushed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&self.here, ".", flags, Mode::empty())
            .map_err(|error| ReplaceErrorKind::Directory(error.into()).at(&self.path))?;
        Ok(Location {
            directory: directory.into(),
            path: self.path.join(&name),
            name,
        })
    }
}

fn open_directory(from: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(from, name, flags, Mode::empty())?)
}

fn reversed_components(path: &Path) -> Vec<Component> {
    let components = path.components().rev().filter_map(|component| match component {
        path::Component::Normal(name) => Some(Component::Name(name.to_owned())),
        path::Component::ParentDir => Some(Component::Parent),
        path::Component::RootDir => Some(Component::Root),
        path::Component::CurDir | path::Component::Prefix(_) => None,
    });
    components.collect()
}
