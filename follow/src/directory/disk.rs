//! The operations that change the disk. Each is a step after which the tests end the program or cut the power.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

/// Changes of the disk.
pub(super) trait Disk: Send + Sync {
    /// Creates a directory with this mode, regardless of the umask.
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Creates an empty file with this mode, regardless of the umask.
    fn create_file(&self, path: &Path, mode: u32) -> io::Result<File>;

    /// Appends to a file that was created here.
    fn append(&self, file: &mut File, content: &[u8]) -> io::Result<()>;

    /// Gives a file a second name.
    fn hard_link(&self, file: &Path, path: &Path) -> io::Result<()>;

    /// Creates a symbolic link.
    fn link(&self, target: &Path, path: &Path) -> io::Result<()>;

    /// Renames a link over another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Flushes a file or a directory to the disk.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Removes a file or a link.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with its files.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
}

/// The disk of the system.
pub(super) struct System;

impl Disk for System {
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().mode(mode).create(path)?;
        // The set-group-ID bit of the parent is inherited, and a change of the mode keeps it only if it is included, which
        // RestrictSUIDSGID= of the unit denies. With the umask of the unit, no change is necessary.
        let given = fs::metadata(path)?.permissions().mode();
        if given & 0o777 == mode {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(mode | given & 0o2000))
    }

    fn create_file(&self, path: &Path, mode: u32) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(file)
    }

    fn append(&self, file: &mut File, content: &[u8]) -> io::Result<()> {
        file.write_all(content)
    }

    fn hard_link(&self, file: &Path, path: &Path) -> io::Result<()> {
        fs::hard_link(file, path)
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        symlink(target, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}
