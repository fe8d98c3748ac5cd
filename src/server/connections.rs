//! The open connections: their sessions, which of them run without an event, and their deadlines.
//!
//! A connection is numbered by its slot, which is its token in the kernel. A slot is reused, so an event may belong to an
//! earlier connection. That does no harm: an event is only a hint, and a session without anything to do waits again.
//!
//! Limits: there are at most as many scheduled sessions and deadlines as connections.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::Guard;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use slab::Slab;
use tracing::debug;

use super::batch::{Batch, Steps};
use super::connection_limiter::Permit;
use super::session::{IoBuffers, Session, SessionEnd, Stream, WaitFor};
use super::stream::PeerSocket;
use crate::lookup::snapshot::{ActiveSnapshot, Snapshot};
use crate::protocol::{Codec, ProtocolCodec};
use crate::server::counters::{Connected, Counters};

/// The events that every connection is registered for.
const READABLE: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Whether, after this event, a read that returns less than the buffer may leave something behind: the end of the stream, which
/// no later event reports, or bytes behind urgent data (send(2), MSG_OOB), at which a read stops. Postfix sends none.
#[inline]
pub(super) fn leaves_something(event: &Event) -> bool {
    event.is_read_closed() || event.is_error() || event.is_priority()
}

/// One connection.
struct Connection<S, C> {
    session: Session<S, C>,
    /// Whether the kernel reports when there is room to write. On UNIX sockets it would do so after every reply that the peer
    /// reads, so only connections that found no room are registered for it.
    wants_write: bool,
    /// Whether it is scheduled to run without an event.
    is_queued: bool,
    /// Its deadline, as in [`Connections::deadlines`].
    deadline: Option<Instant>,
    /// Released when the connection is dropped.
    _permit: Permit,
    _connected: Connected,
}

/// The open connections.
pub(super) struct Connections<S = PeerSocket, C = ProtocolCodec> {
    all: Slab<Connection<S, C>>,
    /// Those scheduled to run without an event.
    queue: VecDeque<usize>,
    deadlines: BTreeSet<(Instant, usize)>,
    /// The connection that runs, or ran last: the one to end after a panic.
    current: usize,
}

/// What processing a connection needs besides the connection.
pub(super) struct TurnContext<'a> {
    pub(super) registry: &'a Registry,
    pub(super) active_snapshot: &'a ActiveSnapshot,
    pub(super) counters: &'a Counters,
    /// Whether shutdown has begun: idle connections end.
    pub(super) stops: bool,
}

impl<S, C> Default for Connections<S, C> {
    fn default() -> Self {
        Self {
            all: Slab::new(),
            queue: VecDeque::new(),
            deadlines: BTreeSet::new(),
            current: 0,
        }
    }
}

impl<S: Stream + AsRawFd, C: Codec> Connections<S, C> {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds a connection. Fails where the system lacks a resource.
    pub(super) fn add(
        &mut self,
        session: Session<S, C>,
        permit: Permit,
        connected: Connected,
        registry: &Registry,
    ) -> io::Result<()> {
        let entry = self.all.vacant_entry();
        let socket = session.stream().as_raw_fd();
        registry.register(&mut SourceFd(&socket), Token(entry.key()), READABLE)?;
        entry.insert(Connection {
            session,
            wants_write: false,
            is_queued: false,
            deadline: None,
            _permit: permit,
            _connected: connected,
        });
        Ok(())
    }

    /// Whether any connection is scheduled to run without an event.
    pub(super) fn has_runnable(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Schedules every connection.
    pub(super) fn schedule_all(&mut self) {
        self.queue.clear();
        for (number, connection) in &mut self.all {
            connection.is_queued = true;
            self.queue.push_back(number);
        }
    }

    /// Processes each connection with an event (its number, and whether a short read may leave something behind:
    /// [`leaves_something`]), then those that were scheduled. A session that panics ends, and the others go on.
    pub(super) fn run_ready(
        &mut self,
        mut events: impl Iterator<Item = (usize, bool)>,
        batch: &mut Batch,
        context: TurnContext<'_>,
    ) {
        let mut steps = ReadyConnections {
            connections: self,
            context,
        };
        // Once around all of them: around each, it costs 2 % of a lookup.
        while catch_unwind(AssertUnwindSafe(|| {
            batch.run(&mut events, &mut steps);
            steps.connections.run_queued(batch, &steps.context);
        }))
        .is_err()
        {
            // The panic hook has logged it.
            let current = steps.connections.current;
            steps
                .connections
                .end(current, &SessionEnd::Closed, steps.context.counters);
        }
    }

    /// Processes each connection that is scheduled now.
    fn run_queued(&mut self, batch: &mut Batch, context: &TurnContext<'_>) {
        for _ in 0..self.queue.len() {
            if let Some(number) = self.queue.pop_front()
                && let Some(connection) = self.all.get_mut(number)
                && let Some(buffers) = batch.buffers()
            {
                connection.is_queued = false;
                self.current = number;
                let session = &mut connection.session;
                let outcome = session.run(buffers, context.active_snapshot, context.counters, Instant::now);
                self.finish_step(number, outcome, context);
            }
        }
    }

    /// Applies the outcome of a step: ends the connection, or updates its registration and deadline.
    fn finish_step(
        &mut self,
        number: usize,
        outcome: Result<WaitFor, SessionEnd>,
        context: &TurnContext<'_>,
    ) {
        let Some(connection) = self.all.get_mut(number) else {
            return;
        };
        let applied = match outcome {
            Ok(WaitFor::Readable) if context.stops && connection.session.is_idle() => {
                Err(SessionEnd::Stopped)
            }
            Ok(next) => connection
                .set_write_interest(next == WaitFor::Writable, number, context.registry)
                .map(|()| next),
            Err(end) => Err(end),
        };
        match applied {
            Ok(next) => {
                if next == WaitFor::Nothing && !connection.is_queued {
                    connection.is_queued = true;
                    self.queue.push_back(number);
                }
                let deadline = connection.session.deadline();
                if deadline != connection.deadline {
                    let before = mem::replace(&mut connection.deadline, deadline);
                    before.map(|at| self.deadlines.remove(&(at, number)));
                    deadline.map(|at| self.deadlines.insert((at, number)));
                }
            }
            Err(end) => self.end(number, &end, context.counters),
        }
    }

    /// Ends the connections whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant, counters: &Counters) {
        while let Some((at, number)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            if let Some(connection) = self.all.get_mut(number) {
                connection.deadline = None;
                let end = connection.session.expire();
                self.end(number, &end, counters);
            }
        }
    }

    fn end(&mut self, number: usize, end: &SessionEnd, counters: &Counters) {
        let Some(connection) = self.all.try_remove(number) else {
            return;
        };
        if let Some(at) = connection.deadline {
            self.deadlines.remove(&(at, number));
        }
        if connection.is_queued {
            self.queue.retain(|queued| *queued != number);
        }
        connection.session.count(end, counters);
        debug!(?end, "connection ended");
    }
}

/// The ready connections, as a batch processes them.
struct ReadyConnections<'a, S, C> {
    connections: &'a mut Connections<S, C>,
    context: TurnContext<'a>,
}

impl<S: Stream + AsRawFd, C: Codec> ReadyConnections<'_, S, C> {
    /// The connection with this number, unless it has ended.
    #[inline]
    fn connection(&mut self, number: usize) -> Option<&mut Connection<S, C>> {
        self.connections.current = number;
        self.connections.all.get_mut(number)
    }
}

impl<S: Stream + AsRawFd, C: Codec> Steps for ReadyConnections<'_, S, C> {
    type Event = (usize, bool);
    type Snapshot = Guard<Arc<Snapshot>>;

    #[inline]
    fn read(&mut self, (number, must_drain): (usize, bool), buffers: &mut IoBuffers) -> Option<usize> {
        let connection = self.connection(number)?;
        if must_drain {
            connection.session.require_drain();
        }
        // It is processed anyway.
        if connection.is_queued {
            return None;
        }
        match connection.session.read(buffers, Instant::now).transpose() {
            None => Some(number),
            Some(outcome) => {
                self.connections.finish_step(number, outcome, &self.context);
                None
            }
        }
    }

    fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.context.active_snapshot.load()
    }

    #[inline]
    fn answer(&mut self, number: usize, buffers: &mut IoBuffers, snapshot: &Guard<Arc<Snapshot>>) {
        let counters = self.context.counters;
        if let Some(connection) = self.connection(number) {
            connection.session.answer(buffers, snapshot, counters);
        }
    }

    #[inline]
    fn write(&mut self, number: usize, buffers: &mut IoBuffers) {
        let stops = self.context.stops;
        let Some(connection) = self.connection(number) else {
            return;
        };
        let outcome = connection.session.write(buffers, Instant::now);
        let is_routine = matches!(outcome, Ok(WaitFor::Readable)) && !connection.is_special() && !stops;
        if !is_routine {
            self.connections.finish_step(number, outcome, &self.context);
        }
    }
}

impl<S: Stream + AsRawFd, C: Codec> Connection<S, C> {
    /// Whether it has a registration or deadline that its next step may have to undo.
    #[inline]
    fn is_special(&self) -> bool {
        self.wants_write || self.deadline.is_some() || self.session.deadline().is_some()
    }

    /// Registers for writability, or undoes that. The kernel then reports readiness to read again. Where it fails, the connection
    /// ends.
    fn set_write_interest(
        &mut self,
        wants: bool,
        number: usize,
        registry: &Registry,
    ) -> Result<(), SessionEnd> {
        if wants == self.wants_write {
            return Ok(());
        }
        let interest = if wants {
            READABLE | Interest::WRITABLE
        } else {
            READABLE
        };
        let socket = self.session.stream().as_raw_fd();
        if let Err(error) = registry.reregister(&mut SourceFd(&socket), Token(number), interest) {
            debug!(%error, "connection closed: cannot wait until it is writable");
            return Err(SessionEnd::Closed);
        }
        self.wants_write = wants;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
