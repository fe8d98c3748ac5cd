//! The connections that there are: their sessions, whose turn it is without an event, and their deadlines.
//!
//! A connection has a number, which is its token at the kernel's. The number of one that is gone goes to a later one, so
//! an event may be about another connection than it seems. That does no harm, because an event is a hint only: whoever
//! has a turn and nothing to do waits on.
//!
//! Limits: there are no more queued turns and deadlines than connections.

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

use super::admission::Place;
use super::batch::{Batch, Turns};
use super::session::{Desk, End, Next, Session, Stream};
use super::stream::PeerSocket;
use crate::lookup::snapshot::{Routes, Snapshot};
use crate::protocol::{Codec, ProtocolCodec};
use crate::server::counters::{Connected, Counters};

/// What the kernel tells of every connection.
const ARRIVAL: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Whether, after this event, a read that fills less than its room may leave something: the end, which no event tells
/// once more, or what lies behind urgent data (send(2), MSG_OOB), where a read ends. Postfix sends none.
#[inline]
pub(super) fn leaves_something(event: &Event) -> bool {
    event.is_read_closed() || event.is_error() || event.is_priority()
}

/// One connection.
struct Connection<S, C> {
    session: Session<S, C>,
    /// Whether the kernel tells when there is room to write. It does so again each time that the peer of a UNIX socket has
    /// taken a reply, and the server would wake for nothing: so only those hear of it that have found none.
    hears_of_room: bool,
    /// Whether its turn comes without an event.
    is_queued: bool,
    /// Its deadline, as it stands in [`Connections::deadlines`].
    deadline: Option<Instant>,
    /// Both for as long as it lives.
    _place: Place,
    _connected: Connected,
}

/// All of them.
pub(super) struct Connections<S = PeerSocket, C = ProtocolCodec> {
    all: Slab<Connection<S, C>>,
    /// Whose turn comes without an event.
    queue: VecDeque<usize>,
    deadlines: BTreeSet<(Instant, usize)>,
    /// Which has the processor, or had it last.
    current: usize,
}

/// What a turn needs besides its connection.
pub(super) struct Tools<'a> {
    pub(super) registry: &'a Registry,
    pub(super) routes: &'a Routes,
    pub(super) counters: &'a Counters,
    /// Whether the server stops: whoever has nothing to do ends.
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

    /// Adds one. Where that fails, the system lacks something.
    pub(super) fn add(
        &mut self,
        session: Session<S, C>,
        place: Place,
        connected: Connected,
        registry: &Registry,
    ) -> io::Result<()> {
        let entry = self.all.vacant_entry();
        let socket = session.stream().as_raw_fd();
        registry.register(&mut SourceFd(&socket), Token(entry.key()), ARRIVAL)?;
        entry.insert(Connection {
            session,
            hears_of_room: false,
            is_queued: false,
            deadline: None,
            _place: place,
            _connected: connected,
        });
        Ok(())
    }

    /// Whether some have a turn without an event.
    pub(super) fn have_turns(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next deadline of any.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Gives every connection a turn.
    pub(super) fn queue_all(&mut self) {
        self.queue.clear();
        for (number, connection) in &mut self.all {
            connection.is_queued = true;
            self.queue.push_back(number);
        }
    }

    /// Gives a turn to each connection of which there is an event (its number, and whether a short read of it may leave
    /// something: [`leaves_something`]), and one to each that was queued. A session that panics ends, and the others have their turns.
    pub(super) fn give_turns(
        &mut self,
        mut events: impl Iterator<Item = (usize, bool)>,
        batch: &mut Batch,
        tools: Tools<'_>,
    ) {
        let mut turns = TurnsOfAll {
            connections: self,
            tools,
        };
        // Around all of them: around each, it costs a fiftieth of a lookup.
        while catch_unwind(AssertUnwindSafe(|| {
            batch.run(&mut events, &mut turns);
            turns.connections.queued_turns(batch, &turns.tools);
        }))
        .is_err()
        {
            // The hook has said where.
            let current = turns.connections.current;
            turns.connections.end(current, &End::Closed, turns.tools.counters);
        }
    }

    /// Gives a turn to each connection that is queued now.
    fn queued_turns(&mut self, batch: &mut Batch, tools: &Tools<'_>) {
        for _ in 0..self.queue.len() {
            if let Some(number) = self.queue.pop_front()
                && let Some(connection) = self.all.get_mut(number)
                && let Some(desk) = batch.desk()
            {
                connection.is_queued = false;
                self.current = number;
                let session = &mut connection.session;
                let turned = session.turn(desk, tools.routes, tools.counters, Instant::now);
                self.settle(number, turned, tools);
            }
        }
    }

    /// Sees to what came of a turn.
    fn settle(&mut self, number: usize, turned: Result<Next, End>, tools: &Tools<'_>) {
        let Some(connection) = self.all.get_mut(number) else {
            return;
        };
        let settled = match turned {
            Ok(Next::Arrival) if tools.stops && connection.session.is_idle() => Err(End::Stopped),
            Ok(next) => connection
                .hear_of_room(next == Next::Room, number, tools.registry)
                .map(|()| next),
            Err(end) => Err(end),
        };
        match settled {
            Ok(next) => {
                if next == Next::Turn && !connection.is_queued {
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
            Err(end) => self.end(number, &end, tools.counters),
        }
    }

    /// Ends those whose deadline has passed.
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

    fn end(&mut self, number: usize, end: &End, counters: &Counters) {
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
        debug!(?end, "disconnected");
    }
}

/// The turns of all connections that have something to do.
struct TurnsOfAll<'a, S, C> {
    connections: &'a mut Connections<S, C>,
    tools: Tools<'a>,
}

impl<S: Stream + AsRawFd, C: Codec> TurnsOfAll<'_, S, C> {
    /// The session whose turn it is, unless it has ended.
    #[inline]
    fn connection(&mut self, number: usize) -> Option<&mut Connection<S, C>> {
        self.connections.current = number;
        self.connections.all.get_mut(number)
    }
}

impl<S: Stream + AsRawFd, C: Codec> Turns for TurnsOfAll<'_, S, C> {
    type Event = (usize, bool);
    type Snapshot = Guard<Arc<Snapshot>>;

    #[inline]
    fn read(&mut self, (number, reads_to_the_end): (usize, bool), desk: &mut Desk) -> Option<usize> {
        let connection = self.connection(number)?;
        if reads_to_the_end {
            connection.session.read_to_the_end();
        }
        // It gets a turn anyway.
        if connection.is_queued {
            return None;
        }
        match connection.session.read(desk, Instant::now).transpose() {
            None => Some(number),
            Some(turned) => {
                self.connections.settle(number, turned, &self.tools);
                None
            }
        }
    }

    fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.tools.routes.load()
    }

    #[inline]
    fn answer(&mut self, number: usize, desk: &mut Desk, snapshot: &Guard<Arc<Snapshot>>) {
        let counters = self.tools.counters;
        if let Some(connection) = self.connection(number) {
            connection.session.answer(desk, snapshot, counters);
        }
    }

    #[inline]
    fn write(&mut self, number: usize, desk: &mut Desk) {
        let stops = self.tools.stops;
        let Some(connection) = self.connection(number) else {
            return;
        };
        let turned = connection.session.write(desk, Instant::now);
        let is_as_ever = matches!(turned, Ok(Next::Arrival)) && !connection.is_special() && !stops;
        if !is_as_ever {
            self.connections.settle(number, turned, &self.tools);
        }
    }
}

impl<S: Stream + AsRawFd, C: Codec> Connection<S, C> {
    /// Whether something is noted of it that goes by with its next turn.
    #[inline]
    fn is_special(&self) -> bool {
        self.hears_of_room || self.deadline.is_some() || self.session.deadline().is_some()
    }

    /// Has the kernel tell of room to write, or not any more. What has arrived is told again. Where the kernel cannot, the
    /// connection ends.
    fn hear_of_room(&mut self, wants: bool, number: usize, registry: &Registry) -> Result<(), End> {
        if wants == self.hears_of_room {
            return Ok(());
        }
        let interest = if wants {
            ARRIVAL | Interest::WRITABLE
        } else {
            ARRIVAL
        };
        let socket = self.session.stream().as_raw_fd();
        if let Err(error) = registry.reregister(&mut SourceFd(&socket), Token(number), interest) {
            debug!("a connection ends, because the kernel cannot say when there is room: {error}");
            return Err(End::Closed);
        }
        self.hears_of_room = wants;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
