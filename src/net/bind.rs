//! Addresses to listening sockets.
//!
//! A TCP socket is bound with SO_REUSEADDR, so that a restart need not wait for old connections. A UNIX socket is
//! bound so that no other user can connect before owner, group and mode are set ([`super::socket_file`]); a socket that is
//! left over from a server that is gone is replaced, anything else at its path is an error; and it is removed at the end.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketAddrUnix, connect, listen};
use thiserror::Error;

use super::address::Address;
use super::listener::Listener;
use super::socket_file::{SocketAccess, SocketFile};
use super::stream_socket;
use crate::os::printable::of_path;

/// The listen queue that is asked for; the kernel cuts it to `net.core.somaxconn`. Rust's default of 128 makes a
/// burst of connects wait for the retransmission of a SYN, a second and more. All processes of a Postfix that starts
/// connect at once, up to `default_process_limit` of each service.
pub(crate) const BACKLOG: i32 = 4096;

/// Why there is no listening at an endpoint.
#[derive(Debug, Error)]
#[error("{endpoint}: {problem}")]
pub struct BindError {
    /// The endpoint.
    pub endpoint: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with an endpoint.
#[derive(Debug, Error)]
pub enum Problem {
    /// The name of the host has no address, says the resolver.
    #[error("the host has no address: {0}; write an address, or mend the name")]
    Resolve(io::Error),
    /// Another process listens there.
    #[error("another process listens there already; stop it, or choose another endpoint")]
    InUse,
    /// The path is taken by something that is no socket.
    #[error("there is something at this path that is not a socket; remove it, or choose another path")]
    NotASocket,
    /// The folder of a socket is not there.
    #[error("the folder of the socket does not exist; create it (mkdir -p {})", of_path(.0))]
    NoFolder(PathBuf),
    /// The system refuses.
    #[error("cannot listen: {0}")]
    Refused(io::Error),
    /// Owner, group or mode cannot be set.
    #[error("owner, group or mode of the socket cannot be set: {0}")]
    Access(io::Error),
}

impl BindError {
    /// Whether the settings are not to blame: it may go better when tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.problem, Problem::InUse | Problem::Resolve(_))
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::AddrInUse => Self::InUse,
            _ => Self::Refused(error),
        }
    }
}

impl From<Errno> for Problem {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Binds one address, which errors and the log call `endpoint`. A host name with several addresses gives several
/// listeners.
///
/// Must be called before other threads create files: it changes the umask for a moment.
pub fn bind(endpoint: &str, address: &Address, access: &SocketAccess) -> Result<Vec<Listener>, BindError> {
    let bound = match address {
        Address::Inet(host, port) => {
            resolve(host, *port).and_then(|all| all.into_iter().map(bind_tcp).collect())
        }
        Address::Unix(path) => bind_unix(endpoint, path, access).map(|bound| vec![bound]),
    };
    bound.map_err(|problem| BindError {
        endpoint: endpoint.to_owned(),
        problem,
    })
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Problem> {
    let addresses = (host, port).to_socket_addrs().map_err(Problem::Resolve)?;
    let mut unique: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    Ok(unique)
}

fn bind_tcp(address: SocketAddr) -> Result<Listener, Problem> {
    let socket = stream_socket(if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    })?;
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(Listener::new(socket)?)
}

/// `endpoint` is for the log.
fn bind_unix(endpoint: &str, path: &Path, access: &SocketAccess) -> Result<Listener, Problem> {
    make_room(path)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let open = || {
        let socket = stream_socket(AddressFamily::UNIX)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    let bound: Result<OwnedFd, Errno> = open();
    umask(before);
    let socket = bound.map_err(|error| match error {
        Errno::NOENT => Problem::NoFolder(path.parent().unwrap_or(Path::new("/")).into()),
        _ => error.into(),
    })?;
    let file = SocketFile::of(path)?.ok_or(Problem::NotASocket)?;
    // Before another user can connect: it keeps descriptors from being handed over.
    let listener = Listener::new(socket)?;
    file.grant(endpoint, access).map_err(Problem::Access)?;
    Ok(listener.with_file(file))
}

/// Removes a socket at which no process listens any more. A link is not followed.
fn make_room(path: &Path) -> Result<(), Problem> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(Problem::NotASocket);
    }
    match is_left_over(path) {
        Ok(true) => Ok(fs::remove_file(path)?),
        // It answers, or it has no room for us, or it is not ours to ask: another process has it either way.
        Ok(false) | Err(_) => Err(Problem::InUse),
    }
}

/// Whether no process listens at this socket. Does not wait: the queue of a server that hangs may be full.
fn is_left_over(path: &Path) -> Result<bool, Errno> {
    let socket = stream_socket(AddressFamily::UNIX)?;
    Ok(connect(&socket, &SocketAddrUnix::new(path)?) == Err(Errno::CONNREFUSED))
}
