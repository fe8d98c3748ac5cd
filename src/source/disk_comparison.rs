//! Which files on disk differ from the active configuration.
//!
//! Each read says which contents differ. What changes after it is seen by metadata, so that a question right after an edit
//! is not answered with the state before: the reload thread waits for further edits first.
//!
//! Limits: the thread that asks may have fewer rights than the one that reads the files. Where it may not look at a file,
//! the last read decides.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::path_walk::PathStat;

/// What the last read saw of each file, in the order of [`super::load::paths`].
#[derive(Clone, Debug, Default)]
pub(super) struct LastRead {
    /// Whether its content differs from the active one.
    pub(super) differs: Vec<bool>,
    /// The metadata of its path.
    pub(super) stats: Vec<PathStat>,
}

/// Compares the files on disk with what was read last.
#[derive(Default)]
pub(super) struct DiskComparison {
    last_read: Mutex<LastRead>,
    /// Held while metadata is read, which may take long on a network.
    comparing: Mutex<()>,
}

impl DiskComparison {
    /// Records what a read saw.
    pub(super) fn record(&self, last_read: LastRead) {
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner) = last_read;
    }

    /// Returns which of these files, in the order of [`super::load::paths`], differ or have changed since the last read.
    /// Reads the metadata of all, unless another call is doing that.
    pub(super) fn differing(&self, files: Vec<PathBuf>) -> Vec<PathBuf> {
        let LastRead { differs, stats } = {
            let last_read = self.last_read.lock();
            last_read.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let comparing = self.comparing.try_lock().ok();
        let is_other = |(number, path): &(usize, PathBuf)| {
            let stat = stats.get(*number).filter(|_| comparing.is_some());
            differs.get(*number).copied().unwrap_or_default()
                || stat.is_some_and(|stat| has_changed(path, stat))
        };
        let files = files.into_iter().enumerate();
        files.filter(is_other).map(|(_, path)| path).collect()
    }
}

/// Whether the metadata of this path is another one, as far as this thread may read it.
fn has_changed(path: &Path, before: &PathStat) -> bool {
    let is_denied =
        || fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    PathStat::read(path) != *before && !is_denied()
}
