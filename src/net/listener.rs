//! A listening socket, TCP or UNIX, bound here ([`super::bind`]) or passed by a service manager.
//!
//! It never blocks: a thread polls it with mio and then calls [`Listener::accept`], or a task awaits it with tokio
//! ([`Listener::into_tokio`]). Accepted connections do not block either.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{SocketAddrUnix, SocketFlags, acceptfrom_with, getsockname};
use tokio::net::{TcpListener, UnixListener};
use tracing::debug;

use super::address::Address;
use super::socket_file::SocketFile;

/// A listening socket.
pub struct Listener {
    socket: OwnedFd,
    address: Address,
    file: Option<SocketFile>,
}

/// A [`Listener`] within a tokio runtime.
pub enum TokioListener {
    /// A TCP listener.
    Tcp(TcpListener),
    /// A UNIX listener, and the socket file, which is removed on drop.
    Unix(UnixListener, Option<SocketFile>),
}

/// An accepted connection.
pub struct Accepted {
    /// Its socket, which does not block.
    pub socket: OwnedFd,
    /// The address of a TCP connection's peer; `None` for a UNIX socket.
    pub peer: Option<SocketAddr>,
}

impl Listener {
    /// Takes a socket that is listening already.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&socket, true)?;
        let local = getsockname(&socket)?;
        let address = if let Ok(local) = SocketAddr::try_from(local.clone()) {
            local.into()
        } else {
            disable_fd_passing(&socket);
            let local = SocketAddrUnix::try_from(local)?;
            Address::Unix(OsStr::from_bytes(local.path_bytes().unwrap_or_default()).into())
        };
        Ok(Self {
            socket,
            address,
            file: None,
        })
    }

    /// Adds the socket file, which is removed on drop.
    pub(super) fn with_file(mut self, file: SocketFile) -> Self {
        self.file = Some(file);
        self
    }

    /// Returns the local address, with the port that the system chose for port 0. The path of an unnamed UNIX socket is
    /// empty.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the absolute path of the socket file, if it is removed on drop.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::path)
    }

    /// Accepts the next connection. Without one, the error is [`io::ErrorKind::WouldBlock`]; [`super::accept`]
    /// classifies the others.
    pub fn accept(&self) -> io::Result<Accepted> {
        let (socket, peer) = acceptfrom_with(self, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let peer = match self.address {
            Address::Inet(..) => Some(peer.ok_or(Errno::CONNABORTED)?.try_into()?),
            Address::Unix(_) => None,
        };
        Ok(Accepted { socket, peer })
    }

    /// Registers the listener with the tokio runtime in which this is called.
    pub fn into_tokio(self) -> io::Result<TokioListener> {
        Ok(match self.address {
            Address::Inet(..) => TokioListener::Tcp(TcpListener::from_std(self.socket.into())?),
            Address::Unix(_) => TokioListener::Unix(UnixListener::from_std(self.socket.into())?, self.file),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Returns the local address of a TCP socket.
pub(crate) fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    Ok(getsockname(socket)?.try_into()?)
}

/// From linux/asm-generic/socket.h; the libc crate does not have it yet.
const SO_PASSRIGHTS: libc::c_int = 83;

sockopt_impl!(
    /// Whether a peer may pass descriptors.
    PassRights,
    SetOnly,
    libc::SOL_SOCKET,
    SO_PASSRIGHTS,
    bool
);

/// Keeps peers from passing descriptors to connections of this UNIX socket (SCM_RIGHTS of unix(7)). The server takes
/// none, but the kernel closes them in the reading thread, which may take as long as the sender wishes: closing a TCP
/// socket with SO_LINGER waits for its peer.
///
/// Limits: requires Linux 6.16; older kernels have no such option. Connections in the queue of a socket that a service
/// manager passed are subject to the settings of its unit.
fn disable_fd_passing(listener: &impl AsFd) {
    if let Err(error) = setsockopt(listener, PassRights, &false) {
        debug!(%error, "cannot disable the passing of file descriptors");
    }
}
