//! The links of the directory: which are of this program, and which are in the way.

use std::fs;
use std::io::ErrorKind;

use super::error::{DirectoryError, DirectoryErrorKind};
use super::generation::Generation;
use super::{ACTIVE, Directory, target_of};
use crate::engine::Table;

impl Directory {
    /// Returns whether a name in the directory is a link of this program, which may not exist yet. Anything else of this
    /// name is an error.
    pub(super) fn is_ours(&self, name: &str) -> Result<bool, DirectoryError> {
        let path = self.path.join(name);
        match fs::read_link(&path) {
            Ok(target) if name == ACTIVE => match target.to_str() {
                Some(target) if Generation::is_name(target) => Ok(true),
                _ => Err(DirectoryErrorKind::ForeignFile.at(path)),
            },
            Ok(target) if target == target_of(name) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            // EINVAL: not a link.
            Ok(_) => Err(DirectoryErrorKind::ForeignFile.at(path)),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                Err(DirectoryErrorKind::ForeignFile.at(path))
            }
            Err(error) => Err(DirectoryErrorKind::system("read it", path)(error)),
        }
    }

    /// Removes the link to the active TLS table if the next generation has none. Nothing answers from that table, because it has
    /// no entries, and the server would reject a link to nothing.
    pub(super) fn unlink_tls(&self, next: &Generation) -> Result<(), DirectoryError> {
        let has_table = |generation: &Generation| generation.files.contains_key(&Table::Tls);
        let file = Table::Tls.spec().file;
        if has_table(next)
            || !self.active.as_deref().is_some_and(has_table)
            || !self.is_ours(file).unwrap_or(false)
        {
            return Ok(());
        }
        self.remove_if_present(&self.path.join(file))
    }

    /// Removes the links to tables that neither the active generation nor the source has.
    pub(super) fn remove_links_to_nothing(&self) -> Result<(), DirectoryError> {
        for table in Table::ALL {
            let path = self.path.join(table.spec().file);
            let is_link = fs::read_link(&path).is_ok_and(|target| target == target_of(table.spec().file));
            let is_active = self
                .active
                .as_ref()
                .is_some_and(|active| active.files.contains_key(&table));
            if is_link && !is_active && !self.required().any(|required| required == table) {
                self.remove_if_present(&path)?;
            }
        }
        Ok(())
    }
}
