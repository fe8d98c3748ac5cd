//! Listeners to connections to requests, with their limits, and the drain at the end.
//!
//! One thread does it all, in a loop: it waits until the kernel says that something has happened, gives each connection
//! to which it has a turn, lets in who knocks, ends who is too slow, and waits again. It waits for nothing else, and takes
//! no lock that another thread holds while that waits. It is a loop of our own, because the tasks of a runtime cost a lookup more than its
//! table does (benches/runtime.md).
//!
//! - [`listen`]: endpoints to sockets;
//! - [`access`]: who is on the other end, and what is refused to it;
//! - [`admission`]: how many connections there are, in all and of each peer;
//! - [`session`]: one connection, and [`stream`], its socket;
//! - `doors`, `connections`: the listeners and the sessions that there are; `batch`: the order of their turns;
//! - [`bell`]: what other threads have to say;
//! - [`limits`]: what a peer can make the server hold, wait for or repeat.
//!
//! In each round of the loop, every connection has at most one turn, which reads once, and every listener lets in one
//! connection: in a storm of connects, a lookup waits for one of them and not for all that the queue holds. Where there
//! are as many connections as there may be, none is accepted, and the kernel's queue waits instead of our memory.
//! Where accepting fails, the server says so once, pauses, and goes on: it neither spins nor ends. A session that panics
//! ends alone.

pub mod access;
pub mod admission;
mod batch;
pub mod bell;
mod connections;
mod doors;
pub mod exchange;
pub mod limits;
pub mod listen;
pub mod session;
pub mod stream;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use nix::errno::Errno;
use tracing::{debug, warn};

use crate::answer::Map;
use crate::config::Limits;
use crate::counters::{Counters, Reason};
use crate::routes::Routes;
use admission::Admission;
use batch::Batch;
use bell::{Bell, Stop};
use connections::{Connections, Tools, leaves_something};
use doors::{Arrival, Doors};
use limits::{BACKLOG, DRAIN_DEADLINE, EVENTS_AT_ONCE, SAID_AGAIN, SHORTAGE_PAUSE};
use listen::Listener;
use session::Session;

/// The tokens of what is no connection: the bell, and the listeners from there on downwards.
const BELL: Token = Token(usize::MAX);

/// The server.
pub struct Server {
    poll: Poll,
    bell: Bell,
    stop: Stop,
    doors: Doors,
    connections: Connections,
    admission: Admission,
    routes: Arc<Routes>,
    counters: Arc<Counters>,
    batch: Batch,
    /// Until when nothing is accepted, because the system lacks something.
    rests_until: Option<Instant>,
    /// When the log had last that accepting failed.
    said: Option<Instant>,
    /// By when those that still read their replies must have done so. `None` until the server stops.
    drains_until: Option<Instant>,
}

impl Server {
    /// Serves at these listeners, once it runs.
    pub fn new(
        listeners: Vec<Listener>,
        routes: Arc<Routes>,
        counters: Arc<Counters>,
        limits: Limits,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let bell = Bell::new(poll.registry(), BELL)?;
        let doors = Doors::open(listeners, poll.registry(), |door| Token(BELL.0 - 1 - door))?;
        Ok(Self {
            poll,
            stop: Stop::new(bell.clone()),
            bell,
            doors,
            connections: Connections::default(),
            admission: Admission::new(limits),
            routes,
            counters,
            batch: Batch::default(),
            rests_until: None,
            said: None,
            drains_until: None,
        })
    }

    /// What rings for the thread that runs it.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// What ends it.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until it is stopped, then lets the sessions answer what they were asked. Calls `when_rung` after somebody
    /// has rung. Fails where the kernel cannot wait for events, which it does not.
    pub fn run(mut self, mut when_rung: impl FnMut()) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_AT_ONCE);
        while !self.is_at_the_end() {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                waited => waited?,
            }
            if self.give_turns(&events) {
                when_rung();
                if self.stop.has_begun() {
                    self.drain();
                }
            }
            self.let_in();
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
        let lets_in = match self.rests_until {
            _ if !self.may_let_in() => None,
            None => return Some(Duration::ZERO),
            until => until,
        };
        let deadlines = [self.connections.next_deadline(), self.drains_until, lets_in];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Gives a turn to each connection to which something has happened, and to those that have one without. Says whether
    /// somebody has rung.
    fn give_turns(&mut self, events: &Events) -> bool {
        let mut has_rung = false;
        let doors = &mut self.doors;
        let of_connections = events.iter().filter_map(|event| {
            let Token(number) = event.token();
            match (BELL.0 - number).checked_sub(1) {
                None => has_rung = true,
                Some(door) if door < doors.count() => doors.knock(door),
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
        has_rung
    }

    /// Whether somebody knocks, and there is a place.
    fn may_let_in(&self) -> bool {
        self.doors.are_knocked_at() && !self.admission.is_full()
    }

    /// Lets in one at each door.
    fn let_in(&mut self) {
        if !self.may_let_in() || self.rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.rests_until = None;
        for door in 0..self.doors.count() {
            if self.admission.is_full() {
                return;
            }
            // The hook has said where one panicked, which ends that connection.
            let let_in = catch_unwind(AssertUnwindSafe(|| self.let_in_at(door)));
            match let_in.unwrap_or(Ok(())) {
                Ok(()) => {}
                Err(error) if is_the_peers(&error) => {
                    debug!("a peer went away before it was accepted: {error}");
                }
                Err(error) => {
                    if self.said.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
                        warn!(
                            "cannot accept a connection: {error}; trying again, and serving those that there are"
                        );
                        self.said = Some(Instant::now());
                    }
                    self.rests_until = Some(Instant::now() + SHORTAGE_PAUSE);
                    return;
                }
            }
        }
    }

    fn let_in_at(&mut self, door: usize) -> io::Result<()> {
        let snapshot = self.routes.load();
        let arrival = self.doors.answer(door, &snapshot.allowed, &self.counters)?;
        let Some(Arrival {
            socket,
            dialect,
            visitor,
        }) = arrival
        else {
            return Ok(());
        };
        let peer = visitor.peer();
        let is_stranger = !snapshot.allowed.may_ask(Map::Sasl, peer);
        let Some(place) = self.admission.admit(peer, is_stranger) else {
            self.counters.refused(Reason::Connections);
            return Ok(());
        };
        let session = Session::new(socket.into(), dialect, visitor);
        let connected = self.counters.connected();
        self.connections
            .add(session, place, connected, self.poll.registry())
    }

    /// Begins to stop: lets in who stands before the doors, closes those, and gives each connection a turn to answer what
    /// has arrived.
    fn drain(&mut self) {
        if self.drains_until.is_none() {
            self.drains_until = Some(Instant::now() + DRAIN_DEADLINE);
            // They may have asked already, and would be reset. No more than the queue holds: others come meanwhile.
            self.doors.knock_at_all();
            for _ in 0..BACKLOG {
                if !self.may_let_in() {
                    break;
                }
                self.let_in();
            }
            self.doors.close();
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
