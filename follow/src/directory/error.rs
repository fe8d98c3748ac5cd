//! Why the directory cannot be used or changed, and what to do.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use postmapd::os::printable::printable_path;
use thiserror::Error;

/// Why the directory cannot be used or changed. What was active before is still active.
#[derive(Debug, Error)]
#[error("{}: {kind}", printable_path(path))]
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
    /// The path leads to another directory than at the start.
    #[error(
        "the directory is not the one that the program has opened, so it cannot write here; start the program again, as Restart= \
         of its unit does; to empty a directory, remove what is in it and not the directory"
    )]
    Replaced,
    /// The active files were removed or changed.
    #[error(
        "files of the directory have been removed or changed, and no whole copy of them is left; they are written again once the \
         source can be read"
    )]
    Lost,
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
    /// The server would not read the file.
    #[error(
        "the table has more than {0} MiB, which is the most that postmapd reads; remove rows, or correct the query"
    )]
    TooLarge(u64),
    /// The system reports an error.
    #[error("cannot {operation}: {source}; {}", what_to_do(source))]
    System {
        /// What failed: `write it`.
        operation: &'static str,
        /// The error.
        source: io::Error,
    },
}

/// Returns what to do about an error of the system.
fn what_to_do(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull => {
            "free space there: all tables are written again before the old files are removed"
        }
        ErrorKind::QuotaExceeded => "raise the quota of the user of postmapd-follow",
        ErrorKind::FileTooLarge => {
            "raise the file size limit of postmapd-follow (LimitFSIZE= of its unit, or ulimit -f)"
        }
        ErrorKind::PermissionDenied => {
            "make the user of postmapd-follow the owner of the directory dir and of the files in it"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "mount the file system of dir writable, or name dir in ReadWritePaths= of the unit"
        }
        _ => "check the file system of dir, and the system log",
    }
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
