//! Sockets without a protocol: where they are, how they come to listen, and what accepts their connections.
//!
//! - [`address`]: a host with a port, or the path of a UNIX socket;
//! - [`bind`]: addresses to listeners;
//! - [`listener`]: a listening socket of either family, bound here or handed over, for mio and for tokio;
//! - [`socket_file`]: the file of a UNIX socket, its owner, group and mode, and its removal;
//! - [`accept`]: what errors of accept(2) come to;
//! - [`waker`]: wakes a thread that waits for events.
//!
//! Limits: what is on the other end of a connection, and what it may ask, is decided by the modules that serve.

pub(crate) mod accept;
pub mod address;
pub mod bind;
pub mod listener;
pub mod socket_file;
pub(crate) mod waker;

use std::os::fd::OwnedFd;

use rustix::io::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// A stream socket of this family that never blocks.
pub(crate) fn stream_socket(family: AddressFamily) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None)
}
