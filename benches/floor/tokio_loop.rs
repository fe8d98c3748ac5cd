//! The floor of the runtime: [`crate::reply_loop`] with tokio instead of epoll(7), one task for each connection.
//!
//! What lies between the two is tokio's; what lies between this and postmapd is ours.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, UnixListener};

use super::reply_loop::REPLY;
use super::{Result, Socket, socket};

/// Serves `endpoint` until it is killed. Says on standard error where it listens.
pub(crate) fn serve(endpoint: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(accept(endpoint))
}

async fn accept(endpoint: &str) -> Result<()> {
    match socket(endpoint)? {
        socket @ Socket::Inet(address) => {
            let listener = TcpSocket::new_v4()?;
            listener.bind(address)?;
            let listener = listener.listen(4096)?;
            eprintln!("listening on {}", socket.at(listener.local_addr()?));
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(answer(stream));
            }
        }
        Socket::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            eprintln!("listening on {endpoint}");
            loop {
                tokio::spawn(answer(listener.accept().await?.0));
            }
        }
    }
}

/// Ends where the peer does.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let read = async |stream: &mut S| {
        poll_fn(|context| {
            let mut space = [MaybeUninit::uninit(); 16 * 1024];
            let mut space = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut space))?;
            Poll::Ready(std::io::Result::Ok(space.filled().len()))
        })
        .await
    };
    while read(&mut stream).await.is_ok_and(|length| length > 0) {
        if stream.write_all(REPLY).await.is_err() {
            return;
        }
    }
}
