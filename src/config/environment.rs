//! The environment that the default relay comes from.
//!
//! The server uses its own. A command that answers from the files uses the first of these:
//!
//! 1. its own, where that sets a variable of the default relay: an operator can set one for a single command;
//! 2. that of the running server of the directory (`src/config/running_server.rs`);
//! 3. the file `postmapd.env` beside the tables, which `postmapd import` writes for the service to read;
//! 4. its own, without a default relay.
//!
//! A command says which of them it uses ([`EnvironmentOrigin`]), because a shell without a default relay does not mean
//! that the server has none.

use std::fmt;
use std::path::{Path, PathBuf};

use super::relay_environment::RelayEnvironment;
use super::running_server::{self, Process, SearchResult};
use super::variables::Variables;
use crate::diagnostics::Findings;
use crate::os::printable::printable_path;
use crate::os::whole_file;

/// The name of the file of variables beside the tables.
pub(crate) const ENVIRONMENT_FILE: &str = "postmapd.env";

/// The origin of the variables of the default relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvironmentOrigin {
    /// This process, which sets variables of the default relay or is the server.
    Own,
    /// This process; the running server of the directory has the same variables.
    OwnAndServer(Process),
    /// This process; the running server of the directory has other variables.
    OwnDiffersFromServer(Process),
    /// The running server of the directory.
    Server(Process),
    /// The running server whose files others are to replace.
    Replaced(Process),
    /// A file beside the tables.
    File(PathBuf),
    /// This process, which has no variable of the default relay. No running server was found.
    OwnWithoutServer,
    /// This process, which has no variable of the default relay. The user cannot read the environment of the running
    /// server.
    ServerHidden(Process),
    /// This process, which has no variable of the default relay. Several running servers have different ones.
    ServersDiffer(Vec<Process>),
}

impl EnvironmentOrigin {
    /// Returns whether a server may have a default relay that is unknown here.
    pub(crate) fn is_uncertain(&self) -> bool {
        matches!(self, Self::ServerHidden(_) | Self::ServersDiffer(_))
    }

    /// Returns the origin for files that are to replace those of the server.
    pub(super) fn for_replacement(&self) -> Self {
        match self {
            Self::Server(server) => Self::Replaced(server.clone()),
            other => other.clone(),
        }
    }

    /// Returns whether it is this process, and no server has other variables.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Own | Self::OwnAndServer(_))
    }

    /// Returns whether it is not this process alone, or is uncertain, so that a report must say so.
    pub(crate) fn needs_mention(&self) -> bool {
        !matches!(self, Self::Own | Self::OwnAndServer(_) | Self::OwnWithoutServer)
    }
}

impl fmt::Display for EnvironmentOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("the environment of this command"),
            Self::OwnAndServer(server) => write!(
                f,
                "the environment of this command, which equals that of {server}, which serves this directory"
            ),
            Self::OwnDiffersFromServer(server) => write!(
                f,
                "the environment of this command, which differs from that of {server}, which serves this directory"
            ),
            Self::Server(server) => {
                write!(f, "the environment of {server}, which serves this directory")
            }
            Self::Replaced(server) => {
                write!(f, "the environment of {server}, whose files these are to replace")
            }
            Self::File(path) => {
                write!(
                    f,
                    "{}; no running server of this directory was found",
                    printable_path(path)
                )
            }
            Self::OwnWithoutServer => f.write_str(
                "the environment of this command, which sets no default relay; no running server of this \
                 directory was found",
            ),
            Self::ServerHidden(server) => write!(
                f,
                "the environment of this command, which sets no default relay; only root can read that of \
                 {server}, which serves this directory"
            ),
            Self::ServersDiffer(servers) => {
                let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "the environment of this command, which sets no default relay; the servers of this directory \
                     have different environments: {}",
                    servers.join(", ")
                )
            }
        }
    }
}

/// Returns the environment in which a command evaluates the files of `dir`, and its origin.
pub(super) fn for_command(dir: &Path) -> (Variables, EnvironmentOrigin) {
    let own = Variables::from_process();
    let has_own = is_set(&own);
    match running_server::find(dir) {
        SearchResult::Server(process, variables) if own.is_same(&variables) => {
            (own, EnvironmentOrigin::OwnAndServer(process))
        }
        SearchResult::Server(process, _) if has_own => {
            (own, EnvironmentOrigin::OwnDiffersFromServer(process))
        }
        _ if has_own => (own, EnvironmentOrigin::Own),
        SearchResult::Server(process, variables) => (variables, EnvironmentOrigin::Server(process)),
        // PID 1 of a container: container engines start further processes there with the same variables.
        SearchResult::Hidden(process) if process.is_init() => (own, EnvironmentOrigin::OwnAndServer(process)),
        SearchResult::Hidden(process) => (own, EnvironmentOrigin::ServerHidden(process)),
        SearchResult::Several(processes) => (own, EnvironmentOrigin::ServersDiffer(processes)),
        SearchResult::Nothing => in_file(dir).unwrap_or((own, EnvironmentOrigin::OwnWithoutServer)),
    }
}

/// Returns the variables of the file beside the tables, if that sets one of the default relay.
pub(super) fn in_file(dir: &Path) -> Option<(Variables, EnvironmentOrigin)> {
    let path = dir.join(ENVIRONMENT_FILE);
    let variables = Variables::parse_file(&whole_file::read(&path).ok()?.text);
    is_set(&variables).then_some((variables, EnvironmentOrigin::File(path)))
}

fn is_set(variables: &Variables) -> bool {
    RelayEnvironment::new(variables, &mut Findings::default()).is_set()
}
