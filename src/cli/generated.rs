//! Finds out whether a program generates the directory: the next change at its source would replace an edit.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use crate::config::Sources;
use crate::lookup::directory_source::DirectorySource;
use crate::os::printable::{printable, printable_path};
use crate::os::whole_file;

/// A directory that a program generates.
#[derive(Debug)]
pub struct Generated {
    /// The file that says so.
    path: PathBuf,
    /// The source, as far as it can be shown.
    from: String,
}

impl Generated {
    /// Returns whether the directory has a file that names its source, valid or not.
    pub(super) fn find(sources: &Sources) -> Option<Self> {
        let path = sources.directory_source();
        fs::symlink_metadata(&path).ok()?;
        let text = whole_file::open(&path)
            .map_err(whole_file::ReadError::from)
            .and_then(|file| whole_file::read_text(file, whole_file::MAX_TEXT))
            .map_err(|error| error.to_string());
        let source = text
            .and_then(|file| DirectorySource::parse(file.text.expose()).map_err(|error| error.to_string()));
        let from = match source {
            Ok(source) => printable(source.source.as_bytes()),
            Err(problem) => format!("a source that is unknown ({problem})"),
        };
        Some(Self { path, from })
    }
}

impl fmt::Display for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, from) = (printable_path(&self.path), &self.from);
        write!(
            f,
            "{path} says that this directory is written from {from}, which would replace the edit; make the change there"
        )
    }
}
