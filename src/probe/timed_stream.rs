//! A TCP connection that ends at a deadline, and that receives a limited number of bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The maximum number of bytes that a relay can send on one connection, TLS included.
const MAX_RECEIVED: usize = 1 << 20;

/// The time limit for a TCP connection, in all cases: a third of `smtp_connect_timeout` of Postfix.
const MAX_CONNECT: Duration = Duration::from_secs(10);

/// A connection of which every operation fails with [`ErrorKind::TimedOut`] after the deadline.
pub(super) struct TimedStream {
    stream: TcpStream,
    deadline: Instant,
    received: usize,
}

impl TimedStream {
    /// Connects.
    pub(super) fn connect(address: SocketAddr, deadline: Instant) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, left_until(deadline)?.min(MAX_CONNECT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            deadline,
            received: 0,
        })
    }

    /// Returns the address of this end.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Brings the deadline forward to `limit` from now.
    pub(super) fn limit_to(&mut self, limit: Duration) {
        self.deadline = self.deadline.min(Instant::now() + limit);
    }
}

/// Returns the time until the deadline, which is not zero.
fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left)
}

/// Returns the error that a timeout is, which the system reports as a full or an empty buffer.
fn as_timeout(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock {
        return ErrorKind::TimedOut.into();
    }
    error
}

impl Read for TimedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.received > MAX_RECEIVED {
            return Err(io::Error::other("it sends more than 1 MiB"));
        }
        self.stream.set_read_timeout(Some(left_until(self.deadline)?))?;
        let read = self.stream.read(buffer).map_err(as_timeout)?;
        self.received += read;
        Ok(read)
    }
}

impl Write for TimedStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left_until(self.deadline)?))?;
        self.stream.write(buffer).map_err(as_timeout)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
