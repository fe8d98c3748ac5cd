//! One source as it was read, not evaluated yet: a text, missing, or unreadable.
//!
//! The three are kept apart, because a missing table is empty, and an unreadable table cannot tell.

use std::fs::{self, File};
use std::hash::{Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::reload_status::FileVersion;
use crate::lookup::table::Table;
use crate::lookup::table::spec::TableSpec;
use crate::lookup::table::text::Text;
use crate::os::secret::Secret;
use crate::os::whole_file::{self, ReadError, WholeFile};

/// What was found at the path of a source.
pub(super) enum SourceFile<T = Secret> {
    /// A file with this text.
    Text(WholeFile<T>),
    /// Nothing: the directory exists, and has no such name.
    Missing,
    /// Something that cannot be read.
    Unreadable(ReadError),
}

/// The directory of the tables, opened once for a whole read: even if another directory takes its place meanwhile, all
/// tables are read from the same one.
pub(super) struct Directory<'p> {
    path: &'p Path,
    handle: Result<OwnedFd, Errno>,
}

impl<'p> Directory<'p> {
    pub(super) fn open(path: &'p Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self {
            path,
            handle: rustix::fs::open(
                if path.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    path
                },
                flags,
                Mode::empty(),
            ),
        }
    }

    /// Opens the file at `path`, through the handle if it is in the directory.
    fn open_file(&self, path: &Path) -> io::Result<File> {
        let Some(name) = path.file_name().filter(|_| path.parent() == Some(self.path)) else {
            return whole_file::open(path);
        };
        let handle = self.handle.as_ref().map_err(|error| io::Error::from(*error))?;
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(handle, name, flags, Mode::empty())?.into())
    }
}

impl<T> SourceFile<T> {
    /// Takes the result of reading `path`.
    fn from_result(path: &Path, read: Result<WholeFile<T>, ReadError>) -> Self {
        match read {
            Ok(file) => Self::Text(file),
            Err(error) if error.is_not_found() && is_missing(path) => Self::Missing,
            Err(error) => Self::Unreadable(error),
        }
    }

    /// Adds the kind and the content to a digest, so that no two successive sources can be confused with two others.
    pub(super) fn digest<D: Hasher>(&self, digest: &mut D, digest_text: impl FnOnce(&T, &mut D)) {
        match self {
            Self::Text(file) => {
                digest.write_u8(0);
                // It causes a finding, which must change the digest.
                digest.write_u8(u8::from(file.is_unlinked()));
                digest_text(&file.text, digest);
            }
            Self::Missing => digest.write_u8(1),
            Self::Unreadable(error) => {
                digest.write_u8(2);
                digest_bytes(error.to_string().as_bytes(), digest);
            }
        }
    }

    /// Whether it is missing or has no byte.
    pub(super) fn is_empty_or_missing(&self, is_empty: impl FnOnce(&T) -> bool) -> bool {
        match self {
            Self::Text(file) => is_empty(&file.text),
            Self::Missing => true,
            Self::Unreadable(_) => false,
        }
    }

    /// Whether the system failed to read it.
    pub(super) fn has_io_error(&self) -> bool {
        matches!(self, Self::Unreadable(ReadError::Io(_)))
    }

    /// Whether it was written to so recently that its writer may continue.
    pub(super) fn is_recently_modified(&self) -> bool {
        matches!(self, Self::Text(file) if file.is_recently_modified())
    }

    pub(super) fn is_unlinked(&self) -> bool {
        matches!(self, Self::Text(file) if file.is_unlinked())
    }

    /// Returns the state of the file at `path` with this content. `digest_text` makes its digest.
    pub(super) fn version(
        &self,
        path: &Path,
        table: Option<&'static TableSpec>,
        digest_text: impl FnOnce(&T) -> Option<String>,
    ) -> FileVersion {
        FileVersion {
            path: path.to_owned(),
            table,
            is_readable: matches!(self, Self::Text(_)),
            content: 0,
            digest: match self {
                Self::Text(file) => digest_text(&file.text),
                Self::Missing | Self::Unreadable(_) => None,
            },
            table_errors: 0,
        }
    }

    /// Closes the file.
    pub(super) fn close(&mut self) {
        if let Self::Text(file) = self {
            file.close();
        }
    }

    pub(super) fn is_unchanged(&self) -> bool {
        match self {
            Self::Text(file) => file.is_unchanged(),
            Self::Missing | Self::Unreadable(_) => true,
        }
    }
}

impl SourceFile<Secret> {
    /// Wipes the text, and keeps everything else.
    pub(super) fn wipe_text(&mut self) {
        if let Self::Text(file) = self {
            file.text = Secret::default();
        }
    }

    /// Reads a small file: settings or a secret.
    pub(super) fn read(path: &Path, directory: &Directory<'_>) -> Self {
        let read = directory.open_file(path).map_err(ReadError::from);
        Self::from_result(
            path,
            read.and_then(|file| whole_file::read_text(file, whole_file::MAX_TEXT)),
        )
    }
}

impl SourceFile<Text> {
    /// Reads the text of a table. What equals the active table `previous` shares its memory.
    pub(super) fn read(
        path: &Path,
        directory: &Directory<'_>,
        previous: Option<&Table>,
        hasher: &RandomState,
    ) -> Self {
        let previous: Vec<_> = previous.into_iter().flat_map(Table::blocks).cloned().collect();
        let read = directory
            .open_file(path)
            .map_err(ReadError::from)
            .and_then(|file| {
                whole_file::read_with(file, whole_file::MAX_FILE, |file, len| {
                    let text = Text::read(file, len, &previous, hasher)?;
                    let extent = text.extent();
                    Ok((text, extent))
                })
            });
        Self::from_result(path, read)
    }
}

pub(super) fn digest_bytes(bytes: &[u8], digest: &mut impl Hasher) {
    digest.write_usize(bytes.len());
    digest.write(bytes);
}

/// Whether a file that was not found is missing for certain: its directory is readable, and has no such name.
fn is_missing(path: &Path) -> bool {
    let no_such_name = fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let directory = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty());
    no_such_name && fs::read_dir(directory.unwrap_or(Path::new("."))).is_ok()
}
