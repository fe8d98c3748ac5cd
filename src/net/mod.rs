//! Sockets, without a protocol: their addresses, binding and accepting.
//!
//! - [`address`]: a host with a port, or the path of a UNIX socket;
//! - [`bind`]: binds addresses;
//! - [`listener`]: a listening socket, TCP or UNIX, bound here or passed by a service manager, for mio and for tokio;
//! - [`socket_file`]: the file of a UNIX socket, with owner, group and mode, and its removal;
//! - [`accept`]: classifies errors of accept(2);
//! - [`waker`]: wakes a thread that polls.
//!
//! Limits: peers are identified and authorised by the modules that serve them.

pub(crate) mod accept;
pub mod address;
pub mod bind;
pub mod listener;
pub mod socket_file;
pub(crate) mod waker;

use std::os::fd::OwnedFd;

use rustix::io::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Creates a stream socket of this family that does not block.
pub(crate) fn stream_socket(family: AddressFamily) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None)
}
