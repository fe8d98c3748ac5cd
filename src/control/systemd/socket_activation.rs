//! Socket activation (sd_listen_fds(3)): the service manager opens the sockets, and keeps them open while the server
//! restarts.
//!
//! The name of a socket (`FileDescriptorName=` in its unit) says what it serves:
//!
//! | name | serves |
//! |---|---|
//! | `socketmap` | every map, by its name, over TCP or a UNIX socket |
//! | `relayhost`, `sasl` | this map over tcp_table, which Postfix queries over TCP only |
//! | `admin` | health, status and metrics |
//!
//! A socket that cannot be used is an error, and so is an unknown name: a socket that is passed is meant to be served.
//! Its unit sets owner, group, mode and backlog, and the server does not remove its file.

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

/// The first descriptor that is passed (`SD_LISTEN_FDS_START` of sd_listen_fds(3)).
const FIRST_DESCRIPTOR: usize = 3;

/// The most sockets: more than any setup needs, and few enough to check each.
const MAX_SOCKETS: usize = 256;

/// Why the passed sockets cannot be served.
#[derive(Debug, Error)]
pub enum ActivationError {
    /// A variable is invalid.
    #[error("invalid {variable}: {why}; unset it, or start the server from its unit")]
    Variable {
        /// The name of the variable.
        variable: &'static str,
        /// What is wrong with its value.
        why: String,
    },
    /// A socket cannot be served.
    #[error("socket `{name}` of the service manager (descriptor {descriptor}): {error}")]
    Socket {
        /// The number of its descriptor.
        descriptor: usize,
        /// Its name, printable.
        name: String,
        /// What is wrong with it.
        error: SocketError,
    },
}

/// What is wrong with a passed socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The name is unknown.
    #[error("unknown name; set FileDescriptorName= in its unit to socketmap, relayhost, sasl or admin")]
    Name,
    /// It is not a listening stream socket.
    #[error("not a listening stream socket; use ListenStream= and Accept=no in its unit")]
    NotAListener,
    /// A UNIX socket for tcp_table, which Postfix cannot query.
    #[error(
        "a UNIX socket, but Postfix queries tcp_table over TCP only; use a TCP port, or name it socketmap"
    )]
    NotTcp,
    /// A UNIX socket without a path, which Postfix cannot find.
    #[error(
        "a UNIX socket without a path, to which Postfix cannot connect; use ListenStream=/PATH in its unit"
    )]
    NoPath,
    /// Another system error.
    #[error("cannot be used: {0}")]
    System(#[from] io::Error),
}

/// The sockets that the service manager passed.
#[derive(Default)]
pub(crate) struct ActivatedSockets {
    /// The listeners of maps, each with its protocol.
    pub maps: Vec<(Protocol, Listener)>,
    /// The admin listeners.
    pub admin: Vec<Listener>,
}

impl ActivatedSockets {
    /// Takes the sockets that were passed to this process, if any.
    ///
    /// Must be called before other threads or descriptors exist: it owns the descriptors that the environment names,
    /// and removes the variable with their number.
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
                .map_err(|error| ActivationError::Socket {
                    descriptor: FIRST_DESCRIPTOR + number,
                    name: printable(name.as_bytes()),
                    error,
                })?;
        }
        Ok(activated)
    }

    fn take(&mut self, name: &str, descriptors: &mut ListenFd, number: usize) -> Result<(), SocketError> {
        if name == "admin" {
            self.admin.push(take(descriptors, number)?);
            return Ok(());
        }
        let protocol = match Map::named(name) {
            _ if name == "socketmap" => Protocol::Socketmap,
            Some(map) => Protocol::TcpTable(map.name),
            None => return Err(SocketError::Name),
        };
        let listener = take(descriptors, number)?;
        if matches!(
            (protocol, listener.address()),
            (Protocol::TcpTable(_), Address::Unix(_))
        ) {
            return Err(SocketError::NotTcp);
        }
        self.maps.push((protocol, listener));
        Ok(())
    }
}

/// Returns the names of the sockets, in the order of their descriptors. Empty if they are for another process.
fn names() -> Result<Vec<String>, ActivationError> {
    let variable = |name: &'static str| match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(_) => Err(bad_variable(name, "not UTF-8")),
    };
    let number = |name: &'static str, value: &str| {
        let number = value.parse::<usize>();
        number.map_err(|_| bad_variable(name, "not a number"))
    };
    // LISTEN_FDS without LISTEN_PID is for no process.
    let (Some(process), Some(count)) = (variable("LISTEN_PID")?, variable("LISTEN_FDS")?) else {
        return Ok(Vec::new());
    };
    if u32::try_from(number("LISTEN_PID", &process)?) != Ok(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS", &count)?;
    if count > MAX_SOCKETS {
        return Err(bad_variable("LISTEN_FDS", format!("more than {MAX_SOCKETS}")));
    }
    let names: Vec<String> = match variable("LISTEN_FDNAMES")? {
        Some(names) if count > 0 => names.split(':').map(ToOwned::to_owned).collect(),
        _ => vec!["unknown".to_owned(); count],
    };
    if names.len() == count {
        Ok(names)
    } else {
        let why = format!("{} names for the {count} sockets of LISTEN_FDS", names.len());
        Err(bad_variable("LISTEN_FDNAMES", why))
    }
}

fn bad_variable(variable: &'static str, why: impl Into<String>) -> ActivationError {
    ActivationError::Variable {
        variable,
        why: why.into(),
    }
}

/// Takes the socket with this number, and checks that it is listening.
fn take(descriptors: &mut ListenFd, number: usize) -> Result<Listener, SocketError> {
    let socket: OwnedFd = if let Ok(Some(socket)) = descriptors.take_tcp_listener(number) {
        socket.into()
    } else if let Ok(Some(socket)) = descriptors.take_unix_listener(number) {
        socket.into()
    } else {
        return Err(SocketError::NotAListener);
    };
    if socket_acceptconn(&socket) != Ok(true) {
        return Err(SocketError::NotAListener);
    }
    let listener = Listener::new(socket)?;
    match listener.address() {
        Address::Unix(path) if path.as_os_str().is_empty() => Err(SocketError::NoPath),
        _ => Ok(listener),
    }
}
