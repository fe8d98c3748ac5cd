//! A connection to a server, with one deadline for whatever is done on it.
//!
//! The time-outs of a socket begin anew with each byte that arrives, so a server that sends one now and then would hold a
//! client for ever. Here each call gets what is left of [`DEADLINE`].
//!
//! Limits: the C library looks a host name up, and waits as long as resolv.conf(5) says; that time counts, but nothing
//! cuts it short.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{connect, recv, send, socket_with};
use thiserror::Error;

use crate::net::address::Address;

/// How long connecting may take in all, and one request with its reply. A lookup that takes seconds is a broken server,
/// and the person should learn it before Postfix does.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection is of no use.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The deadline passed.
    #[error("{0} within {seconds} seconds", seconds = DEADLINE.as_secs())]
    TimedOut(Operation),
    /// What the system says.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What the server did not do in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Accept the connection.
    Connect,
    /// Take the request.
    Write,
    /// Send a whole reply.
    Read,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the server did not accept a connection",
            Self::Write => "the server did not take the request",
            Self::Read => "the server did not send a whole reply",
        })
    }
}

/// A connection.
pub(crate) struct Connection {
    socket: OwnedFd,
    deadline: Instant,
}

impl Connection {
    /// Connects, and gives one request and its reply the same time again.
    pub(crate) fn open(address: &Address) -> Result<Self, ConnectionError> {
        let deadline = Instant::now() + DEADLINE;
        let socket = match address {
            Address::Inet(host, port) => connect_tcp(host, *port, deadline)?.into(),
            Address::Unix(path) => connect_unix(path, deadline)?,
        };
        let mut connection = Self { socket, deadline };
        connection.restart_deadline();
        Ok(connection)
    }

    /// Begins another request, with a deadline of its own.
    pub(crate) fn restart_deadline(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    /// Writes all of it.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let remaining = remaining(self.deadline, Operation::Write)?;
            let written = set_socket_timeout(&self.socket, Timeout::Send, Some(remaining))
                .and_then(|()| send(&self.socket, rest, SendFlags::NOSIGNAL));
            match written {
                Ok(length) => rest = rest.get(length..).unwrap_or_default(),
                Err(error) if is_retryable(error) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        Ok(())
    }

    /// Reads what there is, waiting for the first byte of it; 0 where the server has closed.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, ConnectionError> {
        loop {
            let remaining = remaining(self.deadline, Operation::Read)?;
            let read = set_socket_timeout(&self.socket, Timeout::Recv, Some(remaining))
                .and_then(|()| recv(&self.socket, &mut *into, RecvFlags::empty()));
            match read {
                Ok((length, _)) => return Ok(length),
                Err(error) if is_retryable(error) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }
}

/// What is left deadline then.
fn remaining(deadline: Instant, operation: Operation) -> Result<Duration, ConnectionError> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() {
        Err(ConnectionError::TimedOut(operation))
    } else {
        Ok(remaining)
    }
}

/// Whether the call ended early, or its part of the time is over: the clock decides whether another is made.
fn is_retryable(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::TIMEDOUT | Errno::INTR)
}

fn connect_tcp(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, ConnectionError> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let mut last_error = ConnectionError::Io(ErrorKind::NotFound.into());
    let mut number = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        // An address that does not answer leaves time for the others.
        let share = remaining(deadline, Operation::Connect)? / number;
        number = number.saturating_sub(1).max(1);
        match TcpStream::connect_timeout(&address, share.max(Duration::from_millis(1))) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                last_error = ConnectionError::TimedOut(Operation::Connect);
            }
            Err(error) => last_error = error.into(),
        }
    }
    Err(last_error)
}

/// By way of rustix, because the standard library sets no time-out before it connects, and a server whose queue is full
/// lets that wait.
fn connect_unix(path: &Path, deadline: Instant) -> Result<OwnedFd, ConnectionError> {
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(io::Error::from)?;
    loop {
        let remaining = remaining(deadline, Operation::Connect)?;
        set_socket_timeout(&socket, Timeout::Send, Some(remaining)).map_err(io::Error::from)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}
