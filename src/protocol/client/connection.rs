//! A connection to a server, with one deadline for each request and its reply.
//!
//! Socket timeouts restart with each byte that arrives, so a server that sends single bytes could block a client
//! indefinitely. Here each system call gets the time that remains of [`DEADLINE`].
//!
//! Limits: the C library resolves host names and waits as long as resolv.conf(5) says. That time is part of the
//! deadline, but nothing interrupts it.

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

/// The time limit for connecting, and for one request with its reply. A server whose lookups take seconds is broken,
/// and the user should learn it before Postfix does.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection is unusable.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The deadline passed in this operation.
    #[error("{0} within {seconds} seconds", seconds = DEADLINE.as_secs())]
    TimedOut(Operation),
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What the server did not do in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Accept the connection.
    Connect,
    /// Read the request.
    Write,
    /// Send a whole reply.
    Read,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the server did not accept a connection",
            Self::Write => "the server did not read the request",
            Self::Read => "the server did not send a complete reply",
        })
    }
}

/// A connection with a deadline.
pub(crate) struct Connection {
    socket: OwnedFd,
    deadline: Instant,
}

impl Connection {
    /// Connects, and starts a new deadline for the first request.
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

    /// Starts the deadline of another request.
    pub(crate) fn restart_deadline(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    /// Writes all bytes.
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

    /// Reads the available bytes, and waits for the first one; 0 if the server has closed the connection.
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

/// Returns the time until the deadline, or an error if it has passed.
fn remaining(deadline: Instant, operation: Operation) -> Result<Duration, ConnectionError> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() {
        Err(ConnectionError::TimedOut(operation))
    } else {
        Ok(remaining)
    }
}

/// Whether the call was interrupted or used up its share of the time. The deadline decides whether it is repeated.
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

/// Connects through rustix: the standard library sets no timeout before connect(2), which blocks on a server whose
/// backlog is full.
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
