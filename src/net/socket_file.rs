//! The file of a UNIX socket that this process bound: its owner, group and mode, and its removal.
//!
//! Whoever can write to the directory cannot have the owner or mode of another file changed, or another file removed, by
//! putting that in the socket's place: the file is held by a handle, and compared before it is removed.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use rustix::fs::{AtFlags, FileType, OFlags, chownat, fstat, open};
use rustix::process::{Gid, Uid};
use tracing::warn;

/// Who may use the UNIX sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    /// The number of the owner; where nobody is named, the user that the server becomes. `None` for whoever starts it.
    pub owner: Option<u32>,
    /// The number of the group. `None` for `postfix` where there is such a group and it may be given.
    pub group: Option<u32>,
    /// The mode, as chmod(1) counts it.
    pub mode: u32,
}

/// The file, removed when dropped if it is still the one that was bound.
pub struct SocketFile {
    path: PathBuf,
    /// To the file itself, wherever it is and whatever is at its path (O_PATH).
    handle: OwnedFd,
    identity: (u64, u64),
}

impl SocketFile {
    /// Of the socket that was just bound at `path`. `None` if something else has been put there since.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = open(path, flags, rustix::fs::Mode::empty())?;
        let about = fstat(&handle)?;
        let is_socket = FileType::from_raw_mode(about.st_mode) == FileType::Socket;
        Ok(is_socket.then_some(Self {
            // The server may change its directory before the end.
            path: std::path::absolute(path)?,
            handle,
            identity: (about.st_dev, about.st_ino),
        }))
    }

    /// Its absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets owner, group and mode. The mode comes last: until then only the server's own user can connect. The log calls
    /// the socket `endpoint`.
    pub(super) fn grant(&self, endpoint: &str, access: &SocketAccess) -> io::Result<()> {
        let chown = |owner: Option<u32>, group: Option<u32>| {
            let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
            chownat(&self.handle, "", owner, group, AtFlags::EMPTY_PATH)
        };
        if access.owner.is_some() || access.group.is_some() {
            chown(access.owner, access.group)?;
        }
        if access.group.is_none()
            && let Ok(Some(postfix)) = Group::from_name("postfix")
            // A directory with its setgid bit has given it already.
            && fstat(&self.handle).map(|about| about.st_gid) != Ok(postfix.gid.as_raw())
            && let Err(error) = chown(None, Some(postfix.gid.as_raw()))
        {
            // No setting asked for it by name, so the server goes on with its own group.
            warn!(
                "{endpoint}: the socket cannot be given to the group postfix ({error}); put the server's user into that \
                 group, or say with --socket-group who may connect"
            );
        }
        // A handle of this kind has no chmod(2) of its own.
        let path = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        fs::set_permissions(path, fs::Permissions::from_mode(access.mode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still = fs::symlink_metadata(&self.path);
        if still.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
