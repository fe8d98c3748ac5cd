//! Ends requests and connections by their timeouts, and the run.

use super::{Generator, LoadError, Run, Schedule, WAIT_AFTER_STOP};
use crate::bench::connection::{ReadResult, State};
use crate::bench::cpu::CpuUsage;
use crate::bench::number::to_f64;
use crate::bench::tally::ErrorKind;

impl Generator<'_> {
    /// Reconnects, applies timeouts, and gives up on a server that does not reply.
    pub(super) fn maintain(&mut self, now: u64) {
        let must_end = self
            .stopped_at
            .is_some_and(|at| now.saturating_sub(at) >= WAIT_AFTER_STOP);
        for id in 0..self.connections.len() {
            let Some(connection) = self.connections.get(id) else {
                return;
            };
            let is_over = |since: u64| must_end || now.saturating_sub(since) >= self.timeout;
            match connection.state {
                State::Closed { .. } => self.reconnect(id, now),
                State::Connecting { since, .. } if is_over(since) => self.on_connect_error(id, now),
                State::Connecting { .. } => {}
                State::Open { .. } => {
                    if connection
                        .in_flight
                        .front()
                        .is_some_and(|request| is_over(request.sent))
                    {
                        self.close(id, ErrorKind::Timeout, now);
                    }
                }
            }
        }
        match self.schedule.open_loop {
            Some((interval, total)) if self.sent_requests < total => {
                let last = Schedule::due(interval, total - 1);
                if now.saturating_sub(last) > self.timeout && now > last {
                    for number in self.sent_requests..total {
                        let measured = Schedule::due(interval, number) >= self.schedule.warm_up_end;
                        let tally = self.tally_mut(measured);
                        tally.requests += 1;
                        tally.errors.add(ErrorKind::Unsent, 1);
                    }
                    self.sent_requests = total;
                }
            }
            Some(_) => {}
            None => {
                // A run with only a number of requests has no other end if the server does not reply.
                let silence = now.saturating_sub(self.last_reply.max(self.schedule.warm_up_end));
                self.has_given_up |=
                    self.schedule.end == u64::MAX && silence > self.timeout.saturating_mul(3);
            }
        }
    }

    /// Sends no further requests. Replies in flight are awaited for a short time.
    pub(super) fn stop(&mut self, now: u64) {
        self.stopped_at = Some(now);
        self.schedule.warm_up_end = self.schedule.warm_up_end.min(now);
        self.schedule.end = self.schedule.end.min(now);
        if let Some((_, total)) = &mut self.schedule.open_loop {
            *total = self.sent_requests;
        }
    }

    pub(super) fn finish(mut self) -> Result<Run, LoadError> {
        for connection in &mut self.connections {
            if matches!(connection.read(), ReadResult::Data) {
                self.tally.errors.add(ErrorKind::Extra, 1);
            }
        }
        if let (Some(count), None, None, false) = (
            self.load.count,
            self.load.duration,
            self.load.rate,
            self.stopped_at.is_some(),
        ) {
            let unsent = count.saturating_sub(self.sent_requests);
            self.tally.requests += unsent;
            self.tally.errors.add(ErrorKind::Unsent, unsent);
        }
        let end = match (self.schedule.end, self.schedule.open_loop) {
            (_, Some((interval, total))) => Schedule::due(interval, total),
            (_, None) if self.load.count.is_some() => self.last_sent,
            (end, None) => end,
        };
        let end = end.max(self.last_measured_reply);
        let seconds = to_f64(end.saturating_sub(self.schedule.warm_up_end)) / 1e9;
        let (at, server, own) = self.read_cpu_times()?;
        let (own_seconds, server, own) = match self.after_warm_up {
            Some((since, server_before, own_before)) => (
                (at - since).as_secs_f64(),
                server
                    .zip(server_before)
                    .map(|(now, before)| now.usage_since(&before)),
                own.usage_since(&own_before),
            ),
            None => (0.0, None, CpuUsage::default()),
        };
        Ok(Run {
            tally: self.tally,
            warm_up: self.warm_up,
            latency: self.latency,
            seconds,
            lateness: self.lateness,
            late: self.late,
            reconnects: self.reconnects,
            server_cpu: server.filter(|_| !self.server.pids.is_empty()),
            generator_cpu: own,
            generator_seconds: own_seconds,
            mismatches: self.mismatches,
            is_complete: self.stopped_at.is_none(),
        })
    }
}
