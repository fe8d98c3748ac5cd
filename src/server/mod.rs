//! Listeners to connections to requests, with their limits, and the drain at the end.
//!
//! - [`listen`]: endpoints to sockets;
//! - [`access`]: who is on the other end, and what is refused to it;
//! - [`session`]: one connection;
//! - [`stop`]: the end of all of it;
//! - [`limits`]: what a peer can make the server hold, wait for or repeat.
//!
//! A connection's permit is taken before it is accepted, so that over the limit the kernel's queue waits instead
//! of our memory. Where accepting fails, the server says so once, pauses, and goes on: it neither spins nor ends.
//! A session that panics ends alone.

pub mod access;
pub mod limits;
pub mod listen;
pub mod session;
pub mod stop;

use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, trace, warn};

use crate::counters::{Counters, Reason};
use crate::endpoint::Protocol;
use crate::protocol::socketmap::Socketmap;
use crate::protocol::tcp_table::TcpTable;
use crate::routes::Routes;
use access::refusals::Refusals;
use access::{Access, Visitor};
use limits::{CONNECTIONS, DRAIN_DEADLINE, SHORTAGE_PAUSE, SPARE_DESCRIPTORS};
use listen::{Listener, Socket};
use stop::Stop;

/// Serves until `stop`, then lets the sessions answer what they were asked.
pub async fn run(listeners: Vec<Listener>, routes: Arc<Routes>, counters: Arc<Counters>, stop: Stop) {
    let server = Server {
        routes,
        counters,
        stop: stop.clone(),
        sessions: TaskTracker::new(),
        refusals: Arc::default(),
        permits: Arc::new(Semaphore::new(connections())),
    };
    let accepting = TaskTracker::new();
    for listener in listeners {
        accepting.spawn(server.clone().accept(listener));
    }
    accepting.close();
    stop.wait().await;
    // The listeners end first, and their sockets with them.
    accepting.wait().await;
    server.sessions.close();
    if timeout(DRAIN_DEADLINE, server.sessions.wait()).await.is_err() {
        warn!(
            sessions = server.sessions.len(),
            "some peers did not read their replies in time"
        );
    }
}

#[derive(Clone)]
struct Server {
    routes: Arc<Routes>,
    counters: Arc<Counters>,
    stop: Stop,
    sessions: TaskTracker,
    refusals: Arc<Refusals>,
    permits: Arc<Semaphore>,
}

impl Server {
    async fn accept(self, listener: Listener) {
        let mut access = Access::new(Arc::clone(&self.refusals));
        if let Socket::Tcp(socket) = &listener.socket
            && let Ok(address) = socket.local_addr()
        {
            access.try_out(address);
        }
        let mut short = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.wait() => return,
                accepted = self.accept_one(&listener, &mut access) => accepted,
            };
            match accepted {
                Ok(()) => short = false,
                Err(error) if is_the_peers(&error) => {
                    debug!("a peer went away before it was accepted: {error}");
                }
                Err(error) => {
                    if !short {
                        warn!(
                            "{}: cannot accept a connection: {error}; trying again",
                            listener.endpoint
                        );
                    }
                    short = true;
                    sleep(SHORTAGE_PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self, listener: &Listener, access: &mut Access) -> io::Result<()> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        match &listener.socket {
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                trace!(%peer, "connected");
                let Some(visitor) = access.tcp(&stream, peer, &self.routes.load().allowed) else {
                    self.counters.refused(Reason::Network);
                    return Ok(());
                };
                // Each reply is one write already; waiting for more to send would only delay it.
                stream.set_nodelay(true)?;
                self.start(stream, listener.endpoint.protocol, visitor, permit);
            }
            Socket::Unix(socket, _) => {
                let (stream, _) = socket.accept().await?;
                trace!("connected");
                let visitor = access.unix(&stream);
                self.start(stream, listener.endpoint.protocol, visitor, permit);
            }
        }
        Ok(())
    }

    fn start<S>(&self, stream: S, protocol: Protocol, visitor: Visitor, permit: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
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
            drop(permit);
        });
    }
}

/// Whether accepting failed because of one peer, and the next may do better at once.
pub(crate) fn is_the_peers(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::ECONNABORTED | Errno::EPROTO | Errno::EINTR | Errno::ENOTCONN | Errno::EINVAL)
    )
}

/// How many connections fit into the descriptors that this process may have. Raises the soft limit first, which is
/// 1024 nearly everywhere for the sake of programs that use select(2).
fn connections() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return CONNECTIONS;
    };
    let wanted = u64::try_from(CONNECTIONS + SPARE_DESCRIPTORS)
        .unwrap_or(hard)
        .clamp(soft, hard.max(soft));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    };
    let fit = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .saturating_sub(SPARE_DESCRIPTORS);
    fit.clamp(1, CONNECTIONS)
}
