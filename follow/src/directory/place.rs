//! Whether the path still leads to the directory that was opened. The lock and the sandbox of the program are those of that one.

use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{DirectoryError, DirectoryErrorKind};

/// A path, and the directory to which it led at the start.
#[derive(Clone)]
pub struct Place {
    path: PathBuf,
    /// Also the lock.
    opened: Arc<File>,
}

impl Place {
    pub(super) fn new(path: &Path, opened: File) -> Self {
        Self {
            path: path.to_owned(),
            opened: Arc::new(opened),
        }
    }

    /// # Errors
    ///
    /// There is nothing at the path ([`DirectoryErrorKind::Missing`]), or something else ([`DirectoryErrorKind::Replaced`]).
    pub fn check(&self) -> Result<(), DirectoryError> {
        let error = || DirectoryErrorKind::system("open it", &self.path);
        let number = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        let found = match fs::metadata(&self.path) {
            Ok(found) => found,
            Err(missing) if missing.kind() == ErrorKind::NotFound => {
                return Err(DirectoryErrorKind::Missing.at(&self.path));
            }
            Err(other) => return Err(error()(other)),
        };
        let opened = self.opened.metadata().map_err(error())?;
        if number(&found) == number(&opened) {
            Ok(())
        } else {
            Err(DirectoryErrorKind::Replaced.at(&self.path))
        }
    }
}
