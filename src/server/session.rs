//! One connection, over any stream of bytes: read, answer, write, in order.
//!
//! It never waits. A turn has three steps: it reads what has arrived, answers it, and writes the replies, and then says
//! what the connection waits for ([`Next`]). All requests that have arrived are answered from one snapshot and in one
//! write; a reply is never cut between two. A turn reads once, so that a peer that asks without end has as much of the
//! thread as any other.
//!
//! An idle connection waits for ever. It has a deadline only while a request has begun or a reply waits to be
//! written, and a peer that misses one is dropped without a word: the stream may be anywhere by then.
//!
//! Whether its peer may ask is looked up in the snapshot that answers.
//!
//! What a turn needs, the sessions share (a [`Desk`]): a connection that waits holds no memory for it. Only what does not
//! fit into one turn is kept: the beginning of a request, and replies that the kernel does not take.

mod replies;

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tracing::debug;

use super::access::Visitor;
use super::exchange::Exchange;
use super::limits::{LINGER, LINGER_BYTES, READ_AT_ONCE, REQUEST_DEADLINE, WRITE_AT, WRITE_DEADLINE};
use crate::lookup::address::SenderKeys;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::{Routes, Snapshot};
use crate::protocol::answer::Answer;
use crate::protocol::{Asked, Codec, Reply, Violation};
use crate::server::counters::{Batch, Counters, ProtocolError, Reason};
use replies::Replies;

/// The peer's stream, which never waits: where there is nothing to read, or no room to write, that is the error
/// [`ErrorKind::WouldBlock`].
pub trait Stream: Read + Write {
    /// Says that nothing more will be written.
    fn end_writing(&mut self) -> io::Result<()>;
}

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// The peer closed, or reset, the connection.
    Closed,
    /// The server stops.
    Stopped,
    /// The framing was broken.
    Broken(Violation),
    /// A deadline passed.
    TooSlow,
}

/// What a session waits for after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// For its peer to send.
    Arrival,
    /// For room to write.
    Room,
    /// For its next turn: there may be more to answer.
    Turn,
}

/// What a turn needs and no connection needs while it waits. A session has it from the first step of a turn to the last.
pub struct Desk {
    /// What was read, and how much of it there is.
    arrived: Box<[u8]>,
    length: usize,
    /// Whether that is all that there was.
    is_all: bool,
    /// How many bytes of it are answered, or noted as waiting.
    taken: usize,
    progress: Progress,
    keys: SenderKeys,
    scratch: Scratch,
    replies: Replies,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            arrived: vec![0; READ_AT_ONCE].into_boxed_slice(),
            length: 0,
            is_all: false,
            taken: 0,
            progress: Progress::Done,
            keys: SenderKeys::default(),
            scratch: Scratch::default(),
            replies: Replies::default(),
        }
    }
}

/// One connection. While it waits for a request it has no memory but this.
pub struct Session<S, C> {
    conversation: Conversation<S, C>,
    /// Whether a read that fills less than its room says nothing of what is left.
    reads_to_the_end: bool,
    /// What its last turn has left to the next. Mostly nothing, which is then all that a turn looks at.
    unfinished: Option<Box<Unfinished>>,
}

/// With whom, and in what language.
struct Conversation<S, C> {
    stream: S,
    codec: C,
    visitor: Visitor,
    exchange: Exchange,
}

/// What did not fit into one turn.
#[derive(Default)]
struct Unfinished {
    /// What has arrived and is not answered.
    waiting: BytesMut,
    /// Whether that begins with more than a part of one request.
    is_more: bool,
    /// Replies that the kernel did not take at once.
    unsent: Replies,
    /// How the peer broke the protocol, which it is told in the last reply.
    broken: Option<Violation>,
    /// How many bytes were thrown away since it was told; `None` before that.
    thrown_away: Option<usize>,
    /// When it must be done.
    deadline: Option<Instant>,
}

/// What [`Conversation::answer`] came to.
#[derive(Clone, Copy)]
enum Progress {
    /// Every whole request is answered.
    Done,
    /// There are enough replies for one write, and perhaps more requests.
    Enough,
    /// The rest of the input is not the protocol. The reply that says so is among the replies.
    Broken(Violation),
}

impl<S, C> Session<S, C>
where
    S: Stream,
    C: Codec,
{
    /// A connection of this visitor that has just been made.
    pub fn new(stream: S, codec: C, visitor: Visitor) -> Self {
        Self {
            conversation: Conversation {
                stream,
                codec,
                visitor,
                exchange: Exchange::default(),
            },
            reads_to_the_end: false,
            unfinished: None,
        }
    }

    /// Its stream.
    pub fn stream(&self) -> &S {
        &self.conversation.stream
    }

    /// By when it wants to have had the turn that gives it what it waits for. `None` while its peer may take its time.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.unfinished.as_ref()?.deadline
    }

    /// From now on it reads until there is nothing: no event will tell of the end once more, or a read ended early.
    pub fn read_to_the_end(&mut self) {
        self.reads_to_the_end = true;
    }

    /// Whether it may be ended by a server that stops, once it waits for its peer: it owes nothing.
    pub fn is_idle(&self) -> bool {
        let owes = |unfinished: &Unfinished| !unfinished.unsent.is_empty() || unfinished.broken.is_some();
        !self.unfinished.as_deref().is_some_and(owes)
    }

    /// How it ends if its deadline has passed.
    #[must_use]
    pub fn expire(&self) -> End {
        // Who is told of its mistake has had all the time there is to read that.
        let told = self.unfinished.as_ref().filter(|it| it.thrown_away.is_some());
        told.and_then(|it| it.broken).map_or(End::TooSlow, End::Broken)
    }

    /// Counts how it ended.
    pub fn count(&self, end: &End, counters: &Counters) {
        let waiting = self.unfinished.as_ref().map(|it| &it.waiting);
        match end {
            End::TooSlow => counters.broken(ProtocolError::Timeout),
            End::Closed if waiting.is_some_and(|waiting| !waiting.is_empty()) => {
                counters.broken(ProtocolError::Truncated);
            }
            End::Closed | End::Stopped | End::Broken(_) => {}
        }
    }

    /// Goes on as far as it can without waiting, and says what it waits for: all three steps. `clock` is asked only where
    /// a deadline begins.
    pub fn turn(
        &mut self,
        desk: &mut Desk,
        routes: &Routes,
        counters: &Counters,
        clock: impl Fn() -> Instant,
    ) -> Result<Next, End> {
        if let Some(next) = self.read(desk, &clock)? {
            return Ok(next);
        }
        self.answer(desk, &routes.load(), counters);
        self.write(desk, clock)
    }

    /// The first step: reads what has arrived. `None` if there is something to answer; otherwise the turn is over, and the
    /// session waits for this.
    #[inline]
    pub fn read(&mut self, desk: &mut Desk, clock: impl Fn() -> Instant) -> Result<Option<Next>, End> {
        desk.length = 0;
        desk.is_all = false;
        if self.unfinished.is_some() {
            let next = self.go_on(desk, &clock)?;
            if next.is_some() || self.unfinished.as_ref().is_some_and(|it| it.is_more) {
                return Ok(next);
            }
        }
        match self.conversation.stream.read(&mut desk.arrived) {
            Ok(0) => Err(End::Closed),
            Ok(length) => {
                desk.length = length;
                // Less than there was room for is all that there was.
                desk.is_all = length < desk.arrived.len() && !self.reads_to_the_end;
                Ok(None)
            }
            Err(error) => {
                waits_for(&error, ())?;
                self.settle(false, true, desk, clock).map(Some)
            }
        }
    }

    /// The second step: answers what has arrived from this snapshot.
    #[inline]
    pub fn answer(&mut self, desk: &mut Desk, snapshot: &Snapshot, counters: &Counters) {
        // A session that panicked has left its own.
        desk.replies.clear();
        let mut batch = counters.batch();
        let arrived = desk.arrived.get_mut(..desk.length).unwrap_or_default();
        let (keys, scratch, replies) = (&mut desk.keys, &mut desk.scratch, &mut desk.replies);
        if let Some(unfinished) = &mut self.unfinished {
            // Taken out, so that its memory goes with the last of it.
            let mut waiting = mem::take(&mut unfinished.waiting);
            waiting.extend_from_slice(arrived);
            let (progress, taken) =
                self.conversation
                    .answer(&mut waiting, keys, scratch, replies, snapshot, &mut batch);
            if taken < waiting.len() {
                waiting.advance(taken);
                unfinished.waiting = waiting;
            }
            (desk.progress, desk.taken) = (progress, desk.length);
        } else {
            (desk.progress, desk.taken) = self
                .conversation
                .answer(arrived, keys, scratch, replies, snapshot, &mut batch);
        }
        batch.end();
    }

    /// The last step: sends the replies.
    #[inline]
    pub fn write(&mut self, desk: &mut Desk, clock: impl Fn() -> Instant) -> Result<Next, End> {
        let replies = &mut desk.replies;
        let sent = match self.conversation.send(replies) {
            Ok(sent) => sent,
            Err(end) => {
                // There may be a password among those that nobody gets any more.
                replies.clear();
                return Err(end);
            }
        };
        let is_done = matches!(desk.progress, Progress::Done) && desk.taken == desk.length;
        if is_done && sent == replies.len() && self.unfinished.is_none() {
            replies.clear();
            return Ok(if desk.is_all { Next::Arrival } else { Next::Turn });
        }
        let has_answered = !replies.is_empty();
        let unfinished = self.unfinished.get_or_insert_default();
        let rest = desk.arrived.get(desk.taken..desk.length);
        unfinished.waiting.extend_from_slice(rest.unwrap_or_default());
        unfinished.note(desk.progress, replies, sent);
        self.settle(has_answered, desk.is_all, desk, clock)
    }

    /// Goes on with what the last turn has left, as far as that comes before reading on. Says what it waits for, if it
    /// comes no further.
    fn go_on(&mut self, desk: &mut Desk, clock: impl Fn() -> Instant) -> Result<Option<Next>, End> {
        let Some(unfinished) = &mut self.unfinished else {
            return Ok(None);
        };
        if !unfinished.unsent.is_empty() {
            let sent = self.conversation.send(&unfinished.unsent)?;
            unfinished.unsent.advance(sent);
            if !unfinished.unsent.is_empty() {
                return Ok(Some(Next::Room));
            }
            unfinished.unsent = Replies::default();
            unfinished.deadline = None;
        }
        if unfinished.broken.is_some() {
            return self.linger(desk, clock).map(Some);
        }
        Ok(None)
    }

    /// Ends a turn that has left something, perhaps.
    fn settle(
        &mut self,
        has_answered: bool,
        is_all: bool,
        desk: &mut Desk,
        clock: impl Fn() -> Instant,
    ) -> Result<Next, End> {
        let Some(unfinished) = &mut self.unfinished else {
            return Ok(Next::Arrival);
        };
        if !unfinished.unsent.is_empty() {
            unfinished.deadline = Some(clock() + WRITE_DEADLINE);
            return Ok(Next::Room);
        }
        if unfinished.broken.is_some() {
            return self.linger(desk, clock);
        }
        let next = if is_all && !unfinished.is_more {
            Next::Arrival
        } else {
            Next::Turn
        };
        if unfinished.waiting.is_empty() {
            self.unfinished = None;
        } else if has_answered || unfinished.deadline.is_none() {
            // Otherwise it is still the request that had begun before.
            unfinished.deadline = Some(clock() + REQUEST_DEADLINE);
        }
        Ok(next)
    }

    /// Lets the peer read the last reply: ends our half, and throws away what it still sends, for a while.
    fn linger(&mut self, desk: &mut Desk, clock: impl Fn() -> Instant) -> Result<Next, End> {
        let Some(unfinished) = &mut self.unfinished else {
            return Ok(Next::Turn);
        };
        let is_told = unfinished.thrown_away.is_some();
        let thrown_away = unfinished.thrown_away.get_or_insert(0);
        if !is_told {
            unfinished.deadline = Some(clock() + LINGER);
            if self.conversation.stream.end_writing().is_err() {
                return Err(self.expire());
            }
        }
        match self.conversation.stream.read(&mut desk.arrived) {
            Ok(more) if more > 0 => {
                *thrown_away = thrown_away.saturating_add(more);
                if *thrown_away < LINGER_BYTES {
                    return Ok(Next::Turn);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Arrival),
            Ok(_) | Err(_) => {}
        }
        Err(self.expire())
    }
}

impl Unfinished {
    /// Takes down what answering came to, and what is left of the replies of which so much is sent.
    fn note(&mut self, progress: Progress, replies: &mut Replies, sent: usize) {
        self.is_more = matches!(progress, Progress::Enough);
        if let Progress::Broken(violation) = progress {
            self.broken = Some(violation);
        }
        if sent == replies.len() {
            replies.clear();
        } else {
            self.unsent = mem::take(replies);
            self.unsent.advance(sent);
        }
    }
}

impl<S: Stream, C: Codec> Conversation<S, C> {
    /// Answers the whole requests in `input`. Says how far it came, and how many bytes they have.
    fn answer(
        &mut self,
        input: &mut [u8],
        keys: &mut SenderKeys,
        scratch: &mut Scratch,
        replies: &mut Replies,
        snapshot: &Snapshot,
        batch: &mut Batch<'_>,
    ) -> (Progress, usize) {
        let mut answered = 0;
        let progress = loop {
            if replies.len() >= WRITE_AT {
                break Progress::Enough;
            }
            let mut is_secret = false;
            let no_such_map: String;
            let (reply, taken) = match self.codec.decode(input.get_mut(answered..).unwrap_or_default()) {
                Ok(None) => break Progress::Done,
                Ok(Some((Asked::Lookup { map: name, key }, taken))) => {
                    let reply = match snapshot.maps.named(name) {
                        Some((number, map)) if snapshot.allowed.may_ask(map, self.visitor.peer()) => {
                            let answer = self.exchange.answer(snapshot, map, key, keys, scratch);
                            debug!(%map, key = %key.escape_ascii(), outcome = answer.outcome(), "lookup");
                            batch.answered(number, &answer);
                            is_secret = map.is_secret && matches!(answer, Answer::Found(_));
                            Reply::Answer(answer)
                        }
                        Some((number, map)) => {
                            batch.refused(number, self.visitor.kind_of_refusal());
                            let reason = self.visitor.refuse();
                            debug!(%map, "refused: {reason}");
                            Reply::Refused(reason)
                        }
                        None => {
                            no_such_map = snapshot.maps.no_such_map();
                            debug!("refused: {no_such_map}");
                            batch.refused_request(Reason::NoSuchMap);
                            Reply::Refused(&no_such_map)
                        }
                    };
                    (reply, taken)
                }
                Ok(Some((Asked::NotALookup, taken))) => {
                    debug!("refused: {NOT_A_LOOKUP}");
                    batch.refused_request(Reason::NotARequest);
                    (Reply::Refused(NOT_A_LOOKUP), taken)
                }
                Err(violation) => {
                    batch.broken((&violation).into());
                    let reply = Reply::Broken(&violation);
                    replies.add(&mut self.codec, &reply, false);
                    break Progress::Broken(violation);
                }
            };
            replies.add(&mut self.codec, &reply, is_secret);
            answered += taken;
            if answered == input.len() {
                break Progress::Done;
            }
        };
        (progress, answered)
    }

    /// Sends as much of these replies as the kernel takes, which nearly always is all, and says how many bytes.
    fn send(&mut self, replies: &Replies) -> Result<usize, End> {
        if replies.is_empty() {
            return Ok(0);
        }
        match self.stream.write(replies) {
            Ok(sent) => Ok(sent),
            Err(error) => waits_for(&error, 0),
        }
    }
}

/// The reply to a request that is no lookup.
const NOT_A_LOOKUP: &str = "this is not a lookup request";

/// What an error of a stream means: that it is to be waited for, or the end.
fn waits_for<T>(error: &io::Error, what: T) -> Result<T, End> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(what),
        _ => Err(End::Closed),
    }
}

#[cfg(test)]
mod tests;
