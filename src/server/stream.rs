//! The socket of a peer, as a session reads and writes it.
//!
//! tokio's own streams want to be told whenever there is room to write. On a UNIX socket the kernel says that anew each
//! time the peer has taken a reply, and the server wakes for nothing: a fortieth of all that a lookup costs
//! (benches/runtime.md). So this one sends at once, which nearly always goes well, and wants to be told of room only once
//! a peer has left none.
//!
//! Limits: where the kernel has no memory for the change, the connection ends.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connected socket of whatever family, which does not block.
pub struct Stream {
    /// Always there but while it is registered anew.
    socket: Option<AsyncFd<OwnedFd>>,
    /// Whether tokio is told when there is room to write.
    hears_of_room: bool,
}

impl Stream {
    /// To be called within a runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            socket: Some(register(socket, Interest::READABLE)?),
            hears_of_room: false,
        })
    }

    fn socket(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        self.socket.as_ref().ok_or(io::ErrorKind::NotConnected.into())
    }

    /// Registers it anew, so that it hears of room as well. What has arrived is told again.
    fn hear_of_room(&mut self) -> io::Result<()> {
        if !self.hears_of_room
            && let Some(socket) = self.socket.take()
        {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.socket = Some(register(socket.into_inner(), interest)?);
            self.hears_of_room = true;
        }
        Ok(())
    }
}

#[allow(
    unsafe_code,
    reason = "tokio leaves it to its caller that a descriptor stays what it is"
)]
fn register(socket: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, AsyncFdRegisterError<OwnedFd>> {
    // SAFETY: an OwnedFd has one descriptor for all its life, and nothing else closes it.
    unsafe { AsyncFd::register_with_interest(socket, interest) }
}

fn send_now(socket: &AsyncFd<OwnedFd>, bytes: &[u8]) -> Result<usize, Errno> {
    send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.socket()?;
        loop {
            let mut ready = ready!(socket.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            let room = space.len();
            match recv(socket, space, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok((length, _)) => {
                    // Less than there was room for is all that there was: the kernel says when there is more, and need
                    // not be asked. At the end of the stream it says nothing more.
                    if 0 < length && length < room {
                        ready.clear_ready();
                    }
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match send_now(self.socket()?, bytes) {
            Err(Errno::AGAIN) => self.hear_of_room()?,
            sent => return Poll::Ready(Ok(sent?)),
        }
        let socket = self.socket()?;
        loop {
            let mut ready = ready!(socket.poll_write_ready(context))?;
            match send_now(socket, bytes) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                sent => return Poll::Ready(Ok(sent?)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.socket()?, Shutdown::Write)?))
    }
}
