//! Starts and runs the server of `postmapd serve`, in this order.
//!
//! Sockets passed by the service manager are taken first, settings are checked before anything is bound, and sockets
//! are bound before the tables are read (connections wait in the kernel's queue meanwhile). The first snapshot is
//! active before the first connection is accepted and the service manager learns that the server is ready. After
//! binding and before the first table is read, the process enters its sandbox ([`crate::os::sandbox`]).
//!
//! Three threads run: the calling one answers lookups ([`crate::server`]), one reloads the files ([`crate::source`]),
//! and one does everything else ([`crate::control`]).

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;
use tracing::info;

use crate::check::directory;
use crate::config::options::{Options, ServiceOptions};
use crate::config::{Settings, Sources};
use crate::control::admin::View;
use crate::control::admin::liveness::probe;
use crate::control::admin::rates::Rates;
use crate::control::admin::status::TableDigests;
use crate::control::systemd::socket_activation::{ActivatedSockets, ActivationError};
use crate::control::{ControlContext, ControlSetup};
use crate::diagnostics::{Findings, Severity};
use crate::lookup::snapshot::ActiveSnapshot;
use crate::net::address::Address;
use crate::net::bind::{BindError, bind};
use crate::net::listener::Listener;
use crate::os::log_stream;
use crate::os::sandbox::{Sandbox, SandboxError};
use crate::protocol::Protocol;
use crate::protocol::endpoint::Endpoint;
use crate::server::Server;
use crate::server::counters::Counters;
use crate::source::{Reloader, evaluate, log_finding};

/// Why the server did not start, or failed.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The settings have errors.
    #[error("{0}")]
    Settings(Findings),
    /// An address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket of the service manager cannot be served.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// The server cannot switch to its user.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// An unexpected system error.
    #[error("{what}: {source}")]
    System {
        /// The failed operation.
        what: &'static str,
        /// The error that the system returned.
        source: io::Error,
    },
}

fn system_error(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

/// Runs the server until SIGTERM or SIGINT. The calling thread answers lookups.
pub(crate) fn run(options: Options, service: ServiceOptions) -> Result<(), DaemonError> {
    let activated = ActivatedSockets::from_environment()?;
    let mut findings = Findings::default();
    let sources = Sources::new(options, service, &mut findings);
    let settings = evaluate::read_settings(&sources, &mut findings);
    findings.with_severity(Severity::Warning).for_each(log_finding);
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
    logged: &Findings,
) -> Result<(), DaemonError> {
    let started = SystemTime::now();
    let control = ControlSetup::new().map_err(system_error(
        "cannot start the runtime or install signal handlers",
    ))?;
    let sandbox = Sandbox::plan(settings.user.clone(), settings.is_sandboxed)?;
    let ActivatedSockets { maps, admin } = sockets(&settings, activated)?;
    let host = settings.admin.as_ref().and_then(|address| match address {
        Address::Inet(host, _) => Some(host.clone()),
        Address::Unix(_) => None,
    });
    let bound = maps.iter().map(|(_, listener)| listener).chain(&admin);
    let sandboxed = sandbox.enforce(bound.filter_map(Listener::file))?;
    let limits = settings.limits;
    let (reloader, snapshot) = Reloader::load_initial(sources, settings, logged);
    let mut directory_findings = Findings::default();
    directory::examine(reloader.sources(), &snapshot, &mut directory_findings);
    directory_findings.iter().for_each(log_finding);
    let active_snapshot = Arc::new(ActiveSnapshot::new(snapshot));
    let reload_status = reloader.status();
    let served_maps = reloader.sources().maps;
    let directory = reloader.sources().dir().to_owned();
    let reloader = reloader
        .start(Arc::clone(&active_snapshot))
        .map_err(system_error("cannot start the thread that reads the files"))?;
    sandboxed.drop_read_capability();

    let endpoints: Vec<String> = maps
        .iter()
        .map(|served| endpoint_of(served).to_string())
        .collect();
    for endpoint in &endpoints {
        info!(%endpoint, "listening");
    }
    let counters = Arc::new(Counters::new(served_maps, !admin.is_empty()));
    let server = Server::new(maps, Arc::clone(&active_snapshot), Arc::clone(&counters), limits)
        .map_err(system_error("cannot start the event loop"))?;
    let (liveness, mut responder) = probe(server.waker());
    for listener in &admin {
        info!(address = %listener.address().setting_value(), "listening for admin requests");
    }
    let control = control
        .start(ControlContext {
            admin,
            view: View {
                rates: Rates::new(&counters),
                directory,
                host,
                active_snapshot,
                counters,
                reload_status,
                liveness,
                listeners: endpoints,
                started,
                digests: TableDigests::default(),
            },
            reloader,
            stop: server.stop(),
        })
        .map_err(system_error("cannot start the control thread"))?;
    log_stream::never_block();
    // The responder is dropped with the server, so that no probe waits for an answer afterwards.
    let outcome = server.run(move || responder.respond());
    let controlled = control.join();
    outcome.and(controlled).map_err(system_error("the server failed"))
}

/// Returns the sockets passed by the service manager, and binds the others that the settings require. With passed
/// sockets, the default address is not bound, nor is any address that a passed socket has.
fn sockets(settings: &Settings, mut sockets: ActivatedSockets) -> Result<ActivatedSockets, DaemonError> {
    for served in &sockets.maps {
        info!(endpoint = %endpoint_of(served), "using a socket passed by the service manager");
    }
    let is_missing = |endpoint: &&Endpoint| {
        let mut passed = sockets.maps.iter();
        !settings.listen_is_default && !passed.any(|served| endpoint_of(served) == **endpoint)
    };
    let missing: Vec<Endpoint> = if sockets.maps.is_empty() {
        settings.listen.clone()
    } else {
        settings.listen.iter().filter(is_missing).cloned().collect()
    };
    for endpoint in missing {
        let bound = bind(&endpoint.to_string(), &endpoint.address, &settings.sockets)?;
        let bound = bound.into_iter().map(|listener| (endpoint.protocol, listener));
        sockets.maps.extend(bound);
    }
    if let Some(address) = &settings.admin
        && !sockets.admin.iter().any(|passed| passed.address() == address)
    {
        let bound = bind(
            &format!("admin {}", address.setting_value()),
            address,
            &settings.sockets,
        )?;
        sockets.admin.extend(bound);
    }
    Ok(sockets)
}

/// Returns the endpoint of a listener, as main.cf writes it.
fn endpoint_of((protocol, listener): &(Protocol, Listener)) -> Endpoint {
    Endpoint {
        protocol: *protocol,
        address: listener.address().clone(),
    }
}

#[cfg(test)]
mod additional_map;
