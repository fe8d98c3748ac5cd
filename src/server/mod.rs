//! The event loop: listeners to connections to requests, with their limits, and the drain on shutdown.
//!
//! A single thread runs it: it polls for readiness, processes ready connections, accepts new ones, closes those past their
//! deadline, and polls again. It blocks on nothing else, and takes no lock that another thread holds while blocking. The loop
//! is this crate's own, over mio, because the tasks of a runtime cost more than a table lookup (benches/runtime.md).
//!
//! - [`access`]: identifies clients, and says what is refused to them;
//! - [`connection_limiter`]: limits connections, in all and by peer;
//! - [`session`]: one connection, and [`stream`], its socket;
//! - `listeners`, `connections`: the listeners and the open sessions; `batch`: the order of their steps;
//! - [`limits`]: what a peer can make the server hold, wait for or repeat.
//!
//! In each round of the loop, a connection is processed at most once, with one read, and a listener accepts one connection:
//! in a burst of connects, a lookup waits for one accept, not for the whole queue. At the connection limit nothing is accepted,
//! and the kernel's queue waits instead of this process's memory. Where accept(2) fails, the server logs it once, pauses, and
//! goes on. A session that panics ends alone.

pub mod access;
mod batch;
mod connection_limiter;
mod connections;
pub mod counters;
mod exchange;
pub mod limits;
mod listeners;
pub mod session;
mod stream;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use tracing::warn;

use crate::config::Limits;
use crate::lookup::snapshot::ActiveSnapshot;
use crate::net::accept::AcceptErrors;
use crate::net::bind::BACKLOG;
use crate::net::listener::Listener;
use crate::net::waker::Waker;
use crate::protocol::Protocol;
use crate::server::counters::{Counters, Reason};
use batch::Batch;
use connection_limiter::ConnectionLimiter;
use connections::{Connections, TurnContext, leaves_something};
use limits::{DRAIN_DEADLINE, EVENTS_AT_ONCE};
use listeners::{Incoming, Listeners};
use session::Session;

/// Tokens that are no connection: the waker, and below it the listeners, counting down.
const WAKER: Token = Token(usize::MAX);

/// The server: listeners, connections, and the loop that serves them.
pub struct Server {
    poll: Poll,
    waker: Waker,
    stop: Stop,
    listeners: Listeners,
    connections: Connections,
    connection_limiter: ConnectionLimiter,
    active_snapshot: Arc<ActiveSnapshot>,
    counters: Arc<Counters>,
    batch: Batch,
    /// Until when nothing is accepted, because the system lacked a resource.
    accept_paused_until: Option<Instant>,
    accept_errors: AcceptErrors,
    /// The deadline of the drain. `None` until shutdown begins.
    drain_deadline: Option<Instant>,
}

impl Server {
    /// Creates a server for these listeners, each with its protocol. It serves once [`Server::run`] is called.
    pub fn new(
        listeners: Vec<(Protocol, Listener)>,
        active_snapshot: Arc<ActiveSnapshot>,
        counters: Arc<Counters>,
        limits: Limits,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let listeners = Listeners::new(listeners, poll.registry(), |number| Token(WAKER.0 - 1 - number))?;
        Ok(Self {
            poll,
            stop: Stop::new(waker.clone()),
            waker,
            listeners,
            connections: Connections::default(),
            connection_limiter: ConnectionLimiter::new(limits),
            active_snapshot,
            counters,
            batch: Batch::default(),
            accept_paused_until: None,
            accept_errors: AcceptErrors::default(),
            drain_deadline: None,
        })
    }

    /// Returns a handle that wakes the event loop.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Returns a handle that begins the shutdown.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until shutdown begins, then drains. Calls `on_wake` after each wake-up. Fails where the kernel cannot wait for
    /// events.
    pub fn run(mut self, mut on_wake: impl FnMut()) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_AT_ONCE);
        while !self.is_drained() {
            match self.poll.poll(&mut events, self.poll_timeout()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                waited => waited?,
            }
            if self.run_ready(&events) {
                on_wake();
                if self.stop.has_begun() {
                    self.drain();
                }
            }
            self.accept_ready();
            if self.connections.next_deadline().is_some() {
                self.connections.expire(Instant::now(), &self.counters);
            }
        }
        Ok(())
    }

    /// Returns the timeout of the next poll. `None` blocks until an event arrives.
    fn poll_timeout(&self) -> Option<Duration> {
        if self.connections.has_runnable() {
            return Some(Duration::ZERO);
        }
        // A ready listener causes no further event until accept(2) returns EAGAIN.
        if self.can_accept() && self.accept_paused_until.is_none() {
            return Some(Duration::ZERO);
        }
        let accept_resumes = self.accept_paused_until.filter(|_| self.can_accept());
        let deadlines = [
            self.connections.next_deadline(),
            self.drain_deadline,
            accept_resumes,
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Processes each ready connection, and those scheduled without an event. Returns whether the waker fired.
    fn run_ready(&mut self, events: &Events) -> bool {
        let mut woken = false;
        let listeners = &mut self.listeners;
        let of_connections = events.iter().filter_map(|event| {
            let Token(number) = event.token();
            match (WAKER.0 - number).checked_sub(1) {
                None => woken = true,
                Some(listener) if listener < listeners.count() => listeners.set_ready(listener),
                Some(_) => return Some((number, leaves_something(event))),
            }
            None
        });
        let context = TurnContext {
            registry: self.poll.registry(),
            active_snapshot: &self.active_snapshot,
            counters: &self.counters,
            stops: self.drain_deadline.is_some(),
        };
        self.connections
            .run_ready(of_connections, &mut self.batch, context);
        woken
    }

    /// Whether a listener is known to be ready, and the limit allows another connection.
    fn can_accept(&self) -> bool {
        self.listeners.any_ready() && !self.connection_limiter.is_full()
    }

    /// Accepts one connection at each ready listener.
    fn accept_ready(&mut self) {
        if !self.can_accept()
            || self
                .accept_paused_until
                .is_some_and(|until| Instant::now() < until)
        {
            return;
        }
        self.accept_paused_until = None;
        for listener in 0..self.listeners.count() {
            if self.connection_limiter.is_full() {
                return;
            }
            // The panic hook has logged it. The connection that was being accepted is gone.
            let accepted = catch_unwind(AssertUnwindSafe(|| self.accept(listener)));
            let Err(error) = accepted.unwrap_or(Ok(())) else {
                continue;
            };
            let pause = self.accept_errors.pause_after(&error, || {
                warn!(%error, "cannot accept connections; retrying");
            });
            if let Some(pause) = pause {
                self.accept_paused_until = Some(Instant::now() + pause);
                return;
            }
        }
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        let snapshot = self.active_snapshot.load();
        let incoming = self
            .listeners
            .accept(listener, &snapshot.allowed, &self.counters)?;
        let Some(Incoming {
            socket,
            codec,
            client,
        }) = incoming
        else {
            return Ok(());
        };
        let peer = client.peer();
        let is_unprivileged = !snapshot.allowed.may_query_secrets(peer);
        let Some(permit) = self.connection_limiter.acquire(peer, is_unprivileged) else {
            self.counters.refused(Reason::Connections);
            return Ok(());
        };
        let session = Session::new(socket.into(), codec, client);
        let connected = self.counters.connected();
        self.connections
            .add(session, permit, connected, self.poll.registry())
    }

    /// Begins the shutdown: accepts the connections that wait, closes the listeners, and schedules each connection, so that it
    /// answers what has arrived.
    fn drain(&mut self) {
        if self.drain_deadline.is_none() {
            self.drain_deadline = Some(Instant::now() + DRAIN_DEADLINE);
            // Their requests may have been sent already, and a close would reset them. No more than the queue holds, because others keep coming.
            self.listeners.set_all_ready();
            for _ in 0..BACKLOG {
                if !self.can_accept() {
                    break;
                }
                self.accept_ready();
            }
            self.listeners.close();
            self.connections.schedule_all();
        }
    }

    /// Whether the drain is over: every session has ended, or the deadline has passed.
    fn is_drained(&self) -> bool {
        let Some(until) = self.drain_deadline else {
            return false;
        };
        if self.connections.is_empty() {
            return true;
        }
        let is_late = Instant::now() >= until;
        if is_late {
            warn!(
                connections = self.connections.len(),
                "stopping, although some clients have not read their replies"
            );
        }
        is_late
    }
}

/// Begins the shutdown; clones share one flag.
#[derive(Clone, Debug)]
pub struct Stop {
    begun: Arc<AtomicBool>,
    waker: Waker,
}

impl Stop {
    fn new(waker: Waker) -> Self {
        Self {
            begun: Arc::default(),
            waker,
        }
    }

    /// Begins the shutdown. Returns at once.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
}
