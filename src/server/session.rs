//! One connection, over any byte stream: reads, answers, and writes, in order.
//!
//! A session never blocks. It runs in three steps: it reads what has arrived, answers it, and writes the replies; then it
//! returns what it waits for ([`WaitFor`]). All requests that have arrived are answered from one snapshot and sent in one write; a
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

mod channel;
mod replies;

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::access::Client;
use super::exchange::Exchange;
use super::limits::{LINGER, LINGER_BYTES, READ_AT_ONCE, REQUEST_DEADLINE, WRITE_DEADLINE};
use crate::lookup::address::LookupKeys;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::{ActiveSnapshot, Snapshot};
use crate::protocol::{Codec, FramingError};
use crate::server::counters::{Counters, ProtocolError};
use channel::{Channel, Progress, ignore_would_block};
use replies::Replies;

/// A byte stream that never blocks: where there is nothing to read, or no room to write, it returns
/// [`ErrorKind::WouldBlock`].
pub trait Stream: Read + Write {
    /// Shuts down the sending direction.
    fn end_writing(&mut self) -> io::Result<()>;
}

/// How a session ended.
#[derive(Debug)]
pub enum SessionEnd {
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
pub enum WaitFor {
    /// Input.
    Readable,
    /// Room to write.
    Writable,
    /// Nothing: there may be more to answer, so it is to run again.
    Nothing,
}

/// Memory that a session needs from its first step to its last, and not while it waits.
pub struct IoBuffers {
    /// The input, and how many bytes of it are valid.
    input: Box<[u8]>,
    input_len: usize,
    /// Whether the input is known to be all that has arrived.
    is_drained: bool,
    /// How many bytes of the input are answered, or kept as pending.
    consumed: usize,
    progress: Progress,
    keys: LookupKeys,
    scratch: Scratch,
    replies: Replies,
}

impl Default for IoBuffers {
    fn default() -> Self {
        Self {
            input: vec![0; READ_AT_ONCE].into_boxed_slice(),
            input_len: 0,
            is_drained: false,
            consumed: 0,
            progress: Progress::Done,
            keys: LookupKeys::default(),
            scratch: Scratch::default(),
            replies: Replies::default(),
        }
    }
}

/// One connection. While it waits for a request, this is all the memory that it holds.
pub struct Session<S, C> {
    channel: Channel<S, C>,
    /// Whether to read until the stream would block, because a short read does not prove that it is drained.
    must_drain: bool,
    /// What the last step left for the next. Nearly always nothing.
    pending: Option<Box<Pending>>,
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
            must_drain: false,
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

    /// From now on, reads until the stream would block: no further event reports the end of the stream, or a read that stopped
    /// early (urgent data).
    pub fn require_drain(&mut self) {
        self.must_drain = true;
    }

    /// Whether a shutdown may end it once it waits for input: there is no reply left to send.
    pub fn is_idle(&self) -> bool {
        let has_reply = |pending: &Pending| !pending.unsent.is_empty() || pending.broken.is_some();
        !self.pending.as_deref().is_some_and(has_reply)
    }

    /// Returns how it ends when its deadline passes.
    #[must_use]
    pub fn expire(&self) -> SessionEnd {
        // After a framing error, the peer has had its time to read the reply.
        let pending = self.pending.as_deref();
        let replied = pending.filter(|pending| pending.discarded.is_some());
        replied
            .and_then(|pending| pending.broken)
            .map_or(SessionEnd::TooSlow, SessionEnd::Broken)
    }

    /// Counts how it ended.
    pub fn count(&self, end: &SessionEnd, counters: &Counters) {
        let waiting = self.pending.as_ref().map(|pending| &pending.waiting);
        match end {
            SessionEnd::TooSlow => counters.broken(ProtocolError::Timeout),
            SessionEnd::Closed if waiting.is_some_and(|waiting| !waiting.is_empty()) => {
                counters.broken(ProtocolError::Truncated);
            }
            SessionEnd::Closed | SessionEnd::Stopped | SessionEnd::Broken(_) => {}
        }
    }

    /// Runs all three steps, and returns what the session waits for. `clock` is read only where a deadline begins.
    pub fn run(
        &mut self,
        buffers: &mut IoBuffers,
        active_snapshot: &ActiveSnapshot,
        counters: &Counters,
        clock: impl Fn() -> Instant,
    ) -> Result<WaitFor, SessionEnd> {
        if let Some(wait) = self.read(buffers, &clock)? {
            return Ok(wait);
        }
        self.answer(buffers, &active_snapshot.load(), counters);
        self.write(buffers, clock)
    }

    /// The first step after an event: reads what has arrived. Returns `None` if there is input to answer, which may be buffered
    /// from before, and otherwise what the session waits for.
    ///
    /// # Errors
    ///
    /// The peer has closed or reset the connection.
    #[inline]
    pub fn read(
        &mut self,
        buffers: &mut IoBuffers,
        clock: impl Fn() -> Instant,
    ) -> Result<Option<WaitFor>, SessionEnd> {
        buffers.input_len = 0;
        buffers.is_drained = false;
        if self.pending.is_some() {
            let wait = self.resume_pending(buffers, &clock)?;
            if wait.is_some()
                || self
                    .pending
                    .as_ref()
                    .is_some_and(|pending| pending.has_buffered_request)
            {
                return Ok(wait);
            }
        }
        match self.channel.stream.read(&mut buffers.input) {
            Ok(0) => Err(SessionEnd::Closed),
            Ok(length) => {
                buffers.input_len = length;
                // A short read means that the stream is drained.
                buffers.is_drained = length < buffers.input.len() && !self.must_drain;
                Ok(None)
            }
            Err(error) => {
                ignore_would_block(&error)?;
                buffers.is_drained = true;
                self.next_wait(false, buffers, clock).map(Some)
            }
        }
    }

    /// The second step: answers what has arrived from this snapshot.
    #[inline]
    pub fn answer(&mut self, buffers: &mut IoBuffers, snapshot: &Snapshot, counters: &Counters) {
        // A session that panicked has left its replies.
        buffers.replies.clear();
        let mut batch = counters.batch();
        let input = buffers.input.get_mut(..buffers.input_len).unwrap_or_default();
        let (keys, scratch, replies) = (&mut buffers.keys, &mut buffers.scratch, &mut buffers.replies);
        if let Some(pending) = &mut self.pending {
            // Taken out, so that its memory is freed once all of it is answered.
            let mut waiting = mem::take(&mut pending.waiting);
            waiting.extend_from_slice(input);
            let (progress, consumed) =
                self.channel
                    .answer(&mut waiting, keys, scratch, replies, snapshot, &mut batch);
            if consumed < waiting.len() {
                waiting.advance(consumed);
                pending.waiting = waiting;
            }
            (buffers.progress, buffers.consumed) = (progress, buffers.input_len);
        } else {
            (buffers.progress, buffers.consumed) = self
                .channel
                .answer(input, keys, scratch, replies, snapshot, &mut batch);
        }
        batch.end();
    }

    /// The last step: sends the replies.
    #[inline]
    pub fn write(
        &mut self,
        buffers: &mut IoBuffers,
        clock: impl Fn() -> Instant,
    ) -> Result<WaitFor, SessionEnd> {
        let replies = &mut buffers.replies;
        let sent = match self.channel.send(replies) {
            Ok(sent) => sent,
            Err(end) => {
                // They may hold a password.
                replies.clear();
                return Err(end);
            }
        };
        let is_done = matches!(buffers.progress, Progress::Done) && buffers.consumed == buffers.input_len;
        if is_done && sent == replies.len() && self.pending.is_none() {
            replies.clear();
            return Ok(if buffers.is_drained {
                WaitFor::Readable
            } else {
                WaitFor::Nothing
            });
        }
        let has_answered = !replies.is_empty();
        let pending = self.pending.get_or_insert_default();
        let rest = buffers.input.get(buffers.consumed..buffers.input_len);
        pending.waiting.extend_from_slice(rest.unwrap_or_default());
        pending.record(buffers.progress, replies, sent);
        self.next_wait(has_answered, buffers, clock)
    }

    /// Continues what the last step left, as far as that comes before reading. Returns what it waits for if that is not complete.
    fn resume_pending(
        &mut self,
        buffers: &mut IoBuffers,
        clock: impl Fn() -> Instant,
    ) -> Result<Option<WaitFor>, SessionEnd> {
        let Some(pending) = &mut self.pending else {
            return Ok(None);
        };
        if !pending.unsent.is_empty() {
            let sent = self.channel.send(&pending.unsent)?;
            pending.unsent.advance(sent);
            if !pending.unsent.is_empty() {
                return Ok(Some(WaitFor::Writable));
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
    fn next_wait(
        &mut self,
        has_answered: bool,
        buffers: &mut IoBuffers,
        clock: impl Fn() -> Instant,
    ) -> Result<WaitFor, SessionEnd> {
        let Some(pending) = &mut self.pending else {
            return Ok(WaitFor::Readable);
        };
        if !pending.unsent.is_empty() {
            pending.deadline = Some(clock() + WRITE_DEADLINE);
            return Ok(WaitFor::Writable);
        }
        if pending.broken.is_some() {
            return self.linger(buffers, clock);
        }
        let wait = if buffers.is_drained && !pending.has_buffered_request {
            WaitFor::Readable
        } else {
            WaitFor::Nothing
        };
        if pending.waiting.is_empty() {
            self.pending = None;
        } else if has_answered || pending.deadline.is_none() {
            // Otherwise it is the same incomplete request as before.
            pending.deadline = Some(clock() + REQUEST_DEADLINE);
        }
        Ok(wait)
    }

    /// Lets the peer read the last reply: shuts down the sending direction, and discards input for a limited time.
    fn linger(
        &mut self,
        buffers: &mut IoBuffers,
        clock: impl Fn() -> Instant,
    ) -> Result<WaitFor, SessionEnd> {
        let Some(pending) = &mut self.pending else {
            return Ok(WaitFor::Nothing);
        };
        let is_shut_down = pending.discarded.is_some();
        let discarded = pending.discarded.get_or_insert(0);
        if !is_shut_down {
            pending.deadline = Some(clock() + LINGER);
            if self.channel.stream.end_writing().is_err() {
                return Err(self.expire());
            }
        }
        match self.channel.stream.read(&mut buffers.input) {
            Ok(more) if more > 0 => {
                *discarded = discarded.saturating_add(more);
                if *discarded < LINGER_BYTES {
                    return Ok(WaitFor::Nothing);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(WaitFor::Readable),
            Ok(_) | Err(_) => {}
        }
        Err(self.expire())
    }
}

impl Pending {
    /// Records the result of the second step, and keeps the replies that are not sent.
    fn record(&mut self, progress: Progress, replies: &mut Replies, sent: usize) {
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

#[cfg(test)]
mod tests;
