//! Decides which request is sent next, when, and on which connection.

use super::{Generator, LATE_AFTER, Schedule};
use crate::bench::connection::{Connection, InFlight};

impl Generator<'_> {
    /// Whether every request has been sent, or can no longer be sent.
    pub(super) fn has_sent_all(&self, now: u64) -> bool {
        match self.schedule.open_loop {
            Some((_, total)) => self.sent_requests >= total,
            None => now >= self.schedule.warm_up_end && !self.may_send(now),
        }
    }

    /// Whether the closed loop may send another request.
    pub(super) fn may_send(&self, now: u64) -> bool {
        let is_enough = self.load.count.is_some_and(|count| self.sent_requests >= count);
        now < self.schedule.warm_up_end || (now < self.schedule.end && !is_enough && !self.has_given_up)
    }

    /// Returns when the next request of the open loop is due, if a connection is free for it.
    pub(super) fn next_due(&self) -> Option<u64> {
        let (interval, total) = self.schedule.open_loop?;
        (self.sent_requests < total && !self.free.is_empty())
            .then(|| Schedule::due(interval, self.sent_requests))
    }

    /// Called when a connection can take `slots` more requests. The closed loop sends them at once.
    pub(super) fn on_slots_free(&mut self, id: usize, slots: usize, now: u64) {
        if self.schedule.open_loop.is_some() {
            self.free.extend(std::iter::repeat_n((id, now), slots));
            return;
        }
        for _ in 0..slots {
            if !self.may_send(now) {
                break;
            }
            let measured = now >= self.schedule.warm_up_end;
            self.sent_requests += u64::from(measured);
            self.send(id, now, now, measured);
        }
        self.flush(id);
    }

    pub(super) fn send_due_requests(&mut self) {
        let Some((interval, total)) = self.schedule.open_loop else {
            return;
        };
        while self.sent_requests < total {
            let (due, now) = (Schedule::due(interval, self.sent_requests), self.now());
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
            let measured = due >= self.schedule.warm_up_end;
            if measured {
                let late = now - due.max(free_since);
                self.lateness.record(late);
                self.late += u64::from(late > LATE_AFTER);
            }
            self.sent_requests += 1;
            self.send(id, due, now, measured);
            self.flush(id);
        }
    }

    pub(super) fn send(&mut self, id: usize, latency_start: u64, now: u64, measured: bool) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let number = self.next_request;
        self.next_request += 1;
        if self.next_request == self.server.requests.len() {
            self.next_request = 0;
        }
        connection.queue(
            self.server.requests.request(number),
            InFlight {
                number,
                latency_start,
                sent: now,
                measured,
            },
        );
        self.in_flight += 1;
        self.last_sent = now;
        self.tally_mut(measured).requests += 1;
    }
}
