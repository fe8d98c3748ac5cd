//! Identifies the client of a connection, and says what is refused to it.
//!
//! A client is identified once, when its connection is accepted: on a UNIX socket by the credentials that the kernel recorded
//! at connect(2) (SO_PEERCRED), on loopback TCP by the kernel's socket diagnostics ([`sock_diag`]), otherwise by its address.
//! What it may query is decided for each request by the list of the snapshot that answers ([`crate::lookup::peer::Allowed`]): a
//! narrowed list applies to open connections too.
//!
//! A client whose user the kernel does not report gets the relay map and no credentials. In a user namespace that does not map
//! every user, this includes the overflow user (65534), even where it is the server's own: the kernel shows all unmapped users
//! of the host under this number ([`crate::os::user_namespace`]). A connection from a host that is not allowed is closed immediately.
//!
//! - [`sock_diag`]: the query to the kernel;
//! - [`refusals`]: the reason that a refused client gets, and its log message.

pub(crate) mod refusals;
mod sock_diag;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use tracing::{debug, warn};

use crate::lookup::peer::{Allowed, Peer};
use crate::net::listener::local_address;
use crate::os::user_namespace;
use crate::server::counters::Reason;
use refusals::Refusals;
use sock_diag::SockDiag;

/// Identifies the clients of one listener.
pub struct Access {
    refusals: Arc<Refusals>,
    kernel: Option<SockDiag>,
    /// The number under which the kernel shows users that this user namespace does not map.
    unmapped: Option<u32>,
    /// Whether it is logged that the kernel does not answer.
    has_warned: bool,
}

impl Access {
    /// Creates it for a listener that shares `refusals` with the others.
    #[must_use]
    pub fn new(refusals: Arc<Refusals>) -> Self {
        Self {
            refusals,
            kernel: None,
            unmapped: user_namespace::overflow_uid(),
            has_warned: false,
        }
    }

    /// Warns at start, not at the first mail, if the users of loopback connections to this listener cannot be determined.
    pub fn try_out(&mut self, listener: SocketAddr) {
        let address = listener.ip().to_canonical();
        if !address.is_loopback() && !address.is_unspecified() {
            return;
        }
        match self.ask(|kernel| kernel.finds(listener)) {
            // A kernel without the module for TCP says that there is no such socket.
            Ok(false) => self.warn_unidentified(&io::ErrorKind::Unsupported.into()),
            Ok(true) => {}
            Err(error) => self.warn_unidentified(&error),
        }
    }

    /// Identifies the client of a TCP connection, right after it was accepted. `None` if the connection is to be closed.
    pub fn tcp(&mut self, socket: &impl AsFd, from: SocketAddr, allowed: &Allowed) -> Option<Client> {
        let address = from.ip().to_canonical();
        let peer = if address.is_loopback() {
            let user = local_address(socket).and_then(|server| self.ask(|kernel| kernel.user(from, server)));
            match user {
                Ok(Some(uid)) => self.local(uid, Some(address)),
                Ok(None) => Peer::Unknown {
                    address: Some(address),
                },
                Err(error) => {
                    self.warn_unidentified(&error);
                    Peer::Unknown {
                        address: Some(address),
                    }
                }
            }
        } else {
            Peer::Host(address)
        };
        let client = Client::new(peer, Arc::clone(&self.refusals));
        if allowed.may_connect(peer) {
            return Some(client);
        }
        let reason = self.refusals.reason(peer);
        debug!(client = %from, %reason, "connection closed: refused a client");
        None
    }

    /// Identifies the client of a UNIX socket.
    #[must_use]
    pub fn unix(&self, socket: &impl AsFd) -> Client {
        // Not through rustix, which returns no peer where its process has no number here, as one of another container.
        let peer = match getsockopt(socket, PeerCredentials) {
            Ok(credentials) => self.local(credentials.uid(), None),
            Err(_) => Peer::Unknown { address: None },
        };
        Client::new(peer, Arc::clone(&self.refusals))
    }

    /// A local user by the number that the kernel gives it, unless that is the number of all unmapped users.
    fn local(&self, uid: u32, address: Option<IpAddr>) -> Peer {
        if self.unmapped == Some(uid) {
            Peer::Unknown { address }
        } else {
            Peer::User { uid, address }
        }
    }

    /// Queries the kernel; after a failure, the next query is on a new socket.
    fn ask<T>(&mut self, question: impl FnOnce(&mut SockDiag) -> io::Result<T>) -> io::Result<T> {
        let mut kernel = match self.kernel.take() {
            Some(kernel) => kernel,
            None => SockDiag::open()?,
        };
        let answer = question(&mut kernel)?;
        self.kernel = Some(kernel);
        Ok(answer)
    }

    fn warn_unidentified(&mut self, error: &io::Error) {
        if !self.has_warned {
            warn!(
                %error,
                "cannot identify clients on loopback TCP (sock_diag, kernel module tcp_diag), so sasl is refused there; connect \
                 Postfix over a UNIX socket"
            );
        }
        self.has_warned = true;
    }
}

/// The client of one connection, and why it was refused.
pub struct Client {
    peer: Peer,
    refusals: Arc<Refusals>,
    reason: Option<Arc<str>>,
}

impl Client {
    /// A client that is already identified.
    #[must_use]
    pub fn new(peer: Peer, refusals: Arc<Refusals>) -> Self {
        Self {
            peer,
            refusals,
            reason: None,
        }
    }

    /// Returns the peer.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Returns the reason under which its refusals are counted.
    #[must_use]
    pub fn kind_of_refusal(&self) -> Reason {
        match self.peer {
            Peer::User { .. } | Peer::Unknown { .. } => Reason::User,
            Peer::Host(_) => Reason::Network,
        }
    }

    /// Returns why its request is refused. The log has it once for each peer, however often it asks.
    pub fn refuse(&mut self) -> &str {
        self.reason.get_or_insert_with(|| self.refusals.reason(self.peer))
    }
}
