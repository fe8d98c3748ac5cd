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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::pin::Pin;
    use std::task::Poll;
    use std::thread;

    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

    use super::Stream;

    /// A stream, and the peer's end of it, which blocks.
    fn pair() -> (Stream, UnixStream) {
        let (own, peer) = UnixStream::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        (Stream::new(own.into()).unwrap(), peer)
    }

    /// Sends until there is no room.
    async fn fill(stream: &mut Stream) -> usize {
        let mut sent = 0;
        poll_fn(|context| {
            while let Poll::Ready(more) = Pin::new(&mut *stream).poll_write(context, &[b'x'; 4096]) {
                sent += more.unwrap();
            }
            Poll::Ready(())
        })
        .await;
        sent
    }

    #[tokio::test]
    async fn what_finds_no_room_is_sent_once_there_is() {
        let (mut stream, mut peer) = pair();
        let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let length = sent.len();
        let reader = thread::spawn(move || {
            let mut got = vec![0; length];
            peer.read_exact(&mut got).unwrap();
            peer.write_all(b"thanks").unwrap();
            got
        });
        stream.write_all(&sent).await.unwrap();
        assert!(stream.hears_of_room, "there was always room");
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"thanks");
        assert!(reader.join().unwrap() == sent);
    }

    #[tokio::test]
    async fn what_arrived_before_there_was_no_room_is_read() {
        let (mut stream, mut peer) = pair();
        peer.write_all(b"before").unwrap();
        assert!(fill(&mut stream).await > 0);
        peer.write_all(b" and after").unwrap();
        let mut got = [0; 16];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"before and after");
    }

    #[tokio::test]
    async fn the_end_is_read_after_what_came_before_it() {
        for ends_at_once in [true, false] {
            let (mut stream, mut peer) = pair();
            peer.write_all(b"last").unwrap();
            let mut peer = Some(peer).filter(|_| !ends_at_once);
            let mut got = [0; 100];
            assert_eq!(stream.read(&mut got).await.unwrap(), 4);
            drop(peer.take());
            assert_eq!(stream.read(&mut got).await.unwrap(), 0);
            assert_eq!(stream.read(&mut got).await.unwrap(), 0, "and stays the end");
        }
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error_and_no_signal() {
        let (mut stream, peer) = pair();
        drop(peer);
        assert!(stream.write_all(b"x").await.is_err());
    }
}
