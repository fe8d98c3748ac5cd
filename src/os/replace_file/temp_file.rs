//! The temporary file: created in the directory of the old file, with its owner, group, mode and attributes, and
//! renamed over it.
//!
//! Until it is complete, only its owner can read it. It is removed when dropped without a rename.
//!
//! The crate `tempfile` creates, removes and renames such files by path. Here everything uses the descriptor of the
//! directory that [`super::location`] has resolved: in a path, another user could replace a link between two steps.
//! What else is needed is missing in that crate: removing files that a SIGKILL left behind, owner and attributes, and a
//! rename that replaces nothing where the file system has none.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, fchown};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::geteuid;
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, RenameFlags, XattrFlags, fgetxattr, flistxattr, fsetxattr, openat, renameat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::{Location, OldFile};
use crate::os::secret::Secret;

/// Separates the name of the old file, after a leading dot, from random digits.
const TEMP_FILE_INFIX: &str = ".postmapd-";

/// The maximum size in bytes of all names of extended attributes, or of one value, on Linux.
const MAX_XATTR_SIZE: usize = 65_536;

/// The age from which a temporary file is stale.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// Returns the prefix of the names of temporary files.
fn temp_file_prefix(location: &Location) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(&location.name);
    prefix.push(TEMP_FILE_INFIX);
    prefix
}

/// Removes temporary files that a loss of power or a SIGKILL left behind. Errors are ignored.
pub(super) fn remove_stale_temp_files(location: &Location) {
    let prefix = temp_file_prefix(location);
    let Ok(entries) = Dir::read_from(&location.directory) else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_bytes().starts_with(prefix.as_bytes())
            && let Ok(metadata) = statat(&location.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            && let Ok(written) = u64::try_from(metadata.st_mtime)
            && now.saturating_sub(Duration::from_secs(written)) > STALE_AFTER
        {
            // A file that stays does no harm.
            let _ = unlinkat(&location.directory, name, AtFlags::empty());
        }
    }
}

/// Why the new file is not in place.
pub(super) enum WriteError {
    /// It could not be created or renamed. Writing in place may succeed.
    InPlace(io::Error),
    /// Writing in place would fail, too.
    Final(io::Error),
    /// There was no file before, and another program created one.
    CreatedMeanwhile,
}

impl WriteError {
    /// Classifies an error of creating or renaming a file.
    fn classify(source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::BUSY | Errno::XDEV) => {
                Self::InPlace(source)
            }
            _ => Self::Final(source),
        }
    }
}

/// A temporary file. It is removed when dropped, unless it was renamed.
pub(super) struct TempFile<'a> {
    location: &'a Location,
    name: OsString,
}

impl<'a> TempFile<'a> {
    /// Creates it with the new text, and with the owner, group, mode and attributes of the old file.
    pub(super) fn write(
        location: &'a Location,
        old: &OldFile,
        new: &Secret,
        new_mode: u32,
    ) -> Result<Self, WriteError> {
        let mode = if old.metadata.is_some() { 0o600 } else { new_mode };
        let mut name = temp_file_prefix(location);
        name.push(format!("{:016x}", RandomState::new().build_hasher().finish()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&location.directory, &name, flags, Mode::from_raw_mode(mode))
            .map_err(|error| WriteError::classify(error.into()))?;
        let temp_file = TempFile { location, name };
        let mut file = File::from(file);
        file.write_all(new.expose()).map_err(WriteError::Final)?;
        if let (Some(old_metadata), Some(old)) = (&old.metadata, &old.file) {
            let metadata = file.metadata().map_err(WriteError::Final)?;
            let uid = (metadata.uid() != old_metadata.uid()).then_some(old_metadata.uid());
            let gid = (metadata.gid() != old_metadata.gid()).then_some(old_metadata.gid());
            if uid.is_some() || gid.is_some() {
                fchown(&file, uid, gid).map_err(WriteError::InPlace)?;
            }
            copy_attributes(old.file(), &file).map_err(WriteError::InPlace)?;
            file.set_permissions(old_metadata.permissions())
                .map_err(WriteError::InPlace)?;
        } else if geteuid().is_root() {
            // The owner of the directory reads its files; the server could not read a file of root.
            let directory = location.directory.metadata().map_err(WriteError::Final)?;
            if directory.uid() != 0 {
                fchown(&file, Some(directory.uid()), Some(directory.gid())).map_err(WriteError::Final)?;
            }
        }
        file.sync_all().map_err(WriteError::Final)?;
        Ok(temp_file)
    }

    /// Renames it to the file: over the old one if `replaces`, and otherwise only where there is none.
    pub(super) fn rename(self, replaces: bool) -> Result<(), WriteError> {
        let Location { directory, name, .. } = self.location;
        if !replaces {
            match renameat_with(directory, &self.name, directory, name, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => return Err(WriteError::CreatedMeanwhile),
                // The file system does not support it.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                other => return other.map_err(|error| WriteError::classify(error.into())),
            }
        }
        renameat(directory, &self.name, directory, name).map_err(|error| WriteError::classify(error.into()))
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        // After a rename there is no such file.
        let _ = unlinkat(&self.location.directory, &self.name, AtFlags::empty());
    }
}

/// Copies all extended attributes: access control lists, labels, and those of users. Labels that only the system may
/// set are left to the system.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0; MAX_XATTR_SIZE];
    let length = match flistxattr(from, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|c| *c == 0).filter(|name| !name.is_empty()) {
        match copy_attribute(OsStr::from_bytes(name), from, to) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::NOTSUP | Errno::ACCESS) if !name.starts_with(b"system.") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_attribute(name: &OsStr, from: &File, to: &File) -> rustix::io::Result<()> {
    let mut value = vec![0; MAX_XATTR_SIZE];
    let length = fgetxattr(from, name, value.as_mut_slice())?;
    fsetxattr(
        to,
        name,
        value.get(..length).unwrap_or_default(),
        XattrFlags::empty(),
    )
}
