//! Opens, writes to, closes and reopens the generator's connections. Only the initial connect blocks.

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;

use super::{Generator, LoadError, MAINTENANCE_INTERVAL, connection_of, event_buffer};
use crate::bench::connection::{Connection, State};
use crate::bench::number::to_u64;
use crate::bench::tally::ErrorKind;
use crate::bench::target::StartedConnect;

/// How long to wait after a refused connection, in nanoseconds.
const RETRY_AFTER_REFUSAL: u64 = 100_000_000;

/// How long to wait after a connection that was closed without a reply, or while the queue is full, in nanoseconds.
const RETRY_AFTER_CLOSE: u64 = 10_000_000;

fn cannot_connect(error: Errno) -> LoadError {
    LoadError::Connect(error.into())
}

impl Generator<'_> {
    /// Opens all connections, within the timeout of the load. Returns false if it was interrupted.
    pub(super) fn connect_all(&mut self) -> Result<bool, LoadError> {
        let mut events = event_buffer();
        for id in 0..self.connections.len() {
            self.connect(id, 0).map_err(cannot_connect)?;
        }
        while self.connections.iter().any(|connection| !connection.is_open()) {
            if self.must_stop() {
                return Ok(false);
            }
            let now = self.now();
            if now > self.timeout {
                return Err(LoadError::ConnectTimeout(self.load.timeout));
            }
            for id in 0..self.connections.len() {
                if matches!(&self.connections.get(id), Some(Connection { state: State::Closed { retry_at }, .. }) if *retry_at <= now)
                {
                    self.connect(id, now).map_err(cannot_connect)?;
                }
            }
            let ready = self.wait(&mut events, MAINTENANCE_INTERVAL)?;
            for event in events.iter().take(ready) {
                let id = connection_of(event);
                self.finish_connect(id).map_err(cannot_connect)?;
            }
        }
        self.reconnects = 0;
        Ok(true)
    }

    /// Starts to open a connection.
    fn connect(&mut self, id: usize, now: u64) -> Result<(), Errno> {
        let started = self.address.start_connect();
        let Some(connection) = self.connections.get_mut(id) else {
            return Ok(());
        };
        let data = epoll::EventData::new_u64(to_u64(id));
        let state = match started {
            Ok(StartedConnect::Open(socket)) => {
                epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
                State::Open { socket }
            }
            Ok(StartedConnect::Pending(socket)) => {
                epoll::add(&self.epoll, &socket, data, epoll::EventFlags::OUT)?;
                State::Connecting { socket, since: now }
            }
            Err(Errno::AGAIN) => State::Closed {
                retry_at: now + RETRY_AFTER_CLOSE,
            },
            Err(error) => {
                connection.reset(State::Closed {
                    retry_at: now + RETRY_AFTER_REFUSAL,
                });
                return Err(error);
            }
        };
        if !matches!(state, State::Closed { .. }) {
            self.reconnects += 1;
        }
        connection.reset(state);
        Ok(())
    }

    /// Finishes a pending connect. Returns whether the connection has just been opened.
    pub(super) fn finish_connect(&mut self, id: usize) -> Result<bool, Errno> {
        let Some(connection) = self.connections.get_mut(id) else {
            return Ok(false);
        };
        match std::mem::replace(&mut connection.state, State::Closed { retry_at: u64::MAX }) {
            State::Connecting { socket, .. } => {
                socket_error(&socket)??;
                let data = epoll::EventData::new_u64(to_u64(id));
                epoll::modify(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
                connection.state = State::Open { socket };
                Ok(true)
            }
            other => {
                connection.state = other;
                Ok(false)
            }
        }
    }

    pub(super) fn on_connect_error(&mut self, id: usize, now: u64) {
        self.count_error(ErrorKind::Connect, now);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.reset(State::Closed {
                retry_at: now + RETRY_AFTER_REFUSAL,
            });
        }
    }

    /// Closes a connection, counts its requests in flight as errors of this kind, and reconnects.
    pub(super) fn close(&mut self, id: usize, error: ErrorKind, now: u64) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let retry_at = if connection.has_replied {
            now
        } else {
            now + RETRY_AFTER_CLOSE
        };
        // Dropping the socket also removes it from epoll.
        connection.reset(State::Closed { retry_at });
        while let Some(request) = self
            .connections
            .get_mut(id)
            .and_then(|lost| lost.in_flight.pop_front())
        {
            self.in_flight -= 1;
            self.tally_mut(request.measured).errors.add(error, 1);
        }
        self.reconnect(id, now);
    }

    /// Reopens a closed connection if its retry time has come and there are requests to send.
    pub(super) fn reconnect(&mut self, id: usize, now: u64) {
        let is_time = |connection: &Connection| matches!(connection.state, State::Closed { retry_at } if retry_at <= now);
        if self.has_sent_all(now) || !self.connections.get(id).is_some_and(is_time) {
            return;
        }
        match self.connect(id, now) {
            Ok(()) if self.connections.get(id).is_some_and(Connection::is_open) => {
                self.on_slots_free(id, self.load.pipeline, now);
            }
            Ok(()) => {}
            Err(_) => self.on_connect_error(id, now),
        }
    }

    pub(super) fn flush(&mut self, id: usize) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let was_blocked = connection.is_blocked;
        connection.flush();
        if connection.is_blocked != was_blocked
            && let State::Open { socket } = &connection.state
        {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, connection.is_blocked);
            // Fails only if the socket is not registered.
            let _ = epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(to_u64(id)), flags);
        }
    }
}
