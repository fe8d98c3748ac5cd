//! `postmapd serve`: the order of events of the server's life.
//!
//! Sockets of the service manager are taken before anything else, settings are checked before anything is bound, sockets
//! are bound before anything is read (connects wait in the kernel's queue meanwhile), and what is read is in force before
//! the first connection is accepted and the service manager is told that we are ready. In between, once everything is
//! bound and before the first table is read, the process locks itself ([`crate::confinement`]).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use clap::Args;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::log::{self, LogOptions};
use super::supervision::Supervision;
use super::{EX_CONFIG, Error};
use crate::admin::pulse::pulse;
use crate::admin::status::TableDigests;
use crate::admin::{Admin, View};
use crate::check::directory;
use crate::config::options::{Options, ServiceOptions};
use crate::config::{Settings, Sources};
use crate::confinement::Confinement;
use crate::counters::Counters;
use crate::diagnostic::{Findings, Severity};
use crate::endpoint::{Address, Endpoint};
use crate::reload::{Keeper, Reloader, judge};
use crate::routes::Routes;
use crate::server::Server;
use crate::server::bell::Stop;
use crate::server::listen::{self, Listener, Socket};
use crate::service_manager::handover::Handover;

/// Serve a folder of relay files to Postfix, in the foreground.
#[derive(Args)]
#[command(after_help = "\
SIGHUP reads the files again at once; one that is missing or empty at that moment has the same grace as ever. SIGTERM and SIGINT answer what was asked, and end.

The default relay comes from RELAY_HOST, RELAY_PORT, RELAY_USER and RELAY_PASSWORD, and from DEFAULT_RELAY_HOST. \
Each may stand in the file that a variable of its name with _FILE behind it names.

Whoever can connect may ask relayhost. Passwords are answered to allowed users alone, who are known on UNIX sockets and on \
loopback TCP; other hosts have to be in an allowed network, or are hung up on. A refusal is PERM and says why.

--admin tells health, status and metrics over HTTP; postmapd-status(1) says what.

A service manager hears by NOTIFY_SOCKET (sd_notify(3), Type=notify-reload) when the server is ready, what became of the \
last reload, that the thread that answers lives (WATCHDOG_USEC), and when the end begins. Sockets that it hands over \
(sd_listen_fds(3)) are served as their names say: socketmap, relayhost and sasl (over tcp_table), or admin; then only an \
endpoint that is set is listened at besides, not the default. Units are in contrib/systemd.

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
        let form = self.log.start()?;
        self.serve_to_the_end().or_else(|error| form.say_last(error))
    }

    fn serve_to_the_end(self) -> Result<ExitCode, Error> {
        let handover = Handover::from_environment()?;
        let mut findings = Findings::default();
        let sources = Sources::new(self.options, self.service, &mut findings);
        let settings = judge::first_settings(&sources, &mut findings);
        for finding in findings.of(Severity::Warning) {
            warn!("{finding}");
        }
        let findings = Error::if_any(findings, EX_CONFIG)?;
        serve(sources, settings, handover, &findings)?;
        info!("stopped");
        Ok(ExitCode::SUCCESS)
    }
}

/// The calling thread answers until the end. Signals and the service manager have another.
fn serve(sources: Sources, settings: Settings, handover: Handover, said: &Findings) -> Result<(), Error> {
    let started = SystemTime::now();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::system("cannot start the runtime"))?;
    let signals = {
        let _within = runtime.enter();
        Signals::watch().map_err(Error::system("cannot watch for signals"))?
    };
    let confinement = Confinement::plan(settings.user.clone(), settings.is_confined)?;
    let Sockets {
        listeners,
        admin: admin_sockets,
    } = sockets(&settings, handover)?;
    let bound = listeners.iter().map(|listener| &listener.socket);
    let bound = bound.chain(admin_sockets.iter().map(|(_, socket)| socket));
    let confined = confinement.enforce(bound.filter_map(Socket::file))?;
    let limits = settings.limits;
    let (keeper, snapshot) = Keeper::first(sources, settings, said);
    let mut of_directory = Findings::default();
    directory::examine(keeper.sources(), &snapshot, &mut of_directory);
    for finding in of_directory.iter() {
        warn!("{finding}");
    }
    let routes = Arc::new(Routes::new(snapshot));
    let ledger = keeper.ledger();
    let reloader = keeper
        .start(Arc::clone(&routes))
        .map_err(Error::system("cannot start the thread that reads the files"))?;
    confined.leave_reading_to_others();

    let endpoints: Vec<String> = listeners
        .iter()
        .map(|listener| listener.endpoint.to_string())
        .collect();
    for endpoint in &endpoints {
        info!("listening on {endpoint}");
    }
    let counters = Arc::new(if admin_sockets.is_empty() {
        Counters::default()
    } else {
        Counters::timed()
    });
    let server = Server::new(listeners, Arc::clone(&routes), Arc::clone(&counters), limits)
        .map_err(Error::system("cannot start to serve"))?;
    let (pulse, mut heart) = pulse(server.bell());
    let view = View {
        routes: Arc::clone(&routes),
        counters,
        ledger: Arc::clone(&ledger),
        pulse: pulse.clone(),
        listeners: endpoints,
        started,
        digests: TableDigests::default(),
    };
    let _admin = start_admin(admin_sockets, view)?;
    let stop = server.stop();
    let (has_ended, ended) = oneshot::channel();
    let attendant = thread::Builder::new()
        .name("attendant".into())
        .spawn(move || {
            let attend = || {
                runtime.block_on(async {
                    let supervision = Supervision::ready(&routes, &ledger, &pulse);
                    attend(signals, &reloader, &stop, &supervision, ended).await;
                    supervision.end().await;
                });
            };
            let attended = catch_unwind(AssertUnwindSafe(attend)).is_ok();
            // Without this thread, no signal would end the server, and no edit take effect.
            stop.begin();
            attended
        })
        .map_err(Error::system("cannot start the thread that hears signals"))?;
    log::stream::never_wait();
    // The heart goes with the server, so that nobody waits for it to beat once more.
    let outcome = server.run(move || heart.beat());
    drop(has_ended);
    let attended = attendant.join();
    outcome
        .and_then(|()| match attended {
            Ok(true) => Ok(()),
            // The hook has said where.
            _ => Err(io::Error::other("the thread that hears signals failed")),
        })
        .map_err(Error::system("cannot serve any more"))
}

/// Does what is asked by signals, until the server has ended.
async fn attend(
    mut signals: Signals,
    reloader: &Reloader,
    stop: &Stop,
    supervision: &Supervision,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        tokio::select! {
            _ = &mut ended => return,
            _ = signals.hangup.recv() => supervision.reloading(reloader.reread()),
            _ = signals.terminate.recv() => end(stop, supervision),
            _ = signals.interrupt.recv() => end(stop, supervision),
        }
    }
}

fn end(stop: &Stop, supervision: &Supervision) {
    stop.begin();
    supervision.stopping();
}

/// What is asked by signals.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on. Must be called within a runtime.
    fn watch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

struct Sockets {
    listeners: Vec<Listener>,
    admin: Vec<(Address, Socket)>,
}

/// The sockets that were handed over, and those that the settings want besides. Where some are handed over, nobody misses
/// the default, and what is handed over already is not bound again.
fn sockets(settings: &Settings, handover: Handover) -> Result<Sockets, Error> {
    let take = |socket| {
        Socket::handed_over(socket).map_err(Error::system("cannot use a socket that was handed over"))
    };
    let mut sockets = Sockets {
        listeners: Vec::new(),
        admin: Vec::new(),
    };
    for (endpoint, socket) in handover.maps {
        let socket = take(socket)?;
        info!("{endpoint} is handed over by the service manager");
        sockets.listeners.push(Listener { endpoint, socket });
    }
    for (address, socket) in handover.admin {
        sockets.admin.push((address, take(socket)?));
    }
    let is_wanted = |endpoint: &&Endpoint| {
        let mut there = sockets.listeners.iter();
        !settings.listen_is_default && !there.any(|listener| listener.endpoint == **endpoint)
    };
    let missing: Vec<Endpoint> = if sockets.listeners.is_empty() {
        settings.listen.clone()
    } else {
        settings.listen.iter().filter(is_wanted).cloned().collect()
    };
    sockets
        .listeners
        .extend(listen::bind(&missing, &settings.sockets)?);
    let mut admin = sockets.admin.iter();
    if let Some(address) = &settings.admin
        && !admin.any(|(there, _)| there == address)
    {
        let bound = listen::bind_address(&format!("admin {address}"), address, &settings.sockets)?;
        sockets.admin.extend(bound);
    }
    Ok(sockets)
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
