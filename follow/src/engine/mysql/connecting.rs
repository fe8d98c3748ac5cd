//! Connecting to a host: its addresses, the options of the client library, and the thread that connects.
//!
//! The library ends a connection that it drops with a task of the runtime. That task panics if the TLS handshake has failed, and
//! waits for the rest of a result if the server hangs. It is not started where there is no runtime, and the connection is then
//! just closed. So a connection is made, and dropped after an error, by a thread outside the runtime.
//!
//! Only the creation of a socket needs the runtime. It is the first step of connecting, and the only one that is done in the runtime: a
//! runtime of one thread does not notice meanwhile that the socket is connected.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use mysql_async::{Conn, Opts};
use tokio::net::lookup_host;
use tokio::sync::oneshot;

use crate::engine::EngineErrorKind;
use crate::settings::Tls;

use super::errors::{error, io_error};

/// What was asked while there is no query yet.
const LOGIN: &str = "the login";

/// Returns the addresses of a name. Without TLS, all of them must be those of this host.
pub(super) async fn addresses(host: &str, port: u16, tls: Tls) -> Result<Vec<IpAddr>, EngineErrorKind> {
    let found = lookup_host((host, port))
        .await
        .map_err(|error| EngineErrorKind::NoAddress(error.to_string()))?;
    let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    if tls == Tls::Off
        && let Some(remote) = addresses
            .iter()
            .find(|address| !address.to_canonical().is_loopback())
    {
        return Err(EngineErrorKind::PlainNetwork(remote.to_string()));
    }
    if addresses.is_empty() {
        return Err(EngineErrorKind::NoAddress("it exists without one".to_owned()));
    }
    Ok(addresses)
}

/// Connects with these options, which have at most one address. To be dropped at any time.
pub(super) async fn connect(opts: Opts) -> Result<Conn, EngineErrorKind> {
    let mut connecting: Connecting = Conn::new(opts);
    let first = poll_fn(|context| Poll::Ready(connecting.as_mut().poll(context))).await;
    if let Poll::Ready(ended) = first {
        return ended.map_err(|cause| error(LOGIN, &cause));
    }
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("connect".to_owned())
        .spawn(move || run(connecting, sender))
        .map_err(|error| io_error(&error))?;
    match receiver.await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(cause)) => Err(error(LOGIN, &cause)),
        Err(_) => Err(io_error(&io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Drops a connection that must not be used any more: closes it.
pub(super) fn discard(connection: Conn) {
    // If no thread can be started, the connection is dropped here, and the library waits for the server.
    let _ = thread::Builder::new()
        .name("disconnect".to_owned())
        .spawn(move || drop(connection));
}

type Connecting = Pin<Box<dyn Future<Output = mysql_async::Result<Conn>> + Send>>;

/// Runs `connecting` in this thread until it ends or its result is not wanted any more.
fn run(mut connecting: Connecting, mut result: oneshot::Sender<mysql_async::Result<Conn>>) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let ended = {
        let mut closed = pin!(result.closed());
        loop {
            if let Poll::Ready(ended) = connecting.as_mut().poll(&mut context) {
                break Some(ended);
            }
            if closed.as_mut().poll(&mut context).is_ready() {
                break None;
            }
            thread::park();
        }
    };
    drop(connecting);
    if let Some(ended) = ended {
        // What comes back was not wanted any more, and is dropped here.
        drop(result.send(ended));
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
