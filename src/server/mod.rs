//! Listeners to connections to requests, with their limits, and the drain at the end.
//!
//! - [`listen`]: endpoints to sockets;
//! - [`access`]: who is on the other end, and what is refused to it;
//! - [`admission`]: how many connections there are, in all and of each peer;
//! - [`session`]: one connection, and [`stream`], its socket;
//! - [`stop`]: the end of all of it;
//! - [`limits`]: what a peer can make the server hold, wait for or repeat.
//!
//! One task accepts for all listeners, in turn, and takes a connection's permit before it accepts it: so over the limit
//! the kernel's queue waits instead of our memory, and no listener keeps a permit that another one needs. Where accepting
//! fails, the server says so once, pauses, and goes on: it neither spins nor ends. A session that panics ends alone.

pub mod access;
pub mod admission;
pub mod limits;
pub mod listen;
pub mod session;
pub mod stop;
pub mod stream;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, trace, warn};

use crate::answer::Map;
use crate::config::Limits;
use crate::counters::{Counters, Reason};
use crate::endpoint::Protocol;
use crate::protocol::socketmap::Socketmap;
use crate::protocol::tcp_table::TcpTable;
use crate::routes::Routes;
use access::refusals::Refusals;
use access::{Access, Visitor};
use admission::Admission;
use limits::{DRAIN_DEADLINE, SAID_AGAIN, SHORTAGE_PAUSE};
use listen::{Listener, Socket};
use stop::Stop;
use stream::Stream;

/// Serves until `stop`, then lets the sessions answer what they were asked.
pub async fn run(
    listeners: Vec<Listener>,
    routes: Arc<Routes>,
    counters: Arc<Counters>,
    limits: Limits,
    stop: Stop,
) {
    let server = Server {
        routes,
        counters,
        stop: stop.clone(),
        sessions: TaskTracker::new(),
        admission: Admission::new(limits),
    };
    // The listeners end first, and their sockets with them.
    server.accept(listeners).await;
    server.sessions.close();
    if timeout(DRAIN_DEADLINE, server.sessions.wait()).await.is_err() {
        warn!(
            sessions = server.sessions.len(),
            "some peers did not read their replies in time"
        );
    }
}

struct Server {
    routes: Arc<Routes>,
    counters: Arc<Counters>,
    stop: Stop,
    sessions: TaskTracker,
    admission: Admission,
}

/// A listener, and who recognises its peers.
struct Door {
    listener: Listener,
    access: Access,
}

/// A connection that nobody has looked at yet.
enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Server {
    /// Accepts connections until the server stops.
    async fn accept(&self, listeners: Vec<Listener>) {
        let refusals: Arc<Refusals> = Arc::default();
        let doors = listeners.into_iter();
        let mut doors: Vec<Door> = doors.map(|listener| Door::new(listener, &refusals)).collect();
        let mut said: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.wait() => return,
                accepted = self.accept_one(&mut doors) => accepted,
            };
            match accepted {
                // Those who are connected come before the next who connects: in a storm of connects, a lookup waits for
                // one of them and not for all that the queue holds.
                Ok(()) => yield_now().await,
                Err(error) if is_the_peers(&error) => {
                    debug!("a peer went away before it was accepted: {error}");
                }
                Err(error) => {
                    if said.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
                        warn!(
                            "cannot accept a connection: {error}; trying again, and serving those that there are"
                        );
                        said = Some(Instant::now());
                    }
                    sleep(SHORTAGE_PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self, doors: &mut [Door]) -> io::Result<()> {
        let permit = self.admission.permit().await.map_err(io::Error::other)?;
        let (place, accepted) = poll_fn(|context| accept_from(doors, context)).await?;
        // The others first, the next time.
        doors.rotate_left(place + 1);
        match doors.last_mut() {
            Some(door) => self.let_in(door, accepted, permit),
            None => Ok(()),
        }
    }

    fn let_in(&self, door: &mut Door, accepted: Accepted, permit: OwnedSemaphorePermit) -> io::Result<()> {
        let protocol = door.listener.endpoint.protocol;
        match accepted {
            Accepted::Tcp(stream, peer) => {
                trace!(%peer, "connected");
                let Some(visitor) = door.access.tcp(&stream, peer, &self.routes.load().allowed) else {
                    self.counters.refused(Reason::Network);
                    return Ok(());
                };
                // Each reply is one write already; waiting for more to send would only delay it.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!("a peer went away before it was served: {error}");
                    return Ok(());
                }
                self.start(stream.into_std()?.into(), protocol, visitor, permit)
            }
            Accepted::Unix(stream) => {
                trace!("connected");
                let visitor = door.access.unix(&stream);
                self.start(stream.into_std()?.into(), protocol, visitor, permit)
            }
        }
    }

    fn start(
        &self,
        socket: OwnedFd,
        protocol: Protocol,
        visitor: Visitor,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<()> {
        let stream = Stream::new(socket)?;
        let peer = visitor.peer();
        let is_stranger = !self.routes.load().allowed.may_ask(Map::Sasl, peer);
        let Some(place) = self.admission.admit(permit, peer, is_stranger) else {
            self.counters.refused(Reason::Connections);
            return Ok(());
        };
        let routes = Arc::clone(&self.routes);
        let counters = Arc::clone(&self.counters);
        let connected = counters.connected();
        let stop = self.stop.clone();
        self.sessions.spawn(async move {
            let end = match protocol {
                Protocol::Socketmap => {
                    session::serve(stream, Socketmap, visitor, &routes, &counters, &stop).await
                }
                Protocol::TcpTable(map) => {
                    session::serve(stream, TcpTable::new(map), visitor, &routes, &counters, &stop).await
                }
            };
            drop(connected);
            debug!(?end, "disconnected");
            drop(place);
        });
        Ok(())
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
        Self { listener, access }
    }
}

/// The first of these that has a connection, or fails, and which one it is.
fn accept_from(doors: &[Door], context: &mut Context<'_>) -> Poll<io::Result<(usize, Accepted)>> {
    for (place, door) in doors.iter().enumerate() {
        let accepted = match &door.listener.socket {
            Socket::Tcp(socket) => socket
                .poll_accept(context)
                .map_ok(|(stream, peer)| Accepted::Tcp(stream, peer)),
            Socket::Unix(socket, _) => socket
                .poll_accept(context)
                .map_ok(|(stream, _)| Accepted::Unix(stream)),
        };
        if let Poll::Ready(accepted) = accepted {
            return Poll::Ready(accepted.map(|accepted| (place, accepted)));
        }
    }
    Poll::Pending
}

/// Whether accepting failed because of one connection, which is gone, and the next may do better at once. On Linux,
/// accept(2) also reports an error of the network that the connection had by then.
pub(crate) fn is_the_peers(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::ECONNABORTED
                | Errno::EINTR
                | Errno::EPROTO
                | Errno::ENOPROTOOPT
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::ENONET
        )
    )
}
