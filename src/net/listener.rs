//! A listening socket of either family, bound here ([`super::bind`]) or handed over by a service manager.
//!
//! It never blocks: a thread waits for its descriptor with mio and then calls [`Listener::accept`], or a task awaits it
//! with tokio ([`Listener::into_tokio`]). Nor does an accepted connection block.

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
    /// TCP.
    Tcp(TcpListener),
    /// UNIX, and the file that is removed when it is dropped.
    Unix(UnixListener, Option<SocketFile>),
}

/// A connection that was just accepted.
pub struct Accepted {
    /// Its socket.
    pub socket: OwnedFd,
    /// The address of a TCP connection's peer; `None` for a UNIX socket.
    pub peer: Option<SocketAddr>,
}

impl Listener {
    /// A socket that listens already.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&socket, true)?;
        let local = getsockname(&socket)?;
        let address = if let Ok(local) = SocketAddr::try_from(local.clone()) {
            local.into()
        } else {
            refuse_descriptors(&socket);
            let local = SocketAddrUnix::try_from(local)?;
            Address::Unix(OsStr::from_bytes(local.path_bytes().unwrap_or_default()).into())
        };
        Ok(Self {
            socket,
            address,
            file: None,
        })
    }

    /// With the file that is removed when it is dropped.
    pub(super) fn with_file(mut self, file: SocketFile) -> Self {
        self.file = Some(file);
        self
    }

    /// Where it really listens, with the port that the system chose for port 0. The path is empty where a UNIX socket has
    /// none.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The absolute path of the file that is removed at the end, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::path)
    }

    /// Accepts the next connection. Where there is none, that is the error [`io::ErrorKind::WouldBlock`]; what other
    /// errors come to, [`super::accept`] says.
    pub fn accept(&self) -> io::Result<Accepted> {
        let (socket, peer) = acceptfrom_with(self, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let peer = match self.address {
            Address::Inet(..) => Some(peer.ok_or(Errno::CONNABORTED)?.try_into()?),
            Address::Unix(_) => None,
        };
        Ok(Accepted { socket, peer })
    }

    /// For the tokio runtime in which this is called.
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

/// The address at this end of a TCP socket.
pub(crate) fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    Ok(getsockname(socket)?.try_into()?)
}

/// Of linux/asm-generic/socket.h, which the libc crate does not have yet.
const SO_PASSRIGHTS: libc::c_int = 83;

sockopt_impl!(
    /// Whether a peer may hand descriptors over.
    PassRights,
    SetOnly,
    libc::SOL_SOCKET,
    SO_PASSRIGHTS,
    bool
);

/// Keeps peers from handing descriptors over to a connection of this UNIX socket (SCM_RIGHTS of unix(7)). The server takes
/// none, but the kernel closes it in the thread that reads, and that may take as long as its sender wishes: the close of a
/// TCP socket with SO_LINGER waits for its peer.
///
/// Limits: Linux 6.16 and later; a kernel before that has no such option. Connections that are in the queue of a socket
/// that was handed over are as its unit says.
fn refuse_descriptors(listener: &impl AsFd) {
    if let Err(error) = setsockopt(listener, PassRights, &false) {
        debug!("the kernel does not keep descriptors from being handed over: {error}");
    }
}
