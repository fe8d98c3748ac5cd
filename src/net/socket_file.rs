//! The file of a UNIX socket that this process bound: owner, group, mode, and removal.
//!
//! A user with write access to the directory may replace the socket by another file, but that file is neither changed
//! nor removed: changes go through a handle, and the file is compared before it is removed.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use rustix::fs::{AtFlags, FileType, OFlags, chownat, fstat};
use rustix::process::{Gid, Uid};
use tracing::warn;

/// Owner, group and mode of UNIX sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    /// The user ID of the owner. Without a setting, that of the user which the server becomes; `None` for the user that
    /// starts it.
    pub owner: Option<u32>,
    /// The group ID. `None` for the group `postfix`, if it exists and the server may set it.
    pub group: Option<u32>,
    /// The mode, as for chmod(2).
    pub mode: u32,
}

/// The socket file. Removed on drop, if it is still the file that was bound.
pub struct SocketFile {
    path: PathBuf,
    /// A handle of the file itself (O_PATH), whatever is at the path by now.
    handle: OwnedFd,
    identity: (u64, u64),
}

impl SocketFile {
    /// Opens the file of the socket that was just bound at `path`. `None` if it was replaced since.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
        let stat = fstat(&handle)?;
        let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        Ok(is_socket.then_some(Self {
            // The server may change its working directory later.
            path: std::path::absolute(path)?,
            handle,
            identity: (stat.st_dev, stat.st_ino),
        }))
    }

    /// Returns the absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets owner, group and mode. The mode comes last: until then only the server's own user can connect. `endpoint`
    /// is the name of the socket in the log.
    pub(super) fn set_access(&self, endpoint: &str, access: &SocketAccess) -> io::Result<()> {
        let chown = |owner: Option<u32>, group: Option<u32>| {
            let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
            chownat(&self.handle, "", owner, group, AtFlags::EMPTY_PATH)
        };
        // A unit may forbid chown(2), which is not needed for what the file has already.
        let stat = fstat(&self.handle)?;
        let owner = access.owner.filter(|owner| *owner != stat.st_uid);
        let group = access.group.filter(|group| *group != stat.st_gid);
        if owner.is_some() || group.is_some() {
            chown(owner, group)?;
        }
        if access.group.is_none()
            && let Ok(Some(postfix)) = Group::from_name("postfix")
            // A directory with the setgid bit has set it already.
            && fstat(&self.handle).map(|stat| stat.st_gid) != Ok(postfix.gid.as_raw())
            && let Err(error) = chown(None, Some(postfix.gid.as_raw()))
        {
            // No setting names this group, so the server continues with its own.
            warn!(
                %endpoint,
                %error,
                "cannot change the group of the socket to postfix; add the server's user to that group, or set socket_group"
            );
        }
        // A handle opened with O_PATH does not support fchmod(2).
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
