//! A disk on which the program ends at any operation, and which may lose what was not flushed. After each operation a reader
//! follows the links, as a server would.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP};

use super::{names, seen};
use crate::directory::disk::{Disk, System};
use crate::directory::generation::Generation;
use crate::directory::{Directory, DirectoryError};

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
    successes: Cell<usize>,
    /// Whether the operations after it fail, too.
    is_end: Cell<bool>,
    pub(super) has_failed: Cell<bool>,
    /// Whether a program starts after a loss of power, when a server reads what it left.
    pub(super) is_starting: Cell<bool>,
    /// Whether a state was active, so that one always is.
    was_active: Cell<bool>,
    /// The files and directories that were flushed.
    flushed: RefCell<BTreeSet<PathBuf>>,
    /// The links when the directory was flushed.
    flushed_links: RefCell<BTreeMap<OsString, PathBuf>>,
}

fn links(path: &Path) -> BTreeMap<OsString, PathBuf> {
    let links = names(path).into_iter();
    links
        .filter_map(|name| Some((name.clone(), fs::read_link(path.join(name)).ok()?)))
        .collect()
}

impl Faults {
    pub(super) fn new(path: &Path) -> Rc<Self> {
        let faults = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        faults.successes.set(usize::MAX);
        faults.flushed_links.replace(links(path));
        Rc::new(faults)
    }

    pub(super) fn fail_after(&self, successes: usize, is_end: bool) {
        self.successes.set(successes);
        self.is_end.set(is_end);
        self.has_failed.set(false);
    }

    fn step(&self) -> io::Result<()> {
        if self.has_failed.get() && self.is_end.get() {
            return Err(ErrorKind::Other.into());
        }
        let Some(left) = self.successes.get().checked_sub(1) else {
            self.successes.set(usize::MAX);
            self.has_failed.set(true);
            return Err(ErrorKind::StorageFull.into());
        };
        self.successes.set(left);
        Ok(())
    }

    fn read(&self) {
        if !self.is_starting.get() {
            let is_active = seen(&self.path).is_some();
            assert!(is_active || !self.was_active.replace(is_active));
        }
    }

    pub(super) fn lose_power(&self, losses: u8) {
        let flushed = self.flushed.borrow();
        let generations = names(&self.path)
            .into_iter()
            .filter_map(|name| name.into_string().ok());
        for name in generations.filter(|name| Generation::is_name(name)) {
            let generation = self.path.join(name);
            for file in names(&generation) {
                let file = generation.join(file);
                if losses & LOSE_CONTENT != 0 && !flushed.contains(&file) {
                    let text = fs::read(&file).unwrap();
                    fs::write(&file, &text[..text.len() / 2]).unwrap();
                }
            }
            if losses & LOSE_GENERATIONS != 0 && !flushed.contains(&generation) {
                fs::remove_dir_all(generation).unwrap();
            }
        }
        if losses & LOSE_LINKS != 0 {
            for name in links(&self.path).into_keys() {
                fs::remove_file(self.path.join(name)).unwrap();
            }
            for (name, target) in &*self.flushed_links.borrow() {
                symlink(target, self.path.join(name)).unwrap();
            }
        }
    }
}

struct Faulty(Rc<Faults>);

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
        self.then_read(|| System.create_directory(path, mode))
    }

    fn write(&self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        if let Err(error) = self.0.step() {
            if error.kind() == ErrorKind::StorageFull {
                System.write(path, mode, &content[..content.len() / 2])?;
            }
            return Err(error);
        }
        System.write(path, mode, content)?;
        self.0.read();
        Ok(())
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
        self.0.flushed.borrow_mut().insert(path.to_owned());
        if path == self.0.path {
            self.0.flushed_links.replace(links(path));
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
    faults.is_starting.set(true);
    open(&faults)
}

pub(super) fn open(faults: &Rc<Faults>) -> Result<Directory, DirectoryError> {
    Directory::open_on(
        &faults.path,
        &[&RELAY_MAP, &CREDENTIALS],
        Box::new(Faulty(Rc::clone(faults))),
    )
}
