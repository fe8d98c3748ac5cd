//! A disk on which the program ends at any operation, and which may lose what was not flushed. After each operation a reader
//! follows the links, as a server would.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{names, seen};
use crate::directory::disk::{Disk, System};
use crate::directory::generation::Generation;
use crate::directory::{Directory, DirectoryError};
use crate::engine::Table;

/// What a loss of power may do: any combination.
pub(super) const LOSSES: u8 = 8;
pub(super) const LOSE_CONTENT: u8 = 1;
const LOSE_LINKS: u8 = 2;
const LOSE_GENERATIONS: u8 = 4;

/// A disk on which the program ends.
#[derive(Default)]
pub(super) struct Faults {
    path: PathBuf,
    /// How many operations succeed before one fails.
    successes: AtomicUsize,
    /// Whether the operations after it fail, too.
    is_end: AtomicBool,
    has_failed: AtomicBool,
    /// Whether a program starts after a loss of power, when a server reads what it left.
    is_starting: AtomicBool,
    /// Whether a state was active, so that one always is.
    was_active: AtomicBool,
    /// The files and directories that were flushed, by number: a file may have several names.
    flushed: Mutex<BTreeSet<u64>>,
    /// The links when the directory was flushed.
    flushed_links: Mutex<BTreeMap<OsString, PathBuf>>,
}

fn number_of(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn links(path: &Path) -> BTreeMap<OsString, PathBuf> {
    let links = names(path).into_iter();
    links
        .filter_map(|name| Some((name.clone(), fs::read_link(path.join(name)).ok()?)))
        .collect()
}

impl Faults {
    pub(super) fn new(path: &Path) -> Arc<Self> {
        let faults = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        faults.successes.store(usize::MAX, Ordering::Relaxed);
        *faults.flushed_links.lock().unwrap() = links(path);
        Arc::new(faults)
    }

    pub(super) fn fail_after(&self, successes: usize, is_end: bool) {
        self.successes.store(successes, Ordering::Relaxed);
        self.is_end.store(is_end, Ordering::Relaxed);
        self.has_failed.store(false, Ordering::Relaxed);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    pub(super) fn set_starting(&self, is_starting: bool) {
        self.is_starting.store(is_starting, Ordering::Relaxed);
    }

    fn step(&self) -> io::Result<()> {
        if self.has_failed() && self.is_end.load(Ordering::Relaxed) {
            return Err(ErrorKind::Other.into());
        }
        let left = self.successes.load(Ordering::Relaxed).checked_sub(1);
        self.successes
            .store(left.unwrap_or(usize::MAX), Ordering::Relaxed);
        if left.is_none() {
            self.has_failed.store(true, Ordering::Relaxed);
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn read(&self) {
        if !self.is_starting.load(Ordering::Relaxed) {
            let is_active = seen(&self.path).is_some();
            let was_active = self.was_active.fetch_or(is_active, Ordering::Relaxed);
            assert!(is_active || !was_active);
        }
    }

    /// Notes that a file or directory is new, whose number may be that of a removed one.
    fn note_new(&self, path: &Path) {
        self.flushed.lock().unwrap().remove(&number_of(path));
    }

    pub(super) fn lose_power(&self, losses: u8) {
        let flushed = self.flushed.lock().unwrap();
        let generations = names(&self.path)
            .into_iter()
            .filter_map(|name| name.into_string().ok());
        for name in generations.filter(|name| Generation::is_name(name)) {
            let generation = self.path.join(name);
            for file in names(&generation) {
                let file = generation.join(file);
                if losses & LOSE_CONTENT != 0 && !flushed.contains(&number_of(&file)) {
                    let text = fs::read(&file).unwrap();
                    fs::write(&file, &text[..text.len() / 2]).unwrap();
                }
            }
            if losses & LOSE_GENERATIONS != 0 && !flushed.contains(&number_of(&generation)) {
                fs::remove_dir_all(generation).unwrap();
            }
        }
        if losses & LOSE_LINKS != 0 {
            for name in links(&self.path).into_keys() {
                fs::remove_file(self.path.join(name)).unwrap();
            }
            for (name, target) in &*self.flushed_links.lock().unwrap() {
                symlink(target, self.path.join(name)).unwrap();
            }
        }
    }
}

struct Faulty(Arc<Faults>);

impl Faulty {
    /// Does an operation, and reads what a server would read then.
    fn then_read(&self, operation: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.0.step()?;
        operation()?;
        self.0.read();
        Ok(())
    }
}

impl Disk for Faulty {
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.then_read(|| {
            System.create_directory(path, mode)?;
            self.0.note_new(path);
            Ok(())
        })
    }

    fn create_file(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.0.step()?;
        let file = System.create_file(path, mode)?;
        self.0.note_new(path);
        self.0.read();
        Ok(file)
    }

    fn append(&self, file: &mut File, content: &[u8]) -> io::Result<()> {
        if let Err(error) = self.0.step() {
            if error.kind() == ErrorKind::StorageFull {
                System.append(file, &content[..content.len() / 2])?;
            }
            return Err(error);
        }
        System.append(file, content)?;
        self.0.read();
        Ok(())
    }

    fn hard_link(&self, file: &Path, path: &Path) -> io::Result<()> {
        self.then_read(|| System.hard_link(file, path))
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.then_read(|| System.link(target, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.then_read(|| System.rename(from, to))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        // The disk is a model here, and flushing a real one takes time.
        self.0.step()?;
        self.0.flushed.lock().unwrap().insert(number_of(path));
        if path == self.0.path {
            *self.0.flushed_links.lock().unwrap() = links(path);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.then_read(|| System.remove(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.then_read(|| System.remove_directory(path))
    }
}

/// Starts on a disk without faults, which is not flushed for real.
pub(super) fn restart(path: &Path) -> Result<Directory, DirectoryError> {
    let faults = Faults::new(path);
    faults.set_starting(true);
    open(&faults)
}

pub(super) fn open(faults: &Arc<Faults>) -> Result<Directory, DirectoryError> {
    Directory::open_on(&faults.path, &Table::ALL, Arc::new(Faulty(Arc::clone(faults))))
}
