//! Whose environment the default relay comes from.
//!
//! The server has its own. A command that answers from the files has, in this order:
//!
//! 1. its own, where that sets a variable of the default relay: an operator who tries something sets it for one command;
//! 2. that of the server that runs for the directory (`src/config/running_server.rs`);
//! 3. the file `postmapd.env` beside the tables, which `postmapd import` writes for the service to read;
//! 4. its own, which has none.
//!
//! A command says which of them counted ([`Whose`]), because no default relay in a shell is not no default relay.

use std::fmt;
use std::path::{Path, PathBuf};

use super::relay_environment::RelayEnvironment;
use super::running_server::{self, Found, Process};
use super::variables::Variables;
use crate::diagnostics::Findings;
use crate::os::printable::of_path;
use crate::os::whole_file;

/// The file of variables beside the tables.
pub(crate) const ENVIRONMENT_FILE: &str = "postmapd.env";

/// Whose environment it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of this process, which sets variables of the default relay, or is the server.
    Own,
    /// Of this process, and of a server of the directory alike.
    Agreed(Process),
    /// Of this process, while a server of the directory has other variables.
    OwnBesideServer(Process),
    /// Of a server of the directory.
    Server(Process),
    /// Of a file beside the tables.
    File(PathBuf),
    /// Of this process, which has no variable of the default relay, and no server was found.
    NoneFound,
    /// Likewise, because this user may not see the environment of the server.
    Hidden(Process),
    /// Likewise, because several servers have different ones.
    Several(Vec<Process>),
}

impl Whose {
    /// Whether a default relay may be set that is not known here.
    pub(crate) fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Hidden(_) | Self::Several(_))
    }

    /// Whether it is that of this process, and of a server as well if one was found.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Own | Self::Agreed(_))
    }

    /// Whether it is another one than that of this process, or none of them is certain.
    pub(crate) fn is_remarkable(&self) -> bool {
        !matches!(self, Self::Own | Self::Agreed(_) | Self::NoneFound)
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("the environment of this command"),
            Self::Agreed(server) => write!(
                f,
                "the environment of this command, and of {server}, which serves this directory"
            ),
            Self::OwnBesideServer(server) => write!(
                f,
                "the environment of this command; that of {server}, which serves this directory, is another"
            ),
            Self::Server(server) => {
                write!(f, "the environment of {server}, which serves this directory")
            }
            Self::File(path) => {
                write!(f, "{}; no server of this directory was found running", of_path(path))
            }
            Self::NoneFound => f.write_str(
                "the environment of this command, which sets no default relay; no server of this directory was found \
                 running",
            ),
            Self::Hidden(server) => write!(
                f,
                "the environment of this command, which sets no default relay; that of {server}, which serves this \
                 directory, can be seen by root alone"
            ),
            Self::Several(servers) => {
                let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "the environment of this command, which sets no default relay; servers of this directory have \
                     different ones: {}",
                    servers.join(", ")
                )
            }
        }
    }
}

/// The environment in which a command judges the files of `dir`, and whose it is.
pub(super) fn of_command(dir: &Path) -> (Variables, Whose) {
    let own = Variables::of_process();
    let is_set = |variables: &Variables| RelayEnvironment::new(variables, &mut Findings::default()).is_set();
    let has_own = is_set(&own);
    match running_server::find(dir) {
        Found::Server(process, variables) if own.are_same(&variables) => (own, Whose::Agreed(process)),
        Found::Server(process, _) if has_own => (own, Whose::OwnBesideServer(process)),
        _ if has_own => (own, Whose::Own),
        Found::Server(process, variables) => (variables, Whose::Server(process)),
        // The first process of a container: container engines start others in it with the same variables.
        Found::Hidden(process) if process.is_first() => (own, Whose::Agreed(process)),
        Found::Hidden(process) => (own, Whose::Hidden(process)),
        Found::Several(processes) => (own, Whose::Several(processes)),
        Found::Nothing => {
            let path = dir.join(ENVIRONMENT_FILE);
            match whole_file::read(&path).map(|file| Variables::of_file(&file.text)) {
                Ok(variables) if is_set(&variables) => (variables, Whose::File(path)),
                _ => (own, Whose::NoneFound),
            }
        }
    }
}
