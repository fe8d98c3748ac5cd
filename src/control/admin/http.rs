//! The HTTP/1.1 server of the admin listener.
//!
//! A connection serves one request, with little memory, for at most [`CONNECTION_DEADLINE`]. With too many connections,
//! the oldest is closed: a client that opens connections and sends nothing cannot lock out others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{View, access, paths, rates};
use crate::lookup::peer::Peer;
use crate::net::accept::AcceptErrors;
use crate::net::listener::{Listener, TokioListener};

/// The most connections of a listener at once. A scraper, a probe and a person need three.
const CONNECTIONS: usize = 32;

/// How long the head of a request may take to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// How long a connection may last. Enough to make a digest of the largest file.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(30);

/// The most bytes and headers in the head of a request. hyper allows no less than 8 KiB.
const HEAD_BYTES: usize = 8 * 1024;
const HEADERS: usize = 64;

/// Serves requests until `stop`.
pub(crate) async fn serve(
    listeners: Vec<Listener>,
    view: Arc<View>,
    stop: CancellationToken,
) -> io::Result<()> {
    let accepting = TaskTracker::new();
    accepting.spawn(
        stop.clone()
            .run_until_cancelled_owned(rates::keep_reading(Arc::clone(&view))),
    );
    for listener in listeners {
        let listener = listener.into_tokio()?;
        let (view, stop) = (Arc::clone(&view), stop.clone());
        accepting.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = accept(&listener, &view) => {}
            }
        });
    }
    accepting.close();
    accepting.wait().await;
    Ok(())
}

async fn accept(listener: &TokioListener, view: &Arc<View>) {
    let mut connections = Connections::default();
    let mut errors = AcceptErrors::default();
    loop {
        match accept_one(listener, view).await {
            Ok(connection) => connections.add(connection),
            Err(error) => {
                let pause = errors.pause_after(&error, || {
                    warn!(%error, "admin listener cannot accept connections; retrying");
                });
                if let Some(pause) = pause {
                    sleep(pause).await;
                }
            }
        }
    }
}

async fn accept_one(listener: &TokioListener, view: &Arc<View>) -> io::Result<AbortHandle> {
    let view = Arc::clone(view);
    let task = match listener {
        TokioListener::Tcp(listener) => {
            let (stream, client) = listener.accept().await?;
            tokio::spawn(serve_connection(stream, access::peer(client), view))
        }
        TokioListener::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve_connection(stream, access::LOCAL, view))
        }
    };
    Ok(task.abort_handle())
}

/// The open connections, the oldest first.
#[derive(Default)]
struct Connections(VecDeque<AbortHandle>);

impl Connections {
    fn add(&mut self, connection: AbortHandle) {
        self.0.retain(|connection| !connection.is_finished());
        if self.0.len() >= CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            debug!("too many connections to the admin listener; closing the oldest");
            oldest.abort();
        }
        self.0.push_back(connection);
    }
}

async fn serve_connection<S>(stream: S, peer: Peer, view: Arc<View>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let view = Arc::clone(&view);
        async move { Ok::<_, Infallible>(paths::answer(&request, peer, &view).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "admin request failed"),
        Err(_) => debug!("admin request timed out"),
    }
}
