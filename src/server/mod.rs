//! Listeners to connections to requests, with their limits, and the drain at the end.
//!
//! One thread does it all, in a loop: it waits until the kernel says that something has happened, gives each connection
//! to which it has a turn, accepts new ones, ends those that are too slow, and waits again. It waits for nothing else, and takes
//! no lock that another thread holds while that waits. It is a loop of our own, because the tasks of a runtime cost a lookup more than its
//! table does (benches/runtime.md).
//!
//! - [`access`]: who is on the other end, and what is refused to it;
//! - [`admission`]: how many connections there are, in all and of each peer;
//! - [`session`]: one connection, and [`stream`], its socket;
//! - `listeners`, `connections`: the listeners and the sessions that there are; `batch`: the order of their turns;
//! - [`limits`]: what a peer can make the server hold, wait for or repeat.
//!
//! In each round of the loop, every connection has at most one turn, which reads once, and every listener accepts one
//! connection: in a storm of connects, a lookup waits for one of them and not for all that the queue holds. Where there
//! are as many connections as there may be, none is accepted, and the kernel's queue waits instead of our memory.
//! Where accepting fails, the server says so once, pauses, and goes on: it neither spins nor ends. A session that panics
//! ends alone.

pub mod access;
mod admission;
mod batch;
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
use crate::lookup::snapshot::Routes;
use crate::net::accept::AcceptErrors;
use crate::net::bind::BACKLOG;
use crate::net::listener::Listener;
use crate::net::waker::Waker;
use crate::protocol::Protocol;
use crate::server::counters::{Counters, Reason};
use admission::Admission;
use batch::Batch;
use connections::{Connections, Tools, leaves_something};
use limits::{DRAIN_DEADLINE, EVENTS_AT_ONCE};
use listeners::{Incoming, Listeners};
use session::Session;

/// The tokens of what is no connection: the waker, and the listeners from there on downwards.
const WAKER: Token = Token(usize::MAX);

/// The server.
pub struct Server {
    poll: Poll,
    waker: Waker,
    stop: Stop,
    listeners: Listeners,
    connections: Connections,
    admission: Admission,
    routes: Arc<Routes>,
    counters: Arc<Counters>,
    batch: Batch,
    /// Until when nothing is accepted, because the system lacks something.
    accept_paused_until: Option<Instant>,
    accept_errors: AcceptErrors,
    /// By when those that still read their replies must have done so. `None` until the server stops.
    drains_until: Option<Instant>,
}

impl Server {
    /// Serves at these listeners, each with its protocol, once it runs.
    pub fn new(
        listeners: Vec<(Protocol, Listener)>,
        routes: Arc<Routes>,
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
            admission: Admission::new(limits),
            routes,
            counters,
            batch: Batch::default(),
            accept_paused_until: None,
            accept_errors: AcceptErrors::default(),
            drains_until: None,
        })
    }

    /// What wakes the thread that runs it.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What ends it.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until it is stopped, then lets the sessions answer what they were asked. Calls `on_wake` after it
    /// was woken. Fails where the kernel cannot wait for events, which it does not.
    pub fn run(mut self, mut on_wake: impl FnMut()) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_AT_ONCE);
        while !self.is_at_the_end() {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                waited => waited?,
            }
            if self.give_turns(&events) {
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

    /// How long to wait for an event; for ever where nothing else is to be done.
    fn patience(&self) -> Option<Duration> {
        if self.connections.have_turns() {
            return Some(Duration::ZERO);
        }
        let accepts = match self.accept_paused_until {
            _ if !self.can_accept() => None,
            None => return Some(Duration::ZERO),
            until => until,
        };
        let deadlines = [self.connections.next_deadline(), self.drains_until, accepts];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Gives a turn to each connection to which something has happened, and to those that have one without. Says whether
    /// it was woken.
    fn give_turns(&mut self, events: &Events) -> bool {
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
        let tools = Tools {
            registry: self.poll.registry(),
            routes: &self.routes,
            counters: &self.counters,
            stops: self.drains_until.is_some(),
        };
        self.connections
            .give_turns(of_connections, &mut self.batch, tools);
        woken
    }

    /// Whether a connection may wait, and there is a place.
    fn can_accept(&self) -> bool {
        self.listeners.any_ready() && !self.admission.is_full()
    }

    /// Accepts one connection at each listener.
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
            if self.admission.is_full() {
                return;
            }
            // The hook has said where one panicked, which ends that connection.
            let accepted = catch_unwind(AssertUnwindSafe(|| self.accept(listener)));
            let Err(error) = accepted.unwrap_or(Ok(())) else {
                continue;
            };
            let pause = self.accept_errors.pause(&error, || {
                warn!("cannot accept a connection: {error}; trying again, and serving those that there are");
            });
            if let Some(pause) = pause {
                self.accept_paused_until = Some(Instant::now() + pause);
                return;
            }
        }
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        let snapshot = self.routes.load();
        let incoming = self
            .listeners
            .accept(listener, &snapshot.allowed, &self.counters)?;
        let Some(Incoming {
            socket,
            codec,
            visitor,
        }) = incoming
        else {
            return Ok(());
        };
        let peer = visitor.peer();
        let is_stranger = !snapshot.allowed.may_ask_for_secrets(peer);
        let Some(place) = self.admission.admit(peer, is_stranger) else {
            self.counters.refused(Reason::Connections);
            return Ok(());
        };
        let session = Session::new(socket.into(), codec, visitor);
        let connected = self.counters.connected();
        self.connections
            .add(session, place, connected, self.poll.registry())
    }

    /// Begins to stop: accepts the connections that wait, closes the listeners, and gives each connection a turn to answer
    /// what has arrived.
    fn drain(&mut self) {
        if self.drains_until.is_none() {
            self.drains_until = Some(Instant::now() + DRAIN_DEADLINE);
            // They may have asked already, and would be reset. No more than the queue holds: others come meanwhile.
            self.listeners.set_all_ready();
            for _ in 0..BACKLOG {
                if !self.can_accept() {
                    break;
                }
                self.accept_ready();
            }
            self.listeners.close();
            self.connections.queue_all();
        }
    }

    /// Whether it has stopped, and nobody is owed anything any more.
    fn is_at_the_end(&self) -> bool {
        let Some(until) = self.drains_until else {
            return false;
        };
        if self.connections.is_empty() {
            return true;
        }
        let is_late = Instant::now() >= until;
        if is_late {
            warn!(
                sessions = self.connections.len(),
                "some peers did not read their replies in time"
            );
        }
        is_late
    }
}

/// Whether the server stops; clones are of one thing.
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

    /// The server stops, from now on.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
}
