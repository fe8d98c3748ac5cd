//! Keeps systemd informed about the server (`Type=notify-reload` of systemd.service(5)).
//!
//! One task sends everything. Each `WATCHDOG=1` is sent only after the thread that answers lookups has shown that it lives:
//! while that hangs, none is sent, and the manager replaces the server. A manager that reads nothing only makes this
//! task wait. Without `NOTIFY_SOCKET` there is no such task.
//!
//! The status line has numbers and outcomes. What is wrong with a file is in the log.
//!
//! [`notify`] is its protocol (sd_notify(3)), and [`socket_activation`] that for sockets that it opened before the server runs
//! (sd_listen_fds(3)). Both are in variables of the environment, and without them nothing here does anything. The server
//! starts no other program, so no process inherits the variables; descriptors are closed on exec.

mod notify;
pub(crate) mod socket_activation;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::control::admin::pulse::Pulse;
use crate::control::systemd::notify::{Notice, NotifySocket, watchdog_interval};
use crate::lookup::snapshot::ActiveSnapshot;
use crate::source::reload_status::{ReloadOutcome, ReloadStatus};

/// How long stopping waits until the manager has taken the last notice.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends notices to the manager. Without one, it does nothing.
pub(super) struct SystemdNotifier(Option<Running>);

struct Running {
    life: watch::Sender<Life>,
    task: JoinHandle<()>,
}

/// What the manager is to be told of.
#[derive(Clone, Copy, Default)]
struct Life {
    /// The number of the last request to read again.
    requests: u64,
    /// The end has begun.
    stopping: bool,
}

impl SystemdNotifier {
    /// Says that the server is ready, and tells of what comes from now on.
    ///
    /// Must be called within a runtime.
    pub(super) fn start(
        routes: &Arc<ActiveSnapshot>,
        reload_status: &Arc<ReloadStatus>,
        pulse: &Pulse,
    ) -> Self {
        Self(NotifySocket::from_environment().map(|socket| {
            let (life, follow) = watch::channel(Life::default());
            let task = NotifierTask {
                socket,
                routes: Arc::clone(routes),
                reload_status: Arc::clone(reload_status),
                pulse: pulse.clone(),
                said: String::new(),
                fails: false,
            };
            let task = tokio::spawn(task.run(follow));
            Running { life, task }
        }))
    }

    /// The files are read again, because somebody asked to; `request` is the number of that.
    pub(super) fn reloading(&self, request: u64) {
        self.lives(|life| life.requests = request);
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.lives(|life| life.stopping = true);
    }

    /// Waits until all is said, but not for long.
    pub(super) async fn end(self) {
        if let Some(Running { life, task }) = self.0 {
            drop(life);
            // A manager that does not read has lost nothing that it would not learn from the exit.
            let _ = timeout(STOP_TIMEOUT, task).await;
        }
    }

    fn lives(&self, change: impl FnOnce(&mut Life)) {
        if let Some(Running { life, .. }) = &self.0 {
            life.send_modify(change);
        }
    }
}

struct NotifierTask {
    socket: NotifySocket,
    routes: Arc<ActiveSnapshot>,
    reload_status: Arc<ReloadStatus>,
    pulse: Pulse,
    /// The last status.
    said: String,
    /// Whether the last notice could not be sent.
    fails: bool,
}

impl NotifierTask {
    async fn run(mut self, mut life: watch::Receiver<Life>) {
        let mut progress = self.reload_status.subscribe();
        let mut beat = watchdog_interval().map(|every| {
            info!("the service manager hears every {every:?} that lookups are answered");
            let mut beat = interval(every);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat
        });
        self.say_ready().await;
        let (mut requests, mut is_reloading, mut is_stopping) = (0, false, false);
        loop {
            tokio::select! {
                changed = life.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = *life.borrow_and_update();
                    if now.stopping && !is_stopping {
                        is_stopping = true;
                        self.say(Notice::Stopping).await;
                    } else if now.requests > requests {
                        (requests, is_reloading) = (now.requests, true);
                        self.say(Notice::Reloading).await;
                    }
                }
                // The ledger is there as long as this is.
                _ = progress.changed() => {}
                () = next(&mut beat) => {
                    if self.pulse.beats().await {
                        self.say(Notice::Watchdog).await;
                    }
                    continue;
                }
            }
            let answered = progress.borrow_and_update().requests;
            if is_stopping {
                // It is not ready any more, whatever is read.
            } else if is_reloading && answered >= requests {
                is_reloading = false;
                self.say_ready().await;
            } else if self.status() != self.said {
                self.said = self.status();
                self.say(Notice::Status(self.said.clone())).await;
            }
        }
    }

    async fn say_ready(&mut self) {
        self.said = self.status();
        self.say(Notice::Ready(self.said.clone())).await;
    }

    async fn say(&mut self, notice: Notice) {
        let sent = self.socket.send(&notice).await;
        if let (Err(error), false) = (&sent, self.fails) {
            warn!("the service manager cannot be told what becomes of the server: {error}");
        }
        self.fails = sent.is_err();
    }

    /// Which snapshot answers, and what came of the last reading.
    fn status(&self) -> String {
        let snapshot = self.routes.load();
        let report = self.reload_status.report();
        let errors = report.findings.errors();
        let last = match report.last_reload.outcome {
            ReloadOutcome::Failed if errors > 0 => {
                format!("failed ({errors} errors; postmapd check says which)")
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

/// The next beat; never, if nobody wants to hear any.
async fn next(beat: &mut Option<Interval>) {
    match beat {
        Some(beat) => {
            beat.tick().await;
        }
        None => pending().await,
    }
}
