//! Reads, checks and counts replies.

use super::{Generator, Mismatch};
use crate::bench::connection::ReadResult;
use crate::bench::number::nanos;
use crate::bench::reply::{CheckedReply, check_reply};
use crate::bench::tally::ErrorKind;

/// The maximum number of wrong replies that are remembered with their keys.
const MAX_MISMATCHES: usize = 10;

impl Generator<'_> {
    /// Reads what has arrived, counts the replies, and sends further requests.
    pub(super) fn receive(&mut self, id: usize) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let read = connection.read();
        // The clock is read once for all replies of a read and the requests that follow.
        let now = nanos(self.started_at.elapsed());
        match read {
            ReadResult::WouldBlock => return,
            ReadResult::Closed => {
                self.close(id, ErrorKind::Closed, now);
                return;
            }
            ReadResult::Data => {}
        }
        let (mut consumed, mut replies) = (0, 0);
        while let Some(request) = connection.in_flight.front().copied() {
            let unread = connection.unread(consumed);
            let protocol = self.server.target.protocol;
            match check_reply(
                protocol,
                unread,
                &self.server.requests,
                request.number,
                &mut self.decode_buffer,
            ) {
                Ok(None) => break,
                Err(_) => {
                    connection.in_flight.pop_front();
                    self.in_flight -= 1;
                    self.tally_mut(request.measured)
                        .errors
                        .add(ErrorKind::Malformed, 1);
                    self.close(id, ErrorKind::Closed, now);
                    return;
                }
                Ok(Some(CheckedReply {
                    length,
                    outcome,
                    error,
                })) => {
                    connection.in_flight.pop_front();
                    connection.has_replied = true;
                    consumed += length;
                    replies += 1;
                    let tally = if request.measured {
                        self.latency.record(now.saturating_sub(request.latency_start));
                        self.last_measured_reply = now;
                        &mut self.tally
                    } else {
                        &mut self.warm_up
                    };
                    tally.count_reply(outcome);
                    if let Some(error) = error {
                        tally.errors.add(error, 1);
                        if let Some(expected) = self.server.requests.expected(request.number)
                            && self.mismatches.len() < MAX_MISMATCHES
                        {
                            self.mismatches.push(Mismatch {
                                request: request.number,
                                expected,
                                actual: outcome,
                            });
                        }
                    }
                }
            }
        }
        self.in_flight -= replies;
        self.last_reply = now;
        let has_extra_input = connection.in_flight.is_empty() && !connection.unread(consumed).is_empty();
        connection.consume(consumed);
        if has_extra_input {
            // From here on, replies cannot be matched to requests.
            self.count_error(ErrorKind::Extra, now);
            self.close(id, ErrorKind::Closed, now);
            return;
        }
        self.on_slots_free(id, replies, now);
    }
}
