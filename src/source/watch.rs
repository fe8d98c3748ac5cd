//! Watches the files, with inotify by way of `notify`, and triggers a reload when one may have changed.
//!
//! Watches every directory on the path of a source: its own, that of each symbolic link, and those that the links lead
//! to; and the file itself, for one that is individually mounted into a container. So a rename over the file, a swapped
//! link above it (Kubernetes' `..data`) and a replaced directory are all reported. Any of these changes the set, so it
//! is updated before each read ([`Watch::update`]).
//!
//! An event only triggers a read: the content decides. Events about other names in the same directories, and about the
//! same names in other directories, are ignored. Events that inotify drops because its queue is full are reported as lost
//! ([`ReloadQueue::events_lost`]). Changes without an event (a network file system, the lower layer of an overlay, an
//! exhausted inotify) are found by the poll in [`super`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tracing::debug;

use super::path_walk::walk_links;
use super::polling_reason::PollingReason;
use super::reload_queue::{ReloadQueue, Trigger, WatchedName};

/// The current watches.
pub(super) struct Watch {
    queue: Arc<ReloadQueue>,
    /// Replaced only after its successor watches everything, so that no event is lost in between.
    watcher: Option<Watcher>,
    targets: Vec<WatchTarget>,
    /// The watched names, each with the numbers of the files that are reached through it. Part of the comparison
    /// because a link may come to lead to another name in the same directory.
    names: HashMap<WatchedName, BTreeSet<usize>>,
    /// Why changes may go unreported, if so. Logged when it changes.
    polling_reason: Option<PollingReason>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct WatchTarget {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new(queue: Arc<ReloadQueue>) -> Self {
        Self {
            queue,
            watcher: None,
            targets: Vec::new(),
            names: HashMap::new(),
            polling_reason: None,
        }
    }

    /// Returns whether every change is reported, as far as is known.
    pub(super) fn is_reliable(&self) -> bool {
        self.polling_reason.is_none()
    }

    /// Returns the numbers of the files that are reached through this name.
    pub(super) fn files_of(&self, name: &WatchedName) -> impl Iterator<Item = usize> {
        self.names.get(name).into_iter().flatten().copied()
    }

    /// Watches everything on each of `paths` as it is now. Cheap if nothing changed.
    pub(super) fn update(&mut self, paths: &[PathBuf]) {
        let mut set = WatchSet::default();
        for (number, path) in paths.iter().enumerate() {
            set.add(number, path);
        }
        let mut targets: Vec<WatchTarget> = set.paths.iter().filter_map(|path| watch_target(path)).collect();
        targets.sort();
        if self.watcher.is_some() && targets == self.targets && set.names == self.names {
            return;
        }
        let polling_reason = match start(&targets, &set.names, &self.queue) {
            Ok(watcher) => {
                debug!(paths = targets.len(), "watching the files");
                self.watcher = Some(watcher);
                targets
                    .iter()
                    .find_map(|target| PollingReason::of_file_system(&target.path))
            }
            Err(error) => {
                self.watcher = None;
                Some(PollingReason::not_watched(&error))
            }
        };
        self.targets = targets;
        self.names = set.names;
        // Names that are no longer on any path have no writers that matter.
        self.queue.retain_writers(|name, _| self.names.contains_key(name));
        if let Some(reason) = &polling_reason
            && self.polling_reason != polling_reason
        {
            reason.log();
        }
        self.polling_reason = polling_reason;
    }
}

/// A watcher of `notify`, which panics in [`Self::watch`] and on drop if its thread did not start (`ulimit -u`, a
/// cgroup limit) or has ended. This wrapper turns the first panic into an error and ignores the second. Both at once
/// would abort the server.
struct Watcher(Option<RecommendedWatcher>);

impl Watcher {
    fn watch(&mut self, path: &Path) -> notify::Result<()> {
        let Some(watcher) = &mut self.0 else {
            return Ok(());
        };
        // This does not drop the watcher.
        let watch = || watcher.watch(path, RecursiveMode::NonRecursive);
        catch_unwind(AssertUnwindSafe(watch))
            .unwrap_or_else(|_| Err(notify::Error::generic("the watching thread is not running")))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let watcher = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(watcher)));
    }
}

fn start(
    targets: &[WatchTarget],
    names: &HashMap<WatchedName, BTreeSet<usize>>,
    queue: &Arc<ReloadQueue>,
) -> notify::Result<Watcher> {
    let queue = Arc::clone(queue);
    let filter = EventFilter::new(targets, names);
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) => {
            filter.on_event(&event, &queue);
        }
        Err(_) => queue.events_lost(),
    })?;
    let mut watcher = Watcher(Some(watcher));
    for target in targets {
        match watcher.watch(&target.path) {
            // It was removed since it was listed, which is an event of its directory.
            Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
            Err(error) if matches!(&error.kind, notify::ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::NotFound) =>
                {}
            other => other?,
        }
    }
    Ok(watcher)
}

/// Selects the events about watched names. A name matters in its own directory only: otherwise a user with write access
/// to the directory above could hold up every edit with a file of the same name.
struct EventFilter {
    /// Device and inode of each watched path. Two paths to one directory share a watch, and its events may have either
    /// path.
    ids: HashMap<PathBuf, (u64, u64)>,
    names: HashSet<WatchedName>,
    /// The names of each watched file. Two names of one file share a watch.
    files: HashMap<PathBuf, Vec<WatchedName>>,
}

impl EventFilter {
    fn new(targets: &[WatchTarget], names: &HashMap<WatchedName, BTreeSet<usize>>) -> Self {
        let ids = targets
            .iter()
            .map(|target| (target.path.clone(), (target.device, target.inode)))
            .collect();
        let mut filter = Self {
            ids,
            names: names.keys().cloned().collect(),
            files: HashMap::new(),
        };
        for target in targets {
            let id = (target.device, target.inode);
            let same = targets.iter().filter(|other| (other.device, other.inode) == id);
            let names = same
                .filter_map(|other| filter.watched_name(&other.path))
                .collect();
            filter.files.insert(target.path.clone(), names);
        }
        filter
    }

    /// Returns the watched name that this path is, if it is one.
    fn watched_name(&self, path: &Path) -> Option<WatchedName> {
        let name = WatchedName {
            directory: *self.ids.get(path.parent()?)?,
            name: path.file_name()?.to_owned(),
        };
        self.names.contains(&name).then_some(name)
    }

    /// Records what the event says about watched names.
    fn on_event(&self, event: &Event, queue: &ReloadQueue) {
        if event.need_rescan() || event.paths.is_empty() {
            queue.events_lost();
        }
        for path in &event.paths {
            let of_file = self.files.get(path).cloned().unwrap_or_default();
            let own = self.watched_name(path).filter(|own| !of_file.contains(own));
            for name in of_file.iter().chain(&own) {
                match event.kind {
                    EventKind::Access(AccessKind::Close(AccessMode::Write)) => queue.writer_finished(name),
                    // Includes the server's own reads.
                    EventKind::Access(_) => {}
                    EventKind::Modify(ModifyKind::Data(_)) => queue.writer_started(name),
                    EventKind::Create(_) if is_new_empty_file(path) => queue.writer_started(name),
                    // The file that has the name now is complete.
                    EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                        queue.writer_finished(name);
                    }
                    EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
                        queue.notify(Trigger::Changed);
                    }
                }
            }
        }
    }
}

/// Returns whether the created name is a new, empty file, which its creator will write and close, and not a link of
/// either kind or a directory. Anything written by now is reported by a further event.
fn is_new_empty_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}

fn watch_target(path: &Path) -> Option<WatchTarget> {
    let metadata = fs::metadata(path).ok()?;
    Some(WatchTarget {
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

/// What to watch for some files: paths, and the names that matter in them.
#[derive(Default)]
struct WatchSet {
    paths: HashSet<PathBuf>,
    names: HashMap<WatchedName, BTreeSet<usize>>,
}

impl WatchSet {
    fn add(&mut self, number: usize, path: &Path) {
        walk_links(path, |component| {
            // The name of the directory and of the file in it, each link, and the first missing name.
            if component.is_link() || component.remaining < 2 || component.metadata.is_none() {
                self.paths.insert(component.directory.to_owned());
                if let Some(directory) = watch_target(component.directory) {
                    let name = WatchedName {
                        directory: (directory.device, directory.inode),
                        name: component.name.to_owned(),
                    };
                    self.names.entry(name).or_default().insert(number);
                }
            }
            // The file itself, which may be mounted over its name.
            if component.remaining == 0 && !component.is_link() && component.metadata.is_some() {
                self.paths.insert(component.directory.join(component.name));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::time::Instant;

    use notify::event::{
        AccessKind, AccessMode, CreateKind, DataChange, Flag, MetadataKind, ModifyKind, RemoveKind,
    };
    use notify::{Event, EventKind};

    use super::{EventFilter, ReloadQueue, Trigger, WatchSet, watch_target};

    #[test]
    fn every_link_on_the_path_and_the_file_itself_are_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        fs::create_dir(at("..first")).unwrap();
        fs::write(at("..first/t.cf"), "").unwrap();
        symlink("..first", at("..data")).unwrap();
        symlink("..data/t.cf", at("t.cf")).unwrap();
        let mut set = WatchSet::default();
        set.add(0, &at("t.cf"));
        for path in [root.clone(), at("..first"), at("..first/t.cf")] {
            assert!(set.paths.contains(&path), "{path:?} is not in {:?}", set.paths);
        }
        let knows = |set: &WatchSet, directory: &std::path::Path, name: &str| {
            let directory = watch_target(directory).unwrap();
            let name = super::WatchedName {
                directory: (directory.device, directory.inode),
                name: name.into(),
            };
            set.names.contains_key(&name)
        };
        for name in ["t.cf", "..data"] {
            assert!(knows(&set, &root, name));
        }
        assert!(knows(&set, &at("..first"), "t.cf"));
        assert!(!knows(&set, root.parent().unwrap(), "t.cf"));
        let mut missing = WatchSet::default();
        missing.add(0, &at("later/t.cf"));
        assert!(missing.paths.contains(&root));
        assert!(knows(&missing, &root, "later"));
        let mut circle = WatchSet::default();
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        circle.add(0, &at("a/t.cf"));
        let mut relative = WatchSet::default();
        relative.add(0, &PathBuf::from("../x/./y"));
    }

    #[test]
    fn an_event_affects_only_its_name_in_its_directory_and_tracks_writers() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        fs::create_dir(at("tables")).unwrap();
        // A user with write access to the directory above may create a file of the same name there.
        for name in ["tables/t.cf", "t.cf", "tables/other", "text"] {
            fs::write(at(name), "text").unwrap();
        }
        fs::write(at("tables/empty.cf"), "").unwrap();
        symlink("../text", at("tables/link.cf")).unwrap();
        let mut set = WatchSet::default();
        for (number, name) in ["t.cf", "empty.cf", "link.cf"].iter().enumerate() {
            set.add(number, &at("tables").join(name));
        }
        let targets: Vec<_> = set.paths.iter().filter_map(|path| watch_target(path)).collect();
        let filter = EventFilter::new(&targets, &set.names);
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let created = EventKind::Create(CreateKind::Any);
        let kinds = [
            // The kind of event, and whether the file is recorded as open for writing after it.
            (written, true),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), false),
            (created, false),
            (written, true),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), true),
            (EventKind::Remove(RemoveKind::Any), false),
        ];
        for (name, is_watched) in [
            ("tables/t.cf", true),
            ("tables/link.cf", true),
            ("text", true),
            ("tables/other", false),
            ("t.cf", false),
        ] {
            let queue = ReloadQueue::default();
            for (kind, is_open) in kinds {
                filter.on_event(&Event::new(kind).add_path(at(name)), &queue);
                let trigger = queue.wait(Instant::now());
                assert_eq!(
                    trigger,
                    is_watched.then_some(Trigger::Changed),
                    "{name}: {kind:?}"
                );
                assert_eq!(
                    !queue.writers().is_empty(),
                    is_watched && is_open,
                    "{name}: {kind:?}"
                );
            }
            // The server's own read.
            let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
            filter.on_event(&Event::new(read).add_path(at(name)), &queue);
            assert_eq!(queue.wait(Instant::now()), None, "{name}");
        }
        // A file created empty will be written and closed; a link is complete.
        let queue = ReloadQueue::default();
        filter.on_event(&Event::new(created).add_path(at("tables/empty.cf")), &queue);
        assert_eq!(queue.writers().len(), 1);
        // The kernel dropped events.
        let lost = Event::new(EventKind::Other)
            .set_flag(Flag::Rescan)
            .add_path(at("tables/other"));
        filter.on_event(&lost, &queue);
        assert_eq!(queue.wait(Instant::now()), Some(Trigger::Changed));
        assert_eq!(
            queue.writers(),
            [],
            "the event that closed the file may be among those"
        );
        assert!(queue.incomplete_until().is_some());
    }
}
