//! Reads, checks and counts replies.

use super::{Generator, Mismatch};
use crate::bench::connection::Read;
use crate::bench::number::nanos;
use crate::bench::reply::{Judged, judge};
use crate::bench::tally::Fault;

/// The maximum number of wrong replies that are remembered with their keys.
const REMEMBERED: usize = 10;

impl Generator<'_> {
    /// Reads what has arrived, counts the replies, and sends further requests.
    pub(super) fn receive(&mut self, id: usize) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let read = connection.read();
        // The clock is read once for all replies of a read and the requests that follow.
        let now = nanos(self.begun.elapsed());
        match read {
            Read::Nothing => return,
            Read::Closed => {
                self.lose(id, Fault::Closed, now);
                return;
            }
            Read::Some => {}
        }
        let (mut taken, mut replies) = (0, 0);
        while let Some(asked) = connection.in_flight.front().copied() {
            let unread = connection.unread(taken);
            let protocol = self.server.target.protocol;
            match judge(
                protocol,
                unread,
                &self.server.questions,
                asked.question,
                &mut self.memory,
            ) {
                Ok(None) => break,
                Err(_) => {
                    connection.in_flight.pop_front();
                    self.in_flight -= 1;
                    self.tally_of(asked.measured).faults.add(Fault::Malformed, 1);
                    self.lose(id, Fault::Closed, now);
                    return;
                }
                Ok(Some(Judged {
                    length,
                    outcome,
                    fault,
                })) => {
                    connection.in_flight.pop_front();
                    connection.has_answered = true;
                    taken += length;
                    replies += 1;
                    let tally = if asked.measured {
                        self.latency.record(now.saturating_sub(asked.from));
                        self.last_counted_reply = now;
                        &mut self.tally
                    } else {
                        &mut self.warm_up
                    };
                    tally.reply(outcome);
                    if let Some(fault) = fault {
                        tally.faults.add(fault, 1);
                        if let Some(right) = self.server.questions.expected(asked.question)
                            && self.mismatches.len() < REMEMBERED
                        {
                            self.mismatches.push(Mismatch {
                                question: asked.question,
                                right,
                                said: outcome,
                            });
                        }
                    }
                }
            }
        }
        self.in_flight -= replies;
        self.last_reply = now;
        let is_more = connection.in_flight.is_empty() && !connection.unread(taken).is_empty();
        connection.take(taken);
        if is_more {
            // From here on, replies cannot be matched to requests.
            self.fault_now(Fault::Extra, now);
            self.lose(id, Fault::Closed, now);
            return;
        }
        self.is_free(id, replies, now);
    }
}
