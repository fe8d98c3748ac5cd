//! Health, status and metrics over HTTP, for those who watch the server.
//!
//! | path | says |
//! |---|---|
//! | `/healthz` | whether the thread that answers lookups lives: the question goes through it ([`pulse`]) |
//! | `/readyz` | whether every file is valid, and which is not, why and since when |
//! | `/status` | all of it for machines ([`status`]); `postmapd status` is its client ([`client`]) |
//! | `/metrics` | numbers in Prometheus' text format 0.0.4 ([`metrics`]) |
//!
//! It runs in a thread of its own that lets those that answer go first, with sockets of its own, and reads only what
//! they leave behind: counters, the ledger, the snapshot. So whoever asks here, be it slowly or a lot, takes nothing from
//! a lookup but idle processor time. What such a peer can make this thread hold is limited in `http`.
//!
//! Nothing that is said here holds a sender, a host, a user or a credential: findings do not quote, labels are names of
//! ours and paths of files, and the digest of a file with credentials says nothing about it ([`crate::digest`]).

pub mod client;
mod exposition;
mod http;
pub mod metrics;
pub mod pulse;
pub mod status;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use tokio::runtime;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::background;
use crate::counters::Counters;
use crate::reload::ledger::Ledger;
use crate::routes::Routes;
use crate::server::listen::Socket;
use pulse::Pulse;
use status::TableDigests;

/// What is told about.
pub struct View {
    /// The snapshot in force.
    pub routes: Arc<Routes>,
    /// What was counted.
    pub counters: Arc<Counters>,
    /// What became of the files.
    pub ledger: Arc<Ledger>,
    /// Whether the thread that answers lookups lives.
    pub pulse: Pulse,
    /// Where lookups are answered.
    pub listeners: Vec<String>,
    /// Since when.
    pub started: SystemTime,
    /// The digests of the tables in force.
    pub digests: TableDigests,
}

/// The thread of the admin listener. Ends, and is waited for, when dropped.
pub struct Admin {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Starts to answer at these sockets.
    pub fn start(sockets: Vec<Socket>, view: View) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            // For digests, one after the other.
            .max_blocking_threads(1)
            .thread_name("admin-digest")
            .on_thread_start(background::yield_to_lookups)
            .build()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("admin".into()).spawn(move || {
            background::yield_to_lookups();
            if let Err(error) = runtime.block_on(http::serve(sockets, Arc::new(view), stopped)) {
                error!("the admin listener has ended: {error}");
            }
            // A digest may take seconds yet, and nobody waits for it.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}
