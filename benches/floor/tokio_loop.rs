//! The floor of a runtime: [`crate::reply_loop`] with tokio instead of epoll(7), one task for each connection.
//!
//! The difference between the two is tokio's cost, and that between this and postmapd is postmapd's. There are three
//! designs, so that postmapd's can be compared with the others.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, UnixListener};
use tokio::runtime::{Builder, Runtime};

use super::reply_loop::REPLY;
use super::{Result, Socket, socket};

/// The threads that answer.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// One thread for everything.
    OneThread,
    /// One runtime with a thread for each processor, which take tasks from each other.
    Shared,
    /// A separate runtime for each processor, each with its own listening socket (SO_REUSEPORT; TCP only).
    OneForEachProcessor,
}

impl Shape {
    /// The names for `--subject`.
    pub(crate) const ALL: [(&str, Self); 3] = [
        ("tokio", Self::OneThread),
        ("tokio-shared", Self::Shared),
        ("tokio-each", Self::OneForEachProcessor),
    ];
}

/// Serves `endpoint` until it is killed. Announces its address on standard error.
pub(crate) fn serve(shape: Shape, endpoint: &str) -> Result<()> {
    let one_thread = || Builder::new_current_thread().enable_all().build();
    let runtime: Runtime = match shape {
        Shape::OneThread => one_thread()?,
        Shape::Shared => Builder::new_multi_thread().enable_all().build()?,
        Shape::OneForEachProcessor => {
            let Socket::Inet(mut address) = socket(endpoint)? else {
                return Err("there is no SO_REUSEPORT for UNIX sockets".into());
            };
            let first = bind(address)?;
            address = first.local_addr()?;
            eprintln!("listening endpoint=socketmap:inet:{address}");
            for _ in 1..std::thread::available_parallelism()?.get() {
                std::thread::spawn(move || one_thread()?.block_on(accept_tcp(bind(address)?)));
            }
            return one_thread()?.block_on(accept_tcp(first));
        }
    };
    runtime.block_on(accept(endpoint))
}

fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept_tcp(socket: TcpSocket) -> Result<()> {
    let listener = socket.listen(4096)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(answer(stream));
    }
}

async fn accept(endpoint: &str) -> Result<()> {
    match socket(endpoint)? {
        Socket::Inet(address) => {
            let socket = bind(address)?;
            eprintln!("listening endpoint=socketmap:inet:{}", socket.local_addr()?);
            accept_tcp(socket).await
        }
        Socket::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            eprintln!("listening endpoint={endpoint}");
            loop {
                tokio::spawn(answer(listener.accept().await?.0));
            }
        }
    }
}

/// Ends when the peer closes the connection.
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
