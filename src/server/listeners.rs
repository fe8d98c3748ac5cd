//! The listeners: each accepts one connection at a time, in turn.
//!
//! They are edge-triggered: a listener stays marked ready until accept(2) returns EAGAIN.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::sockopt::set_tcp_nodelay;
use tracing::{debug, trace};

use super::access::refusals::Refusals;
use super::access::{Access, Client};
use crate::lookup::peer::Allowed;
use crate::net::listener::{Accepted, Listener, local_address};
use crate::protocol::{Protocol, ProtocolCodec};
use crate::server::counters::{Counters, Reason};

/// A listener with its protocol, and what identifies its clients.
struct Listening {
    listener: Listener,
    protocol: Protocol,
    access: Access,
    /// Whether a connection may be waiting.
    is_ready: bool,
}

/// The listeners of a server.
pub(super) struct Listeners(Vec<Listening>);

/// An accepted connection whose client is identified.
pub(super) struct Incoming {
    pub(super) socket: OwnedFd,
    pub(super) codec: ProtocolCodec,
    pub(super) client: Client,
}

impl Listeners {
    /// Registers the listeners. `token` makes the token of a listener from its number.
    pub(super) fn new(
        listeners: Vec<(Protocol, Listener)>,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<Self> {
        let refusals: Arc<Refusals> = Arc::default();
        let listening = listeners.into_iter().enumerate().map(|(number, listener)| {
            let listening = Listening::new(listener, &refusals);
            let socket = listening.listener.as_raw_fd();
            registry.register(&mut SourceFd(&socket), token(number), Interest::READABLE)?;
            Ok(listening)
        });
        Ok(Self(listening.collect::<io::Result<_>>()?))
    }

    /// Closes all listeners.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }

    /// Returns how many there are; they are numbered from 0.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Marks a listener as ready.
    pub(super) fn set_ready(&mut self, number: usize) {
        if let Some(listening) = self.0.get_mut(number) {
            listening.is_ready = true;
        }
    }

    /// Marks all listeners as ready.
    pub(super) fn set_all_ready(&mut self) {
        for listening in &mut self.0 {
            listening.is_ready = true;
        }
    }

    /// Whether any listener is ready.
    pub(super) fn any_ready(&self) -> bool {
        self.0.iter().any(|listening| listening.is_ready)
    }

    /// Accepts the next connection of the listener `index`. `None` if there is none, or if its client was refused: then the
    /// listener stays ready.
    pub(super) fn accept(
        &mut self,
        index: usize,
        allowed: &Allowed,
        counters: &Counters,
    ) -> io::Result<Option<Incoming>> {
        let Some(listening) = self.0.get_mut(index).filter(|listening| listening.is_ready) else {
            return Ok(None);
        };
        match listening.listener.accept() {
            Ok(accepted) => Ok(listening.identify(accepted, allowed, counters)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listening.is_ready = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Listening {
    fn new((protocol, listener): (Protocol, Listener), refusals: &Arc<Refusals>) -> Self {
        let mut access = Access::new(Arc::clone(refusals));
        if let Ok(address) = local_address(&listener) {
            access.try_out(address);
        }
        Self {
            listener,
            protocol,
            access,
            is_ready: false,
        }
    }

    fn identify(&mut self, accepted: Accepted, allowed: &Allowed, counters: &Counters) -> Option<Incoming> {
        let Accepted { socket, peer } = accepted;
        trace!(peer = peer.map(display), "client connected");
        let client = if let Some(peer) = peer {
            let Some(client) = self.access.tcp(&socket, peer, allowed) else {
                counters.refused(Reason::Network);
                return None;
            };
            // Replies are written in one piece; Nagle's algorithm would only delay them.
            if let Err(error) = set_tcp_nodelay(&socket, true) {
                debug!(%error, "client disconnected before it was served");
                return None;
            }
            client
        } else {
            self.access.unix(&socket)
        };
        Some(Incoming {
            socket,
            codec: self.protocol.codec(),
            client,
        })
    }
}
