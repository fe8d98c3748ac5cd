//! What stands under the name of one source, read and not judged: a text, nothing, or something that cannot be read.
//!
//! These three are kept apart, because nothing is an empty table, and what cannot be read is a table that cannot tell.

use std::fs::{self, File};
use std::hash::{Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::ledger::Version;
use crate::lookup::table::Table;
use crate::lookup::table::spec::TableSpec;
use crate::lookup::table::text::Text;
use crate::os::secret::Secret;
use crate::os::whole_file::{self, ReadError, WholeFile};

/// What stands under the name of one source.
pub(super) enum Content<T = Secret> {
    /// This text.
    Text(WholeFile<T>),
    /// Nothing: the folder is there, and has no such name.
    Missing,
    /// Something that cannot be read.
    Unreadable(ReadError),
}

/// The directory of the tables, opened once for all that is read of it in one go: whatever is exchanged for it
/// meanwhile, and exchanged back, what is read is of one directory.
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

    /// Opens the file at `path`, by way of the directory if it is in there.
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

impl<T> Content<T> {
    /// What stands at `path`, of which `read` has just been tried.
    fn of(path: &Path, read: Result<WholeFile<T>, ReadError>) -> Self {
        match read {
            Ok(file) => Self::Text(file),
            Err(error) if error.is_not_found() && is_missing(path) => Self::Missing,
            Err(error) => Self::Unreadable(error),
        }
    }

    /// Adds to a digest what tells this content from another, with the kind, so that no two in a row can be taken for
    /// two others.
    pub(super) fn digest<D: Hasher>(&self, digest: &mut D, of_text: impl FnOnce(&T, &mut D)) {
        match self {
            Self::Text(file) => {
                digest.write_u8(0);
                // It is a finding, and a finding must be news.
                digest.write_u8(u8::from(file.is_orphan()));
                of_text(&file.text, digest);
            }
            Self::Missing => digest.write_u8(1),
            Self::Unreadable(error) => {
                digest.write_u8(2);
                digest_bytes(error.to_string().as_bytes(), digest);
            }
        }
    }

    /// Whether there is not one byte.
    pub(super) fn is_gone(&self, is_empty: impl FnOnce(&T) -> bool) -> bool {
        match self {
            Self::Text(file) => is_empty(&file.text),
            Self::Missing => true,
            Self::Unreadable(_) => false,
        }
    }

    /// Whether the system has failed to read it.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self, Self::Unreadable(ReadError::Io(_)))
    }

    /// Whether somebody may be about to go on with writing it.
    pub(super) fn is_fresh(&self) -> bool {
        matches!(self, Self::Text(file) if file.is_fresh())
    }

    pub(super) fn is_orphan(&self) -> bool {
        matches!(self, Self::Text(file) if file.is_orphan())
    }

    /// This content of the file `path`, of which `of_text` makes the digest.
    pub(super) fn version(
        &self,
        path: &Path,
        table: Option<&'static TableSpec>,
        of_text: impl FnOnce(&T) -> Option<String>,
    ) -> Version {
        Version {
            path: path.to_owned(),
            table,
            is_there: matches!(self, Self::Text(_)),
            content: 0,
            digest: match self {
                Self::Text(file) => of_text(&file.text),
                Self::Missing | Self::Unreadable(_) => None,
            },
            errors_of_table: 0,
        }
    }

    /// Closes the file.
    pub(super) fn close(&mut self) {
        if let Self::Text(file) = self {
            file.close();
        }
    }

    pub(super) fn is_as_it_was(&self) -> bool {
        match self {
            Self::Text(file) => file.is_as_it_was(),
            Self::Missing | Self::Unreadable(_) => true,
        }
    }
}

impl Content<Secret> {
    /// Wipes the text, and keeps the rest.
    pub(super) fn forget_text(&mut self) {
        if let Self::Text(file) = self {
            file.text = Secret::default();
        }
    }

    /// Reads a small file: settings or a secret.
    pub(super) fn read(path: &Path, directory: &Directory<'_>) -> Self {
        let read = directory.open_file(path).map_err(ReadError::from);
        Self::of(
            path,
            read.and_then(|file| whole_file::read_text(file, whole_file::MAX_TEXT)),
        )
    }
}

impl Content<Text> {
    /// Reads the text of a table, of which `previous` is what is in force.
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
                whole_file::read_as(file, whole_file::MAX_FILE, |file, len| {
                    let text = Text::read(file, len, &previous, hasher)?;
                    let extent = text.extent();
                    Ok((text, extent))
                })
            });
        Self::of(path, read)
    }
}

pub(super) fn digest_bytes(bytes: &[u8], digest: &mut impl Hasher) {
    digest.write_usize(bytes.len());
    digest.write(bytes);
}

/// Whether a file that was not found is not there, for certain: its folder is, and no link of its name.
fn is_missing(path: &Path) -> bool {
    let no_such_name = fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    no_such_name && fs::read_dir(folder.unwrap_or(Path::new("."))).is_ok()
}
