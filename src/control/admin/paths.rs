//! The paths of the admin listener, and the response of each.

use std::sync::Arc;

use hyper::StatusCode;
use tokio::task::spawn_blocking;

use super::access::{self, AccessError};
use super::http::{HttpRequest, Site};
use super::response::{TEXT, Whole, as_json, failure, internal_error, response, with_policy};
use super::status::{Status, not_ready_reasons};
use super::{View, explain, exposition, metrics, page};
use crate::lookup::peer::Peer;

impl Site for View {
    const PATHS: &[&str] = &["/", "/explain", "/healthz", "/readyz", "/status", "/metrics"];

    async fn answer(self: &Arc<Self>, request: &HttpRequest, peer: Peer) -> Whole {
        match request.uri().path() {
            "/" => page(request, peer, self).await,
            "/explain" => explain(request, peer, self).await,
            "/healthz" => healthz(self).await,
            "/readyz" => readyz(self),
            "/status" => blocking(self, |view| as_json(&Status::new(view))).await,
            _ => response(StatusCode::OK, exposition::CONTENT_TYPE, metrics::render(self)),
        }
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

async fn explain(request: &HttpRequest, peer: Peer, view: &Arc<View>) -> Whole {
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
async fn page(request: &HttpRequest, peer: Peer, view: &Arc<View>) -> Whole {
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

fn check_access(request: &HttpRequest, peer: Peer, view: &View) -> Result<(), AccessError> {
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
