//! The directory that `postmapd serve` reads: generations of files, one of which is active.
//!
//! ```text
//! DIR/postfix-relaymap.cf  -> ..data/postfix-relaymap.cf
//! DIR/source.json          -> ..data/source.json
//! DIR/..data               -> ..4f0c81…       replaced by one rename
//! DIR/..4f0c81…/           the files of one state of the source
//! ```
//!
//! Rows are written into the files of a new generation while they are read ([`Staging`]); of changes, the other lines are copied
//! from the active files, and a table without changes is the active file under a second name.
//!
//! A state of the source becomes active by one rename, so that no reader sees the relay of one state with the login of
//! another. It is flushed to the disk afterwards ([`Directory::sync`]), which delays no answer. Until then the generation that
//! was flushed last remains; the first one is flushed before it becomes active. So, after a crash at any step and after a
//! loss of power, at least one generation is whole, and [`Directory::open`] makes that one active, or else the newest whole one.
//!
//! The files belong to the user of this program with mode 0600. In a directory with the set-group-ID bit they are readable
//! by its group, too (0640).
//!
//! What another program removes or changes while the directory is open is restored if it can be ([`Directory::restore`]).
//!
//! Limits: a table that is not published may be a local file of the directory. The lock of the directory is that of flock(2):
//! two hosts that share it by NFS do not see each other's. A loss of power before `sync` may lead back to the state before.

mod disk;
mod error;
mod generation;
mod held;
mod lines;
mod links;
mod merge;
mod place;
mod provenance;
mod restoring;
mod staging;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use disk::{Disk, System};
pub use error::{DirectoryError, DirectoryErrorKind};
use generation::{Generation, Readers, SOURCE_FILE, random_key, random_name};
use held::HeldFiles;
pub use place::Place;
pub use provenance::Provenance;
pub use restoring::Restored;
pub use staging::Staging;

use crate::engine::Table;

/// The link to the active generation.
const ACTIVE: &str = "..data";

/// The link that is about to replace it.
const NEXT: &str = "..data.next";

/// What to remove of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    Whole,
    /// What the active generation does not have. To remove a name of its files would have the server read them once more.
    ExceptActiveFiles,
}

/// The result of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The files are active.
    Changed,
    /// The state, the digests of the files and their modes are those of the active ones, so nothing was replaced.
    Unchanged,
}

/// The directory, locked until it is dropped.
pub struct Directory {
    path: PathBuf,
    /// Also the lock.
    place: Place,
    readers: Readers,
    disk: Arc<dyn Disk>,
    /// The tables of the source.
    tables: Vec<Table>,
    active: Option<Arc<Generation>>,
    /// Its files.
    held: Option<HeldFiles>,
    /// The generation that was flushed last.
    synced: Option<String>,
    /// The generation that is being written.
    staged: Option<String>,
}

impl Directory {
    /// Opens and locks the directory `path`, and activates a whole generation, if there is one: the active one, or else the
    /// newest. If there is none, lookups in these tables return a temporary error until the first publication, and not that
    /// there is no entry.
    ///
    /// `tables` are those that the source has. The TLS table is published only if it has rows.
    pub fn open(path: &Path, tables: &[Table]) -> Result<Self, DirectoryError> {
        Self::open_on(path, tables, Arc::new(System))
    }

    fn open_on(path: &Path, tables: &[Table], disk: Arc<dyn Disk>) -> Result<Self, DirectoryError> {
        let metadata = fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => DirectoryErrorKind::Missing.at(path),
            _ => DirectoryErrorKind::system("open it", path)(error),
        })?;
        if !metadata.is_dir() {
            return Err(DirectoryErrorKind::NotADirectory.at(path));
        }
        let lock = File::open(path).map_err(DirectoryErrorKind::system("open it", path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => DirectoryErrorKind::InUse.at(path),
            _ => DirectoryErrorKind::system("lock it", path)(error.into()),
        })?;
        let mut directory = Self {
            path: path.to_owned(),
            place: Place::new(path, lock),
            readers: if metadata.permissions().mode() & 0o2000 == 0 {
                Readers::Owner
            } else {
                Readers::Group
            },
            disk,
            tables: tables.to_vec(),
            active: None,
            held: None,
            synced: None,
            staged: None,
        };
        directory.recover()?;
        directory.hold();
        Ok(directory)
    }

    /// Returns which state of the source is active.
    #[must_use]
    pub fn active(&self) -> Option<&Provenance> {
        self.active.as_ref().map(|generation| &generation.provenance)
    }

    /// Starts to write the files of a state. One at a time: what another one has written is removed by [`Directory::sync`].
    ///
    /// # Errors
    ///
    /// The system provides no random numbers, or the directory is not the one that was opened.
    pub fn stage(&mut self) -> Result<Staging, DirectoryError> {
        self.place.check()?;
        let error = || DirectoryErrorKind::system("get random bytes", &self.path);
        let name = random_name().map_err(error())?;
        let key = match &self.active {
            Some(active) => active.key.clone(),
            None => random_key().map_err(error())?,
        };
        self.staged = Some(name.clone());
        Ok(Staging::new(
            Arc::clone(&self.disk),
            self.path.clone(),
            self.readers,
            name,
            key,
            self.active.clone(),
        ))
    }

    /// Makes the files of a state the active ones, as of one moment. Tables that the source does not have are none of this
    /// program.
    ///
    /// # Errors
    ///
    /// The files that were active remain active. Also an error that occurred while the rows came.
    pub fn publish(
        &mut self,
        mut staging: Staging,
        provenance: &Provenance,
    ) -> Result<Published, DirectoryError> {
        self.staged = None;
        let active = self.active.as_ref().map(|active| &active.name);
        if staging.base.as_ref().map(|base| &base.name) != active {
            let reason = "the files that were read are older than the active ones";
            return Err(DirectoryErrorKind::Inconsistent(reason).at(&self.path));
        }
        let required: Vec<Table> = self.required().collect();
        staging.complete(&required)?;
        if self.active.as_ref().is_some_and(|active| {
            active.files == staging.files
                && active.provenance.is_same_state(provenance)
                && active.has_current_modes
                && self.is_intact()
        }) {
            return Ok(Published::Unchanged);
        }
        let files = staging.files.keys().map(|table| table.spec().file);
        for name in files.chain([SOURCE_FILE, ACTIVE]) {
            self.is_ours(name)?;
        }
        let new = staging.write_generation(provenance)?;
        // The server detects that files have lost a name as it detects a replaced link. So both are one change.
        // What cannot be removed now is removed after the next flush.
        let _ = self.remove_old_generations(&new.name, Removal::Whole);
        let activated = self.flush_first(&new);
        let activated = activated.and_then(|()| self.unlink_tls(&new));
        if let Err(error) = activated.and_then(|()| self.activate(&new)) {
            // What cannot be removed now is removed after the next flush.
            let _ = self.remove_if_present(&self.path.join(NEXT));
            return Err(error);
        }
        staging.keep();
        self.active = Some(Arc::new(new));
        self.hold();
        Ok(Published::Changed)
    }

    /// The tables of which each generation has a file.
    fn required(&self) -> impl Iterator<Item = Table> {
        self.tables.iter().copied().filter(|table| *table != Table::Tls)
    }

    /// Flushes the active generation to the disk, and removes the files of the others. To be called after each publication.
    ///
    /// # Errors
    ///
    /// If it cannot be flushed, the generation that was flushed last remains, too.
    pub fn sync(&mut self) -> Result<(), DirectoryError> {
        let flushed = self.flush();
        self.remove_links_to_nothing()?;
        let staged = self.staged.clone().unwrap_or_default();
        self.remove_old_generations(&staged, Removal::ExceptActiveFiles)?;
        flushed
    }

    /// Flushes a generation before it becomes active, if none was flushed that a start could go back to.
    fn flush_first(&self, generation: &Generation) -> Result<(), DirectoryError> {
        match self.synced {
            Some(_) => Ok(()),
            None => self.flush_generation(generation),
        }
    }

    fn flush(&mut self) -> Result<(), DirectoryError> {
        let Some(active) = &self.active else { return Ok(()) };
        self.flush_generation(active)?;
        self.synced = Some(active.name.clone());
        Ok(())
    }

    fn flush_generation(&self, generation: &Generation) -> Result<(), DirectoryError> {
        generation.sync(&*self.disk, &self.path)?;
        self.disk
            .sync(&self.path)
            .map_err(DirectoryErrorKind::system("flush it to the disk", &self.path))
    }

    /// Activates a whole generation after a start. Without one, links to the tables lead to nothing, or remain as they are, and
    /// the first publication replaces what is there.
    fn recover(&mut self) -> Result<(), DirectoryError> {
        self.remove_if_present(&self.path.join(NEXT))?;
        let target = fs::read_link(self.path.join(ACTIVE)).ok();
        let active = target.and_then(|target| target.to_str().map(str::to_owned));
        let active = active.filter(|name| Generation::is_name(name));
        if let Some(whole) = active.and_then(|name| Generation::read(&self.path, &name, self.readers)) {
            // The program may have ended before all links were there.
            self.link_files(&whole)?;
            self.active = Some(Arc::new(whole));
        } else {
            let mut names = self.generations()?;
            names.sort_by_key(|name| generation::changed_at(&self.path, name));
            let newest = names
                .iter()
                .rev()
                .find_map(|name| Generation::read(&self.path, name, self.readers));
            self.is_ours(ACTIVE)?;
            if let Some(newest) = newest {
                self.activate(&newest)?;
                self.active = Some(Arc::new(newest));
            }
        }
        // A missing file would be an empty table, and a link to nothing is an unreadable one.
        self.required()
            .try_for_each(|table| self.link_file(table.spec().file))?;
        if self.active.is_none() {
            return self.link_to_tls_unless_local();
        }
        self.sync()?;
        self.remove_old_generations("", Removal::Whole)
    }

    /// Links to the TLS table that may come. There may be a local one, which remains if none comes.
    fn link_to_tls_unless_local(&self) -> Result<(), DirectoryError> {
        let file = Table::Tls.spec().file;
        if !self.tables.contains(&Table::Tls) {
            return Ok(());
        }
        match self.link_file(file) {
            Err(error) if !matches!(error.kind, DirectoryErrorKind::ForeignFile) => Err(error),
            _ => Ok(()),
        }
    }

    /// Activates a generation: links to its files, then the link to it.
    fn activate(&self, generation: &Generation) -> Result<(), DirectoryError> {
        self.link_files(generation)?;
        let next = self.path.join(NEXT);
        self.remove_if_present(&next)?;
        self.disk
            .link(Path::new(&generation.name), &next)
            .map_err(DirectoryErrorKind::system("create it", &next))?;
        let active = self.path.join(ACTIVE);
        self.disk
            .rename(&next, &active)
            .map_err(DirectoryErrorKind::system("replace it", active))
    }

    /// Creates the links to the files of a generation. Links to files that the active one does not have lead to nothing until it
    /// is replaced.
    fn link_files(&self, generation: &Generation) -> Result<(), DirectoryError> {
        generation
            .linked_files()
            .try_for_each(|file| self.link_file(file))
    }

    fn link_file(&self, file: &str) -> Result<(), DirectoryError> {
        if self.is_ours(file)? {
            return Ok(());
        }
        let path = self.path.join(file);
        self.disk
            .link(&target_of(file), &path)
            .map_err(DirectoryErrorKind::system("create it", path))
    }

    /// Removes all generations but the active one, the one that was flushed last, and the one that is being written.
    fn remove_old_generations(&self, staged: &str, removal: Removal) -> Result<(), DirectoryError> {
        let active = self.active.as_ref().map(|active| active.name.as_str());
        for name in self.generations()? {
            let is_needed = [active, self.synced.as_deref(), Some(staged)].contains(&Some(&name));
            if is_needed {
                continue;
            }
            let path = self.path.join(name);
            let removed = match removal {
                Removal::ExceptActiveFiles if self.has_active_file(&path) => self.remove_other_files(&path),
                Removal::ExceptActiveFiles | Removal::Whole => self.disk.remove_directory(&path),
            };
            removed.map_err(DirectoryErrorKind::system("remove it", path))?;
        }
        Ok(())
    }

    /// Whether a generation has a file that is also one of the active generation.
    fn has_active_file(&self, generation: &Path) -> bool {
        Table::ALL
            .into_iter()
            .any(|table| self.is_active_file(&generation.join(table.spec().file)))
    }

    /// Whether a file of a generation is also that of the active generation.
    fn is_active_file(&self, path: &Path) -> bool {
        let Some((active, name)) = self.active.as_ref().zip(path.file_name()) else {
            return false;
        };
        let number = |path: &Path| {
            let metadata = fs::symlink_metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        number(path).is_some_and(|own| number(&self.path.join(&active.name).join(name)) == Some(own))
    }

    /// Removes the files of a generation that the active one does not have.
    fn remove_other_files(&self, generation: &Path) -> io::Result<()> {
        for entry in fs::read_dir(generation)? {
            let path = entry?.path();
            if !self.is_active_file(&path) {
                self.disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Returns the names of all generations, whole or not.
    fn generations(&self) -> Result<Vec<String>, DirectoryError> {
        let error = || DirectoryErrorKind::system("read it", &self.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(error())? {
            let name = entry.map_err(error())?.file_name();
            names.extend(
                name.to_str()
                    .filter(|name| Generation::is_name(name))
                    .map(str::to_owned),
            );
        }
        Ok(names)
    }

    fn remove_if_present(&self, path: &Path) -> Result<(), DirectoryError> {
        if fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
        self.disk
            .remove(path)
            .map_err(DirectoryErrorKind::system("remove it", path))
    }
}

/// Returns the target of the link to a file.
fn target_of(file: &str) -> PathBuf {
    Path::new(ACTIVE).join(file)
}

#[cfg(test)]
pub(crate) mod tests;
