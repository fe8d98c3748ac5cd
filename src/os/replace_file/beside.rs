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

use super::{Old, Place};
use crate::os::secret::Secret;

/// Separates the name of the old file, after a leading dot, from random digits.
const MARK: &str = ".postmapd-";

/// The maximum size in bytes of all names of extended attributes, or of one value, on Linux.
const MOST_OF_ATTRIBUTES: usize = 65_536;

/// The age from which a temporary file is stale.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// Returns the prefix of the names of temporary files.
fn mark(place: &Place) -> OsString {
    let mut mark = OsString::from(".");
    mark.push(&place.name);
    mark.push(MARK);
    mark
}

/// Removes temporary files that a loss of power or a SIGKILL left behind. Errors are ignored.
pub(super) fn take_away_what_was_left_behind(place: &Place) {
    let mark = mark(place);
    let Ok(entries) = Dir::read_from(&place.folder) else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_bytes().starts_with(mark.as_bytes())
            && let Ok(about) = statat(&place.folder, name, AtFlags::SYMLINK_NOFOLLOW)
            && let Ok(written) = u64::try_from(about.st_mtime)
            && now.saturating_sub(Duration::from_secs(written)) > LEFT_BEHIND
        {
            // A file that stays does no harm.
            let _ = unlinkat(&place.folder, name, AtFlags::empty());
        }
    }
}

/// Why the new file is not in place.
pub(super) enum Obstacle {
    /// It could not be created or renamed. Writing in place may succeed.
    InPlace(io::Error),
    /// Writing in place would fail, too.
    Final(io::Error),
    /// There was no file before, and another program created one.
    SomebodyElse,
}

impl Obstacle {
    /// Classifies an error of creating or renaming a file.
    fn of_folder(source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::BUSY | Errno::XDEV) => {
                Self::InPlace(source)
            }
            _ => Self::Final(source),
        }
    }
}

/// A temporary file. It is removed when dropped, unless it was renamed.
pub(super) struct Beside<'a> {
    place: &'a Place,
    name: OsString,
}

impl<'a> Beside<'a> {
    /// Creates it with the new text, and with the owner, group, mode and attributes of the old file.
    pub(super) fn write(place: &'a Place, old: &Old, new: &Secret, new_mode: u32) -> Result<Self, Obstacle> {
        let mode = if old.metadata.is_some() { 0o600 } else { new_mode };
        let mut name = mark(place);
        name.push(format!("{:016x}", RandomState::new().build_hasher().finish()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&place.folder, &name, flags, Mode::from_raw_mode(mode))
            .map_err(|error| Obstacle::of_folder(error.into()))?;
        let beside = Beside { place, name };
        let mut file = File::from(file);
        file.write_all(new.expose()).map_err(Obstacle::Final)?;
        if let (Some(wanted), Some(old)) = (&old.metadata, &old.file) {
            let metadata = file.metadata().map_err(Obstacle::Final)?;
            let uid = (metadata.uid() != wanted.uid()).then_some(wanted.uid());
            let gid = (metadata.gid() != wanted.gid()).then_some(wanted.gid());
            if uid.is_some() || gid.is_some() {
                fchown(&file, uid, gid).map_err(Obstacle::InPlace)?;
            }
            copy_attributes(old.file(), &file).map_err(Obstacle::InPlace)?;
            file.set_permissions(wanted.permissions())
                .map_err(Obstacle::InPlace)?;
        } else if geteuid().is_root() {
            // The owner of the directory reads its files; the server could not read a file of root.
            let folder = place.folder.metadata().map_err(Obstacle::Final)?;
            if folder.uid() != 0 {
                fchown(&file, Some(folder.uid()), Some(folder.gid())).map_err(Obstacle::Final)?;
            }
        }
        file.sync_all().map_err(Obstacle::Final)?;
        Ok(beside)
    }

    /// Renames it to the file: over the old one if `replaces`, and otherwise only where there is none.
    pub(super) fn rename(self, replaces: bool) -> Result<(), Obstacle> {
        let Place { folder, name, .. } = self.place;
        if !replaces {
            match renameat_with(folder, &self.name, folder, name, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => return Err(Obstacle::SomebodyElse),
                // The file system does not support it.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                other => return other.map_err(|error| Obstacle::of_folder(error.into())),
            }
        }
        renameat(folder, &self.name, folder, name).map_err(|error| Obstacle::of_folder(error.into()))
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        // After a rename there is no such file.
        let _ = unlinkat(&self.place.folder, &self.name, AtFlags::empty());
    }
}

/// Copies all extended attributes: access control lists, labels, and those of users. Labels that only the system may
/// set are left to the system.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0; MOST_OF_ATTRIBUTES];
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
    let mut value = vec![0; MOST_OF_ATTRIBUTES];
    let length = fgetxattr(from, name, value.as_mut_slice())?;
    fsetxattr(
        to,
        name,
        value.get(..length).unwrap_or_default(),
        XattrFlags::empty(),
    )
}
