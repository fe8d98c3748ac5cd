//! Binds addresses.
//!
//! A TCP socket is bound with SO_REUSEADDR, so that a restart need not wait for old connections. A UNIX socket is bound
//! so that no other user can connect before its owner, group and mode are set ([`super::socket_file`]). The socket file
//! of a server that has ended is replaced; anything else at the path is an error. The file is removed on shutdown.

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
use crate::os::printable::printable_path;

/// The length of the listen queue; the kernel limits it to `net.core.somaxconn`. With Rust's default of 128, a burst of
/// connects has to retransmit SYNs, which takes a second and more. All processes of a starting Postfix connect at once,
/// up to `default_process_limit` of each service.
pub(crate) const BACKLOG: i32 = 4096;

/// Why an endpoint cannot be bound.
#[derive(Debug, Error)]
#[error("{endpoint}: {kind}")]
pub struct BindError {
    /// The endpoint, as the settings name it.
    pub endpoint: String,
    /// What is wrong with it.
    pub kind: BindErrorKind,
}

/// What is wrong with an endpoint.
#[derive(Debug, Error)]
pub enum BindErrorKind {
    /// The host name does not resolve.
    #[error("cannot resolve the host: {0}; fix the name, or use an address")]
    Resolve(io::Error),
    /// Another process listens there.
    #[error("another process is already listening there; stop it, or choose another endpoint")]
    InUse,
    /// The path exists, and is not a socket.
    #[error("the path exists and is not a socket; remove it, or choose another path")]
    NotASocket,
    /// The directory of the UNIX socket does not exist.
    #[error("the directory of the socket does not exist; create it (mkdir -p {})", printable_path(.0))]
    NoDirectory(PathBuf),
    /// Another error of bind(2) or listen(2).
    #[error("cannot listen: {0}")]
    System(io::Error),
    /// Owner, group or mode cannot be set.
    #[error("cannot set owner, group or mode of the socket: {0}")]
    Access(io::Error),
}

impl BindError {
    /// Whether another attempt may succeed with the same settings.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, BindErrorKind::InUse | BindErrorKind::Resolve(_))
    }
}

impl From<io::Error> for BindErrorKind {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::AddrInUse => Self::InUse,
            _ => Self::System(error),
        }
    }
}

impl From<Errno> for BindErrorKind {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Binds an address, which errors and the log call `endpoint`. A host name with several addresses gives several
/// listeners.
///
/// Must be called before other threads create files, because it changes the umask for a moment.
pub fn bind(endpoint: &str, address: &Address, access: &SocketAccess) -> Result<Vec<Listener>, BindError> {
    let bound = match address {
        Address::Inet(host, port) => {
            resolve(host, *port).and_then(|all| all.into_iter().map(bind_tcp).collect())
        }
        Address::Unix(path) => bind_unix(endpoint, path, access).map(|bound| vec![bound]),
    };
    bound.map_err(|kind| BindError {
        endpoint: endpoint.to_owned(),
        kind,
    })
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, BindErrorKind> {
    let addresses = (host, port).to_socket_addrs().map_err(BindErrorKind::Resolve)?;
    let mut unique: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    Ok(unique)
}

fn bind_tcp(address: SocketAddr) -> Result<Listener, BindErrorKind> {
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

/// Binds a UNIX socket. `endpoint` is its name in the log.
fn bind_unix(endpoint: &str, path: &Path, access: &SocketAccess) -> Result<Listener, BindErrorKind> {
    remove_stale_socket(path)?;
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
        Errno::NOENT => BindErrorKind::NoDirectory(path.parent().unwrap_or(Path::new("/")).into()),
        _ => error.into(),
    })?;
    let file = SocketFile::open(path)?.ok_or(BindErrorKind::NotASocket)?;
    // Done before other users can connect, because it disables the passing of descriptors.
    let listener = Listener::new(socket)?;
    file.set_access(endpoint, access).map_err(BindErrorKind::Access)?;
    Ok(listener.with_file(file))
}

/// Removes a socket file on which no process listens. Does not follow a link.
fn remove_stale_socket(path: &Path) -> Result<(), BindErrorKind> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(BindErrorKind::NotASocket);
    }
    match is_stale(path) {
        Ok(true) => Ok(fs::remove_file(path)?),
        // It accepts, its queue is full, or connecting is not permitted: in each case another process uses it.
        Ok(false) | Err(_) => Err(BindErrorKind::InUse),
    }
}

/// Whether no process listens on this socket. Never blocks: the queue of a server that hangs may be full.
fn is_stale(path: &Path) -> Result<bool, Errno> {
    let socket = stream_socket(AddressFamily::UNIX)?;
    Ok(connect(&socket, &SocketAddrUnix::new(path)?) == Err(Errno::CONNREFUSED))
}
