//! `postmapd serve`: the order of events of the server's life.
//!
//! Settings are checked before anything is bound, sockets are bound before anything is read (connects wait in the
//! kernel's queue meanwhile), and what is read is in force before the first connection is accepted. In between, once
//! everything is bound and before the first table is read, the process locks itself ([`crate::confinement`]).

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::log::LogOptions;
use super::{EX_CONFIG, Error};
use crate::admin::pulse::pulse;
use crate::admin::status::TableDigests;
use crate::admin::{Admin, View};
use crate::config::options::{Options, ServiceOptions};
use crate::config::{Settings, Sources};
use crate::confinement::Confinement;
use crate::counters::Counters;
use crate::diagnostic::{Findings, Severity};
use crate::endpoint::Address;
use crate::reload::{Keeper, load};
use crate::routes::Routes;
use crate::server;
use crate::server::listen::{self, Socket};
use crate::server::stop::Stop;

/// Serve a folder of relay files to Postfix, in the foreground.
#[derive(Args)]
#[command(after_help = "\
SIGHUP reads the files again at once. SIGTERM and SIGINT answer what was asked, and end.

The default relay comes from RELAY_HOST, RELAY_PORT, RELAY_USER and RELAY_PASSWORD, and from DEFAULT_RELAY_HOST. \
Each may stand in the file that a variable of its name with _FILE behind it names.

Whoever can connect may ask relayhost. Passwords are answered to allowed users alone, who are known on UNIX sockets and on \
loopback TCP; other hosts have to be in an allowed network, or are hung up on. A refusal is PERM and says why.

--admin tells health, status and metrics over HTTP; postmapd-status(1) says what.

Once its sockets are bound, the server locks itself: see CONFINEMENT in postmapd.toml(5). With --user it also stops being root.

Example:
  postmapd serve --dir /etc/postmapd --listen socketmap:inet:127.0.0.1:10451
  postmap -q someone@example.com socketmap:inet:127.0.0.1:10451:relayhost")]
pub(super) struct Serve {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    log: LogOptions,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        self.log.start()?;
        let mut findings = Findings::default();
        let sources = Sources::new(self.options, self.service, &mut findings);
        let settings = load::first_settings(&sources, &mut findings);
        for finding in findings
            .iter()
            .filter(|finding| finding.severity == Severity::Warning)
        {
            warn!("{finding}");
        }
        if findings.errors() > 0 {
            return Err(Error::Settings {
                findings,
                code: EX_CONFIG,
            });
        }
        // One thread serves every socket: it measured best, and nothing here waits on a lock.
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::system("cannot start the runtime"))?;
        runtime.block_on(serve(sources, settings, &findings))?;
        info!("stopped");
        Ok(ExitCode::SUCCESS)
    }
}

async fn serve(sources: Sources, settings: Settings, said: &Findings) -> Result<(), Error> {
    let started = SystemTime::now();
    let watch_signal = |kind| signal(kind).map_err(Error::system("cannot watch for signals"));
    let mut hangup = watch_signal(SignalKind::hangup())?;
    let mut terminate = watch_signal(SignalKind::terminate())?;
    let mut interrupt = watch_signal(SignalKind::interrupt())?;

    let confinement = Confinement::plan(settings.user.clone(), settings.is_confined)?;
    let listeners = listen::bind(&settings.listen, &settings.sockets)?;
    let admin_sockets = match &settings.admin {
        Some(address) => listen::bind_address(&format!("admin {address}"), address, &settings.sockets)?,
        None => Vec::new(),
    };
    let sockets = listeners.iter().map(|listener| &listener.socket);
    let sockets = sockets.chain(admin_sockets.iter().map(|(_, socket)| socket));
    let confined = confinement.enforce(sockets.filter_map(Socket::file))?;
    let (keeper, snapshot) = Keeper::first(sources, settings, said);
    let routes = Arc::new(Routes::new(snapshot));
    let ledger = keeper.ledger();
    let reloader = keeper
        .start(Arc::clone(&routes))
        .map_err(Error::system("cannot start the thread that reads the files"))?;
    confined.leave_reading_to_others();

    for listener in &listeners {
        info!("listening on {}", listener.endpoint);
    }
    let counters = Arc::new(if admin_sockets.is_empty() {
        Counters::default()
    } else {
        Counters::timed()
    });
    let (pulse, heart) = pulse();
    tokio::spawn(heart.beat());
    let view = View {
        routes: Arc::clone(&routes),
        counters: Arc::clone(&counters),
        ledger,
        pulse,
        listeners: listeners
            .iter()
            .map(|listener| listener.endpoint.to_string())
            .collect(),
        started,
        digests: TableDigests::default(),
    };
    let _admin = start_admin(admin_sockets, view)?;
    let stop = Stop::default();
    let serving = server::run(listeners, routes, counters, stop.clone());
    tokio::pin!(serving);
    loop {
        tokio::select! {
            () = &mut serving => break,
            _ = hangup.recv() => reloader.reread(),
            _ = terminate.recv() => stop.begin(),
            _ = interrupt.recv() => stop.begin(),
        }
    }
    Ok(())
}

/// Starts to tell health, status and metrics, if anywhere.
fn start_admin(sockets: Vec<(Address, Socket)>, view: View) -> Result<Option<Admin>, Error> {
    if sockets.is_empty() {
        return Ok(None);
    }
    for (address, _) in &sockets {
        info!("admin listening on {address}");
    }
    let sockets = sockets.into_iter().map(|(_, socket)| socket).collect();
    let admin = Admin::start(sockets, view).map_err(Error::system("cannot start the admin listener"))?;
    Ok(Some(admin))
}
