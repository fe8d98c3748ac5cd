//! The way to a file: every folder and every symbolic link through which its name leads.
//!
//! Kubernetes puts three links between a name and its text, and swaps the middle one; an operator may have linked
//! any folder above. So noticing a change, or knowing whether two files were read as of one moment, takes a
//! look at every link, and not at what it leads to alone.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most symbolic links on the way to one file, as the kernel counts (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The longest tick of the kernel's clock for files (HZ = 100), and some more.
const TICK: Duration = Duration::from_millis(12);

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

    /// What tells a directory from another, whatever is in it. Its times change with every name in it.
    fn of_directory(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: 0,
            modified: (0, 0),
            changed: (0, 0),
        }
    }

    /// When the last change was, in seconds since 1970.
    pub(super) fn changed_at(&self) -> i64 {
        self.changed.0
    }

    /// Whether the last change was so lately, `since_1970` being now, that another one need not show in the times.
    fn is_within_a_tick(&self, since_1970: Duration) -> bool {
        let time = |(seconds, nanoseconds): (i64, i64)| {
            Some(Duration::new(
                seconds.try_into().ok()?,
                nanoseconds.try_into().ok()?,
            ))
        };
        let changed = time(self.changed).and_then(|changed| since_1970.checked_sub(changed));
        changed.is_some_and(|ago| ago < TICK)
    }
}

/// The stamps of the way to one file: while they stay as they are, so does the content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps {
    /// Each directory and each link on the way, and where it is.
    way: Vec<(PathBuf, Stamp)>,
    /// What stands at the end. `None` where nothing does, or the way leads nowhere.
    end: Option<Stamp>,
}

impl Stamps {
    /// The stamps of the way to `path`.
    pub(super) fn of(path: &Path) -> Self {
        let mut stamps = Self::default();
        walk(path, |step| {
            let Some(metadata) = &step.metadata else { return };
            if step.is_link() {
                stamps
                    .way
                    .push((step.folder.join(step.name), Stamp::of(metadata)));
            } else if step.ahead == 0 {
                stamps.end = Some(Stamp::of(metadata));
            } else {
                stamps
                    .way
                    .push((step.folder.join(step.name), Stamp::of_directory(metadata)));
            }
        });
        stamps
    }

    /// Every stamp that has times.
    pub(super) fn times(&self) -> impl Iterator<Item = i64> {
        let all = self.way.iter().map(|(_, stamp)| stamp).chain(&self.end);
        all.map(Stamp::changed_at)
    }

    /// Whether the end was changed so lately that it may have changed since without another stamp.
    fn ends_within_a_tick(&self, since_1970: Duration) -> bool {
        self.end
            .as_ref()
            .is_some_and(|end| end.is_within_a_tick(since_1970))
    }
}

/// Which of several files may not have been the same all the time from when the stamps `before` were taken until `after`.
///
/// `at` is when the first of `before` was taken. Files that have a part of their way in common are taken together: if
/// it changed for one of them, one may have been read by the old way and the other by the new one.
pub(super) fn unsettled(before: &[Stamps], after: &[Stamps], at: SystemTime) -> Vec<bool> {
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut moved: Vec<&Path> = Vec::new();
    for (before, after) in before.iter().zip(after) {
        for (place, stamp) in &before.way {
            if stamp.is_within_a_tick(at)
                || !after
                    .way
                    .iter()
                    .any(|other| other.0 == *place && other.1 == *stamp)
            {
                moved.push(place);
            }
        }
        for (place, _) in &after.way {
            if !before.way.iter().any(|other| other.0 == *place) {
                moved.push(place);
            }
        }
    }
    let is_unsettled = |(before, after): (&Stamps, &Stamps)| {
        before.end != after.end
            || before.ends_within_a_tick(at)
            || [before, after]
                .into_iter()
                .flat_map(|stamps| &stamps.way)
                .any(|(place, _)| moved.contains(&place.as_path()))
    };
    before.iter().zip(after).map(is_unsettled).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{Stamps, unsettled};

    fn stamps(root: &Path) -> Vec<Stamps> {
        ["one/a", "one/b", "other"]
            .map(|name| Stamps::of(&root.join(name)))
            .into()
    }

    #[test]
    fn a_file_that_changed_is_unsettled_alone_and_one_whose_way_changed_with_all_that_share_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for version in ["v1", "v2"] {
            fs::create_dir(root.join(version)).unwrap();
            for name in ["a", "b"] {
                fs::write(root.join(version).join(name), version).unwrap();
            }
        }
        symlink("v1", root.join("one")).unwrap();
        fs::write(root.join("other"), "").unwrap();
        let before = stamps(root);
        let later = SystemTime::now() + Duration::from_secs(1);
        assert_eq!(unsettled(&before, &stamps(root), later), [false; 3]);
        // What has just been made may change again within the same tick. On a busy machine it takes several tries.
        let is_just_made = (0..100).any(|_| {
            for name in ["v1/a", "v1/b", "other"] {
                fs::write(root.join(name), "again").unwrap();
            }
            unsettled(&stamps(root), &stamps(root), SystemTime::now()) == [true; 3]
        });
        assert!(is_just_made);
        let before = stamps(root);

        fs::write(root.join("v1/a"), "longer").unwrap();
        assert_eq!(unsettled(&before, &stamps(root), later), [true, false, false]);

        let before = stamps(root);
        symlink("v2", root.join("new")).unwrap();
        fs::rename(root.join("new"), root.join("one")).unwrap();
        assert_eq!(unsettled(&before, &stamps(root), later), [true, true, false]);

        // A directory is told by what it is, and not by what is made in it.
        let before = stamps(root);
        fs::write(root.join("v2/c"), "").unwrap();
        fs::write(root.join("d"), "").unwrap();
        assert_eq!(unsettled(&before, &stamps(root), later), [false; 3]);
        fs::rename(root.join("v2"), root.join("v3")).unwrap();
        fs::create_dir(root.join("v2")).unwrap();
        for name in ["a", "b"] {
            fs::hard_link(root.join("v3").join(name), root.join("v2").join(name)).unwrap();
        }
        let after = stamps(root);
        assert_eq!(unsettled(&before, &after, later)[..2], [true, true]);
    }
}
