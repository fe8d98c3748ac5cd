//! The way to a file: every folder and every symbolic link through which its name leads.
//!
//! Kubernetes puts three links between a name and its text, and swaps the middle one; an operator may have linked
//! any folder above. So whoever wants to notice a change, or to know whether two files were read as of one moment,
//! has to look at every link, and not at what it leads to alone.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The most symbolic links on the way to one file, as the kernel counts (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A name in a folder, on the way.
pub(super) struct Step<'a> {
    /// The folder, without any link in its path.
    pub(super) folder: &'a Path,
    /// The name in it.
    pub(super) name: &'a OsStr,
    /// What the name is, itself and not what it may lead to. `None` where nothing has that name, and the way ends.
    pub(super) metadata: Option<Metadata>,
    /// How many names are still ahead, as far as is known.
    pub(super) ahead: usize,
}

impl Step<'_> {
    /// Whether the name is a symbolic link.
    pub(super) fn is_link(&self) -> bool {
        self.metadata.as_ref().is_some_and(Metadata::is_symlink)
    }
}

/// Walks from the root to `path`, through every link, as far as it exists.
pub(super) fn walk(path: &Path, mut visit: impl FnMut(&Step<'_>)) {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut ahead = reversed_names(&absolute);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let step = Step {
            folder: &here,
            name: &name,
            metadata: fs::symlink_metadata(&next).ok(),
            ahead: ahead.len(),
        };
        visit(&step);
        if step.metadata.is_none() {
            return;
        }
        if step.is_link() {
            let Ok(target) = fs::read_link(&next) else { return };
            links += 1;
            if links > MAX_LINKS {
                return;
            }
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            ahead.extend(reversed_names(&target));
        } else {
            here = next;
        }
    }
}

fn reversed_names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// What changes when a file, or a link on the way to it, changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what has this metadata.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When the last change was, in seconds since 1970.
    pub(super) fn changed_at(&self) -> i64 {
        self.changed.0
    }
}

/// The stamps of the links on the way to `path` and of its end. `None` stands for the end of a way that leads
/// nowhere.
pub(super) fn stamps(path: &Path) -> Vec<Option<Stamp>> {
    let mut stamps = Vec::new();
    walk(path, |step| {
        if step.is_link() || step.ahead == 0 || step.metadata.is_none() {
            stamps.push(step.metadata.as_ref().map(Stamp::of));
        }
    });
    stamps
}
