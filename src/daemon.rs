//! The server of `postmapd serve`, put together: the order of events of its life.
//!
//! Sockets of the service manager are taken before anything else, settings are checked before anything is bound, sockets
//! are bound before anything is read (connects wait in the kernel's queue meanwhile), and what is read is in force before
//! the first connection is accepted and the service manager is told that the server is ready. In between, once everything is
//! bound and before the first table is read, the process locks itself ([`crate::os::confinement`]).
//!
//! Three threads run: the calling one answers lookups ([`crate::server`]), one reads the files ([`crate::source`]), and one
//! does all else ([`crate::control`]).

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;
use tracing::{info, warn};

use crate::check::directory;
use crate::config::options::{Options, ServiceOptions};
use crate::config::{Settings, Sources};
use crate::control::admin::View;
use crate::control::admin::pulse::pulse;
use crate::control::admin::status::TableDigests;
use crate::control::systemd::socket_activation::{ActivatedSockets, ActivationError};
use crate::control::{Controlled, Prepared};
use crate::diagnostics::{Findings, Severity};
use crate::lookup::snapshot::Routes;
use crate::net::bind::{BindError, bind};
use crate::net::listener::Listener;
use crate::os::confinement::{Confinement, ConfinementError};
use crate::os::log_stream;
use crate::protocol::Protocol;
use crate::protocol::endpoint::Endpoint;
use crate::server::Server;
use crate::server::counters::Counters;
use crate::source::{Keeper, judge};

/// Why the server did not start, or ended.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// Settings are wrong.
    #[error("{0}")]
    Settings(Findings),
    /// A socket cannot be listened at.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket of the service manager cannot be served.
    #[error(transparent)]
    Activation(#[from] ActivationError),
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
pub(crate) fn run(options: Options, service: ServiceOptions) -> Result<(), DaemonError> {
    let activated = ActivatedSockets::from_environment()?;
    let mut findings = Findings::default();
    let sources = Sources::new(options, service, &mut findings);
    let settings = judge::first_settings(&sources, &mut findings);
    for finding in findings.of(Severity::Warning) {
        warn!("{finding}");
    }
    if findings.errors() > 0 {
        return Err(DaemonError::Settings(findings));
    }
    serve(sources, settings, activated, &findings)?;
    info!("stopped");
    Ok(())
}

fn serve(
    sources: Sources,
    settings: Settings,
    activated: ActivatedSockets,
    said: &Findings,
) -> Result<(), DaemonError> {
    let started = SystemTime::now();
    let control = Prepared::new().map_err(system("cannot start the runtime, or watch for signals"))?;
    let confinement = Confinement::plan(settings.user.clone(), settings.is_confined)?;
    let ActivatedSockets { maps, admin } = sockets(&settings, activated)?;
    let bound = maps.iter().map(|(_, listener)| listener).chain(&admin);
    let confined = confinement.enforce(bound.filter_map(Listener::file))?;
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

    let endpoints: Vec<String> = maps.iter().map(|served| endpoint(served).to_string()).collect();
    for endpoint in &endpoints {
        info!("listening on {endpoint}");
    }
    let counters = Arc::new(Counters::new(routes.load().maps, !admin.is_empty()));
    let server = Server::new(maps, Arc::clone(&routes), Arc::clone(&counters), limits)
        .map_err(system("cannot start to serve"))?;
    let (pulse, mut heart) = pulse(server.waker());
    for listener in &admin {
        info!("admin listening on {}", listener.address());
    }
    let control = control
        .start(Controlled {
            admin,
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

/// The sockets that were handed over, and those that the settings want besides. Where some are handed over, the default is
/// not wanted, and what is handed over already is not bound again.
fn sockets(settings: &Settings, mut sockets: ActivatedSockets) -> Result<ActivatedSockets, DaemonError> {
    for served in &sockets.maps {
        info!("{} is handed over by the service manager", endpoint(served));
    }
    let is_missing = |wanted: &&Endpoint| {
        let mut there = sockets.maps.iter();
        !settings.listen_is_default && !there.any(|served| endpoint(served) == **wanted)
    };
    let missing: Vec<Endpoint> = if sockets.maps.is_empty() {
        settings.listen.clone()
    } else {
        settings.listen.iter().filter(is_missing).cloned().collect()
    };
    for wanted in missing {
        let bound = bind(&wanted.to_string(), &wanted.address, &settings.sockets)?;
        let bound = bound.into_iter().map(|listener| (wanted.protocol, listener));
        sockets.maps.extend(bound);
    }
    if let Some(address) = &settings.admin
        && !sockets.admin.iter().any(|there| there.address() == address)
    {
        let bound = bind(&format!("admin {address}"), address, &settings.sockets)?;
        sockets.admin.extend(bound);
    }
    Ok(sockets)
}

/// Where a listener listens, as main.cf writes it.
fn endpoint((protocol, listener): &(Protocol, Listener)) -> Endpoint {
    Endpoint {
        protocol: *protocol,
        address: listener.address().clone(),
    }
}

#[cfg(test)]
mod further_map;
