//! Why the directory cannot be used or changed, and what to do.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use postmapd::os::printable::printable;
use thiserror::Error;

/// Why the directory cannot be used or changed. What was active before is still active.
#[derive(Debug, Error)]
#[error("{}: {kind}", printable(path.as_os_str().as_bytes()))]
pub struct DirectoryError {
    /// The directory, or the file in it.
    pub path: PathBuf,
    /// What is wrong.
    pub kind: DirectoryErrorKind,
}

/// The kinds of [`DirectoryError`].
#[derive(Debug, Error)]
pub enum DirectoryErrorKind {
    /// There is no such directory.
    #[error("the directory does not exist; create it for the user of postmapd-follow, or set another dir")]
    Missing,
    /// The path is something else.
    #[error("this is not a directory; set dir to a directory for postmapd-follow alone")]
    NotADirectory,
    /// Another process has the lock.
    #[error("another postmapd-follow, or postmapd relay, uses the directory; stop it, or set another dir")]
    InUse,
    /// A file that this program did not write has a name that it needs.
    #[error(
        "this file is not from postmapd-follow and would be replaced; move it away, or remove the query for it from follow.toml"
    )]
    ForeignFile,
    /// What was read cannot become files.
    #[error("{0}; nothing was published, and the next read is of all rows")]
    Inconsistent(&'static str),
    /// The system reports an error.
    #[error(
        "cannot {operation}: {source}; check the free space and the rights of the user of postmapd-follow"
    )]
    System {
        /// What failed: `write it`.
        operation: &'static str,
        /// The error.
        source: io::Error,
    },
}

impl DirectoryErrorKind {
    pub(super) fn at(self, path: impl Into<PathBuf>) -> DirectoryError {
        DirectoryError {
            path: path.into(),
            kind: self,
        }
    }

    /// Returns a function that converts an error of the system.
    pub(super) fn system(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> DirectoryError {
        move |source| Self::System { operation, source }.at(path)
    }
}
