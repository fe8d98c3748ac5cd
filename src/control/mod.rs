//! The control thread: everything that a running server does besides answering lookups and reading files.
//!
//! On one tokio runtime it waits for signals, keeps systemd informed (`systemd`) and serves the admin listener
//! ([`crate::control::admin`]). It has a lower priority than the thread that answers lookups. It stops after the
//! server: the admin listener closes, and systemd gets the last notification.
//!
//! On failure: without this thread no signal would stop the server, so a panic in it stops the server, and
//! [`Control::join`] returns an error. A panic in the admin listener ends that alone.

pub mod admin;
pub mod systemd;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::control::admin::{View, http, rates};
use crate::net::listener::Listener;
use crate::os::priority::lower_thread_priority;
use crate::server::Stop;
use crate::source::ReloadHandle;
use systemd::SystemdNotifier;

/// The signal handlers and the runtime, set up before anything else is started: from here on, no signal is lost.
pub(crate) struct ControlSetup {
    runtime: Runtime,
    signals: Signals,
}

/// What the control thread serves and controls.
pub(crate) struct ControlContext {
    /// The listening sockets for health, status and metrics.
    pub admin: Vec<Listener>,
    /// The state that the admin listener and systemd report.
    pub view: View,
    /// Requests a reload on SIGHUP. Dropped with this thread.
    pub reloader: ReloadHandle,
    /// Stops the server on SIGTERM and SIGINT.
    pub stop: Stop,
}

/// The running control thread.
pub(crate) struct Control {
    thread: JoinHandle<bool>,
    server_ended: CancellationToken,
}

impl ControlSetup {
    /// Creates the runtime, and handlers for SIGHUP, SIGTERM and SIGINT.
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            // For digests and metadata of files: one more than can wait for a file system that does not respond.
            .max_blocking_threads(2)
            .thread_name("admin")
            .on_thread_start(lower_thread_priority)
            .build()?;
        let signals = {
            let _within = runtime.enter();
            Signals::watch()?
        };
        Ok(Self { runtime, signals })
    }

    /// Starts the thread.
    pub(crate) fn start(self, context: ControlContext) -> io::Result<Control> {
        let server_ended = CancellationToken::new();
        let ended = server_ended.clone();
        let thread = thread::Builder::new().name("control".into()).spawn(move || {
            lower_thread_priority();
            let stop = context.stop.clone();
            let is_ok = catch_unwind(AssertUnwindSafe(|| self.run(context, &ended))).is_ok();
            stop.begin();
            is_ok
        })?;
        Ok(Control { thread, server_ended })
    }

    fn run(self, context: ControlContext, server_ended: &CancellationToken) {
        let Self { runtime, signals } = self;
        runtime.block_on(async {
            let ControlContext {
                admin,
                view,
                reloader,
                stop,
            } = context;
            let systemd = SystemdNotifier::start(&view.active_snapshot, &view.reload_status, &view.liveness);
            let admin = (!admin.is_empty()).then(|| {
                let view = Arc::new(view);
                let stop = server_ended.clone();
                tokio::spawn(stop.run_until_cancelled_owned(rates::keep_reading(Arc::clone(&view))));
                tokio::spawn(http::serve(admin, view, server_ended.clone()))
            });
            signals.handle(&reloader, &stop, &systemd, server_ended).await;
            if let Some(Ok(Err(error))) = match admin {
                Some(admin) => Some(admin.await),
                None => None,
            } {
                error!(%error, "admin listener failed");
            }
            systemd.end().await;
        });
        // A digest may take seconds more, and nothing waits for it.
        runtime.shutdown_background();
    }
}

impl Control {
    /// Ends the thread, after the server has ended.
    pub(crate) fn join(self) -> io::Result<()> {
        self.server_ended.cancel();
        match self.thread.join() {
            Ok(true) => Ok(()),
            // The panic hook has logged where.
            _ => Err(io::Error::other("the control thread failed")),
        }
    }
}

/// The signals that control the server.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers. Must be called within a runtime.
    fn watch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Handles signals until the server has ended.
    async fn handle(
        mut self,
        reloader: &ReloadHandle,
        stop: &Stop,
        systemd: &SystemdNotifier,
        server_ended: &CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = server_ended.cancelled() => return,
                _ = self.hangup.recv() => {
                    systemd.reloading(reloader.request_reload());
                    continue;
                }
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            stop.begin();
            systemd.stopping();
        }
    }
}
