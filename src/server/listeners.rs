//! The listeners: each accepts one connection at a time, in turn.
//!
//! The kernel reports them edge-triggered: a listener stays ready until accept(2) finds no further connection.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::sockopt::set_tcp_nodelay;
use tracing::{debug, trace};

use super::access::refusals::Refusals;
use super::access::{Access, Visitor};
use crate::lookup::peer::Allowed;
use crate::net::listener::{Accepted, Listener, local_address};
use crate::protocol::{Protocol, ProtocolCodec};
use crate::server::counters::{Counters, Reason};

/// A listener with its protocol, and what recognises its peers.
struct Served {
    listener: Listener,
    protocol: Protocol,
    access: Access,
    /// Whether a connection may wait.
    is_ready: bool,
}

/// All of them.
pub(super) struct Listeners(Vec<Served>);

/// A connection whose peer is recognised.
pub(super) struct Incoming {
    pub(super) socket: OwnedFd,
    pub(super) codec: ProtocolCodec,
    pub(super) visitor: Visitor,
}

impl Listeners {
    /// Registers them. An event of one has the token that `token` makes of its number.
    pub(super) fn new(
        listeners: Vec<(Protocol, Listener)>,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<Self> {
        let refusals: Arc<Refusals> = Arc::default();
        let served = listeners.into_iter().enumerate().map(|(number, listener)| {
            let served = Served::new(listener, &refusals);
            let socket = served.listener.as_raw_fd();
            registry.register(&mut SourceFd(&socket), token(number), Interest::READABLE)?;
            Ok(served)
        });
        Ok(Self(served.collect::<io::Result<_>>()?))
    }

    /// Closes them, and their sockets with them.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }

    /// The number of those that there are; each number below is one.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// A connection may wait at this one.
    pub(super) fn set_ready(&mut self, number: usize) {
        if let Some(served) = self.0.get_mut(number) {
            served.is_ready = true;
        }
    }

    /// A connection may wait at any.
    pub(super) fn set_all_ready(&mut self) {
        for served in &mut self.0 {
            served.is_ready = true;
        }
    }

    /// Whether a connection may wait at one.
    pub(super) fn any_ready(&self) -> bool {
        self.0.iter().any(|served| served.is_ready)
    }

    /// Accepts the next connection at this listener. `None` where there is none, or where it is closed again at once.
    pub(super) fn accept(
        &mut self,
        number: usize,
        allowed: &Allowed,
        counters: &Counters,
    ) -> io::Result<Option<Incoming>> {
        let Some(served) = self.0.get_mut(number).filter(|served| served.is_ready) else {
            return Ok(None);
        };
        match served.listener.accept() {
            Ok(accepted) => Ok(served.recognise(accepted, allowed, counters)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                served.is_ready = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Served {
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

    fn recognise(&mut self, accepted: Accepted, allowed: &Allowed, counters: &Counters) -> Option<Incoming> {
        let Accepted { socket, peer } = accepted;
        let visitor = if let Some(peer) = peer {
            trace!(%peer, "connected");
            let Some(visitor) = self.access.tcp(&socket, peer, allowed) else {
                counters.refused(Reason::Network);
                return None;
            };
            // Each reply is one write already; waiting for more to send would only delay it.
            if let Err(error) = set_tcp_nodelay(&socket, true) {
                debug!("a peer went away before it was served: {error}");
                return None;
            }
            visitor
        } else {
            trace!("connected");
            self.access.unix(&socket)
        };
        Some(Incoming {
            socket,
            codec: self.protocol.codec(),
            visitor,
        })
    }
}
