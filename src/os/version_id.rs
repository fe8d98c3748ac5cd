//! Identifies a version of a file by its metadata: the inode number and the time of its last change (ctime).
//!
//! Every write, rename and change of owner or mode gives the file another time, and a file that is renamed over it has
//! another inode. So two equal identifiers mean the same content. Unlike a digest, they reveal nothing about it: with a
//! digest of a file with credentials, passwords could be tried until one fits ([`super::digest`]).
//!
//! Limits: the kernel's file clock advances in ticks of up to 10 ms, so two writes within one tick can leave the same
//! identifier. Some network and FUSE file systems do not keep inode numbers. The device is not part of it, because a
//! container can see the same file with another one.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A version of a file. Displayed as `stat -Lc '%i %.9Z'` prints it: `INODE SECONDS.NANOSECONDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VersionId {
    inode: u64,
    changed: (i64, i64),
}

impl VersionId {
    /// Creates it from an inode number and a time of change, in seconds and nanoseconds since 1970.
    pub(crate) fn new(inode: u64, changed: (i64, i64)) -> Self {
        Self { inode, changed }
    }

    /// Reads that of the file at `path`, through symbolic links. `None` if it does not exist or cannot be read.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self::new(
            metadata.ino(),
            (metadata.ctime(), metadata.ctime_nsec()),
        ))
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanoseconds) = self.changed;
        write!(f, "{} {seconds}.{nanoseconds:09}", self.inode)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::VersionId;

    #[test]
    fn it_is_what_stat_prints_and_another_one_for_a_new_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        fs::write(&path, "one").unwrap();
        let link = root.path().join("link");
        symlink("a", &link).unwrap();
        let id = VersionId::read(&link).unwrap();
        let printed = Command::new("stat")
            .args(["-Lc", "%i %.9Z"])
            .arg(&link)
            .output()
            .unwrap();
        assert_eq!(format!("{id}\n").as_bytes(), printed.stdout);
        fs::write(root.path().join("new"), "one").unwrap();
        fs::rename(root.path().join("new"), &path).unwrap();
        let renamed = VersionId::read(&path);
        assert!(renamed.is_some() && renamed != Some(id));
        fs::remove_file(&path).unwrap();
        assert_eq!(VersionId::read(&link), None);
    }
}
