//! Ends requests and connections by their timeouts, and the run.

use super::{Generator, LoadError, Run, Schedule};
use crate::bench::connection::{Read, State};
use crate::bench::cpu::Spent;
use crate::bench::number::float;
use crate::bench::tally::Fault;

impl Generator<'_> {
    /// Reconnects, applies timeouts, and gives up on a server that does not reply.
    pub(super) fn look_after(&mut self, now: u64) {
        for id in 0..self.connections.len() {
            let Some(connection) = self.connections.get(id) else {
                return;
            };
            let is_over = |since: u64| now.saturating_sub(since) >= self.timeout;
            match connection.state {
                State::Gone { .. } => self.open_again(id, now),
                State::Connecting { since, .. } if is_over(since) => self.refused(id, now),
                State::Connecting { .. } => {}
                State::Open { .. } => {
                    if connection
                        .in_flight
                        .front()
                        .is_some_and(|asked| is_over(asked.sent))
                    {
                        self.lose(id, Fault::Timeout, now);
                    }
                }
            }
        }
        match self.schedule.open {
            Some((between, all)) if self.asked < all => {
                let last = Schedule::due(between, all - 1);
                if now.saturating_sub(last) > self.timeout && now > last {
                    for number in self.asked..all {
                        let measured = Schedule::due(between, number) >= self.schedule.warm_until;
                        let tally = self.tally_of(measured);
                        tally.requests += 1;
                        tally.faults.add(Fault::Unsent, 1);
                    }
                    self.asked = all;
                }
            }
            Some(_) => {}
            None => {
                // A run with only a number of requests has no other end if the server does not reply.
                let silence = now.saturating_sub(self.last_reply.max(self.schedule.warm_until));
                self.has_given_up |=
                    self.schedule.end == u64::MAX && silence > self.timeout.saturating_mul(3);
            }
        }
    }

    /// Sends no further requests. Replies in flight are still awaited.
    pub(super) fn stop(&mut self, now: u64) {
        self.is_stopped = true;
        self.schedule.warm_until = self.schedule.warm_until.min(now);
        self.schedule.end = self.schedule.end.min(now);
        if let Some((_, all)) = &mut self.schedule.open {
            *all = self.asked;
        }
    }

    pub(super) fn finish(mut self) -> Result<Run, LoadError> {
        for connection in &mut self.connections {
            if matches!(connection.read(), Read::Some) {
                self.tally.faults.add(Fault::Extra, 1);
            }
        }
        if let (Some(count), None, None, false) = (
            self.load.count,
            self.load.duration,
            self.load.rate,
            self.is_stopped,
        ) {
            let unsent = count.saturating_sub(self.asked);
            self.tally.requests += unsent;
            self.tally.faults.add(Fault::Unsent, unsent);
        }
        let end = match (self.schedule.end, self.schedule.open) {
            (_, Some((between, all))) => Schedule::due(between, all),
            (_, None) if self.load.count.is_some() => self.last_asked,
            (end, None) => end,
        };
        let end = end.max(self.last_counted_reply);
        let seconds = float(end.saturating_sub(self.schedule.warm_until)) / 1e9;
        let (at, server, own) = self.used_now()?;
        let (own_seconds, server, own) = match self.used {
            Some((since, server_before, own_before)) => (
                (at - since).as_secs_f64(),
                server.zip(server_before).map(|(now, before)| now.since(&before)),
                own.since(&own_before),
            ),
            None => (0.0, None, Spent::default()),
        };
        Ok(Run {
            tally: self.tally,
            warm_up: self.warm_up,
            latency: self.latency,
            seconds,
            lateness: self.lateness,
            late: self.late,
            reconnects: self.reconnects,
            server: server.filter(|_| !self.server.pids.is_empty()),
            own,
            own_seconds,
            mismatches: self.mismatches,
        })
    }
}
