//! Why the kernel may not report every change of a file, so that changes are found by polling as well.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs;
use tracing::warn;

use crate::os::printable::printable_path;

/// Why changes may go unreported.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PollingReason {
    /// The kernel does not watch the files.
    NotWatched {
        error: String,
        /// What to do about it, if that is known.
        help: Option<&'static str>,
    },
    /// A directory is on a file system that does not report every change.
    FileSystem {
        directory: String,
        file_system: &'static str,
    },
}

impl PollingReason {
    /// Returns the reason if `notify` cannot watch.
    pub(super) fn not_watched(error: &notify::Error) -> Self {
        Self::NotWatched {
            error: error.to_string(),
            help: help(error),
        }
    }

    /// Returns a reason to poll if `path` is on a file system that does not report every change: one that other hosts can write
    /// to, or an overlay.
    pub(super) fn of_file_system(path: &Path) -> Option<Self> {
        // Magic numbers of statfs(2) that nix does not name.
        const CIFS: i64 = 0xFF53_4D42;
        const SMB2: i64 = 0xFE53_4D42;
        const NINE_P: i64 = 0x0102_1997;
        const CEPH: i64 = 0x00C3_6400;
        let unreliable = [
            (statfs::NFS_SUPER_MAGIC.0, "NFS"),
            (statfs::SMB_SUPER_MAGIC.0, "SMB"),
            (CIFS, "SMB"),
            (SMB2, "SMB"),
            (NINE_P, "9P"),
            (CEPH, "Ceph"),
            (statfs::AFS_SUPER_MAGIC.0, "AFS"),
            (statfs::FUSE_SUPER_MAGIC.0, "FUSE"),
            (statfs::OVERLAYFS_SUPER_MAGIC.0, "overlay"),
        ];
        let kind = statfs::statfs(path).ok()?.filesystem_type().0;
        let (_, file_system) = unreliable.into_iter().find(|(magic, _)| *magic == kind)?;
        Some(Self::FileSystem {
            directory: printable_path(path),
            file_system,
        })
    }

    /// Logs it.
    pub(super) fn log(&self) {
        match self {
            Self::NotWatched { error, help } => warn!(
                %error,
                help = help.map(display),
                "cannot watch the files; finding changes by polling"
            ),
            Self::FileSystem {
                directory,
                file_system,
            } => warn!(
                %directory,
                %file_system,
                "file system does not report every change; finding changes by polling as well"
            ),
        }
    }
}

/// Returns what to do if the kernel does not watch because of one of its limits (inotify(7)) or of permissions.
fn help(error: &notify::Error) -> Option<&'static str> {
    let errno = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => Some(Errno::ENOSPC),
        notify::ErrorKind::Io(error) => error.raw_os_error().map(Errno::from_raw),
        _ => None,
    };
    match errno {
        Some(Errno::ENOSPC) => Some("raise fs.inotify.max_user_watches"),
        Some(Errno::EMFILE) => Some(
            "raise fs.inotify.max_user_instances, or the limit of open files (LimitNOFILE= in a systemd unit, \
             --ulimit nofile= in Docker)",
        ),
        Some(Errno::ENFILE) => Some("raise fs.file-max"),
        Some(Errno::EACCES) => Some(
            "give the server's user read permission on that directory, not only search permission (chmod or chgrp)",
        ),
        _ => None,
    }
}
