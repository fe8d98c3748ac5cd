//! Landlock: denies all access to files except reading, and new TCP connections.
//!
//! Handled, and granted nowhere: writing, truncating, creating, renaming and removing files of any kind, running
//! programs, device ioctls, connecting and binding over TCP, and signals to, and abstract UNIX sockets of, processes
//! outside the sandbox. The one exception of the server is removing files in the directories of its own UNIX sockets. A rule
//! applies to everything below a directory, so the sockets should have a directory of their own. postmapd-follow, which writes
//! a directory and connects to a database, has its exceptions, too ([`Exceptions`]).
//!
//! Reading is not handled, for the reason that [`super`] gives. Open descriptors, such as the log, are not affected.
//! UNIX sockets with a path can be connected to: the user databases of the system (nscd, SSSD) and systemd listen
//! there.

use std::env;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, make_bitflags,
};

/// The newest Landlock version whose access rights are requested. Rights that the kernel lacks are left out.
const NEWEST: ABI = ABI::V7;

/// What a restricted process may still do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exceptions<'a> {
    /// Directories in and below which it can remove files.
    pub removable: &'a [&'a Path],
    /// Directories in and below which it can write, create, link, rename and remove files, links and directories.
    pub writable: &'a [&'a Path],
    /// Ports to which it can open TCP connections.
    pub ports: &'a [u16],
}

/// Restricts the calling thread and those that it starts, except for removing files in `directories`. Returns the
/// Landlock version that enforces it.
pub fn restrict(directories: &[&Path]) -> io::Result<String> {
    let exceptions = Exceptions {
        removable: directories,
        ..Exceptions::default()
    };
    restrict_except(&exceptions).map(|version| format!("ABI {version}"))
}

/// Restricts the calling thread and those that it starts, with these exceptions. Returns the number of the Landlock ABI that
/// enforces it: TCP connections are restricted from 4 on.
pub fn restrict_except(exceptions: &Exceptions<'_>) -> io::Result<i32> {
    let status = apply_rules(exceptions).map_err(io::Error::other)?;
    match status.landlock {
        LandlockStatus::Available { .. } if status.ruleset == RulesetStatus::NotEnforced => {
            Err(io::Error::other(
                "this kernel would deny links between directories, too; Linux 5.19 or newer is needed",
            ))
        }
        LandlockStatus::Available { effective_abi, .. } => Ok(effective_abi as i32),
        LandlockStatus::NotEnabled => Err(io::Error::other(
            "supported by the kernel, but not enabled (boot parameter lsm=)",
        )),
        LandlockStatus::NotImplemented => Err(io::Error::other(
            "not supported by the kernel, or denied by a system call filter",
        )),
    }
}

fn apply_rules(exceptions: &Exceptions<'_>) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default();
    if !exceptions.writable.is_empty() {
        // The first ABI denies every link and rename between directories, and no rule permits them.
        rules = rules
            .set_compatibility(CompatLevel::SoftRequirement)
            .handle_access(AccessFs::Refer)?;
    }
    let mut rules = rules
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(NEWEST) | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(scopes())?
        .create()?;
    let write = make_bitflags!(AccessFs::{
        WriteFile | Truncate | MakeReg | MakeDir | MakeSym | Refer | RemoveFile | RemoveDir
    });
    let remove = AccessFs::RemoveFile.into();
    let directories = exceptions.removable.iter().map(|directory| (directory, remove));
    let directories = directories.chain(exceptions.writable.iter().map(|directory| (directory, write)));
    // In a directory that cannot be opened, nothing could be changed.
    for (directory, access) in
        directories.filter_map(|(directory, access)| Some((PathFd::new(directory).ok()?, access)))
    {
        rules = rules.add_rule(PathBeneath::new(directory, access))?;
    }
    for port in exceptions.ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}

/// Returns the scopes to restrict: without abstract sockets where the service manager is notified over one.
fn scopes() -> BitFlags<Scope> {
    let supervisor = env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    if supervisor.as_bytes().starts_with(b"@") {
        Scope::Signal.into()
    } else {
        Scope::from_all(NEWEST)
    }
}
