//! A hint that something changed, from inotify by way of `notify`.
//!
//! Watched is every folder through which a source is reached: its own, that of each symbolic link on the way, and
//! that of what the links lead to; and the file itself, for one that is mounted by itself into a container. So a
//! rename over the file, a swap of a link above it (Kubernetes' `..data`) and a folder that is replaced all show.
//! The set is made anew before each reading ([`Watch::arm`]), because any of these changes it.
//!
//! An event is never believed, only heard: it says *look*, and the content decides. Events about other names in
//! the same folders, and about the same names in others, are not heard. What no event reports (a network file system, the lower layer of an overlay, an
//! exhausted or overflowed inotify) is found by the poll in [`super`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::statfs;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tracing::{debug, warn};

use super::hints::{Hint, Hints, Place};
use super::way;

use crate::os::printable::of_path;

/// What is watched now.
pub(super) struct Watch {
    hints: Arc<Hints>,
    /// Replaced by another that is armed already, so that between the two no event is lost.
    watcher: Option<Watcher>,
    armed: Vec<Watched>,
    /// The places that it hears about, each with the files that are reached by way of it, by their number: a link may
    /// come to lead to another name in the same folder.
    names: HashMap<Place, BTreeSet<usize>>,
    /// Why not every change is heard of, where that is so. The log has it.
    deaf: Option<String>,
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
            names: HashMap::new(),
            deaf: None,
        }
    }

    /// Whether every change gives a hint, as far as is known.
    pub(super) fn hears_everything(&self) -> bool {
        self.deaf.is_none()
    }

    /// The files that are reached by way of this place, by their number.
    pub(super) fn files_at(&self, place: &Place) -> impl Iterator<Item = usize> {
        self.names.get(place).into_iter().flatten().copied()
    }

    /// Watches the way to each of `paths` as it is now. Cheap where it is as before.
    pub(super) fn arm(&mut self, paths: &[PathBuf]) {
        let mut way = Way::default();
        for (number, path) in paths.iter().enumerate() {
            way.to(number, path);
        }
        let mut wanted: Vec<Watched> = way.places.iter().filter_map(|path| watched(path)).collect();
        wanted.sort();
        if self.watcher.is_some() && wanted == self.armed && way.names == self.names {
            return;
        }
        let deaf = match start(&wanted, &way.names, &self.hints) {
            Ok(watcher) => {
                debug!(places = wanted.len(), "watching");
                self.watcher = Some(watcher);
                wanted.iter().find_map(|place| silent_file_system(&place.path))
            }
            Err(error) => {
                self.watcher = None;
                Some(format!(
                    "changes are found by polling, because the kernel cannot watch the files: {}",
                    cause(&error)
                ))
            }
        };
        self.armed = wanted;
        self.names = way.names;
        // The way leads elsewhere now, and writers at other places are waited for no more.
        self.hints.retain_open(|place, _| self.names.contains_key(place));
        if let Some(reason) = &deaf
            && self.deaf != deaf
        {
            warn!("{reason}");
        }
        self.deaf = deaf;
    }
}

/// Why the kernel does not watch, and what to do about it: which of its limits is reached (inotify(7)), if it is one at all.
fn cause(error: &notify::Error) -> String {
    let errno = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => Some(Errno::ENOSPC),
        notify::ErrorKind::Io(error) => error.raw_os_error().map(Errno::from_raw),
        _ => None,
    };
    let what_to_do = match errno {
        Some(Errno::ENOSPC) => "; raise fs.inotify.max_user_watches",
        Some(Errno::EMFILE) => {
            "; raise fs.inotify.max_user_instances, or the number of files that the process may open (LimitNOFILE= in a \
             systemd unit, --ulimit nofile= in Docker)"
        }
        Some(Errno::ENFILE) => "; raise fs.file-max",
        Some(Errno::EACCES) => {
            "; let the server's user read that directory (chmod or chgrp), and not only enter it"
        }
        _ => "",
    };
    format!("{error}{what_to_do}")
}

/// Whether `path` is on a file system that does not report every change: one that other hosts can write to, or one
/// that is laid over another.
fn silent_file_system(path: &Path) -> Option<String> {
    // The magic numbers of statfs(2), for those that nix does not name.
    const CIFS: i64 = 0xFF53_4D42;
    const SMB2: i64 = 0xFE53_4D42;
    const NINE_P: i64 = 0x0102_1997;
    const CEPH: i64 = 0x00C3_6400;
    let silent = [
        (statfs::NFS_SUPER_MAGIC.0, "NFS"),
        (statfs::SMB_SUPER_MAGIC.0, "SMB"),
        (CIFS, "SMB"),
        (SMB2, "SMB"),
        (NINE_P, "9P"),
        (CEPH, "Ceph"),
        (statfs::AFS_SUPER_MAGIC.0, "AFS"),
        (statfs::FUSE_SUPER_MAGIC.0, "FUSE"),
        (statfs::OVERLAYFS_SUPER_MAGIC.0, "an overlay"),
    ];
    let kind = statfs::statfs(path).ok()?.filesystem_type().0;
    let (_, name) = silent.into_iter().find(|(magic, _)| *magic == kind)?;
    Some(format!(
        "{} is on {name}, which does not report every change: its files are found changed by polling as well",
        of_path(path)
    ))
}

/// A watcher of `notify`, which panics in [`Self::watch`] and when it is dropped if its thread could not be started
/// (`ulimit -u`, a limit of the cgroup) or has ended. Here the first is an error, and the second nothing. Two of these
/// panics at the same time would abort the server.
struct Watcher(Option<RecommendedWatcher>);

impl Watcher {
    fn watch(&mut self, path: &Path) -> notify::Result<()> {
        let Some(watcher) = &mut self.0 else {
            return Ok(());
        };
        // The watcher is not dropped in here.
        let watch = || watcher.watch(path, RecursiveMode::NonRecursive);
        catch_unwind(AssertUnwindSafe(watch)).unwrap_or_else(|_| {
            Err(notify::Error::generic(
                "the thread that hears of changes is not there",
            ))
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let watcher = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(watcher)));
    }
}

fn start(
    wanted: &[Watched],
    names: &HashMap<Place, BTreeSet<usize>>,
    hints: &Arc<Hints>,
) -> notify::Result<Watcher> {
    let hints = Arc::clone(hints);
    let ears = Ears::new(wanted, names);
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) => {
            ears.hear(&event, &hints);
        }
        Err(_) => hints.give(Hint::Changed),
    })?;
    let mut watcher = Watcher(Some(watcher));
    for place in wanted {
        match watcher.watch(&place.path) {
            // It went away since it was listed: whatever took it away is an event of its folder.
            Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
            Err(error) if matches!(&error.kind, notify::ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::NotFound) =>
                {}
            other => other?,
        }
    }
    Ok(watcher)
}

/// What makes an event one about a place that matters. A name counts in its own directory and nowhere else: whoever may
/// write to the directory above could otherwise hold up every edit with a file of the same name.
struct Ears {
    /// Device and inode of each path that is watched. Two paths to one directory share a watch, and an event then has
    /// either.
    ids: HashMap<PathBuf, (u64, u64)>,
    names: HashSet<Place>,
    /// For a file that is watched itself, every place that it has. Two names of one file share a watch.
    files: HashMap<PathBuf, Vec<Place>>,
}

impl Ears {
    fn new(wanted: &[Watched], names: &HashMap<Place, BTreeSet<usize>>) -> Self {
        let ids = wanted
            .iter()
            .map(|watched| (watched.path.clone(), (watched.device, watched.inode)))
            .collect();
        let mut ears = Self {
            ids,
            names: names.keys().cloned().collect(),
            files: HashMap::new(),
        };
        for watched in wanted {
            let id = (watched.device, watched.inode);
            let same = wanted.iter().filter(|other| (other.device, other.inode) == id);
            let places = same.filter_map(|other| ears.place(&other.path)).collect();
            ears.files.insert(watched.path.clone(), places);
        }
        ears
    }

    /// The place of this path, if it is one that matters.
    fn place(&self, path: &Path) -> Option<Place> {
        let place = Place {
            directory: *self.ids.get(path.parent()?)?,
            name: path.file_name()?.to_owned(),
        };
        self.names.contains(&place).then_some(place)
    }

    /// Tells what an event says about a place that matters.
    fn hear(&self, event: &Event, hints: &Hints) {
        if event.need_rescan() || event.paths.is_empty() {
            hints.give(Hint::Changed);
        }
        for path in &event.paths {
            let of_file = self.files.get(path).cloned().unwrap_or_default();
            let own = self.place(path).filter(|own| !of_file.contains(own));
            for place in of_file.iter().chain(&own) {
                match event.kind {
                    EventKind::Access(AccessKind::Close(AccessMode::Write)) => hints.closed(place),
                    // Our own reading is one of these.
                    EventKind::Access(_) => {}
                    EventKind::Modify(ModifyKind::Data(_)) => hints.written(place),
                    EventKind::Create(_) if begins_empty(path) => hints.written(place),
                    // Whatever has the name now has it whole.
                    EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                        hints.closed(place);
                    }
                    EventKind::Modify(_) | EventKind::Any | EventKind::Other => hints.give(Hint::Changed),
                }
            }
        }
    }
}

/// Whether what was created is a file that somebody opened and will write and close, and not a link of either kind
/// or a folder. What has been written by now is an event of its own.
fn begins_empty(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
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
    names: HashMap<Place, BTreeSet<usize>>,
}

impl Way {
    fn to(&mut self, number: usize, path: &Path) {
        way::walk(path, |step| {
            // The folder in its parent and the file in the folder, each link, and the first name that is missing.
            if step.is_link() || step.ahead < 2 || step.metadata.is_none() {
                self.places.insert(step.folder.to_owned());
                if let Some(folder) = watched(step.folder) {
                    let place = Place {
                        directory: (folder.device, folder.inode),
                        name: step.name.to_owned(),
                    };
                    self.names.entry(place).or_default().insert(number);
                }
            }
            // The file itself, which may be mounted over its name.
            if step.ahead == 0 && !step.is_link() && step.metadata.is_some() {
                self.places.insert(step.folder.join(step.name));
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

    use super::{Ears, Hint, Hints, Way, watched};

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
        way.to(0, &at("t.cf"));
        for place in [root.clone(), at("..first"), at("..first/t.cf")] {
            assert!(
                way.places.contains(&place),
                "{place:?} is not in {:?}",
                way.places
            );
        }
        let knows = |way: &Way, folder: &std::path::Path, name: &str| {
            let folder = watched(folder).unwrap();
            let place = super::Place {
                directory: (folder.device, folder.inode),
                name: name.into(),
            };
            way.names.contains_key(&place)
        };
        for name in ["t.cf", "..data"] {
            assert!(knows(&way, &root, name));
        }
        assert!(knows(&way, &at("..first"), "t.cf"));
        assert!(!knows(&way, root.parent().unwrap(), "t.cf"));
        let mut missing = Way::default();
        missing.to(0, &at("later/t.cf"));
        assert!(missing.places.contains(&root));
        assert!(knows(&missing, &root, "later"));
        let mut circle = Way::default();
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        circle.to(0, &at("a/t.cf"));
        let mut relative = Way::default();
        relative.to(0, &PathBuf::from("../x/./y"));
    }

    #[test]
    fn an_event_counts_for_its_own_name_in_its_own_directory_and_says_whether_a_program_writes() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        fs::create_dir(at("tables")).unwrap();
        // A user who may write to the directory above may make a file of the same name there.
        for name in ["tables/t.cf", "t.cf", "tables/other", "text"] {
            fs::write(at(name), "text").unwrap();
        }
        fs::write(at("tables/empty.cf"), "").unwrap();
        symlink("../text", at("tables/link.cf")).unwrap();
        let mut way = Way::default();
        for (number, name) in ["t.cf", "empty.cf", "link.cf"].iter().enumerate() {
            way.to(number, &at("tables").join(name));
        }
        let wanted: Vec<_> = way.places.iter().filter_map(|path| watched(path)).collect();
        let ears = Ears::new(&wanted, &way.names);
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let created = EventKind::Create(CreateKind::Any);
        let kinds = [
            // The kind of event, and whether the file counts as open for writing then.
            (written, true),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), false),
            (created, false),
            (written, true),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), true),
            (EventKind::Remove(RemoveKind::Any), false),
        ];
        for (name, counts) in [
            ("tables/t.cf", true),
            ("tables/link.cf", true),
            ("text", true),
            ("tables/other", false),
            ("t.cf", false),
        ] {
            let hints = Hints::default();
            for (kind, is_open) in kinds {
                ears.hear(&Event::new(kind).add_path(at(name)), &hints);
                let hint = hints.take(Instant::now());
                assert_eq!(hint, counts.then_some(Hint::Changed), "{name}: {kind:?}");
                assert_eq!(!hints.open().is_empty(), counts && is_open, "{name}: {kind:?}");
            }
            // Our own reading.
            let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
            ears.hear(&Event::new(read).add_path(at(name)), &hints);
            assert_eq!(hints.take(Instant::now()), None, "{name}");
        }
        // One that is made without a byte will be written and closed; a link is whole.
        let hints = Hints::default();
        ears.hear(&Event::new(created).add_path(at("tables/empty.cf")), &hints);
        assert_eq!(hints.open().len(), 1);
        // The kernel has dropped events.
        let lost = Event::new(EventKind::Other)
            .set_flag(Flag::Rescan)
            .add_path(at("tables/other"));
        let hints = Hints::default();
        ears.hear(&lost, &hints);
        assert_eq!(hints.take(Instant::now()), Some(Hint::Changed));
    }
}
