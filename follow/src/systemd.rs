//! Keeps systemd informed (`Type=notify` of systemd.service(5)).
//!
//! The program is ready once tables are active, whether or not the source is there: `postmapd serve` can answer from them. The
//! status line says what `/readyz` says. `WATCHDOG=1` is sent only after the thread that follows the source has answered a
//! probe ([`crate::liveness`]). A manager that does not read blocks only this task. Without `NOTIFY_SOCKET` there is none.

use std::sync::Arc;
use std::time::Duration;

use postmapd::control::systemd::notify::{Notification, NotifySocket, Watchdog};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::engine::Table;
use crate::liveness::Probe;
use crate::status::{Report, Status};

/// How long the end of the program waits until the manager has read the last notification.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The interval at which the status line is compared with the state: `stale_after` passes without an event.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Notifies the manager. Without a manager, it does nothing.
pub(crate) struct SystemdNotifier(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl SystemdNotifier {
    /// Starts to notify the manager. Must be called within a runtime.
    pub(crate) fn start(status: &Arc<Status>, stale_after: Duration, liveness: &Probe) -> Self {
        Self(NotifySocket::from_environment().map(|socket| {
            let (stop, stopping) = oneshot::channel();
            let task = NotifierTask {
                socket,
                status: Arc::clone(status),
                stale_after,
                liveness: liveness.clone(),
                is_ready: false,
                last_status: String::new(),
            };
            (stop, tokio::spawn(task.run(stopping)))
        }))
    }

    /// Notifies the manager that the program ends, and waits until it has read that, for at most [`STOP_TIMEOUT`].
    pub(crate) async fn stop(self) {
        if let Some((stop, task)) = self.0 {
            drop(stop);
            // A manager that does not read learns the same from the exit.
            let _ = timeout(STOP_TIMEOUT, task).await;
        }
    }
}

struct NotifierTask {
    socket: NotifySocket,
    status: Arc<Status>,
    stale_after: Duration,
    liveness: Probe,
    is_ready: bool,
    /// The last status line.
    last_status: String,
}

impl NotifierTask {
    async fn run(mut self, mut stopping: oneshot::Receiver<()>) {
        let mut changes = self.status.subscribe();
        let mut watchdog = Watchdog::from_environment();
        let mut status = interval(STATUS_INTERVAL);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut stopping => return self.socket.send(&Notification::Stopping).await,
                // The sender lives as long as this task.
                _ = changes.changed() => {}
                _ = status.tick() => {}
                () = watchdog.tick() => {
                    if self.liveness.is_alive().await {
                        self.socket.send(&Notification::Watchdog).await;
                    }
                    continue;
                }
            }
            self.send_status().await;
        }
    }

    async fn send_status(&mut self) {
        let report = self.status.report();
        let line = status_line(&report, self.stale_after);
        if !self.is_ready && report.active.is_some() {
            self.is_ready = true;
            self.socket.send(&Notification::Ready(line.clone())).await;
        } else if line != self.last_status {
            self.socket.send(&Notification::Status(line.clone())).await;
        }
        self.last_status = line;
    }
}

/// Returns the active state and its rows, or why the program is not ready.
fn status_line(report: &Report, stale_after: Duration) -> String {
    let error = report.error();
    if let Some(reason) = report.not_ready_reason(stale_after) {
        return reason;
    }
    match error {
        Some(error) => format!("{}; {error}", summary(report)),
        None => summary(report),
    }
}

/// Returns the active state and its rows as text: `revision 71, 20000 senders, 19800 logins, 2 bad rows`.
pub(crate) fn summary(report: &Report) -> String {
    let mut parts = Vec::new();
    if let Some(revision) = report.active.as_ref().and_then(|active| active.revision) {
        parts.push(format!("revision {revision}"));
    }
    if let Some(tables) = &report.tables {
        parts.extend(tables.rows.iter().map(|(table, rows)| {
            let (one, many) = match table {
                Table::Relay => ("sender", "senders"),
                Table::Credentials => ("login", "logins"),
                Table::Tls => ("TLS entry", "TLS entries"),
            };
            format!("{rows} {}", if *rows == 1 { one } else { many })
        }));
        parts.push(match tables.bad_rows {
            1 => "1 bad row".to_owned(),
            bad_rows => format!("{bad_rows} bad rows"),
        });
    }
    parts.join(", ")
}
