//! `postmapd-follow run`: follows the source until a signal ends it.
//!
//! Two threads run: one follows the source and writes the directory, and the calling one handles signals, notifies systemd and
//! serves the admin listener, so that it answers while a table is written.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use postmapd::control::admin::http::{self, CancellationToken};
use postmapd::net::bind::bind;
use postmapd::net::listener::Listener;
use postmapd::net::socket_file::SocketAccess;
use postmapd::os::printable::printable_path;
use rustix::process::getegid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::error::Error;
use super::follow_thread::FollowThread;
use super::runtime;
use super::start::{FollowOptions, Start};
use crate::admin::Admin;
use crate::confinement;
use crate::liveness::probe;
use crate::settings::Settings;
use crate::systemd::SystemdNotifier;

/// How long the end of the program waits for a publication that is under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args)]
#[command(after_help = "\
Reads the tables of the source, writes them to the directory (setting dir), and does so again after each change. While the source \
is away, the tables that were read last stay active, also after a restart, and the program tries to connect until it is back.

SIGTERM and SIGINT end the program. No signal makes it read the settings again; restart it.

The setting admin serves health, status and metrics over HTTP: /healthz, /readyz, /status and /metrics.

If NOTIFY_SOCKET is set (sd_notify(3), Type=notify), the program notifies the service manager when tables are active, of its \
status, at intervals while it works (WATCHDOG_USEC), and when it ends.

Exit codes: 0 after a signal, 1 the directory cannot be used or was replaced, 2 usage, 69 the address of admin is in use, 71 a system error, \
78 the settings or a file that they name has errors.

Example:
  postmapd-follow run --config /etc/postmapd/follow.toml")]
pub(super) struct Run {
    #[command(flatten)]
    options: FollowOptions,
}

impl Run {
    pub(super) fn run(&self) -> ExitCode {
        let format = self.options.log.init();
        match self.follow() {
            Ok(()) => {
                info!("stopped");
                ExitCode::SUCCESS
            }
            Err(error) => error.print_fatal(format),
        }
    }

    fn follow(&self) -> Result<(), Error> {
        let started = SystemTime::now();
        // From here on, no signal is lost.
        let runtime = runtime::create()?;
        let signals = {
            let _within = runtime.enter();
            Signals::watch().map_err(Error::system("cannot install signal handlers"))?
        };
        let Start {
            settings,
            follower,
            status,
        } = self.options.start()?;
        let listeners = admin_listeners(&settings)?;
        let _ = confinement::enter(&settings);
        info!(
            source = %settings.source,
            directory = %printable_path(&settings.dir),
            revision = status.report().active.and_then(|active| active.revision),
            "following the source"
        );
        let (liveness, responder) = probe();
        let admin = Admin {
            status: Arc::clone(&status),
            liveness: liveness.clone(),
            stale_after: settings.stale_after,
            started,
        };
        let thread = FollowThread::start(follower, responder)?;
        let has_ended = runtime.block_on(async {
            let systemd = SystemdNotifier::start(&status, settings.stale_after, &liveness);
            if !listeners.is_empty() {
                tokio::spawn(serve(listeners, admin));
            }
            tokio::select! {
                () = signals.until_end() => {}
                () = thread.ended() => {}
            }
            tokio::join!(thread.stop(STOP_TIMEOUT), systemd.stop()).0
        });
        // Removes the socket of the admin listener.
        runtime.shutdown_background();
        if has_ended {
            thread.join()
        } else {
            // It hangs in the file system, and ends with the process. The next start removes what it leaves.
            Ok(())
        }
    }
}

/// Binds the address of the setting `admin`, if it is set.
fn admin_listeners(settings: &Settings) -> Result<Vec<Listener>, Error> {
    let Some(address) = &settings.admin else {
        return Ok(Vec::new());
    };
    let access = SocketAccess {
        owner: None,
        // That of this process: Postfix does not connect here.
        group: Some(getegid().as_raw()),
        mode: 0o660,
    };
    let listeners = bind(&format!("admin {}", address.setting_value()), address, &access)?;
    for listener in &listeners {
        info!(address = %listener.address().setting_value(), "listening for admin requests");
    }
    Ok(listeners)
}

async fn serve(listeners: Vec<Listener>, admin: Admin) {
    if let Err(error) = http::serve(listeners, Arc::new(admin), CancellationToken::new()).await {
        error!(%error, "admin listener failed");
    }
}

/// The signals that are handled.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers. Must be called within a runtime.
    fn watch() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for a signal that ends the program.
    async fn until_end(mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => warn!("SIGHUP has no effect; restart the program to apply changed settings"),
            }
        }
    }
}
