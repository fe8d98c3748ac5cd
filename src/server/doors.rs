//! The listeners: who knocks is let in, one at a time, in turn.
//!
//! The kernel says once that somebody knocks; a door is knocked at until accept(2) finds nobody.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use tracing::{debug, trace};

use super::access::refusals::Refusals;
use super::access::{Access, Visitor};
use super::listen::{Listener, Socket};
use crate::counters::{Counters, Reason};
use crate::endpoint::Protocol;
use crate::peer::Allowed;
use crate::protocol::Dialect;
use crate::protocol::socketmap::Socketmap;
use crate::protocol::tcp_table::TcpTable;

/// A listener, and who recognises its peers.
struct Door {
    listener: Listener,
    access: Access,
    /// Whether somebody may stand before it.
    is_knocked_at: bool,
}

/// All of them.
pub(super) struct Doors(Vec<Door>);

/// A connection whose peer is recognised.
pub(super) struct Arrival {
    pub(super) socket: OwnedFd,
    pub(super) dialect: Dialect,
    pub(super) visitor: Visitor,
}

/// A connection that nobody has looked at yet.
enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Doors {
    /// Opens them. An event of one has the token that `token` makes of its number.
    pub(super) fn open(
        listeners: Vec<Listener>,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<Self> {
        let refusals: Arc<Refusals> = Arc::default();
        let doors = listeners.into_iter().enumerate().map(|(number, listener)| {
            let socket = match &listener.socket {
                Socket::Tcp(socket) => socket.as_raw_fd(),
                Socket::Unix(socket, _) => socket.as_raw_fd(),
            };
            registry.register(&mut SourceFd(&socket), token(number), Interest::READABLE)?;
            Ok(Door::new(listener, &refusals))
        });
        Ok(Self(doors.collect::<io::Result<_>>()?))
    }

    /// Closes them, and their sockets with them.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }

    /// The number of those that there are; each number below is one.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Somebody knocks.
    pub(super) fn knock(&mut self, number: usize) {
        if let Some(door) = self.0.get_mut(number) {
            door.is_knocked_at = true;
        }
    }

    /// Somebody may stand before any.
    pub(super) fn knock_at_all(&mut self) {
        for door in &mut self.0 {
            door.is_knocked_at = true;
        }
    }

    /// Whether somebody may stand before one.
    pub(super) fn are_knocked_at(&self) -> bool {
        self.0.iter().any(|door| door.is_knocked_at)
    }

    /// Accepts the next connection at this door. `None` where there is none, or where it is closed again at once.
    pub(super) fn answer(
        &mut self,
        number: usize,
        allowed: &Allowed,
        counters: &Counters,
    ) -> io::Result<Option<Arrival>> {
        let Some(door) = self.0.get_mut(number).filter(|door| door.is_knocked_at) else {
            return Ok(None);
        };
        match door.listener.accept() {
            Ok(accepted) => Ok(door.recognise(accepted, allowed, counters)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                door.is_knocked_at = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Listener {
    fn accept(&self) -> io::Result<Accepted> {
        Ok(match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                Accepted::Tcp(stream, peer)
            }
            Socket::Unix(socket, _) => Accepted::Unix(socket.accept()?.0),
        })
    }
}

impl Door {
    fn new(listener: Listener, refusals: &Arc<Refusals>) -> Self {
        let mut access = Access::new(Arc::clone(refusals));
        if let Socket::Tcp(socket) = &listener.socket
            && let Ok(address) = socket.local_addr()
        {
            access.try_out(address);
        }
        Self {
            listener,
            access,
            is_knocked_at: false,
        }
    }

    fn recognise(&mut self, accepted: Accepted, allowed: &Allowed, counters: &Counters) -> Option<Arrival> {
        let (socket, visitor) = match accepted {
            Accepted::Tcp(stream, peer) => {
                trace!(%peer, "connected");
                let Some(visitor) = self.access.tcp(&stream, peer, allowed) else {
                    counters.refused(Reason::Network);
                    return None;
                };
                // Each reply is one write already; waiting for more to send would only delay it.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!("a peer went away before it was served: {error}");
                    return None;
                }
                (stream.into(), visitor)
            }
            Accepted::Unix(stream) => {
                trace!("connected");
                let visitor = self.access.unix(&stream);
                (stream.into(), visitor)
            }
        };
        Some(Arrival {
            socket,
            dialect: match self.listener.endpoint.protocol {
                Protocol::Socketmap => Dialect::Socketmap(Socketmap),
                Protocol::TcpTable(map) => Dialect::TcpTable(TcpTable::new(map)),
            },
            visitor,
        })
    }
}
