//! The server of `postmapd serve`, put together: the order of events of its life.
//!
//! Sockets of the service manager are taken before anything else, settings are checked before anything is bound, sockets
//! are bound before anything is read (connects wait in the kernel's queue meanwhile), and what is read is in force before
//! the first connection is accepted and the service manager is told that the server is ready. In between, once everything is
//! bound and before the first table is read, the process locks itself ([`crate::confinement`]).
//!
//! Three threads run: the calling one answers lookups ([`crate::server`]), one reads the files ([`crate::reload`]), and one
//! does all else ([`crate::control`]).

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;
use tracing::{info, warn};

use crate::admin::View;
use crate::admin::pulse::pulse;
use crate::admin::status::TableDigests;
use crate::check::directory;
use crate::config::options::{Options, ServiceOptions};
use crate::config::{Settings, Sources};
use crate::confinement::{Confinement, ConfinementError};
use crate::control::{Controlled, Prepared};
use crate::counters::Counters;
use crate::diagnostic::{Findings, Severity};
use crate::endpoint::{Address, Endpoint};
use crate::log_stream;
use crate::reload::{Keeper, judge};
use crate::routes::Routes;
use crate::server::Server;
use crate::server::listen::{self, BindError, Listener, Socket};
use crate::service_manager::handover::{Handover, HandoverError};

/// Why the server did not start, or ended.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// Settings are wrong.
    #[error("the settings have errors")]
    Settings(Findings),
    /// A socket cannot be listened at.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket of the service manager cannot be served.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The server cannot become the user that it should be.
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    /// The system refuses something that it never should.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

/// Serves until SIGTERM or SIGINT. The calling thread answers lookups.
pub fn run(options: Options, service: ServiceOptions) -> Result<(), DaemonError> {
    let handover = Handover::from_environment()?;
    let mut findings = Findings::default();
    let sources = Sources::new(options, service, &mut findings);
    let settings = judge::first_settings(&sources, &mut findings);
    for finding in findings.of(Severity::Warning) {
        warn!("{finding}");
    }
    if findings.errors() > 0 {
        return Err(DaemonError::Settings(findings));
    }
    serve(sources, settings, handover, &findings)?;
    info!("stopped");
    Ok(())
}

fn serve(
    sources: Sources,
    settings: Settings,
    handover: Handover,
    said: &Findings,
) -> Result<(), DaemonError> {
    let started = SystemTime::now();
    let control = Prepared::new().map_err(system("cannot start the runtime, or watch for signals"))?;
    let confinement = Confinement::plan(settings.user.clone(), settings.is_confined)?;
    let Sockets { listeners, admin } = sockets(&settings, handover)?;
    let bound = listeners.iter().map(|listener| &listener.socket);
    let bound = bound.chain(admin.iter().map(|(_, socket)| socket));
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
        .map_err(system("cannot start the thread that reads the files"))?;
    confined.leave_reading_to_others();

    let endpoints: Vec<String> = listeners
        .iter()
        .map(|listener| listener.endpoint.to_string())
        .collect();
    for endpoint in &endpoints {
        info!("listening on {endpoint}");
    }
    let counters = Arc::new(if admin.is_empty() {
        Counters::default()
    } else {
        Counters::timed()
    });
    let server = Server::new(listeners, Arc::clone(&routes), Arc::clone(&counters), limits)
        .map_err(system("cannot start to serve"))?;
    let (pulse, mut heart) = pulse(server.bell());
    for (address, _) in &admin {
        info!("admin listening on {address}");
    }
    let control = control
        .start(Controlled {
            admin: admin.into_iter().map(|(_, socket)| socket).collect(),
            view: View {
                routes,
                counters,
                ledger,
                pulse,
                listeners: endpoints,
                started,
                digests: TableDigests::default(),
            },
            reloader,
            stop: server.stop(),
        })
        .map_err(system("cannot start the thread that hears signals"))?;
    log_stream::never_wait();
    // The heart goes with the server, so that nothing waits for it to beat once more.
    let outcome = server.run(move || heart.beat());
    let controlled = control.join();
    outcome.and(controlled).map_err(system("cannot serve any more"))
}

struct Sockets {
    listeners: Vec<Listener>,
    admin: Vec<(Address, Socket)>,
}

/// The sockets that were handed over, and those that the settings want besides. Where some are handed over, nobody misses
/// the default, and what is handed over already is not bound again.
fn sockets(settings: &Settings, handover: Handover) -> Result<Sockets, DaemonError> {
    let take =
        |socket| Socket::handed_over(socket).map_err(system("cannot use a socket that was handed over"));
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
