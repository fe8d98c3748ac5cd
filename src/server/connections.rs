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
use std::time::Instant;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use slab::Slab;
use tracing::debug;

use super::admission::Place;
use super::session::{Desk, End, Next, Session};
use super::stream::PeerSocket;
use crate::counters::{Connected, Counters};
use crate::protocol::{Codec, Dialect};
use crate::routes::Routes;

/// What the kernel tells of every connection.
const ARRIVAL: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Whether, after this event, a read that fills less than its room may leave something: the end, which no event tells
/// once more, or what lies behind urgent data (send(2), MSG_OOB), where a read ends. Postfix sends none.
#[inline]
pub(super) fn leaves_something(event: &Event) -> bool {
    event.is_read_closed() || event.is_error() || event.is_priority()
}

/// One connection.
struct Connection<C> {
    session: Session<PeerSocket, C>,
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
pub(super) struct Connections<C = Dialect> {
    all: Slab<Connection<C>>,
    /// Whose turn comes without an event.
    queue: VecDeque<usize>,
    deadlines: BTreeSet<(Instant, usize)>,
    stride: Stride,
    /// Who has the processor, or had it last.
    current: usize,
}

/// Some turns, which go through their steps together: all read, then all answer, then all write. So the processor's
/// nearest cache has to take in the code of each step once for all of them, and with many connections a lookup takes a
/// twentieth less (benches/runtime.md).
#[derive(Default)]
struct Stride {
    step: Step,
    /// Whose turns they are. Each has the desk of its place.
    members: Vec<usize>,
    /// The place that comes next in this step.
    next: usize,
}

/// What is done next in a stride.
#[derive(Clone, Copy, Default)]
enum Step {
    #[default]
    Read,
    Answer,
    Write,
}

/// What a turn needs besides its connection.
pub(super) struct Tools<'a> {
    pub(super) registry: &'a Registry,
    /// One for each turn of a stride. Without any, nobody would have one.
    pub(super) desks: &'a mut [Desk],
    pub(super) routes: &'a Routes,
    pub(super) counters: &'a Counters,
    /// Whether the server stops: whoever has nothing to do ends.
    pub(super) stops: bool,
}

impl<C> Default for Connections<C> {
    fn default() -> Self {
        Self {
            all: Slab::new(),
            queue: VecDeque::new(),
            deadlines: BTreeSet::new(),
            stride: Stride::default(),
            current: 0,
        }
    }
}

impl<C: Codec> Connections<C> {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds one. Where that fails, the system lacks something.
    pub(super) fn add(
        &mut self,
        session: Session<PeerSocket, C>,
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
        tools: &mut Tools<'_>,
    ) {
        // Around all of them: around each, it costs a fiftieth of a lookup.
        while catch_unwind(AssertUnwindSafe(|| self.turns(&mut events, tools))).is_err() {
            // The hook has said where.
            self.end(self.current, &End::Closed, tools.counters);
        }
    }

    /// Goes on where a panic has ended it, if one has.
    fn turns(&mut self, events: &mut impl Iterator<Item = (usize, bool)>, tools: &mut Tools<'_>) {
        loop {
            match self.stride.step {
                Step::Read => {
                    while self.stride.members.len() < tools.desks.len()
                        && let Some((number, reads_to_the_end)) = events.next()
                    {
                        self.read(number, reads_to_the_end, tools);
                    }
                    if self.stride.members.is_empty() {
                        break;
                    }
                    self.stride.step = Step::Answer;
                }
                Step::Answer => {
                    // From after all has arrived: whoever knows of an edit when it asks is answered by it.
                    let snapshot = tools.routes.load();
                    while let Some((connection, desk)) = self.next_of_stride(tools.desks) {
                        connection.session.answer(desk, &snapshot, tools.counters);
                    }
                    self.stride.next = 0;
                    self.stride.step = Step::Write;
                }
                Step::Write => {
                    while let Some((connection, desk)) = self.next_of_stride(tools.desks) {
                        let turned = connection.session.write(desk, Instant::now);
                        let is_as_ever =
                            matches!(turned, Ok(Next::Arrival)) && !connection.is_special() && !tools.stops;
                        if !is_as_ever {
                            self.settle(self.current, turned, tools);
                        }
                    }
                    self.stride.next = 0;
                    self.stride.members.clear();
                    self.stride.step = Step::Read;
                }
            }
        }
        for _ in 0..self.queue.len() {
            self.next_turn(tools);
        }
    }

    /// Something has happened to a connection: begins a turn of it, if it does not get one anyway.
    #[inline]
    fn read(&mut self, number: usize, reads_to_the_end: bool, tools: &mut Tools<'_>) {
        let Some(connection) = self.all.get_mut(number) else {
            return;
        };
        if reads_to_the_end {
            connection.session.read_to_the_end();
        }
        let desk = tools.desks.get_mut(self.stride.members.len());
        let Some(desk) = desk.filter(|_| !connection.is_queued) else {
            return;
        };
        self.current = number;
        match connection.session.read(desk, Instant::now).transpose() {
            None => self.stride.members.push(number),
            Some(turned) => self.settle(number, turned, tools),
        }
    }

    /// Whose step it is now in a stride, and with which desk. Those that have ended since are left out.
    #[inline]
    fn next_of_stride<'t>(&mut self, desks: &'t mut [Desk]) -> Option<(&mut Connection<C>, &'t mut Desk)> {
        loop {
            let place = self.stride.next;
            self.current = *self.stride.members.get(place)?;
            self.stride.next += 1;
            if self.all.contains(self.current) {
                return self.all.get_mut(self.current).zip(desks.get_mut(place));
            }
        }
    }

    /// Gives a turn to the connection that has been queued for longest.
    fn next_turn(&mut self, tools: &mut Tools<'_>) {
        if let Some(number) = self.queue.pop_front()
            && let Some(connection) = self.all.get_mut(number)
            && let Some(desk) = tools.desks.first_mut()
        {
            connection.is_queued = false;
            self.current = number;
            let session = &mut connection.session;
            let turned = session.turn(desk, tools.routes, tools.counters, Instant::now);
            self.settle(number, turned, tools);
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

impl<C: Codec> Connection<C> {
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
