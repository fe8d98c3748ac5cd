//! sd_listen_fds(3): sockets that the service manager opened, and keeps open while the server is replaced.
//!
//! The name of a socket (`FileDescriptorName=` in its unit) says what is served there:
//!
//! | name | is served |
//! |---|---|
//! | `socketmap` | every map, by its name, over TCP or a UNIX socket |
//! | `relayhost`, `sasl` | this map over tcp_table, which Postfix asks over TCP only |
//! | `admin` | health, status and metrics |
//!
//! A socket that cannot be used is an error, and so is a name that says nothing: a socket that is handed over is meant to be
//! served. Owner, group, mode and backlog are what its unit says, and its file is not ours to remove.

use std::env;
use std::io;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use thiserror::Error;

use crate::lookup::map::Map;
use crate::net::address::Address;
use crate::net::listener::Listener;
use crate::os::printable::printable;
use crate::protocol::Protocol;

/// The first descriptor that may be handed over.
const FIRST: usize = 3;

/// How many sockets may be. More than anybody has, and less than what is dear to count.
const MOST: usize = 256;

/// Why what was handed over cannot be served.
#[derive(Debug, Error)]
pub enum ActivationError {
    /// A variable makes no sense.
    #[error(
        "{variable} is not what a service manager sets ({why}); unset it, or start the server by its unit"
    )]
    Variable {
        /// Its number, from 3 (`SD_LISTEN_FDS_START` of sd_listen_fds(3)).
        variable: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A socket cannot be served.
    #[error("the service manager's socket `{name}` (descriptor {descriptor}) {problem}")]
    Socket {
        /// Its number among the descriptors of this process.
        descriptor: usize,
        /// Its name, printable.
        name: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a socket that was handed over.
#[derive(Debug, Error)]
pub enum Problem {
    /// The name says nothing.
    #[error(
        "has a name that does not say what to serve there; set FileDescriptorName= in its unit to socketmap, relayhost, sasl \
         or admin"
    )]
    Name,
    /// It is something else.
    #[error("is no stream socket that listens; write ListenStream= in its unit, with Accept=no")]
    NotAListener,
    /// Postfix could not ask there.
    #[error(
        "is a UNIX socket, and Postfix asks tcp_table over TCP alone; give it a port, or name it socketmap"
    )]
    NotTcp,
    /// Postfix could not find it.
    #[error(
        "is a UNIX socket without a path, and Postfix finds no other; write ListenStream=/PATH in its unit"
    )]
    NoPath,
    /// The system refuses.
    #[error("cannot be taken over: {0}")]
    System(#[from] io::Error),
}

/// What was handed over.
#[derive(Default)]
pub(crate) struct ActivatedSockets {
    /// Where lookups are answered, and how.
    pub maps: Vec<(Protocol, Listener)>,
    /// Where health, status and metrics are told.
    pub admin: Vec<Listener>,
}

impl ActivatedSockets {
    /// Takes what was handed over to this process, if anything was.
    ///
    /// To be called before there are other threads or descriptors: it owns those that the environment names, and takes
    /// their number out of it.
    pub(crate) fn from_environment() -> Result<Self, ActivationError> {
        let mut activated = Self::default();
        let names = names()?;
        if names.is_empty() {
            return Ok(activated);
        }
        let mut descriptors = ListenFd::from_env();
        for (number, name) in names.into_iter().enumerate() {
            activated
                .take(&name, &mut descriptors, number)
                .map_err(|problem| ActivationError::Socket {
                    descriptor: FIRST + number,
                    name: printable(name.as_bytes()),
                    problem,
                })?;
        }
        Ok(activated)
    }

    fn take(&mut self, name: &str, descriptors: &mut ListenFd, number: usize) -> Result<(), Problem> {
        if name == "admin" {
            self.admin.push(take(descriptors, number)?);
            return Ok(());
        }
        let protocol = match Map::named(name) {
            _ if name == "socketmap" => Protocol::Socketmap,
            Some(map) => Protocol::TcpTable(map.name),
            None => return Err(Problem::Name),
        };
        let listener = take(descriptors, number)?;
        if matches!(
            (protocol, listener.address()),
            (Protocol::TcpTable(_), Address::Unix(_))
        ) {
            return Err(Problem::NotTcp);
        }
        self.maps.push((protocol, listener));
        Ok(())
    }
}

/// The names of the sockets, in the order of their descriptors. None where they are for another process.
fn names() -> Result<Vec<String>, ActivationError> {
    let variable = |name: &'static str| match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(_) => Err(wrong(name, "it is not UTF-8")),
    };
    let number = |name: &'static str, value: &str| {
        let number = value.parse::<usize>();
        number.map_err(|_| wrong(name, "it is not a number"))
    };
    // A LISTEN_FDS without LISTEN_PID is for no process.
    let (Some(process), Some(count)) = (variable("LISTEN_PID")?, variable("LISTEN_FDS")?) else {
        return Ok(Vec::new());
    };
    if u32::try_from(number("LISTEN_PID", &process)?) != Ok(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS", &count)?;
    if count > MOST {
        return Err(wrong("LISTEN_FDS", format!("it is more than {MOST}")));
    }
    let names: Vec<String> = match variable("LISTEN_FDNAMES")? {
        Some(names) if count > 0 => names.split(':').map(ToOwned::to_owned).collect(),
        _ => vec!["unknown".to_owned(); count],
    };
    if names.len() == count {
        Ok(names)
    } else {
        let why = format!(
            "it has {} names, and LISTEN_FDS says {count} sockets",
            names.len()
        );
        Err(wrong("LISTEN_FDNAMES", why))
    }
}

fn wrong(variable: &'static str, why: impl Into<String>) -> ActivationError {
    ActivationError::Variable {
        variable,
        why: why.into(),
    }
}

/// Takes the socket of this number.
fn take(descriptors: &mut ListenFd, number: usize) -> Result<Listener, Problem> {
    let socket: OwnedFd = if let Ok(Some(socket)) = descriptors.take_tcp_listener(number) {
        socket.into()
    } else if let Ok(Some(socket)) = descriptors.take_unix_listener(number) {
        socket.into()
    } else {
        return Err(Problem::NotAListener);
    };
    if socket_acceptconn(&socket) != Ok(true) {
        return Err(Problem::NotAListener);
    }
    let listener = Listener::new(socket)?;
    match listener.address() {
        Address::Unix(path) if path.as_os_str().is_empty() => Err(Problem::NoPath),
        _ => Ok(listener),
    }
}
