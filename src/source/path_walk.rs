//! Walks the path of a file: every directory and every symbolic link that its name leads through.
//!
//! Kubernetes puts three links between a name and its text, and swaps the middle one; an administrator may have linked
//! any directory above. So detecting a change, or knowing whether two files were read as of one moment, requires
//! looking at each link, and not only at the file it leads to.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::os::version_id::VersionId;

/// The most symbolic links on a path, the kernel's own limit (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The longest tick of the kernel's file clock (10 ms, HZ = 100), and a margin.
const TICK: Duration = Duration::from_millis(12);

/// One component of a path: a name in a directory.
pub(super) struct PathComponent<'a> {
    /// The directory. Its path has no links.
    pub(super) directory: &'a Path,
    /// The name in the directory.
    pub(super) name: &'a OsStr,
    /// The metadata of the name itself, not of a link's target. `None` if it does not exist, which ends the walk.
    pub(super) metadata: Option<Metadata>,
    /// How many components remain, as far as is known.
    pub(super) remaining: usize,
}

impl PathComponent<'_> {
    /// Returns whether the name is a symbolic link.
    pub(super) fn is_link(&self) -> bool {
        self.metadata.as_ref().is_some_and(Metadata::is_symlink)
    }
}

/// Walks from the root to `path`, through every link, as far as it exists.
pub(super) fn walk_links(path: &Path, mut visit: impl FnMut(&PathComponent<'_>)) {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut remaining = reversed_names(&absolute);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = remaining.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let component = PathComponent {
            directory: &here,
            name: &name,
            metadata: fs::symlink_metadata(&next).ok(),
            remaining: remaining.len(),
        };
        visit(&component);
        if component.metadata.is_none() {
            return;
        }
        if component.is_link() {
            let Ok(target) = fs::read_link(&next) else { return };
            links += 1;
            if links > MAX_LINKS {
                return;
            }
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            remaining.extend(reversed_names(&target));
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

/// The metadata that changes when a file, or a link, changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileStat {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStat {
    /// Takes it from this metadata.
    pub(super) fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Takes only what identifies a directory: its times change with every name in it.
    fn from_directory(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: 0,
            modified: (0, 0),
            changed: (0, 0),
        }
    }

    /// When it last changed (ctime), in seconds since 1970.
    pub(super) fn changed_at(&self) -> i64 {
        self.changed.0
    }

    /// Whether it changed so shortly before this time that a later change can have the same times: the kernel's file clock
    /// advances in ticks.
    fn is_too_recent(&self, since_1970: Duration) -> bool {
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

/// The metadata of a directory or a link on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ComponentStat {
    path: PathBuf,
    stat: FileStat,
}

/// The metadata of everything on the path of one file. While it stays equal, so does the content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PathStat {
    /// Each directory and each link on the path.
    components: Vec<ComponentStat>,
    /// The file itself. `None` if it does not exist.
    file: Option<FileStat>,
}

impl PathStat {
    /// Reads the metadata of everything on `path`.
    pub(super) fn read(path: &Path) -> Self {
        let mut stats = Self::default();
        walk_links(path, |component| {
            let Some(metadata) = &component.metadata else {
                return;
            };
            let stat = if component.is_link() {
                FileStat::from_metadata(metadata)
            } else if component.remaining == 0 {
                stats.file = Some(FileStat::from_metadata(metadata));
                return;
            } else {
                FileStat::from_directory(metadata)
            };
            stats.components.push(ComponentStat {
                path: component.directory.join(component.name),
                stat,
            });
        });
        stats
    }

    /// Returns which version of the file it is. `None` if it does not exist.
    pub(super) fn version_id(&self) -> Option<VersionId> {
        let file = self.file.as_ref()?;
        Some(VersionId::new(file.inode, file.changed))
    }

    /// Returns the times of the last changes, in seconds since 1970; 0 for a directory.
    pub(super) fn times(&self) -> impl Iterator<Item = i64> {
        let all = self
            .components
            .iter()
            .map(|component| &component.stat)
            .chain(&self.file);
        all.map(FileStat::changed_at)
    }
}

/// Returns for each file whether it may have changed between two passes that read the metadata of all paths. The files
/// were read in between.
///
/// `before` and `after` are the results of the passes, `started_at` is when the first one started. If a directory or link
/// changed, every file that is reached through it may have: one may have been read through the old one, and another
/// through the new one.
pub(super) fn may_have_changed(before: &[PathStat], after: &[PathStat], started_at: SystemTime) -> Vec<bool> {
    let started_at = started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut changed: Vec<&Path> = Vec::new();
    for (before, after) in before.iter().zip(after) {
        let stat_after = |path: &Path| after.components.iter().find(|component| component.path == path);
        for component in &before.components {
            let is_same = stat_after(&component.path).is_some_and(|after| after.stat == component.stat);
            if !is_same || component.stat.is_too_recent(started_at) {
                changed.push(&component.path);
            }
        }
        let is_new = |path: &Path| !before.components.iter().any(|component| component.path == path);
        let paths = after.components.iter().map(|component| component.path.as_path());
        changed.extend(paths.filter(|path| is_new(path)));
    }
    let is_reached_through_changed = |stat: &PathStat| {
        let mut components = stat.components.iter();
        components.any(|component| changed.contains(&component.path.as_path()))
    };
    let may_have_changed = |(before, after): (&PathStat, &PathStat)| {
        let file = before.file.as_ref();
        before.file != after.file
            || file.is_some_and(|file| file.is_too_recent(started_at))
            || is_reached_through_changed(before)
            || is_reached_through_changed(after)
    };
    before.iter().zip(after).map(may_have_changed).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{PathStat, may_have_changed};

    fn stats(root: &Path) -> Vec<PathStat> {
        ["one/a", "one/b", "other"]
            .map(|name| PathStat::read(&root.join(name)))
            .into()
    }

    #[test]
    fn a_changed_file_is_unsettled_alone_and_a_changed_path_with_all_files_that_share_it() {
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
        let before = stats(root);
        let later = SystemTime::now() + Duration::from_secs(1);
        assert_eq!(may_have_changed(&before, &stats(root), later), [false; 3]);
        // A new file may change again within the same tick. On a busy machine it takes several tries.
        let is_new = (0..100).any(|_| {
            for name in ["v1/a", "v1/b", "other"] {
                fs::write(root.join(name), "again").unwrap();
            }
            may_have_changed(&stats(root), &stats(root), SystemTime::now()) == [true; 3]
        });
        assert!(is_new);
        let before = stats(root);

        fs::write(root.join("v1/a"), "longer").unwrap();
        assert_eq!(
            may_have_changed(&before, &stats(root), later),
            [true, false, false]
        );

        let before = stats(root);
        symlink("v2", root.join("new")).unwrap();
        fs::rename(root.join("new"), root.join("one")).unwrap();
        assert_eq!(
            may_have_changed(&before, &stats(root), later),
            [true, true, false]
        );

        // A directory is compared by its identity, not by what is created in it.
        let before = stats(root);
        fs::write(root.join("v2/c"), "").unwrap();
        fs::write(root.join("d"), "").unwrap();
        assert_eq!(may_have_changed(&before, &stats(root), later), [false; 3]);
        fs::rename(root.join("v2"), root.join("v3")).unwrap();
        fs::create_dir(root.join("v2")).unwrap();
        for name in ["a", "b"] {
            fs::hard_link(root.join("v3").join(name), root.join("v2").join(name)).unwrap();
        }
        let after = stats(root);
        assert_eq!(may_have_changed(&before, &after, later)[..2], [true, true]);
    }
}
