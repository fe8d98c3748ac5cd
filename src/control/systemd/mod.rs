//! Keeps systemd informed about the server (`Type=notify-reload` of systemd.service(5)).
//!
//! One task sends all notifications. `WATCHDOG=1` is sent only after the thread that answers lookups has answered a
//! probe: while that thread hangs, none is sent, and systemd restarts the server. A manager that does not read blocks
//! only this task. Without `NOTIFY_SOCKET` the task does not exist.
//!
//! The status line has numbers and outcomes. Errors of files are in the log.
//!
//! [`notify`] is the protocol (sd_notify(3)), and [`socket_activation`] takes the sockets that systemd opened
//! (sd_listen_fds(3)). Both use environment variables, and do nothing without them. The server starts no other program,
//! so no process inherits the variables; descriptors are closed on exec.

pub mod notify;
pub(crate) mod socket_activation;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::control::admin::liveness::Probe;
use crate::control::systemd::notify::{Notification, NotifySocket, Watchdog};
use crate::lookup::snapshot::ActiveSnapshot;
use crate::source::reload_status::{ReloadOutcome, ReloadStatus};

/// How long a shutdown waits until the manager has read the last notification.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends notifications to the manager. Without a manager, it does nothing.
pub(super) struct SystemdNotifier(Option<Running>);

struct Running {
    lifecycle: watch::Sender<Lifecycle>,
    task: JoinHandle<()>,
}

/// The events to notify the manager of.
#[derive(Clone, Copy, Default)]
struct Lifecycle {
    /// The number of the last requested reload.
    requests: u64,
    /// Whether the shutdown has begun.
    stopping: bool,
}

impl SystemdNotifier {
    /// Notifies the manager that the server is ready, and from now on of every change.
    ///
    /// Must be called within a runtime.
    pub(super) fn start(
        active_snapshot: &Arc<ActiveSnapshot>,
        reload_status: &Arc<ReloadStatus>,
        liveness: &Probe,
    ) -> Self {
        Self(NotifySocket::from_environment().map(|socket| {
            let (lifecycle, follow) = watch::channel(Lifecycle::default());
            let task = NotifierTask {
                socket,
                active_snapshot: Arc::clone(active_snapshot),
                reload_status: Arc::clone(reload_status),
                liveness: liveness.clone(),
                last_status: String::new(),
            };
            let task = tokio::spawn(task.run(follow));
            Running { lifecycle, task }
        }))
    }

    /// Notifies the manager of a requested reload; `request` is its number.
    pub(super) fn reloading(&self, request: u64) {
        self.update(|lifecycle| lifecycle.requests = request);
    }

    /// Notifies the manager that the shutdown has begun.
    pub(super) fn stopping(&self) {
        self.update(|lifecycle| lifecycle.stopping = true);
    }

    /// Waits until all notifications are sent, for at most [`STOP_TIMEOUT`].
    pub(super) async fn end(self) {
        if let Some(Running { lifecycle, task }) = self.0 {
            drop(lifecycle);
            // A manager that does not read learns the same from the exit.
            let _ = timeout(STOP_TIMEOUT, task).await;
        }
    }

    fn update(&self, change: impl FnOnce(&mut Lifecycle)) {
        if let Some(Running { lifecycle, .. }) = &self.0 {
            lifecycle.send_modify(change);
        }
    }
}

struct NotifierTask {
    socket: NotifySocket,
    active_snapshot: Arc<ActiveSnapshot>,
    reload_status: Arc<ReloadStatus>,
    liveness: Probe,
    /// The last status line.
    last_status: String,
}

impl NotifierTask {
    async fn run(mut self, mut lifecycle: watch::Receiver<Lifecycle>) {
        let mut progress = self.reload_status.subscribe();
        let mut watchdog = Watchdog::from_environment();
        self.send_ready().await;
        let (mut requests, mut is_reloading, mut is_stopping) = (0, false, false);
        loop {
            tokio::select! {
                changed = lifecycle.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = *lifecycle.borrow_and_update();
                    if now.stopping && !is_stopping {
                        is_stopping = true;
                        self.socket.send(&Notification::Stopping).await;
                    } else if now.requests > requests {
                        (requests, is_reloading) = (now.requests, true);
                        self.socket.send(&Notification::Reloading).await;
                    }
                }
                // The sender lives as long as this task.
                _ = progress.changed() => {}
                () = watchdog.tick() => {
                    if self.liveness.is_alive().await {
                        self.socket.send(&Notification::Watchdog).await;
                    }
                    continue;
                }
            }
            let answered = progress.borrow_and_update().requests;
            if is_stopping {
                // It is no longer ready, whatever a reload results in.
            } else if is_reloading && answered >= requests {
                is_reloading = false;
                self.send_ready().await;
            } else if self.status() != self.last_status {
                self.last_status = self.status();
                self.socket
                    .send(&Notification::Status(self.last_status.clone()))
                    .await;
            }
        }
    }

    async fn send_ready(&mut self) {
        self.last_status = self.status();
        self.socket
            .send(&Notification::Ready(self.last_status.clone()))
            .await;
    }

    /// Returns the status line: the active snapshot, and the outcome of the last reload.
    fn status(&self) -> String {
        let snapshot = self.active_snapshot.load();
        let report = self.reload_status.report();
        let errors = report.findings.errors();
        let last = match report.last_reload.outcome {
            ReloadOutcome::Failed if errors > 0 => {
                format!("failed (errors: {errors}; run postmapd check)")
            }
            outcome => outcome.label().to_owned(),
        };
        format!(
            "generation {}: {} relayhost entries, {} sasl entries; last reload: {last}",
            snapshot.generation,
            snapshot.relay_map.len(),
            snapshot.credentials.len(),
        )
    }
}
