//! The sandbox: the rights that `serve` drops once its sockets are bound, and before it reads a secret.
//!
//! A peer that exploits a fault to run its own code here should find a process that can only do its task: read some
//! files and answer on sockets that are already open. So before reading the tables and before starting a thread, the
//! server
//!
//! - becomes the user of the setting `user`, if it is set, and drops all capabilities except those for reading files
//!   ([`user`]);
//! - sets `no_new_privs`, and disables core dumps and access by other processes of its user to its memory and
//!   environment;
//! - denies itself writing, creating, renaming or running files, and opening TCP connections ([`landlock`]);
//! - denies itself system calls that only an attacker would make ([`seccomp`]).
//!
//! **Reading is restricted by file permissions alone.** A Landlock rule is bound to the directory that exists when it
//! is created. An edit may lead anywhere (a switched link, a recreated directory, a mount), and a reload that failed
//! because of the sandbox would break the purpose of the server. The readable secrets are the tables themselves, which
//! are in memory anyway.
//!
//! **The first reading has the rights of every later one**, because it comes after all this. A file that a reload could
//! not read is reported at the start.
//!
//! Limits: where the kernel lacks one of these, the server logs that once and runs. Threads of a process share their
//! memory, so dropping capabilities in the threads that answer makes an attack harder, not impossible.

pub mod landlock;
pub mod seccomp;
pub(crate) mod user;

use std::io;
use std::path::Path;

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{AccessFlags, access};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::set_no_new_privs;
use thiserror::Error;
use tracing::{info, warn};

use user::ServerUser;

use crate::os::printable::printable_path;

/// Why the server cannot become the user of the setting `user`.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// It was not started as root.
    #[error(
        "cannot switch to the user {user}: not started as root; start the server as root, or remove the setting user"
    )]
    NotRoot {
        /// The user of the setting.
        user: String,
    },
    /// It could no longer read files of root.
    #[error(
        "not switching to the user {user}, because the server could then no longer read files of root: it has neither \
         CAP_DAC_READ_SEARCH nor CAP_DAC_OVERRIDE; add the first, or start the server as {user} and remove the setting user"
    )]
    CannotRead {
        /// The user of the setting.
        user: String,
    },
    /// The system refused.
    #[error("cannot switch to the user {user}: {source}")]
    Refused {
        /// The user of the setting.
        user: String,
        /// The error of the system.
        source: io::Error,
    },
}

/// The restrictions to enforce.
pub struct Sandbox {
    /// The user to become, if it is not the current one.
    user: Option<ServerUser>,
    is_on: bool,
}

impl Sandbox {
    /// Plans to become `user`, if that is not the current one, and to restrict the process if `is_on`. Returns an error
    /// if the server cannot become that user; nothing is bound yet.
    pub fn plan(user: Option<ServerUser>, is_on: bool) -> Result<Self, SandboxError> {
        let user = user.filter(|user| !user.is_current());
        if let Some(user) = &user {
            user.check()?;
        }
        Ok(Self { user, is_on })
    }

    /// Enforces the restrictions for the calling thread and those that it starts. There should be no other thread.
    /// `sockets` are the files that the server removes at its end.
    pub fn enforce<'a>(self, sockets: impl Iterator<Item = &'a Path>) -> Result<Sandboxed, SandboxError> {
        let directories: Vec<&Path> = sockets.filter_map(Path::parent).collect();
        let mut active = Vec::new();
        if let Some(user) = &self.user {
            user.switch()?;
            active.push(format!("user {}", user.name));
            for directory in &directories {
                if access(*directory, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
                    warn!(
                        user = %user.name,
                        directory = %printable_path(directory),
                        "the server cannot remove its sockets when it stops; make its user the owner of the directory"
                    );
                }
            }
        }
        let are_capabilities_reduced = self.user.is_some() || self.is_on;
        let reduced = if are_capabilities_reduced {
            user::keep_read_capability()
        } else {
            Ok(())
        };
        match (reduced, &self.user) {
            (Ok(()), _) => active.push("capabilities reduced".to_owned()),
            // The server could not read its files.
            (Err(error), Some(user)) => return Err(user.switch_error(error)),
            (Err(error), None) => warn_unavailable("capabilities are kept", &error),
        }
        if self.is_on {
            let exceptions = landlock::Exceptions {
                removable: &directories,
                ..landlock::Exceptions::default()
            };
            active.extend(restrict(&exceptions).measures);
            info!(measures = %active.join(", "), "sandbox enabled");
        } else {
            warn!("sandboxing is disabled by the setting sandbox");
        }
        Ok(Sandboxed {
            are_capabilities_reduced,
        })
    }
}

/// What [`restrict`] could enforce.
pub struct Restrictions {
    /// The restrictions, for the log.
    pub measures: Vec<String>,
    /// The number of the Landlock ABI. TCP connections are restricted from 4 on.
    pub landlock: Option<i32>,
}

/// Restricts the calling thread and those that it starts, with these exceptions. There should be no other thread. Logs what
/// this kernel lacks.
#[must_use]
pub fn restrict(exceptions: &landlock::Exceptions<'_>) -> Restrictions {
    let mut measures = Vec::new();
    match set_no_new_privs(true) {
        Ok(()) => measures.push("no new privileges".to_owned()),
        Err(error) => warn_unavailable("the server could gain privileges", &error.into()),
    }
    match disable_core_dumps() {
        Ok(()) => measures.push("no core dumps".to_owned()),
        Err(error) => warn_unavailable("core dumps are possible", &error),
    }
    let is_writer = !exceptions.writable.is_empty();
    let landlock = match landlock::restrict_except(exceptions) {
        Ok(version) => {
            let writes = if is_writer {
                "file writes only in its directory"
            } else {
                "no file writes"
            };
            measures.push(format!("{writes} (Landlock ABI {version})"));
            Some(version)
        }
        Err(error) => {
            warn_unavailable("files can be written (Landlock)", &error);
            None
        }
    };
    let filtered = if is_writer {
        seccomp::install_for_writer()
    } else {
        seccomp::install()
    };
    match filtered {
        Ok(()) => measures.push("system calls filtered".to_owned()),
        Err(error) => warn_unavailable("system calls are not filtered (seccomp)", &error),
    }
    Restrictions { measures, landlock }
}

/// Drops all capabilities of the calling thread; as root, all but those for files. Returns whether it could, and logs if not.
#[must_use]
pub fn drop_capabilities() -> bool {
    let dropped = user::drop_read_capability();
    if let Err(error) = &dropped {
        warn_unavailable("capabilities are kept", error);
    }
    dropped.is_ok()
}

fn warn_unavailable(effect: &str, error: &io::Error) {
    warn!(%effect, %error, "sandbox is incomplete");
}

/// Disables core dumps, and access of other processes of the same user to the memory and the environment.
///
/// # Errors
///
/// The error of the system.
pub fn disable_core_dumps() -> io::Result<()> {
    // The limit applies to files alone, and this also to programs that receive dumps.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// A sandboxed process, whose calling thread still has the capability to read files.
pub struct Sandboxed {
    are_capabilities_reduced: bool,
}

impl Sandboxed {
    /// Drops the capability to read files in the calling thread, which answers lookups, once the reading threads are
    /// started.
    pub fn drop_read_capability(self) {
        if self.are_capabilities_reduced
            && let Err(error) = user::drop_read_capability()
        {
            warn_unavailable("the event loop can read every file", &error);
        }
    }
}
