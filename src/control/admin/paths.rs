//! The paths of the admin listener, and the response of each.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::access::{self, AccessError};
use super::response::{JSON, TEXT, Whole, failure, response, with_policy};
use super::status::{Status, not_ready_reasons};
use super::{View, explain, exposition, metrics, page};
use crate::lookup::peer::Peer;
use crate::os::printable::json;

/// Returns the response to a request of this client.
pub(super) async fn answer(request: &Request<Incoming>, peer: Peer, view: &Arc<View>) -> Whole {
    let path = request.uri().path();
    if !["/", "/explain", "/healthz", "/readyz", "/status", "/metrics"].contains(&path) {
        let text = "not found; the paths are /, /explain, /healthz, /readyz, /status and /metrics";
        return failure(StatusCode::NOT_FOUND, text);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refused = failure(
            StatusCode::METHOD_NOT_ALLOWED,
            "method not allowed; use GET or HEAD",
        );
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match path {
        "/" => page(request, peer, view).await,
        "/explain" => explain(request, peer, view).await,
        "/healthz" => healthz(view).await,
        "/readyz" => readyz(view),
        "/status" => blocking(view, |view| as_json(&Status::new(view))).await,
        _ => response(StatusCode::OK, exposition::CONTENT_TYPE, metrics::render(view)),
    }
}

async fn healthz(view: &View) -> Whole {
    if view.liveness.is_alive().await {
        response(StatusCode::OK, TEXT, "ok\n")
    } else {
        let text = "the event loop that answers lookups does not respond";
        failure(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

fn readyz(view: &View) -> Whole {
    let report = view.reload_status.report();
    if report.is_ready() {
        return response(StatusCode::OK, TEXT, "ok\n");
    }
    let lines = not_ready_reasons(&report).into_iter().map(|line| line + "\n");
    response(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines.collect::<String>())
}

async fn explain(request: &Request<Incoming>, peer: Peer, view: &Arc<View>) -> Whole {
    if let Err(error) = check_access(request, peer, view) {
        return failure(StatusCode::FORBIDDEN, &error.to_string());
    }
    let query = request.uri().query().map(str::to_owned);
    blocking(view, move |view| match explain::answer(view, query.as_deref()) {
        Ok(explanation) => as_json(&explanation),
        Err(error) => failure(StatusCode::BAD_REQUEST, &error.to_string()),
    })
    .await
}

/// A client that may not see senders gets the page without the box that explains them. A page of another site gets
/// nothing.
async fn page(request: &Request<Incoming>, peer: Peer, view: &Arc<View>) -> Whole {
    let access = check_access(request, peer, view);
    if access == Err(AccessError::Host) {
        return failure(StatusCode::FORBIDDEN, &AccessError::Host.to_string());
    }
    let is_alive = view.liveness.is_alive().await;
    let query = request.uri().query().map(str::to_owned);
    blocking(view, move |view| {
        match page::render(view, is_alive, access, query.as_deref()) {
            Ok(html) => with_policy(response(StatusCode::OK, page::CONTENT_TYPE, html), page::POLICY),
            // A bug.
            Err(_) => internal_error(),
        }
    })
    .await
}

fn check_access(request: &Request<Incoming>, peer: Peer, view: &View) -> Result<(), AccessError> {
    let allowed = &view.active_snapshot.load().allowed;
    access::check(peer, request.headers(), allowed, view.host.as_deref())
}

/// Makes a response in another thread, because it may take seconds: digests of large tables, and file systems that do
/// not respond.
async fn blocking(view: &Arc<View>, respond: impl FnOnce(&View) -> Whole + Send + 'static) -> Whole {
    let view = Arc::clone(view);
    spawn_blocking(move || respond(&view))
        .await
        // It panicked: a bug.
        .unwrap_or_else(|_| internal_error())
}

fn as_json(value: &impl Serialize) -> Whole {
    let mut text = Vec::new();
    match json::write(value, &mut text) {
        Ok(()) => {
            text.push(b'\n');
            response(StatusCode::OK, JSON, text)
        }
        // A bug.
        Err(_) => internal_error(),
    }
}

fn internal_error() -> Whole {
    failure(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
}
