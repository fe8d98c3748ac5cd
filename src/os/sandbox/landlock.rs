//! Landlock: denies all access to files except reading, and new TCP connections.
//!
//! Handled, and granted nowhere: writing, truncating, creating, renaming and removing files of any kind, running
//! programs, device ioctls, connecting and binding over TCP, and signals to, and abstract UNIX sockets of, processes
//! outside the sandbox. The one exception is removing files in the directories of the server's own UNIX sockets. A rule
//! applies to everything below a directory, so the sockets should have a directory of their own.
//!
//! Reading is not handled, for the reason that [`super`] gives. Open descriptors, such as the log, are not affected.
//! UNIX sockets with a path can be connected to: the user databases of the system (nscd, SSSD) and systemd listen
//! there.

use std::env;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

/// The newest Landlock version whose access rights are requested. Rights that the kernel lacks are left out.
const NEWEST: ABI = ABI::V7;

/// Restricts the calling thread and those that it starts, except for removing files in `directories`. Returns the
/// Landlock version that enforces it.
pub fn restrict(directories: &[&Path]) -> io::Result<String> {
    let status = apply_rules(directories).map_err(io::Error::other)?;
    match status {
        LandlockStatus::Available { effective_abi, .. } => Ok(format!("ABI {}", effective_abi as i32)),
        LandlockStatus::NotEnabled => Err(io::Error::other(
            "supported by the kernel, but not enabled (boot parameter lsm=)",
        )),
        LandlockStatus::NotImplemented => Err(io::Error::other(
            "not supported by the kernel, or denied by a system call filter",
        )),
    }
}

fn apply_rules(directories: &[&Path]) -> Result<LandlockStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(NEWEST) | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(scopes())?
        .create()?;
    // A directory that cannot be opened has no socket that could be removed.
    for directory in directories
        .iter()
        .filter_map(|directory| PathFd::new(directory).ok())
    {
        rules = rules.add_rule(PathBeneath::new(directory, AccessFs::RemoveFile))?;
    }
    Ok(rules.restrict_self()?.landlock)
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
