//! Refuses to edit a directory that a program generates: the next change at its source would replace the edit.

use std::fs;

use super::RelayError;
use crate::config::Sources;
use crate::lookup::directory_source::DirectorySource;
use crate::os::printable::printable;
use crate::os::whole_file;

/// Returns an error if the directory has a file that names its source, valid or not.
pub(super) fn reject(sources: &Sources) -> Result<(), RelayError> {
    let path = sources.directory_source();
    if fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    let text = whole_file::open(&path)
        .map_err(whole_file::ReadError::from)
        .and_then(|file| whole_file::read_text(file, whole_file::MAX_TEXT))
        .map_err(|error| error.to_string());
    let source =
        text.and_then(|file| DirectorySource::parse(file.text.expose()).map_err(|error| error.to_string()));
    Err(RelayError::Generated {
        path,
        from: match source {
            Ok(source) => printable(source.source.as_bytes()),
            Err(problem) => format!("a source that is unknown ({problem})"),
        },
    })
}
