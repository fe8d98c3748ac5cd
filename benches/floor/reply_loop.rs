//! The floor: the kernel's own cost for a server that answers over a socket.
//!
//! One thread runs one epoll(7) loop without a table. Whatever a read returns is treated as one whole request, and gets
//! the same reply. It parses nothing, so no server that answers from a table can be faster on one thread.
//!
//! Not for use as a server: a request in two pieces gets two replies.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::net::sockopt::set_tcp_nodelay;

use super::{Result, socket};

/// A reply of socketmap_table(5), of a usual length.
pub(crate) const REPLY: &[u8] = b"28:OK [smtp.relay7.example]:587,";

/// The key of the listener; the keys of connections are their descriptors.
const LISTENER: u64 = 0;

/// Serves `endpoint` until it is killed. Announces its address on standard error.
pub(crate) fn serve(endpoint: &str) -> Result<()> {
    let (listener, is_tcp): (OwnedFd, bool) = match socket(endpoint)? {
        socket @ super::Socket::Inet(address) => {
            let listener = TcpListener::bind(address)?;
            eprintln!("listening endpoint={}", socket.at(listener.local_addr()?));
            (listener.into(), true)
        }
        super::Socket::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            eprintln!("listening endpoint={endpoint}");
            (listener.into(), false)
        }
    };
    // The queue of the standard library is too short for 256 connects at once; listen(2) may be called again.
    rustix::net::listen(&listener, 4096)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        epoll::EventFlags::IN,
    )?;
    let mut connections: Vec<Option<OwnedFd>> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let mut request = [0; 16 * 1024];
    loop {
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let key = event.data.u64();
            if key == LISTENER {
                let connection =
                    rustix::net::accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
                if is_tcp {
                    set_tcp_nodelay(&connection, true)?;
                }
                let at = usize::try_from(connection.as_raw_fd())?;
                epoll::add(
                    &poll,
                    &connection,
                    epoll::EventData::new_u64(at as u64),
                    epoll::EventFlags::IN,
                )?;
                connections.resize_with(connections.len().max(at + 1), || None);
                if let Some(place) = connections.get_mut(at) {
                    *place = Some(connection);
                }
                continue;
            }
            let at = usize::try_from(key)?;
            let Some(place) = connections.get_mut(at) else {
                continue;
            };
            let Some(connection) = place.as_ref() else {
                continue;
            };
            let goes_on = match rustix::io::read(connection, &mut request) {
                Ok(0) | Err(_) => false,
                Ok(_) => rustix::io::write(connection, REPLY).is_ok_and(|sent| sent == REPLY.len()),
            };
            if !goes_on {
                // Closing removes it from the poll.
                *place = None;
            }
        }
    }
}
