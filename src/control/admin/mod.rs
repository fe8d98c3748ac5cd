//! Health, status and metrics over HTTP, for those who watch the server.
//!
//! | path | says |
//! |---|---|
//! | `/healthz` | whether the thread that answers lookups lives: the question goes through it ([`pulse`]) |
//! | `/readyz` | whether every file is valid, and which is not, why and since when |
//! | `/status` | all of it for machines ([`status`]); `postmapd status` is its client ([`client`]) |
//! | `/metrics` | numbers in Prometheus' text format 0.0.4 ([`metrics`]) |
//!
//! It runs in the control thread ([`crate::control`]), which lets the one that answers go first, with sockets of its own, and
//! reads only what they leave behind: counters, the ledger, the snapshot. So slow or frequent requests here take nothing
//! from a lookup but idle processor time. What such a peer can make this thread hold is limited in `http`.
//!
//! Nothing that is said here holds a sender, a host, a user or a credential: findings do not quote, labels are names of
//! ours and paths of files, and the digest of a file with credentials says nothing about it ([`crate::os::digest`]).

pub(crate) mod client;
mod exposition;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod pulse;
pub(crate) mod status;

use std::sync::Arc;
use std::time::SystemTime;

use crate::lookup::snapshot::ActiveSnapshot;
use crate::server::counters::Counters;
use crate::source::reload_status::ReloadStatus;
use pulse::Pulse;
use status::TableDigests;

/// What is told about.
pub(crate) struct View {
    /// The snapshot in force.
    pub routes: Arc<ActiveSnapshot>,
    /// What was counted.
    pub counters: Arc<Counters>,
    /// What became of the files.
    pub reload_status: Arc<ReloadStatus>,
    /// Whether the thread that answers lookups lives.
    pub pulse: Pulse,
    /// Where lookups are answered.
    pub listeners: Vec<String>,
    /// Since when.
    pub started: SystemTime,
    /// The digests of the tables in force.
    pub digests: TableDigests,
}
