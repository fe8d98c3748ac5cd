//! One connection, over any byte stream: reads, answers, and writes, in order.
//!
//! A session never blocks. It runs in three steps: it reads what has arrived, answers it, and writes the replies; then it
//! returns what it waits for ([`Next`]). All requests that have arrived are answered from one snapshot and sent in one write; a
//! reply is never split between two. A session reads once each time, so that a client that never stops sending gets no more
//! of the thread than others.
//!
//! An idle connection is kept forever. A session has a deadline only while a request is incomplete or a reply is waiting to
//! be written. A peer that misses it is disconnected without a reply, because the position in the stream is unknown by then.
//!
//! Whether the client may query a map is looked up in the snapshot that answers.
//!
//! The memory of a step is shared by all sessions ([`IoBuffers`]): a waiting connection holds none. It keeps only what does
//! not fit into one step: the beginning of a request, and replies that the kernel has not taken.

mod replies;

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tracing::debug;

use super::access::Client;
use super::exchange::Exchange;
use super::limits::{LINGER, LINGER_BYTES, READ_AT_ONCE, REQUEST_DEADLINE, WRITE_AT, WRITE_DEADLINE};
use crate::lookup::address::SenderKeys;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::{ActiveSnapshot, Snapshot};
use crate::protocol::answer::Answer;
use crate::protocol::{Codec, FramingError, Reply, Request};
use crate::server::counters::{Batch, Counters, ProtocolError, Reason};
use replies::Replies;

/// A byte stream that never blocks: where there is nothing to read, or no room to write, it returns
/// [`ErrorKind::WouldBlock`].
pub trait Stream: Read + Write {
    /// Shuts down the sending direction.
    fn end_writing(&mut self) -> io::Result<()>;
}

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// The peer closed or reset the connection.
    Closed,
    /// The server shuts down.
    Stopped,
    /// The framing was invalid.
    Broken(FramingError),
    /// A deadline passed.
    TooSlow,
}

/// What a session waits for after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Input.
    Readable,
    /// Room to write.
    Writable,
    /// Nothing: there may be more to answer, so it is to run again.
    Runnable,
}

/// Memory that a session needs from its first step to its last, and not while it waits.
pub struct IoBuffers {
    /// The input, and how many bytes of it are valid.
    arrived: Box<[u8]>,
    length: usize,
    /// Whether the input is known to be all that had arrived.
    is_all: bool,
    /// How many bytes of the input are answered, or kept as pending.
    taken: usize,
    progress: Progress,
    keys: SenderKeys,
    scratch: Scratch,
    replies: Replies,
}

impl Default for IoBuffers {
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

/// One connection. While it waits for a request, this is all the memory that it holds.
pub struct Session<S, C> {
    channel: Channel<S, C>,
    /// Whether a read that returns less than the buffer says nothing about what is left.
    reads_to_the_end: bool,
    /// What the last step left for the next. Nearly always nothing.
    pending: Option<Box<Pending>>,
}

/// The stream, the codec, and the client.
struct Channel<S, C> {
    stream: S,
    codec: C,
    client: Client,
    exchange: Exchange,
}

/// What did not fit into one step.
#[derive(Default)]
struct Pending {
    /// Input that is not answered.
    waiting: BytesMut,
    /// Whether it begins with more than a part of one request.
    has_buffered_request: bool,
    /// Replies that the kernel has not taken.
    unsent: Replies,
    /// The framing error, which the last reply names.
    broken: Option<FramingError>,
    /// How many bytes of input were discarded since that reply was sent; `None` before.
    discarded: Option<usize>,
    /// When the step that is waited for has to happen.
    deadline: Option<Instant>,
}

/// The result of [`Channel::answer`].
#[derive(Clone, Copy)]
enum Progress {
    /// Every complete request is answered.
    Done,
    /// There are enough replies for one write, and there may be more requests.
    Enough,
    /// The rest of the input is invalid. The last of the replies says so.
    Broken(FramingError),
}

impl<S, C> Session<S, C>
where
    S: Stream,
    C: Codec,
{
    /// Creates the session of a new connection.
    pub fn new(stream: S, codec: C, client: Client) -> Self {
        Self {
            channel: Channel {
                stream,
                codec,
                client,
                exchange: Exchange::default(),
            },
            reads_to_the_end: false,
            pending: None,
        }
    }

    /// Returns the stream.
    pub fn stream(&self) -> &S {
        &self.channel.stream
    }

    /// When the session expires, unless what it waits for happens before. `None` while it waits for a new request.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.as_ref()?.deadline
    }

    /// From now on, reads until there is nothing left: no further event will report the end, or a read stopped early.
    pub fn read_to_the_end(&mut self) {
        self.reads_to_the_end = true;
    }

    /// Whether a shutdown may end it once it waits for input: there is no reply left to send.
    pub fn is_idle(&self) -> bool {
        let owes = |pending: &Pending| !pending.unsent.is_empty() || pending.broken.is_some();
        !self.pending.as_deref().is_some_and(owes)
    }

    /// Returns how it ends when its deadline passes.
    #[must_use]
    pub fn expire(&self) -> End {
        // After a framing error, the peer has had its time to read the reply.
        let told = self.pending.as_ref().filter(|it| it.discarded.is_some());
        told.and_then(|it| it.broken).map_or(End::TooSlow, End::Broken)
    }

    /// Counts how it ended.
    pub fn count(&self, end: &End, counters: &Counters) {
        let waiting = self.pending.as_ref().map(|it| &it.waiting);
        match end {
            End::TooSlow => counters.broken(ProtocolError::Timeout),
            End::Closed if waiting.is_some_and(|waiting| !waiting.is_empty()) => {
                counters.broken(ProtocolError::Truncated);
            }
            End::Closed | End::Stopped | End::Broken(_) => {}
        }
    }

    /// Runs all three steps, and returns what the session waits for. `clock` is read only where a deadline begins.
    pub fn turn(
        &mut self,
        buffers: &mut IoBuffers,
        active_snapshot: &ActiveSnapshot,
        counters: &Counters,
        clock: impl Fn() -> Instant,
    ) -> Result<Next, End> {
        if let Some(next) = self.read(buffers, &clock)? {
            return Ok(next);
        }
        self.answer(buffers, &active_snapshot.load(), counters);
        self.write(buffers, clock)
    }

    /// The first step: reads what has arrived. Returns `None` if there is something to answer, otherwise what the session waits
    /// for.
    #[inline]
    pub fn read(
        &mut self,
        buffers: &mut IoBuffers,
        clock: impl Fn() -> Instant,
    ) -> Result<Option<Next>, End> {
        buffers.length = 0;
        buffers.is_all = false;
        if self.pending.is_some() {
            let next = self.resume(buffers, &clock)?;
            if next.is_some() || self.pending.as_ref().is_some_and(|it| it.has_buffered_request) {
                return Ok(next);
            }
        }
        match self.channel.stream.read(&mut buffers.arrived) {
            Ok(0) => Err(End::Closed),
            Ok(length) => {
                buffers.length = length;
                // Less than the buffer holds was all that there was.
                buffers.is_all = length < buffers.arrived.len() && !self.reads_to_the_end;
                Ok(None)
            }
            Err(error) => {
                waits_for(&error, ())?;
                self.settle(false, true, buffers, clock).map(Some)
            }
        }
    }

    /// The second step: answers what has arrived from this snapshot.
    #[inline]
    pub fn answer(&mut self, buffers: &mut IoBuffers, snapshot: &Snapshot, counters: &Counters) {
        // A session that panicked has left its replies.
        buffers.replies.clear();
        let mut batch = counters.batch();
        let arrived = buffers.arrived.get_mut(..buffers.length).unwrap_or_default();
        let (keys, scratch, replies) = (&mut buffers.keys, &mut buffers.scratch, &mut buffers.replies);
        if let Some(pending) = &mut self.pending {
            // Taken out, so that its memory is freed once all of it is answered.
            let mut waiting = mem::take(&mut pending.waiting);
            waiting.extend_from_slice(arrived);
            let (progress, taken) =
                self.channel
                    .answer(&mut waiting, keys, scratch, replies, snapshot, &mut batch);
            if taken < waiting.len() {
                waiting.advance(taken);
                pending.waiting = waiting;
            }
            (buffers.progress, buffers.taken) = (progress, buffers.length);
        } else {
            (buffers.progress, buffers.taken) = self
                .channel
                .answer(arrived, keys, scratch, replies, snapshot, &mut batch);
        }
        batch.end();
    }

    /// The last step: sends the replies.
    #[inline]
    pub fn write(&mut self, buffers: &mut IoBuffers, clock: impl Fn() -> Instant) -> Result<Next, End> {
        let replies = &mut buffers.replies;
        let sent = match self.channel.send(replies) {
            Ok(sent) => sent,
            Err(end) => {
                // They may hold a password.
                replies.clear();
                return Err(end);
            }
        };
        let is_done = matches!(buffers.progress, Progress::Done) && buffers.taken == buffers.length;
        if is_done && sent == replies.len() && self.pending.is_none() {
            replies.clear();
            return Ok(if buffers.is_all {
                Next::Readable
            } else {
                Next::Runnable
            });
        }
        let has_answered = !replies.is_empty();
        let pending = self.pending.get_or_insert_default();
        let rest = buffers.arrived.get(buffers.taken..buffers.length);
        pending.waiting.extend_from_slice(rest.unwrap_or_default());
        pending.note(buffers.progress, replies, sent);
        self.settle(has_answered, buffers.is_all, buffers, clock)
    }

    /// Continues what the last step left, as far as that comes before reading. Returns what it waits for if that is not complete.
    fn resume(&mut self, buffers: &mut IoBuffers, clock: impl Fn() -> Instant) -> Result<Option<Next>, End> {
        let Some(pending) = &mut self.pending else {
            return Ok(None);
        };
        if !pending.unsent.is_empty() {
            let sent = self.channel.send(&pending.unsent)?;
            pending.unsent.advance(sent);
            if !pending.unsent.is_empty() {
                return Ok(Some(Next::Writable));
            }
            pending.unsent = Replies::default();
            pending.deadline = None;
        }
        if pending.broken.is_some() {
            return self.linger(buffers, clock).map(Some);
        }
        Ok(None)
    }

    /// Sets the deadline that follows from what is pending, and returns what the session waits for.
    fn settle(
        &mut self,
        has_answered: bool,
        is_all: bool,
        buffers: &mut IoBuffers,
        clock: impl Fn() -> Instant,
    ) -> Result<Next, End> {
        let Some(pending) = &mut self.pending else {
            return Ok(Next::Readable);
        };
        if !pending.unsent.is_empty() {
            pending.deadline = Some(clock() + WRITE_DEADLINE);
            return Ok(Next::Writable);
        }
        if pending.broken.is_some() {
            return self.linger(buffers, clock);
        }
        let next = if is_all && !pending.has_buffered_request {
            Next::Readable
        } else {
            Next::Runnable
        };
        if pending.waiting.is_empty() {
            self.pending = None;
        } else if has_answered || pending.deadline.is_none() {
            // Otherwise it is the same incomplete request as before.
            pending.deadline = Some(clock() + REQUEST_DEADLINE);
        }
        Ok(next)
    }

    /// Lets the peer read the last reply: shuts down the sending direction, and discards input for a limited time.
    fn linger(&mut self, buffers: &mut IoBuffers, clock: impl Fn() -> Instant) -> Result<Next, End> {
        let Some(pending) = &mut self.pending else {
            return Ok(Next::Runnable);
        };
        let is_shut_down = pending.discarded.is_some();
        let discarded = pending.discarded.get_or_insert(0);
        if !is_shut_down {
            pending.deadline = Some(clock() + LINGER);
            if self.channel.stream.end_writing().is_err() {
                return Err(self.expire());
            }
        }
        match self.channel.stream.read(&mut buffers.arrived) {
            Ok(more) if more > 0 => {
                *discarded = discarded.saturating_add(more);
                if *discarded < LINGER_BYTES {
                    return Ok(Next::Runnable);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Readable),
            Ok(_) | Err(_) => {}
        }
        Err(self.expire())
    }
}

impl Pending {
    /// Records the result of the second step, and keeps the replies that are not sent.
    fn note(&mut self, progress: Progress, replies: &mut Replies, sent: usize) {
        self.has_buffered_request = matches!(progress, Progress::Enough);
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

impl<S: Stream, C: Codec> Channel<S, C> {
    /// Answers the complete requests in `input`. Returns the result, and how many bytes they had.
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
                Ok(Some((Request::Lookup { map: name, key }, taken))) => {
                    let reply = match batch.maps().named(name) {
                        Some((number, map))
                            if map.may_be_queried_by(self.client.peer(), &snapshot.allowed) =>
                        {
                            let answer = self.exchange.answer(snapshot, map, key, keys, scratch);
                            debug!(%map, key = %key.escape_ascii(), outcome = answer.outcome(), "lookup");
                            batch.answered(number, &answer);
                            is_secret = map.is_secret && matches!(answer, Answer::Found(_));
                            Reply::Answer(answer)
                        }
                        Some((number, _)) => {
                            batch.refused(number, self.client.kind_of_refusal());
                            refused(self.client.refuse())
                        }
                        None => {
                            no_such_map = batch.maps().no_such_map();
                            batch.refused_request(Reason::NoSuchMap);
                            refused(&no_such_map)
                        }
                    };
                    (reply, taken)
                }
                Ok(Some((Request::Invalid, taken))) => {
                    batch.refused_request(Reason::NotARequest);
                    (refused(NOT_A_LOOKUP), taken)
                }
                Err(violation) => {
                    batch.broken((&violation).into());
                    let reply = Reply::FramingError(&violation);
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

    /// Sends as much of these replies as the kernel takes, nearly always all of it, and returns how many bytes.
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

/// Returns the reply to a request that is refused for this reason.
fn refused(reason: &str) -> Reply<'_> {
    debug!(%reason, "request refused");
    Reply::Refused(reason)
}

/// Tells an error that means waiting from one that ends the session.
fn waits_for<T>(error: &io::Error, what: T) -> Result<T, End> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(what),
        _ => Err(End::Closed),
    }
}

#[cfg(test)]
mod tests;
