//! The user that the server becomes, and the capabilities that it keeps.
//!
//! The credentials may be readable by root alone (0600), and an editor may make them so at any time. A server without
//! root rights would then fail at the next edit. So the threads that read keep one capability, CAP_DAC_READ_SEARCH,
//! which permits reading every file and changing none; where the system does not grant it (Docker's default),
//! CAP_DAC_OVERRIDE, which Landlock keeps from writing. The alternatives are worse: every program that creates a file
//! would have to give it to a group, and a reading process that stays root would be a second program with more rights.
//!
//! Capabilities belong to a thread. The thread that answers lookups has none.
//!
//! Limits: a file system that has its own access checks (FUSE, NFS) uses the user ID and ignores capabilities. Since the
//! first reading comes after the change, files that cannot be read there are reported at the start.
//!
//! A server that stays root keeps the capabilities to read files and remove its sockets, and no other.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities};

use super::SandboxError;
use crate::os::name_service;

/// A user of this system for the server to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUser {
    /// Its name.
    pub name: String,
    /// Its user ID.
    pub uid: u32,
    /// The ID of its primary group.
    pub gid: u32,
}

impl ServerUser {
    /// Returns the user with that name or ID. `None` where this system has none.
    pub(crate) fn find(word: &str) -> Option<Self> {
        let by_id = || User::from_uid(Uid::from_raw(name_service::parse_id(word)?)).ok()?;
        let user = User::from_name(word).ok().flatten().or_else(by_id)?;
        Some(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }

    pub(super) fn is_current(&self) -> bool {
        self.uid == geteuid().as_raw()
    }

    /// Checks that the server can become this user, and can still read every file afterwards.
    pub(super) fn check(&self) -> Result<(), SandboxError> {
        let has = capabilities(None).map_err(|error| self.switch_error(error))?;
        let user = self.name.clone();
        if !has
            .effective
            .contains(CapabilitySet::SETUID | CapabilitySet::SETGID)
        {
            return Err(SandboxError::NotRoot { user });
        }
        if read_capability(has.permitted).is_empty() {
            return Err(SandboxError::CannotRead { user });
        }
        Ok(())
    }

    /// Switches to this user and its groups permanently. The permitted capabilities stay; none is effective.
    pub(super) fn switch(&self) -> Result<(), SandboxError> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let switch = || {
            set_keep_capabilities(true)?;
            initgroups(&CString::new(self.name.as_str())?, gid)?;
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
            set_keep_capabilities(false)?;
            Ok::<(), io::Error>(())
        };
        switch().map_err(|error| self.switch_error(error))
    }

    pub(super) fn switch_error(&self, source: impl Into<io::Error>) -> SandboxError {
        SandboxError::Refused {
            user: self.name.clone(),
            source: source.into(),
        }
    }
}

/// Returns the weakest capability of `permitted` that permits reading files of any user.
fn read_capability(permitted: CapabilitySet) -> CapabilitySet {
    let reads = permitted & CapabilitySet::DAC_READ_SEARCH;
    if reads.is_empty() {
        permitted & CapabilitySet::DAC_OVERRIDE
    } else {
        reads
    }
}

/// Keeps the capability that the reading threads need, and drops the others.
pub(super) fn keep_read_capability() -> io::Result<()> {
    keep_only(read_capability)
}

/// Drops the capability that only the reading threads need.
pub(super) fn drop_read_capability() -> io::Result<()> {
    keep_only(|_| CapabilitySet::empty())
}

/// Keeps only the necessary capabilities. As root, those for its files and sockets.
fn keep_only(necessary: impl FnOnce(CapabilitySet) -> CapabilitySet) -> io::Result<()> {
    let has = capabilities(None)?;
    let permitted = has.permitted;
    let kept = if geteuid().is_root() {
        // The directory of a socket may belong to another user.
        permitted & (CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER)
    } else {
        necessary(permitted)
    };
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    // A systemd unit that already dropped all capabilities may deny the call.
    let is_unchanged = (has.effective, has.permitted, has.inheritable) == (kept, kept, sets.inheritable);
    if !is_unchanged {
        set_capabilities(None, sets)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::thread::CapabilitySet;

    use super::{ServerUser, read_capability};

    #[test]
    fn a_user_is_found_by_name_and_by_id() {
        let root = ServerUser::find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(ServerUser::find("0"), Some(root));
        for unknown in ["", "no-such-user", "4294967294", "-1", "root "] {
            assert_eq!(ServerUser::find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_read_only_capability_is_preferred() {
        let (reads, writes) = (CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE);
        assert_eq!(read_capability(reads | writes | CapabilitySet::SYS_ADMIN), reads);
        assert_eq!(read_capability(writes | CapabilitySet::SYS_ADMIN), writes);
        assert!(read_capability(CapabilitySet::SYS_ADMIN).is_empty());
    }
}
