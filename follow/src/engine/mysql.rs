//! MariaDB and MySQL: the tables of other programs, as the results of queries.
//!
//! A connection uses the text protocol alone, and nothing that a proxy such as MaxScale or ProxySQL would have to keep for it between
//! transactions except the isolation level and the character set.
//!
//! All that is read belongs to one snapshot: `START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY` with `REPEATABLE READ`. Tables
//! of other engines than InnoDB have no snapshots. So the state is read again after the rows, and if it has changed meanwhile,
//! the rows are not used.
//!
//! TLS is required unless no network is between. A server without TLS is refused before anything is sent to it. The server cannot
//! ask for a file of this host, and no password is sent as it is.
//!
//! Limits: everything is read each time. The fingerprint of a million rows takes some seconds, and has the deadline `hang`; a query
//! `version` has none of this cost. The library holds one row at a time, and copies of the password, which it does not wipe.

mod columns;
mod connecting;
mod errors;
mod fingerprint;
mod reading;

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mysql_async::{ClientIdentity, Conn, Opts, OptsBuilder, SslOpts};
use postmapd::os::whole_file::{MAX_TEXT, read_secret};
use tokio::time::timeout;
use tokio_rustls::rustls::RootCertStore;

use super::login_deadline::LoginDeadline;
use super::queries::States;
use super::{Connection, Engine, EngineError, EngineErrorKind, EngineSettingsError, Reading, Rows, State};
use crate::settings::source::Host;
use crate::settings::{CredentialFileError, CredentialFileErrorKind, Settings, Tls};
use reading::{Session, Shared};

/// The longest packet in bytes that is accepted, and so the longest row: the longest that the protocol has in one piece.
const MAX_PACKET: usize = 16 * 1024 * 1024;

/// How many steps a question for the state takes at most, each as long as `hang`.
const STATE_STEPS: u32 = 10;

/// How long the rows of a read may take to come.
const READ_TIMEOUT: Duration = Duration::from_secs(3600);

/// A database of MariaDB or MySQL.
pub struct MariaDb {
    hosts: Vec<Host>,
    options: Box<OptsBuilder>,
    tls: Tls,
    shared: Shared,
    /// The deadline of the next login, from the first packet on: the library does not tell when it is connected.
    login_deadline: LoginDeadline,
}

impl MariaDb {
    /// Reads the files of the settings: password, certificates and key. They are not read again.
    pub fn new(settings: &Settings) -> Result<Self, EngineSettingsError> {
        let password = match settings.password()? {
            Some(password) => {
                let text = std::str::from_utf8(password.expose());
                let text = text.map_err(|_| {
                    let path = settings.password_file.clone().unwrap_or_default();
                    CredentialFileError {
                        setting: "password_file",
                        path,
                        kind: CredentialFileErrorKind::NotUtf8,
                    }
                })?;
                Some(text.to_owned())
            }
            None => None,
        };
        let ssl = match settings.tls {
            Tls::Off => None,
            Tls::VerifyFull => Some(ssl_options(settings)?),
        };
        let options = OptsBuilder::default()
            .user(Some(settings.source.user.as_str()))
            .pass(password)
            .db_name(Some(settings.source.database.as_str()))
            .ssl_opts(ssl)
            // Otherwise the library may leave a connection with TLS for another one.
            .prefer_socket(false)
            .max_allowed_packet(Some(MAX_PACKET))
            // Unused without a pool; given so that the library does not ask the server.
            .wait_timeout(Some(28_800))
            .stmt_cache_size(0);
        Ok(Self {
            hosts: settings.source.hosts.clone(),
            options: Box::new(options),
            tls: settings.tls,
            shared: Shared {
                queries: Arc::new(settings.queries.clone().unwrap_or_default()),
                hang: settings.hang,
                states: States::new()?,
            },
            login_deadline: LoginDeadline::new(settings.hang),
        })
    }

    /// Returns the options for each address of a host.
    async fn options(&self, host: &Host) -> Result<Vec<Opts>, EngineErrorKind> {
        match host {
            Host::Unix(socket, _) => {
                let socket = socket.to_str().map(str::to_owned);
                Ok(vec![
                    OptsBuilder::clone(&self.options)
                        .socket(socket)
                        .ssl_opts(None)
                        .into(),
                ])
            }
            Host::Tcp(name, port) => {
                let addresses = connecting::addresses(name, *port, self.tls).await?;
                let with = |address| {
                    let options = OptsBuilder::clone(&self.options)
                        .ip_or_hostname(name)
                        .tcp_port(*port);
                    options.resolved_ips(Some(vec![address])).into()
                };
                Ok(addresses.into_iter().map(with).collect())
            }
        }
    }

    async fn connect_to(&self, host: &Host) -> Result<Conn, EngineErrorKind> {
        let mut result = Err(EngineErrorKind::NoAddress("it has none".to_owned()));
        for options in self.options(host).await? {
            result = connecting::connect(options).await;
            match result {
                // Another address of the name may be reached.
                Err(EngineErrorKind::Connect(_)) => {}
                _ => break,
            }
        }
        result
    }
}

/// Returns the options for TLS. The library verifies the certificate and the name unless an option forbids it.
fn ssl_options(settings: &Settings) -> Result<SslOpts, CredentialFileError> {
    let read = |setting, path: &Path| {
        let text = read_secret(path, MAX_TEXT).map_err(|error| CredentialFileError {
            setting,
            path: path.to_owned(),
            kind: CredentialFileErrorKind::Unreadable(error),
        })?;
        Ok(text.expose().to_vec())
    };
    let authorities = if let Some(ca) = &settings.ca {
        vec![read("ca", ca)?.into()]
    } else {
        // Those that cannot be used do not matter, and the library would end with an error.
        let system = rustls_native_certs::load_native_certs().certs;
        let usable = system
            .into_iter()
            .filter(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
        usable.map(|certificate| certificate.to_vec().into()).collect()
    };
    let identity = match &settings.client_certificate {
        Some((certificate, key)) => Some(ClientIdentity::new(
            read("client_cert", certificate)?.into(),
            read("client_key", key)?.into(),
        )),
        None => None,
    };
    Ok(SslOpts::default()
        .with_disable_built_in_roots(true)
        .with_root_certs(authorities)
        .with_client_identity(identity))
}

impl Engine for MariaDb {
    type Connection = MariaDbConnection;

    async fn connect(&mut self) -> Result<MariaDbConnection, EngineError> {
        let result = self.connect_to_first().await;
        self.login_deadline.record(&result);
        result
    }
}

impl MariaDb {
    /// Connects to the first host that will do.
    async fn connect_to_first(&self) -> Result<MariaDbConnection, EngineError> {
        let mut result = None;
        for host in &self.hosts {
            let name = host.to_string();
            match self.session(host).await {
                Ok(session) => return Ok(MariaDbConnection { session, host: name }),
                Err(error) => result = Some(EngineError::of_hosts(result, error.at(name))),
            }
        }
        let no_host = || EngineErrorKind::NoAddress("there is no host".to_owned()).at("source");
        Err(result.unwrap_or_else(no_host))
    }

    async fn session(&self, host: &Host) -> Result<Session, EngineErrorKind> {
        let connection = within(self.login_deadline.get(), self.connect_to(host)).await?;
        let mut session = Session::new(connection, self.shared.clone());
        session.prepare().await?;
        Ok(session)
    }
}

/// A connection to a server of MariaDB or MySQL.
pub struct MariaDbConnection {
    session: Session,
    host: String,
}

impl Connection for MariaDbConnection {
    async fn state(&mut self) -> Result<State, EngineError> {
        let hang = self.session.hang().saturating_mul(STATE_STEPS);
        let state = within(hang, self.session.state()).await;
        state.map_err(|kind| kind.at(&self.host))
    }

    async fn read(&mut self, _known: Option<&State>, rows: &mut dyn Rows) -> Result<Reading, EngineError> {
        let reading = within(READ_TIMEOUT, self.session.read(rows)).await;
        reading.map_err(|kind| kind.at(&self.host))
    }

    /// These databases never say that a table has changed.
    async fn hint(&mut self) {
        pending::<()>().await;
    }
}

/// Waits for an answer of the server. A panic of the library, which some malformed packets cause, is an error of the connection.
async fn within<T>(
    hang: Duration,
    answer: impl Future<Output = Result<T, EngineErrorKind>>,
) -> Result<T, EngineErrorKind> {
    let mut answer = pin!(answer);
    let caught = poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context)));
        polled.unwrap_or_else(|_| {
            let text = "the server does not speak the protocol of MariaDB and MySQL";
            Poll::Ready(Err(EngineErrorKind::Lost(text.to_owned())))
        })
    });
    match timeout(hang, caught).await {
        Ok(answer) => answer,
        Err(_) => Err(EngineErrorKind::Hang(
            humantime::format_duration(hang).to_string(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::within;
    use crate::engine::EngineErrorKind;

    #[tokio::test]
    async fn a_panic_of_the_library_is_an_error_of_the_connection() {
        let answer = async { panic!("a malformed packet") };
        let result: Result<(), _> = within(Duration::from_secs(60), answer).await;
        assert!(matches!(result, Err(EngineErrorKind::Lost(_))), "{result:?}");
    }
}
