//! Health, status, metrics and explanations over HTTP, for monitoring and for people.
//!
//! | path | says |
//! |---|---|
//! | `/` | a page for people: state, files and findings, lookups a second, and why a sender has its relay ([`page`]) |
//! | `/explain` | why the running server gives an answer ([`mod@explain`]); `postmapd query --explain --admin` is its client |
//! | `/healthz` | whether the thread that answers lookups is alive: the request goes through it ([`liveness`]) |
//! | `/readyz` | whether every file is valid, and which is not, why and since when |
//! | `/status` | everything, for programs ([`status`]); `postmapd status` is its client ([`client`]) |
//! | `/metrics` | metrics in Prometheus' text format 0.0.4 ([`metrics`]) |
//!
//! It runs in the control thread ([`crate::control`]), which has a lower priority than the one that answers lookups,
//! with sockets of its own, and only reads shared state: counters, reload status, snapshot. So slow or frequent
//! requests take nothing from a lookup but idle processor time. What a client can make this thread hold is limited in
//! `http`.
//!
//! No response contains a credential, nor the user of one. An explanation contains what the map `relayhost` answers, so only
//! clients that may query that get one ([`access`]). No other response contains a sender, a host or a user: findings do not quote,
//! labels are constants and paths of files, and the digest of a file with credentials reveals nothing about it
//! ([`crate::os::digest`]).

mod access;
pub mod age;
pub(crate) mod client;
pub(crate) mod explain;
pub mod exposition;
pub mod http;
pub(crate) mod liveness;
pub(crate) mod metrics;
mod page;
mod paths;
pub mod process;
mod query;
pub(crate) mod rates;
pub mod response;
pub(crate) mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::lookup::snapshot::ActiveSnapshot;
use crate::server::counters::Counters;
use crate::source::reload_status::ReloadStatus;
use liveness::Probe;
use rates::Rates;
use status::TableDigests;

/// The state that is reported.
pub(crate) struct View {
    /// The active snapshot.
    pub active_snapshot: Arc<ActiveSnapshot>,
    /// The counters of the server.
    pub counters: Arc<Counters>,
    /// The results of reloads.
    pub reload_status: Arc<ReloadStatus>,
    /// Probes the thread that answers lookups.
    pub liveness: Probe,
    /// The endpoints of the maps.
    pub listeners: Vec<String>,
    /// When the server started.
    pub started: SystemTime,
    /// The digests of the active tables.
    pub digests: TableDigests,
    /// The counters at earlier times.
    pub rates: Rates,
    /// The directory of the tables.
    pub directory: PathBuf,
    /// The host of the setting `admin`, if it has one.
    pub host: Option<String>,
}
