//! A new file beside the old one, with the same owner, group, mode and attributes, to be renamed over it.
//!
//! Until it is complete, its owner alone may read it. It is gone when it is dropped without having been renamed.

use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::unistd::geteuid;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Old, Place, attributes};
use crate::secret::Secret;

/// In the name of the new file, behind a dot and the name of the old one.
const MARK: &str = ".postmapd-";

/// After how long such a file is taken for one that was left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// The beginning of the names of our new files.
fn mark(place: &Place) -> OsString {
    let mut mark = OsString::from(".");
    mark.push(&place.name);
    mark.push(MARK);
    mark
}

/// Takes away what a loss of power or a SIGKILL left here.
pub(super) fn take_away_what_was_left_behind(place: &Place) {
    let mark = mark(place);
    let Ok(entries) = fs::read_dir(&place.folder) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().as_bytes().starts_with(mark.as_bytes());
        let written = |metadata: Metadata| metadata.modified().ok();
        if is_ours
            && let Some(written) = entry.metadata().ok().and_then(written)
            && SystemTime::now()
                .duration_since(written)
                .is_ok_and(|age| age > LEFT_BEHIND)
        {
            // It is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Why the new file is not in place.
pub(super) enum Obstacle {
    /// Writing in place may do.
    InPlace(io::Error),
    /// It would not, either.
    Final(io::Error),
    /// There is a file now where there was none.
    SomebodyElse,
}

impl Obstacle {
    /// What an error of creating a file, or of renaming it, means.
    fn of_folder(source: io::Error) -> Self {
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::EBUSY | Errno::EXDEV) => {
                Self::InPlace(source)
            }
            _ => Self::Final(source),
        }
    }
}

/// A new file. It is gone when this is dropped, unless it was renamed.
pub(super) struct Beside {
    path: PathBuf,
}

impl Beside {
    /// A new file in the same folder, with the new text, and with everything else of the old one.
    pub(super) fn write(place: &Place, old: &Old, new: &Secret, new_mode: u32) -> Result<Self, Obstacle> {
        let mode = if old.stamp.is_some() { 0o600 } else { new_mode };
        let mut name = mark(place);
        name.push(format!("{:016x}", RandomState::new().build_hasher().finish()));
        let path = place.folder.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(Obstacle::of_folder)?;
        let beside = Beside { path };
        file.write_all(new.expose()).map_err(Obstacle::Final)?;
        if let (Some(stamp), Some(old)) = (&old.stamp, &old.file) {
            let metadata = file.metadata().map_err(Obstacle::Final)?;
            let uid = (metadata.uid() != stamp.uid).then_some(stamp.uid);
            let gid = (metadata.gid() != stamp.gid).then_some(stamp.gid);
            if uid.is_some() || gid.is_some() {
                fchown(&file, uid, gid).map_err(Obstacle::InPlace)?;
            }
            attributes::copy(old.file(), &file).map_err(Obstacle::InPlace)?;
            file.set_permissions(PermissionsExt::from_mode(stamp.mode))
                .map_err(Obstacle::InPlace)?;
        } else if geteuid().is_root() {
            // Whoever owns the folder reads what is in it; a file of root's own would shut the server out.
            let folder = fs::metadata(&place.folder).map_err(Obstacle::Final)?;
            if folder.uid() != 0 {
                fchown(&file, Some(folder.uid()), Some(folder.gid())).map_err(Obstacle::Final)?;
            }
        }
        file.sync_all().map_err(Obstacle::Final)?;
        Ok(beside)
    }

    pub(super) fn rename_to(self, path: &Path, replaces: bool) -> Result<(), Obstacle> {
        if !replaces {
            match renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
                Err(rustix::io::Errno::EXIST) => return Err(Obstacle::SomebodyElse),
                // The file system has no such rename.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
                other => return other.map_err(|error| Obstacle::of_folder(error.into())),
            }
        }
        fs::rename(&self.path, path).map_err(Obstacle::of_folder)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // After a rename there is none.
        let _ = fs::remove_file(&self.path);
    }
}
