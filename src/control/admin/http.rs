//! The HTTP/1.1 server of the admin listener.
//!
//! A connection serves one request, with little memory, for at most [`CONNECTION_DEADLINE`]. With too many connections,
//! the oldest is closed: a client that opens connections and sends nothing cannot lock out others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::exposition;
use super::status::{Status, not_ready_reasons};
use super::{View, metrics};
use crate::net::accept::AcceptErrors;
use crate::net::listener::{Listener, TokioListener};
use crate::os::printable::json;

/// The most connections of a listener at once. A scraper, a probe and a person need three.
const CONNECTIONS: usize = 32;

/// How long the head of a request may take to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// How long a connection may last. Enough to make a digest of the largest file.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(30);

/// The most bytes and headers in the head of a request. hyper allows no less than 8 KiB.
const HEAD_BYTES: usize = 8 * 1024;
const HEADERS: usize = 64;

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves requests until `stop`.
pub(crate) async fn serve(
    listeners: Vec<Listener>,
    view: Arc<View>,
    stop: CancellationToken,
) -> io::Result<()> {
    let accepting = TaskTracker::new();
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
        TokioListener::Tcp(listener) => tokio::spawn(serve_connection(listener.accept().await?.0, view)),
        TokioListener::Unix(listener, _) => tokio::spawn(serve_connection(listener.accept().await?.0, view)),
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

async fn serve_connection<S>(stream: S, view: Arc<View>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let view = Arc::clone(&view);
        async move { Ok::<_, Infallible>(answer(&request, &view).await) }
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

async fn answer(request: &Request<Incoming>, view: &Arc<View>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !["/healthz", "/readyz", "/status", "/metrics"].contains(&path) {
        let text = "not found; the paths are /healthz, /readyz, /status and /metrics\n";
        return response(StatusCode::NOT_FOUND, TEXT, text);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refused = response(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "method not allowed; use GET or HEAD\n",
        );
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match path {
        "/healthz" => healthz(view).await,
        "/readyz" => readyz(view),
        "/status" => status(view).await,
        _ => response(StatusCode::OK, exposition::CONTENT_TYPE, metrics::render(view)),
    }
}

async fn healthz(view: &View) -> Response<Full<Bytes>> {
    if view.liveness.is_alive().await {
        response(StatusCode::OK, TEXT, "ok\n")
    } else {
        let text = "the event loop that answers lookups does not respond\n";
        response(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
    }
}

fn readyz(view: &View) -> Response<Full<Bytes>> {
    let report = view.reload_status.report();
    if report.is_ready() {
        return response(StatusCode::OK, TEXT, "ok\n");
    }
    let lines = not_ready_reasons(&report).into_iter().map(|line| line + "\n");
    response(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines.collect::<String>())
}

async fn status(view: &Arc<View>) -> Response<Full<Bytes>> {
    let view = Arc::clone(view);
    let json = spawn_blocking(move || {
        let mut text = Vec::new();
        json::write(&Status::new(&view), &mut text).map(|()| text)
    });
    match json.await {
        Ok(Ok(mut text)) => {
            text.push(b'\n');
            response(StatusCode::OK, "application/json", text)
        }
        // Either would be a bug.
        Ok(Err(_)) | Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "internal error\n"),
    }
}

fn response(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
