//! Health, status and metrics over HTTP, by the server of postmapd ([`postmapd::control::admin::http`]) with its limits.
//!
//! | path | says |
//! |---|---|
//! | `/healthz` | whether the thread that follows the source is alive: the request goes through it ([`crate::liveness`]) |
//! | `/readyz` | whether tables are active and were confirmed within `stale_after`; otherwise why not |
//! | `/status` | the state, as JSON ([`Answer`]) |
//! | `/metrics` | metrics in Prometheus' text format ([`metrics`]) |
//!
//! No response contains a credential, a key or any other text of a row. So every client that can connect may see them.

mod metrics;
mod status;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postmapd::control::admin::exposition;
use postmapd::control::admin::http::{HttpRequest, Site};
use postmapd::control::admin::response::{StatusCode, TEXT, Whole, as_json, failure, response};
use postmapd::lookup::peer::Peer;

use crate::liveness::Probe;
use crate::status::Status;
pub(crate) use status::Answer;

/// What the listener reports.
pub(crate) struct Admin {
    /// The state.
    pub(crate) status: Arc<Status>,
    /// Probes the thread that follows the source.
    pub(crate) liveness: Probe,
    /// The setting `stale_after`.
    pub(crate) stale_after: Duration,
    /// When the process started.
    pub(crate) started: SystemTime,
}

impl Site for Admin {
    const PATHS: &[&str] = &["/healthz", "/readyz", "/status", "/metrics"];

    async fn answer(self: &Arc<Self>, request: &HttpRequest, _: Peer) -> Whole {
        let report = self.status.report();
        match request.uri().path() {
            "/healthz" if self.liveness.is_alive().await => response(StatusCode::OK, TEXT, "ok\n"),
            "/healthz" => {
                let text = "the thread that follows the source does not respond";
                failure(StatusCode::SERVICE_UNAVAILABLE, text)
            }
            "/readyz" => match report.not_ready_reason(self.stale_after) {
                None => response(StatusCode::OK, TEXT, "ok\n"),
                Some(reason) => failure(StatusCode::SERVICE_UNAVAILABLE, &reason),
            },
            "/status" => as_json(&Answer::new(&report, self.stale_after, self.started)),
            _ => {
                let text = metrics::render(&report, self.started);
                response(StatusCode::OK, exposition::CONTENT_TYPE, text)
            }
        }
    }
}
