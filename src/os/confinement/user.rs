//! The user that the server becomes, and the capabilities that it keeps.
//!
//! The credentials may belong to root and be for nobody else (0600), and an editor may make them so at any time. A
//! server that is no longer root would then fail with the next edit. So the threads that read keep one capability,
//! CAP_DAC_READ_SEARCH, which reads every file and changes none; where the system does not give it (Docker's default),
//! CAP_DAC_OVERRIDE, which could write as well, were it not for Landlock. A group would have to be given to each
//! new file by whoever makes it, and a reader that stays root would be a second program that can do more.
//!
//! Capabilities belong to a thread. The one that answers has none at all.
//!
//! Limits: a file system that judges by itself who may read (FUSE, NFS) goes by the number of the user, whatever its
//! capabilities. As the first reading comes after the change, what cannot be read there is said at the start.
//!
//! A server that stays root keeps those that read files and remove its sockets, and no other.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities};

use super::ConfinementError;
use crate::os::name_service;

/// A user of this system that the server shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUser {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

impl ServerUser {
    /// The user of that name or number. `None` where this system knows none.
    pub(crate) fn find(word: &str) -> Option<Self> {
        let by_number = || User::from_uid(Uid::from_raw(name_service::number(word)?)).ok()?;
        let user = User::from_name(word).ok().flatten().or_else(by_number)?;
        Some(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }

    pub(super) fn is_the_present_one(&self) -> bool {
        self.uid == geteuid().as_raw()
    }

    /// Whether the server may become it, and could read afterwards what it can read now.
    pub(super) fn judge(&self) -> Result<(), ConfinementError> {
        let has = capabilities(None).map_err(|error| self.refused(error))?;
        let user = self.name.clone();
        if !has
            .effective
            .contains(CapabilitySet::SETUID | CapabilitySet::SETGID)
        {
            return Err(ConfinementError::NotRoot { user });
        }
        if that_read(has.permitted).is_empty() {
            return Err(ConfinementError::CannotRead { user });
        }
        Ok(())
    }

    /// Becomes it, for good, with its groups. The permitted capabilities stay; none is effective.
    pub(super) fn become_it(&self) -> Result<(), ConfinementError> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let become_it = || {
            set_keep_capabilities(true)?;
            initgroups(&CString::new(self.name.as_str())?, gid)?;
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
            set_keep_capabilities(false)?;
            Ok::<(), io::Error>(())
        };
        become_it().map_err(|error| self.refused(error))
    }

    pub(super) fn refused(&self, source: impl Into<io::Error>) -> ConfinementError {
        ConfinementError::Refused {
            user: self.name.clone(),
            source: source.into(),
        }
    }
}

/// The least of `permitted` with which files of any user can be read.
fn that_read(permitted: CapabilitySet) -> CapabilitySet {
    let reads = permitted & CapabilitySet::DAC_READ_SEARCH;
    if reads.is_empty() {
        permitted & CapabilitySet::DAC_OVERRIDE
    } else {
        reads
    }
}

/// Keeps what those threads need that read files.
pub(super) fn keep_for_readers() -> io::Result<()> {
    keep(that_read)
}

/// Lets go of what only readers need.
pub(super) fn let_go() -> io::Result<()> {
    keep(|_| CapabilitySet::empty())
}

/// Keeps the necessary capabilities alone.
fn keep(necessary: impl FnOnce(CapabilitySet) -> CapabilitySet) -> io::Result<()> {
    let has = capabilities(None)?;
    let permitted = has.permitted;
    let kept = if geteuid().is_root() {
        // The folder of a socket may be another user's.
        permitted & (CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER)
    } else {
        necessary(permitted)
    };
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    // A unit of systemd that left nothing may well forbid the call.
    let is_so = (has.effective, has.permitted, has.inheritable) == (kept, kept, sets.inheritable);
    if !is_so {
        set_capabilities(None, sets)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::thread::CapabilitySet;

    use super::{ServerUser, that_read};

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let root = ServerUser::find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(ServerUser::find("0"), Some(root));
        for nobody in ["", "no-such-user", "4294967294", "-1", "root "] {
            assert_eq!(ServerUser::find(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn the_capability_that_only_reads_comes_first() {
        let (reads, writes) = (CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE);
        assert_eq!(that_read(reads | writes | CapabilitySet::SYS_ADMIN), reads);
        assert_eq!(that_read(writes | CapabilitySet::SYS_ADMIN), writes);
        assert!(that_read(CapabilitySet::SYS_ADMIN).is_empty());
    }
}
