//! The process locks itself: what `serve` gives up once its sockets are bound, and before it reads a secret.
//!
//! A fault that let a peer run code of its own in here should find a process that can do nothing but what it is for:
//! read some files and answer on sockets that are open already. So before the tables are read, and before there is a
//! second thread, the server
//!
//! 1. becomes the user of the setting `user`, if there is one, and lets go of every capability but those that read
//!    files ([`user`]);
//! 2. can gain no privileges any more, and leaves no core dump (nor lets another process of its user look into its
//!    memory or its environment);
//! 3. can write, make, rename or run no file, and open no TCP connection (Landlock, [`file_system`]);
//! 4. can make no system call that only an intruder would make ([`system_calls`]).
//!
//! **Reading stays as the file system allows it.** A Landlock rule is bound to the folder that is there when it is
//! made. An edit may lead anywhere (a link that is swapped, a folder that is made anew, a mount), and a reload that
//! fails because of the lock would break what the server is for. What is secret and readable here are the tables
//! themselves, which are in memory anyway.
//!
//! **The first reading has the rights of every later one**, because it comes after all this. A file that a reload
//! could not read is reported at the start.
//!
//! Limits: where a kernel lacks one of these, the log says so once, and the server runs. The threads of a process share
//! their memory, so that those which answer hold no capability makes an intruder's work harder and not impossible.

pub mod file_system;
pub mod system_calls;
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

use crate::os::printable::of_path;

/// Why the server cannot become the user that it shall be.
#[derive(Debug, Error)]
pub enum ConfinementError {
    /// It is not started as root.
    #[error(
        "the server cannot become the user {user}, because it is not started as root; start it as root, or leave `user` out"
    )]
    NotRoot {
        /// The user.
        user: String,
    },
    /// It could not read a file of root any more.
    #[error(
        "the server does not become the user {user}, because it could not read a file of root's any more: this system gives \
         it neither CAP_DAC_READ_SEARCH nor CAP_DAC_OVERRIDE; give it the first, or start it as {user} and leave `user` out"
    )]
    CannotRead {
        /// The user.
        user: String,
    },
    /// The system refuses.
    #[error("the server cannot become the user {user}: {source}")]
    Refused {
        /// The user.
        user: String,
        /// What the system says.
        source: io::Error,
    },
}

/// What is to be given up.
pub struct Confinement {
    /// Another user than the present one.
    user: Option<ServerUser>,
    is_on: bool,
}

impl Confinement {
    /// The server shall be `user`, if that is another than it is, and lock itself if `is_on`. Says at once whether it
    /// may become that user: nothing is bound yet.
    pub fn plan(user: Option<ServerUser>, is_on: bool) -> Result<Self, ConfinementError> {
        let user = user.filter(|user| !user.is_the_present_one());
        if let Some(user) = &user {
            user.judge()?;
        }
        Ok(Self { user, is_on })
    }

    /// Gives it up, for the calling thread and those that it starts. There should be no other thread. `sockets` are the
    /// files that are to be removed at the end.
    pub fn enforce<'a>(self, sockets: impl Iterator<Item = &'a Path>) -> Result<Confined, ConfinementError> {
        let folders: Vec<&Path> = sockets.filter_map(Path::parent).collect();
        let mut in_force = Vec::new();
        if let Some(user) = &self.user {
            user.become_it()?;
            in_force.push(format!("user {}", user.name));
            for folder in &folders {
                if access(*folder, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
                    warn!(
                        "{}: the user {} may not remove sockets here, so they stay at the end and the next start replaces \
                         them; give it the folder",
                        of_path(folder),
                        user.name
                    );
                }
            }
        }
        let are_capabilities_reduced = self.user.is_some() || self.is_on;
        let reduced = if are_capabilities_reduced {
            user::keep_for_readers()
        } else {
            Ok(())
        };
        match (reduced, &self.user) {
            (Ok(()), _) => in_force.push("only capabilities to read".to_owned()),
            // It could not read what it has to.
            (Err(error), Some(user)) => return Err(user.refused(error)),
            (Err(error), None) => lacks("capabilities are kept", &error),
        }
        if self.is_on {
            Self::lock(&folders, &mut in_force);
            info!("confined: {}", in_force.join(", "));
        } else {
            warn!("confinement is off: the server keeps rights that it does not need");
        }
        Ok(Confined {
            are_capabilities_reduced,
        })
    }

    fn lock(folders: &[&Path], in_force: &mut Vec<String>) {
        match set_no_new_privs(true) {
            Ok(()) => in_force.push("no new privileges".to_owned()),
            Err(error) => lacks("the server could gain privileges", &error.into()),
        }
        match no_core_dump() {
            Ok(()) => in_force.push("no core dump".to_owned()),
            Err(error) => lacks("a core dump is possible", &error),
        }
        match file_system::read_only(folders) {
            Ok(abi) => in_force.push(format!("no writing (Landlock {abi})")),
            Err(error) => lacks("files can be written (Landlock)", &error),
        }
        match system_calls::filter() {
            Ok(()) => in_force.push("system calls filtered".to_owned()),
            Err(error) => lacks("system calls are not filtered (seccomp)", &error),
        }
    }
}

fn lacks(what: &str, error: &io::Error) {
    warn!("confinement is not complete: {what}: {error}");
}

/// No core dump of whichever kind; and no other process of the same user may read the memory or the environment.
fn no_core_dump() -> io::Result<()> {
    // The limit counts for files alone, and this one for programs that take dumps, too.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// What is left: the calling thread may still read what the readers may.
pub struct Confined {
    are_capabilities_reduced: bool,
}

impl Confined {
    /// The threads that read have been started: the calling thread, which answers, need not read any more.
    pub fn leave_reading_to_others(self) {
        if self.are_capabilities_reduced
            && let Err(error) = user::let_go()
        {
            lacks("the thread that answers may read every file", &error);
        }
    }
}
