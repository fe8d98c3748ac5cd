//! Decides which request is sent next, when, and on which connection.

use super::{Generator, LATE, Schedule};
use crate::bench::connection::{Asked, Connection};

impl Generator<'_> {
    /// Whether every request has been sent, or can no longer be sent.
    pub(super) fn has_asked_all(&self, now: u64) -> bool {
        match self.schedule.open {
            Some((_, all)) => self.asked >= all,
            None => now >= self.schedule.warm_until && !self.may_ask(now),
        }
    }

    /// Whether the closed loop may send another request.
    pub(super) fn may_ask(&self, now: u64) -> bool {
        let is_enough = self.load.count.is_some_and(|count| self.asked >= count);
        now < self.schedule.warm_until || (now < self.schedule.end && !is_enough && !self.has_given_up)
    }

    /// Returns when the next request of the open loop is due, if a connection is free for it.
    pub(super) fn next_due(&self) -> Option<u64> {
        let (between, all) = self.schedule.open?;
        (self.asked < all && !self.free.is_empty()).then(|| Schedule::due(between, self.asked))
    }

    /// Called when a connection can take `slots` more requests. The closed loop sends them at once.
    pub(super) fn is_free(&mut self, id: usize, room: usize, now: u64) {
        if self.schedule.open.is_some() {
            self.free.extend(std::iter::repeat_n((id, now), room));
            return;
        }
        for _ in 0..room {
            if !self.may_ask(now) {
                break;
            }
            let measured = now >= self.schedule.warm_until;
            self.asked += u64::from(measured);
            self.ask(id, now, now, measured);
        }
        self.flush(id);
    }

    pub(super) fn send_what_is_due(&mut self) {
        let Some((between, all)) = self.schedule.open else {
            return;
        };
        while self.asked < all {
            let (due, now) = (Schedule::due(between, self.asked), self.now());
            if due > now {
                return;
            }
            let Some((id, free_since)) = self.free.pop_front() else {
                return;
            };
            let has_room = |connection: &Connection| {
                connection.is_open() && connection.in_flight.len() < self.load.pipeline
            };
            if !self.connections.get(id).is_some_and(has_room) {
                continue;
            }
            let measured = due >= self.schedule.warm_until;
            if measured {
                let late = now - due.max(free_since);
                self.lateness.record(late);
                self.late += u64::from(late > LATE);
            }
            self.asked += 1;
            self.ask(id, due, now, measured);
            self.flush(id);
        }
    }

    pub(super) fn ask(&mut self, id: usize, from: u64, now: u64, measured: bool) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let question = self.next_question;
        self.next_question += 1;
        if self.next_question == self.server.questions.len() {
            self.next_question = 0;
        }
        connection.ask(
            self.server.questions.request(question),
            Asked {
                question,
                from,
                sent: now,
                measured,
            },
        );
        self.in_flight += 1;
        self.last_asked = now;
        self.tally_of(measured).requests += 1;
    }
}
