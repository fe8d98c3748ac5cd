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
//! A socket that cannot be used is an error, and so is a name that says nothing: whoever hands a socket over wants it
//! served. Owner, group, mode and backlog are what its unit says, and its file is not ours to remove.

use std::env;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use thiserror::Error;

use crate::answer::Map;
use crate::endpoint::{Address, Endpoint, Protocol};
use crate::printable::printable;

/// The first descriptor that may be handed over.
const FIRST: usize = 3;

/// How many sockets may be. More than anybody has, and less than what is dear to count.
const MOST: usize = 256;

/// Why what was handed over cannot be served.
#[derive(Debug, Error)]
pub enum HandoverError {
    /// A variable makes no sense.
    #[error(
        "{variable} is not what a service manager sets ({why}); unset it, or start the server by its unit"
    )]
    Variable {
        /// Which.
        variable: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The name says nothing.
    #[error(
        "the service manager hands over a socket (descriptor {descriptor}) by the name `{name}`, which does not say what \
         to serve there; set FileDescriptorName= in its unit to socketmap, relayhost, sasl or admin"
    )]
    Name {
        /// Which socket.
        descriptor: usize,
        /// Its name.
        name: String,
    },
    /// It is something else.
    #[error(
        "what the service manager hands over as `{name}` (descriptor {descriptor}) is no stream socket that listens; \
         write ListenStream= in its unit, with Accept=no"
    )]
    NotAListener {
        /// Which socket.
        descriptor: usize,
        /// Its name.
        name: String,
    },
    /// Nobody could ask there.
    #[error(
        "the socket `{name}` (descriptor {descriptor}) is a UNIX socket, and Postfix asks tcp_table over TCP alone; give it \
         a port, or name it socketmap"
    )]
    NotTcp {
        /// Which socket.
        descriptor: usize,
        /// Its name.
        name: String,
    },
    /// Nobody could find it.
    #[error(
        "the UNIX socket `{name}` (descriptor {descriptor}) has no path, and Postfix finds no other; write \
         ListenStream=/PATH in its unit"
    )]
    NoPath {
        /// Which socket.
        descriptor: usize,
        /// Its name.
        name: String,
    },
    /// The system refuses.
    #[error("the socket `{name}` (descriptor {descriptor}) cannot be taken over: {source}")]
    System {
        /// Which socket.
        descriptor: usize,
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
}

/// A socket that listens already. It does not block.
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// UNIX.
    Unix(UnixListener),
}

/// What was handed over.
#[derive(Default)]
pub struct Handover {
    /// Where lookups are answered.
    pub maps: Vec<(Endpoint, Socket)>,
    /// Where health, status and metrics are told.
    pub admin: Vec<(Address, Socket)>,
}

impl Handover {
    /// Takes what was handed over to this process, if anything was.
    ///
    /// To be called before there are other threads or descriptors: it owns those that the environment names, and takes
    /// their number out of it.
    pub fn from_environment() -> Result<Self, HandoverError> {
        let mut handover = Self::default();
        let names = names()?;
        if names.is_empty() {
            return Ok(handover);
        }
        let mut descriptors = ListenFd::from_env();
        for (number, name) in names.into_iter().enumerate() {
            let socket = Named {
                descriptor: FIRST + number,
                name: printable(name.as_bytes()),
            };
            if name == "admin" {
                handover.admin.push(socket.take(&mut descriptors, number)?);
                continue;
            }
            let protocol = match Map::named(name.as_bytes()) {
                _ if name == "socketmap" => Protocol::Socketmap,
                Some(map) => Protocol::TcpTable(map),
                None => {
                    let Named { descriptor, name } = socket;
                    return Err(HandoverError::Name { descriptor, name });
                }
            };
            let (address, taken) = socket.take(&mut descriptors, number)?;
            if matches!((protocol, &taken), (Protocol::TcpTable(_), Socket::Unix(_))) {
                let Named { descriptor, name } = socket;
                return Err(HandoverError::NotTcp { descriptor, name });
            }
            handover.maps.push((Endpoint { protocol, address }, taken));
        }
        Ok(handover)
    }
}

/// The names of the sockets, in the order of their descriptors. None where they are for another process.
fn names() -> Result<Vec<String>, HandoverError> {
    let variable = |name: &'static str| match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(_) => Err(wrong(name, "it is not UTF-8")),
    };
    let number = |name: &'static str, value: &str| {
        let number = value.parse::<usize>();
        number.map_err(|_| wrong(name, "it is not a number"))
    };
    // A LISTEN_FDS without a process belongs to nobody.
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

fn wrong(variable: &'static str, why: impl Into<String>) -> HandoverError {
    HandoverError::Variable {
        variable,
        why: why.into(),
    }
}

/// Which socket, for errors.
struct Named {
    descriptor: usize,
    name: String,
}

impl Named {
    fn take(&self, descriptors: &mut ListenFd, number: usize) -> Result<(Address, Socket), HandoverError> {
        let system = |source| HandoverError::System {
            descriptor: self.descriptor,
            name: self.name.clone(),
            source,
        };
        if let Ok(Some(socket)) = descriptors.take_tcp_listener(number) {
            self.must_listen(socket.as_fd())?;
            socket.set_nonblocking(true).map_err(system)?;
            let address = socket.local_addr().map_err(system)?;
            let address = Address::Inet(address.ip().to_string(), address.port());
            return Ok((address, Socket::Tcp(socket)));
        }
        let Ok(Some(socket)) = descriptors.take_unix_listener(number) else {
            return Err(self.is_no_listener());
        };
        self.must_listen(socket.as_fd())?;
        socket.set_nonblocking(true).map_err(system)?;
        let address = socket.local_addr().map_err(system)?;
        match address.as_pathname() {
            Some(path) => Ok((Address::Unix(path.into()), Socket::Unix(socket))),
            None => Err(HandoverError::NoPath {
                descriptor: self.descriptor,
                name: self.name.clone(),
            }),
        }
    }

    fn must_listen(&self, socket: BorrowedFd<'_>) -> Result<(), HandoverError> {
        match socket_acceptconn(socket) {
            Ok(true) => Ok(()),
            _ => Err(self.is_no_listener()),
        }
    }

    fn is_no_listener(&self) -> HandoverError {
        HandoverError::NotAListener {
            descriptor: self.descriptor,
            name: self.name.clone(),
        }
    }
}
