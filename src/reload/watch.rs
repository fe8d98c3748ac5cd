//! A hint that something changed, from inotify by way of `notify`.
//!
//! Watched is every folder through which a source is reached: its own, that of each symbolic link on the way, and
//! that of what the links lead to; and the file itself, for one that is mounted by itself into a container. So a
//! rename over the file, a swap of a link above it (Kubernetes' `..data`) and a folder that is replaced all show.
//! The set is made anew before each reading ([`Watch::arm`]), because any of these changes it.
//!
//! An event is never believed, only heard: it says *look*, and the content decides. Events about other names in
//! the same folders are not heard. What no event reports (a network file system, the lower layer of an overlay, an
//! exhausted or overflowed inotify) is found by the poll in [`super`].

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, warn};

use super::hints::{Hint, Hints};

/// The most symbolic links on the way to one file, as the kernel counts (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What is watched now.
pub(super) struct Watch {
    hints: Arc<Hints>,
    /// Dropped last thing when another takes over: between the two no event is lost.
    watcher: Option<RecommendedWatcher>,
    armed: Vec<Watched>,
    complained: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Watched {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new(hints: Arc<Hints>) -> Self {
        Self {
            hints,
            watcher: None,
            armed: Vec::new(),
            complained: false,
        }
    }

    /// Watches the way to each of `paths` as it is now. Cheap where it is as before.
    pub(super) fn arm(&mut self, paths: &[PathBuf]) {
        let mut way = Way::default();
        for path in paths {
            way.to(path);
        }
        let mut wanted: Vec<Watched> = way.places.iter().filter_map(|path| watched(path)).collect();
        wanted.sort();
        wanted.dedup_by(|a, b| (a.device, a.inode) == (b.device, b.inode));
        if self.watcher.is_some() && wanted == self.armed {
            return;
        }
        match start(&wanted, way.names, &self.hints) {
            Ok(watcher) => {
                debug!(places = wanted.len(), "watching");
                self.watcher = Some(watcher);
                self.armed = wanted;
                self.complained = false;
            }
            Err(error) => {
                self.watcher = None;
                if !self.complained {
                    warn!(
                        "changes are found by polling only: {error}; raise fs.inotify.max_user_instances or max_user_watches"
                    );
                    self.complained = true;
                }
            }
        }
    }
}

fn start(
    wanted: &[Watched],
    names: HashSet<OsString>,
    hints: &Arc<Hints>,
) -> notify::Result<RecommendedWatcher> {
    let hints = Arc::clone(hints);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) => {
            if let Some(hint) = heard(&event, &names) {
                hints.give(hint);
            }
        }
        Err(_) => hints.give(Hint::Settled),
    })?;
    for place in wanted {
        match watcher.watch(&place.path, RecursiveMode::NonRecursive) {
            // It went away since it was listed: whatever took it away is an event of its folder.
            Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
            Err(error) if matches!(&error.kind, notify::ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::NotFound) =>
                {}
            other => other?,
        }
    }
    Ok(watcher)
}

/// What an event says, if it is about one of `names`. Only the last name of its path counts: two ways to one folder
/// share a watch, and the path is then that of either.
fn heard(event: &Event, names: &HashSet<OsString>) -> Option<Hint> {
    let ours = event.need_rescan()
        || event.paths.is_empty()
        || event
            .paths
            .iter()
            .any(|path| path.file_name().is_some_and(|name| names.contains(name)));
    if !ours {
        return None;
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Hint::Settled),
        // Our own reading is one of these.
        EventKind::Access(_) => None,
        // Whoever creates or writes a file closes it in the end; a link or a folder is whole at once, but an event
        // does not say which it is.
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
            Some(Hint::Unsettled)
        }
        EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Any | EventKind::Other => {
            Some(Hint::Settled)
        }
    }
}

fn watched(path: &Path) -> Option<Watched> {
    let metadata = fs::metadata(path).ok()?;
    Some(Watched {
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

/// The places to watch on the way to some files, and the names that matter in them.
#[derive(Default)]
struct Way {
    places: HashSet<PathBuf>,
    names: HashSet<OsString>,
}

impl Way {
    /// Adds the way to `path`, name by name, through every symbolic link, as far as it exists.
    fn to(&mut self, path: &Path) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut ahead: Vec<OsString> = reversed_components(&absolute);
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            let step = fs::symlink_metadata(&next);
            let is_link = step.as_ref().is_ok_and(fs::Metadata::is_symlink);
            // The last folder in its parent and the file in its folder, each link, and the first name that is missing.
            if is_link || ahead.len() < 2 || step.is_err() {
                self.places.insert(here.clone());
                self.names.insert(name.clone());
            }
            match fs::read_link(&next) {
                Ok(target) if is_link && links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    ahead.extend(reversed_components(&target));
                }
                _ if step.is_err() => return,
                _ => here = next,
            }
        }
        self.places.insert(here);
    }
}

fn reversed_components(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::Way;

    #[test]
    fn the_way_leads_through_every_link_to_the_file_itself() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        fs::create_dir(at("..first")).unwrap();
        fs::write(at("..first/t.cf"), "").unwrap();
        symlink("..first", at("..data")).unwrap();
        symlink("..data/t.cf", at("t.cf")).unwrap();
        let mut way = Way::default();
        way.to(&at("t.cf"));
        for place in [root.clone(), at("..first"), at("..first/t.cf")] {
            assert!(
                way.places.contains(&place),
                "{place:?} is not in {:?}",
                way.places
            );
        }
        for name in ["t.cf", "..data"] {
            assert!(way.names.contains(std::ffi::OsStr::new(name)));
        }
        let mut missing = Way::default();
        missing.to(&at("later/t.cf"));
        assert!(missing.places.contains(&root));
        assert!(missing.names.contains(std::ffi::OsStr::new("later")));
        let mut circle = Way::default();
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        circle.to(&at("a/t.cf"));
        let mut relative = Way::default();
        relative.to(&PathBuf::from("../x/./y"));
    }
}
