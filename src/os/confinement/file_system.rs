//! No writing: Landlock takes every right on files but that to read them, and every new TCP connection.
//!
//! Handled, and granted nowhere: writing, truncating, making, renaming and removing whatever kind of file, running
//! programs, device ioctls, connecting and binding over TCP, and signals and abstract UNIX sockets of processes beyond
//! this one. The one exception is to remove files in the folders of the server's own UNIX sockets; a rule counts for
//! everything below a folder, so they had better have one of their own.
//!
//! Reading is not handled, for the reason that [`super`] gives. Descriptors that are open already, the log among them,
//! stay as they are. UNIX sockets with a path can be connected to: the system's databases of users (nscd, SSSD)
//! and systemd listen there.

use std::env;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

/// The newest version of Landlock whose rights are known and asked for here. What a kernel lacks of them is left out.
const NEWEST: ABI = ABI::V7;

/// Takes all that from the calling thread and those that it starts, but for removing files in `folders`. Says which
/// version of Landlock did it.
pub fn read_only(folders: &[&Path]) -> io::Result<String> {
    let status = restrict(folders).map_err(io::Error::other)?;
    match status {
        LandlockStatus::Available { effective_abi, .. } => Ok(format!("ABI {}", effective_abi as i32)),
        LandlockStatus::NotEnabled => Err(io::Error::other(
            "the kernel has it, but it is not enabled (lsm= at boot)",
        )),
        LandlockStatus::NotImplemented => Err(io::Error::other(
            "the kernel does not have it, or a filter of system calls forbids it",
        )),
    }
}

fn restrict(folders: &[&Path]) -> Result<LandlockStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(NEWEST) | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(scopes())?
        .create()?;
    // A folder that cannot be opened has no socket that could be removed.
    for folder in folders.iter().filter_map(|folder| PathFd::new(folder).ok()) {
        rules = rules.add_rule(PathBeneath::new(folder, AccessFs::RemoveFile))?;
    }
    Ok(rules.restrict_self()?.landlock)
}

/// A supervisor that is told of readiness may listen on an abstract socket.
fn scopes() -> BitFlags<Scope> {
    let supervisor = env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    if supervisor.as_bytes().starts_with(b"@") {
        Scope::Signal.into()
    } else {
        Scope::from_all(NEWEST)
    }
}
