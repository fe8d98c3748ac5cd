//! What another program has removed or changed in the directory is restored without the source: from the active generation, if it is
//! whole, or else as another generation from its files, which are held open ([`super::held`]).
//!
//! Limits: a file that was written in place is the same file under all its names, so nothing whole is left of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::error::{DirectoryError, DirectoryErrorKind};
use super::generation::{Generation, KEY_FILE};
use super::held::HeldFiles;
use super::place::Place;
use super::{ACTIVE, Directory, NEXT};

/// The result of [`Directory::restore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The files are where they were published again.
    Changed,
    /// They were there.
    Unchanged,
}

impl Directory {
    /// Returns the place of the directory, for a check whether it is still the one that was opened.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Returns whether the active files are where they were published, and as they were. Other programs may have removed or changed
    /// them. Without an active generation, nothing is missing.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let Some(active) = &self.active else { return true };
        let held = self.held.as_ref();
        self.is_linked(active) && held.is_none_or(|held| held.are_in(&self.path.join(&active.name)))
    }

    /// Restores the active files from what is left of them.
    ///
    /// # Errors
    ///
    /// [`DirectoryErrorKind::Lost`] if no whole copy is left. Then the links to tables that are missing or empty lead to nothing:
    /// the server would treat such a table as one without entries, and keeps what it has read if it cannot read the table.
    pub fn restore(&mut self) -> Result<Restored, DirectoryError> {
        let Some(active) = self.active.clone() else {
            return Ok(Restored::Unchanged);
        };
        self.place.check()?;
        self.is_ours(ACTIVE)?;
        let found = Generation::read(&self.path, &active.name, self.readers);
        if found.is_some_and(|found| found.files == active.files) {
            let is_linked = self.is_linked(&active);
            if !is_linked {
                self.activate(&active)?;
            }
            self.hold();
            return Ok(if is_linked {
                Restored::Unchanged
            } else {
                Restored::Changed
            });
        }
        if !self.write_again(&active)? {
            self.unlink_missing_tables(&active)?;
            return Err(DirectoryErrorKind::Lost.at(&self.path));
        }
        Ok(Restored::Changed)
    }

    /// Opens the active files.
    pub(super) fn hold(&mut self) {
        // Without them, only missing files are detected, and they cannot be restored.
        self.held = self.active.as_ref().and_then(|active| {
            let names = active.linked_files().chain([KEY_FILE]);
            HeldFiles::open(&self.path.join(&active.name), names).ok()
        });
    }

    fn is_linked(&self, active: &Generation) -> bool {
        fs::read_link(self.path.join(ACTIVE)).is_ok_and(|target| target == Path::new(&active.name))
            && active.linked_files().all(|file| self.path.join(file).exists())
    }

    /// Makes another generation of the active files that are held open the active one. Returns whether they are whole.
    fn write_again(&mut self, active: &Generation) -> Result<bool, DirectoryError> {
        let Some(held) = self.held.take() else {
            return Ok(false);
        };
        let mut staging = match self.stage() {
            Ok(staging) => staging,
            Err(error) => {
                self.held = Some(held);
                return Err(error);
            }
        };
        self.staged = None;
        let is_whole = staging.copy_held(&held);
        self.held = Some(held);
        if !is_whole? {
            return Ok(false);
        }
        let new = staging.write_generation(&active.provenance)?;
        // As for the first generation: nothing that was flushed may be left.
        let activated = self.flush_generation(&new).and_then(|()| self.activate(&new));
        if let Err(error) = activated {
            // What cannot be removed now is removed after the next flush.
            let _ = self.remove_if_present(&self.path.join(NEXT));
            return Err(error);
        }
        staging.keep();
        self.active = Some(Arc::new(new));
        self.synced = None;
        self.hold();
        Ok(true)
    }

    fn unlink_missing_tables(&self, active: &Generation) -> Result<(), DirectoryError> {
        let is_missing = active.files.iter().any(|(table, file)| {
            let found = fs::metadata(self.path.join(table.spec().file));
            file.counts.entries > 0 && found.map_or(true, |found| found.len() == 0)
        });
        if is_missing {
            self.remove_if_present(&self.path.join(ACTIVE))?;
        }
        let mut tables = active.files.keys();
        tables.try_for_each(|table| self.link_file(table.spec().file))
    }
}
