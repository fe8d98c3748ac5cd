//! One connection of the generator: what was asked on it, what is to be written, what has been read.
//!
//! No memory is allocated for a request once the buffers have their size: the longest reply decides that of one, the
//! requests in flight that of the other.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, read};
use rustix::net::{SendFlags, send};

use crate::os::secret::Secret;
use crate::protocol::MAX_REPLY;

/// Room for many replies; it grows for a long one.
const ROOM: usize = 8 * 1024;

/// A request that is in flight. Times are nanoseconds since the load began.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) question: usize,
    /// From when its latency counts: when it was sent, or should have been.
    pub(super) from: u64,
    /// From when its timeout counts.
    pub(super) sent: u64,
    /// Whether it counts, or is a part of the warm-up.
    pub(super) measured: bool,
}

/// What there is of a connection.
pub(super) enum State {
    /// Nothing. To be opened at this time.
    Gone { retry_at: u64 },
    /// A connect was begun at this time.
    Connecting { socket: OwnedFd, since: u64 },
    /// It is there.
    Open { socket: OwnedFd },
}

/// How a read ended.
pub(super) enum Read {
    /// There is something new.
    Some,
    /// Not yet.
    Nothing,
    /// The other side has closed.
    Closed,
}

pub(super) struct Connection {
    pub(super) state: State,
    pub(super) in_flight: VecDeque<Asked>,
    /// The kernel had no room: to be written once it has.
    pub(super) is_blocked: bool,
    /// Whether a reply has come since it was opened.
    pub(super) has_answered: bool,
    output: Vec<u8>,
    written: usize,
    /// Replies may hold credentials.
    input: Secret,
    filled: usize,
}

impl Connection {
    pub(super) fn new(pipeline: usize) -> Self {
        Self {
            state: State::Gone { retry_at: 0 },
            in_flight: VecDeque::with_capacity(pipeline),
            is_blocked: false,
            has_answered: false,
            output: Vec::with_capacity(4096),
            written: 0,
            input: Secret::from(vec![0; ROOM]),
            filled: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// As new, but for what is in flight.
    pub(super) fn reset(&mut self, state: State) {
        self.state = state;
        self.output.clear();
        self.written = 0;
        self.filled = 0;
        self.is_blocked = false;
        self.has_answered = false;
    }

    /// Takes a request, to be written with the next [`Self::flush`].
    pub(super) fn ask(&mut self, request: &[u8], asked: Asked) {
        self.output.extend_from_slice(request);
        self.in_flight.push_back(asked);
    }

    /// Writes what there is to write. An error is for the next read to find, with whatever was answered before it.
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

    /// Reads what has arrived, once.
    pub(super) fn read(&mut self) -> Read {
        let State::Open { socket } = &self.state else {
            return Read::Nothing;
        };
        if self.filled == self.input.len() && self.input.len() < MAX_REPLY {
            let more = (self.input.len() * 2).min(MAX_REPLY) - self.input.len();
            self.input.append(&vec![0; more]);
        }
        let room = self.input.expose_mut().get_mut(self.filled..).unwrap_or_default();
        match read(socket, room) {
            Ok(0) => Read::Closed,
            Ok(read) => {
                self.filled += read;
                Read::Some
            }
            Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
            Err(_) => Read::Closed,
        }
    }

    /// What has been read and not been taken, from `at`.
    pub(super) fn unread(&self, at: usize) -> &[u8] {
        self.input.expose().get(at..self.filled).unwrap_or_default()
    }

    /// Forgets so many bytes of what has been read.
    pub(super) fn take(&mut self, taken: usize) {
        let filled = self.filled;
        let taken = taken.min(filled);
        self.filled = filled - taken;
        if self.filled > 0 && taken > 0 {
            self.input.expose_mut().copy_within(taken..filled, 0);
        }
    }
}
