//! One connection of the generator: its requests in flight, its output and its input.
//!
//! Once the buffers have grown, a request allocates nothing: the input buffer fits the longest reply, the output buffer
//! the requests in flight.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, read};
use rustix::net::{SendFlags, send};

use crate::os::secret::Secret;
use crate::protocol::MAX_REPLY;

/// The initial size of the input buffer, in bytes: room for many replies. It grows for a longer reply.
const INITIAL_INPUT: usize = 8 * 1024;

/// A request in flight. Times are nanoseconds since the load began.
#[derive(Clone, Copy)]
pub(super) struct InFlight {
    pub(super) number: usize,
    /// When its latency begins: when it was sent, or, in the open loop, when it was due.
    pub(super) latency_start: u64,
    /// When it was sent. Its timeout begins here.
    pub(super) sent: u64,
    /// Whether it is measured. Requests of the warm-up are not.
    pub(super) measured: bool,
}

/// The state of a connection. Times are nanoseconds since the load began.
pub(super) enum State {
    /// Not connected. Reconnects at `retry_at`.
    Closed { retry_at: u64 },
    /// Connecting since `since`.
    Connecting { socket: OwnedFd, since: u64 },
    /// Connected.
    Open { socket: OwnedFd },
}

/// The result of a read.
pub(super) enum ReadResult {
    /// New data has arrived.
    Data,
    /// No data has arrived yet.
    WouldBlock,
    /// The server has closed the connection.
    Closed,
}

pub(super) struct Connection {
    pub(super) state: State,
    pub(super) in_flight: VecDeque<InFlight>,
    /// Whether the kernel's send buffer is full, so that the rest is written when the socket is writable again.
    pub(super) is_blocked: bool,
    /// Whether a reply has arrived since the connection was opened.
    pub(super) has_replied: bool,
    output: Vec<u8>,
    written: usize,
    /// The received bytes, which may include credentials.
    input: Secret,
    filled: usize,
}

impl Connection {
    pub(super) fn new(pipeline: usize) -> Self {
        Self {
            state: State::Closed { retry_at: 0 },
            in_flight: VecDeque::with_capacity(pipeline),
            is_blocked: false,
            has_replied: false,
            output: Vec::with_capacity(4096),
            written: 0,
            input: Secret::from(vec![0; INITIAL_INPUT]),
            filled: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Resets everything but the requests in flight.
    pub(super) fn reset(&mut self, state: State) {
        self.state = state;
        self.output.clear();
        self.written = 0;
        self.filled = 0;
        self.is_blocked = false;
        self.has_replied = false;
    }

    /// Adds a request to the output. The next [`Self::flush`] writes it.
    pub(super) fn queue(&mut self, bytes: &[u8], request: InFlight) {
        self.output.extend_from_slice(bytes);
        self.in_flight.push_back(request);
    }

    /// Writes the pending output. The next read detects an error, after the replies that arrived before it.
    pub(super) fn flush(&mut self) {
        let State::Open { socket } = &self.state else {
            return;
        };
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match send(socket, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => self.written += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.is_blocked = true;
                    return;
                }
                Err(_) => break,
            }
        }
        self.output.clear();
        self.written = 0;
        self.is_blocked = false;
    }

    /// Reads once what has arrived.
    pub(super) fn read(&mut self) -> ReadResult {
        let State::Open { socket } = &self.state else {
            return ReadResult::WouldBlock;
        };
        if self.filled == self.input.len() && self.input.len() < MAX_REPLY {
            let more = (self.input.len() * 2).min(MAX_REPLY) - self.input.len();
            self.input.append(&vec![0; more]);
        }
        let room = self.input.expose_mut().get_mut(self.filled..).unwrap_or_default();
        match read(socket, room) {
            Ok(0) => ReadResult::Closed,
            Ok(read) => {
                self.filled += read;
                ReadResult::Data
            }
            Err(Errno::AGAIN | Errno::INTR) => ReadResult::WouldBlock,
            Err(_) => ReadResult::Closed,
        }
    }

    /// Returns the input that is not consumed, from offset `at`.
    pub(super) fn unread(&self, at: usize) -> &[u8] {
        self.input.expose().get(at..self.filled).unwrap_or_default()
    }

    /// Removes `consumed` bytes from the beginning of the input.
    pub(super) fn consume(&mut self, consumed: usize) {
        let filled = self.filled;
        let consumed = consumed.min(filled);
        self.filled = filled - consumed;
        if self.filled > 0 && consumed > 0 {
            self.input.expose_mut().copy_within(consumed..filled, 0);
        }
    }
}
