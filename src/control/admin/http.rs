//! The HTTP/1.1 server of the admin listener, whatever its [`Site`] is.
//!
//! A connection serves one request, with little memory, for at most [`CONNECTION_DEADLINE`]. With too many connections,
//! the oldest is closed: a client that opens connections and sends nothing cannot lock out others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
pub use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::access;
use super::response::{StatusCode, Whole, failure};
use crate::lookup::peer::Peer;
use crate::net::accept::AcceptErrors;
use crate::net::listener::{Listener, TokioListener};
use crate::os::printable::enumeration;

/// The most connections of a listener at once. A scraper, a probe and a person need three.
const CONNECTIONS: usize = 32;

/// How long the head of a request may take to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// How long a connection may last. Enough to make a digest of the largest file.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(30);

/// The most bytes and headers in the head of a request. hyper allows no less than 8 KiB.
const HEAD_BYTES: usize = 8 * 1024;
const HEADERS: usize = 64;

/// A request. Its body is not read.
pub type HttpRequest = Request<Incoming>;

/// The responses of an admin listener.
pub trait Site: Send + Sync + 'static {
    /// The paths that exist. Requests for others, and with methods other than GET and HEAD, are refused.
    const PATHS: &[&str];

    /// Returns the response to a request of this client for one of the paths.
    fn answer(self: &Arc<Self>, request: &HttpRequest, peer: Peer) -> impl Future<Output = Whole> + Send;
}

/// Serves requests until `stop`. Must be called within a runtime.
///
/// # Errors
///
/// A listener cannot be registered with the runtime.
pub async fn serve<T: Site>(
    listeners: Vec<Listener>,
    site: Arc<T>,
    stop: CancellationToken,
) -> io::Result<()> {
    let accepting = TaskTracker::new();
    for listener in listeners {
        let listener = listener.into_tokio()?;
        let (site, stop) = (Arc::clone(&site), stop.clone());
        accepting.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = accept(&listener, &site) => {}
            }
        });
    }
    accepting.close();
    accepting.wait().await;
    Ok(())
}

async fn accept<T: Site>(listener: &TokioListener, site: &Arc<T>) {
    let mut connections = Connections::default();
    let mut errors = AcceptErrors::default();
    loop {
        match accept_one(listener, site).await {
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

async fn accept_one<T: Site>(listener: &TokioListener, site: &Arc<T>) -> io::Result<AbortHandle> {
    let site = Arc::clone(site);
    let task = match listener {
        TokioListener::Tcp(listener) => {
            let (stream, client) = listener.accept().await?;
            tokio::spawn(serve_connection(stream, access::peer(client), site))
        }
        TokioListener::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve_connection(stream, access::LOCAL, site))
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

async fn serve_connection<S, T: Site>(stream: S, peer: Peer, site: Arc<T>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: HttpRequest| {
        let site = Arc::clone(&site);
        async move {
            let response = match refusal(&request, T::PATHS) {
                Some(refusal) => refusal,
                None => site.answer(&request, peer).await,
            };
            Ok::<_, Infallible>(response)
        }
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

/// Returns the response to a request for none of these paths, or with a method other than GET and HEAD.
fn refusal(request: &HttpRequest, paths: &[&str]) -> Option<Whole> {
    if !paths.contains(&request.uri().path()) {
        let text = format!("not found; the paths are {}", enumeration(paths, "and"));
        return Some(failure(StatusCode::NOT_FOUND, &text));
    }
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return None;
    }
    let mut refused = failure(
        StatusCode::METHOD_NOT_ALLOWED,
        "method not allowed; use GET or HEAD",
    );
    let allowed = HeaderValue::from_static("GET, HEAD");
    refused.headers_mut().insert(ALLOW, allowed);
    Some(refused)
}
