//! The socket of a connection, as a session reads and writes it.
//!
//! It calls recv(2) and send(2) directly, non-blocking whatever the mode of the socket. Writability is polled only after send(2)
//! has found no room.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::session::Stream;

/// A connected socket of any family. A peer that is gone is an error, not a signal.
pub(super) struct PeerSocket(OwnedFd);

impl From<OwnedFd> for PeerSocket {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for PeerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PeerSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Read for PeerSocket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = retry_on_intr(|| recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT))?;
        Ok(length)
    }
}

impl Write for PeerSocket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(retry_on_intr(|| send(&self.0, bytes, flags))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for PeerSocket {
    fn end_writing(&mut self) -> io::Result<()> {
        Ok(shutdown(&self.0, Shutdown::Write)?)
    }
}
