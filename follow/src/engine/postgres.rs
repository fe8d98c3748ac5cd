//! PostgreSQL, and what speaks its protocol.
//!
//! | module | content |
//! |---|---|
//! | `hosts` | sockets to the hosts of `source` |
//! | `tls` | TLS with a server that has proved its name |
//! | `messages` | the messages of the protocol |
//! | `session` | login, queries, notifications |
//! | `errors` | what an error means for the administrator |
//! | `tables` | the tables of postmapd ([`crate::schema`]): their state, all rows, or what has changed |
//! | `queries` | other tables, read by the queries of the settings |
//!
//! Everything is sent over the simple protocol, in which a statement has no name, so a pooler in transaction mode is a server like any
//! other. What is read together is read in one `REPEATABLE READ READ ONLY` transaction, which a standby accepts too: in the default,
//! `READ COMMITTED`, each statement sees the commits before it, and the relay of one commit comes with the password of another.
//!
//! Notifications are a hint and nothing depends on them: a standby refuses `LISTEN`, and behind a pooler none arrives.
//!
//! Limits: the texts of TLS and of the library that does SCRAM cannot be wiped from memory; what this module holds is.

mod errors;
mod hosts;
mod messages;
mod queries;
mod session;
mod tables;
mod tls;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use postmapd::os::secret::Secret;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use self::errors::hang;
use self::messages::Columns;
use self::queries::QuerySet;
use self::session::{Login, Session, Stream, Way};
pub(crate) use self::tables::TableColumns;
use self::tables::Tables;
use super::login_deadline::LoginDeadline;
use super::{Connection, Engine, EngineError, EngineErrorKind, EngineSettingsError, Reading, Rows, State};
use crate::settings::source::{Host, Session as SessionAttributes};
use crate::settings::{Settings, Tls};

/// How long the server may work on what is read. It ends a query whose reader is gone.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// How many steps a login may take, each as long as its deadline: more than any needs. A server that sends a little of something
/// again and again would otherwise keep the next host from being tried.
const LOGIN_STEPS: u32 = 10;

/// How long the rows of a read may take to come.
const READ_TIMEOUT: Duration = Duration::from_secs(3600);

/// The last second of the year 9999.
const LAST_TIME: Duration = Duration::from_secs(253_402_300_799);

/// A PostgreSQL database.
pub struct Postgres {
    hosts: Vec<Host>,
    attributes: SessionAttributes,
    login: Login,
    tls: Tls,
    /// `None` where no connection uses TLS.
    connector: Option<TlsConnector>,
    hang: Duration,
    /// The deadline of a step of the next login.
    login_deadline: LoginDeadline,
    channel: String,
    content: Content,
}

/// What is read.
#[derive(Clone)]
enum Content {
    /// The tables of postmapd.
    Tables(Tables),
    /// The results of queries.
    Queries(QuerySet),
}

impl Postgres {
    /// Reads the files of the settings: password, certificates and key. They are not read again.
    pub fn new(settings: &Settings) -> Result<Self, EngineSettingsError> {
        let connector = match settings.tls {
            Tls::VerifyFull => Some(tls::connector(settings)?),
            Tls::Off => None,
        };
        Ok(Self {
            hosts: settings.source.hosts.clone(),
            attributes: settings.source.session,
            login: Login {
                user: settings.source.user.clone(),
                database: settings.source.database.clone(),
                password: settings.password()?,
            },
            tls: settings.tls,
            connector,
            hang: settings.hang,
            login_deadline: LoginDeadline::new(settings.hang),
            channel: settings.schema.clone(),
            content: match &settings.queries {
                None => Content::Tables(Tables::new(&settings.schema)),
                Some(queries) => Content::Queries(QuerySet::new(queries)?),
            },
        })
    }

    async fn session(&self, host: &Host) -> Result<Session, EngineErrorKind> {
        let (name, port) = match host {
            Host::Unix(directory, port) => {
                let stream = hosts::connect_unix(directory, *port, self.hang).await?;
                return self.log_in(Box::new(stream), Way::Private).await;
            }
            Host::Tcp(name, port) => (name, *port),
        };
        let mut result = Err(EngineErrorKind::NoAddress("the answer is empty".to_owned()));
        for address in hosts::addresses(name, port, self.hang).await? {
            match self.session_at(address, name).await {
                // Another address of the name has said more than that nothing listens there.
                Err(EngineErrorKind::Connect(_))
                    if !matches!(
                        result,
                        Err(EngineErrorKind::NoAddress(_) | EngineErrorKind::Connect(_))
                    ) => {}
                Err(error) => result = Err(error),
                session => return session,
            }
        }
        result
    }

    async fn session_at(&self, address: SocketAddr, name: &str) -> Result<Session, EngineErrorKind> {
        let stream = hosts::connect_tcp(address, self.tls, self.hang).await?;
        let Some(connector) = &self.connector else {
            return self.log_in(Box::new(stream), Way::Loopback).await;
        };
        let deadline = self.login_deadline.get();
        let stream = timeout(deadline, tls::connect(stream, name, connector)).await;
        let stream = stream.unwrap_or_else(|_| Err(hang(deadline)))?;
        self.log_in(Box::new(stream), Way::Private).await
    }

    async fn log_in(&self, stream: Box<dyn Stream>, way: Way) -> Result<Session, EngineErrorKind> {
        let limit = self.login_deadline.get().saturating_mul(LOGIN_STEPS);
        let login = timeout(limit, self.log_in_to(stream, way)).await;
        login.unwrap_or_else(|_| Err(hang(limit)))
    }

    async fn log_in_to(&self, stream: Box<dyn Stream>, way: Way) -> Result<Session, EngineErrorKind> {
        let mut session = Session::start(stream, &self.login, way, self.login_deadline.get()).await?;
        session.set_hang(self.hang);
        if self.attributes == SessionAttributes::ReadWrite {
            let question =
                "SELECT pg_catalog.pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";
            let mut accepts_writes = false;
            let handle = |row: &Columns<'_>| accepts_writes = row.get(0) == Some(b"f");
            session
                .query("the state of the server", question, Some(1), handle)
                .await?;
            if !accepts_writes {
                return Err(EngineErrorKind::ReadOnly);
            }
        }
        // A standby refuses it; then nothing but the poll says that there is something new.
        let listen = format!("LISTEN \"{}\"", self.channel);
        let _ = session.run("LISTEN", &listen, None, |_| {}).await?;
        Ok(session)
    }
}

impl Engine for Postgres {
    type Connection = PostgresConnection;

    async fn connect(&mut self) -> Result<PostgresConnection, EngineError> {
        let result = self.connect_to_first().await;
        self.login_deadline.record(&result);
        result
    }
}

impl Postgres {
    /// Connects to the first host that will do.
    async fn connect_to_first(&self) -> Result<PostgresConnection, EngineError> {
        let mut result = None;
        for host in &self.hosts {
            let name = hosts::name(host);
            match self.session(host).await {
                Ok(session) => {
                    return Ok(PostgresConnection {
                        session,
                        host: name,
                        hang: self.hang,
                        content: self.content.clone(),
                    });
                }
                Err(error) => result = Some(EngineError::of_hosts(result, error.at(name))),
            }
        }
        let no_host = || EngineErrorKind::NoAddress("there is no host".to_owned()).at("source");
        Err(result.unwrap_or_else(no_host))
    }
}

/// A connection to a PostgreSQL database.
pub struct PostgresConnection {
    session: Session,
    host: String,
    hang: Duration,
    content: Content,
}

impl PostgresConnection {
    /// Returns the host that it is connected to, as in the setting `source`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sets how long each further step may take, for statements that work for long before they answer.
    pub fn set_hang(&mut self, hang: Duration) {
        self.session.set_hang(hang);
        self.hang = hang;
    }

    /// Returns the rows of a query with so many columns, as texts; NULL is empty. `query` names it in errors.
    pub async fn texts(
        &mut self,
        query: &'static str,
        sql: &str,
        columns: usize,
    ) -> Result<Vec<Vec<String>>, EngineError> {
        let mut rows = Vec::new();
        let handle = |row: &Columns<'_>| {
            let text = |column| String::from_utf8_lossy(row.get(column).unwrap_or_default()).into_owned();
            rows.push((0..columns).map(text).collect());
        };
        let result = self.session.query(query, sql, Some(columns), handle).await;
        result.map_err(|kind| kind.at(&self.host))?;
        Ok(rows)
    }

    /// Sends rows in the text format of COPY as the input of the statement `sql`. Unlike values in a statement, they are in no
    /// log of the server. `query` names the statement in errors.
    pub async fn copy_in(
        &mut self,
        query: &'static str,
        sql: &str,
        rows: &Secret,
    ) -> Result<(), EngineError> {
        let result = self.session.copy_in(query, sql, rows).await;
        result.map_err(|kind| kind.at(&self.host))
    }

    /// Runs statements that return nothing, one transaction unless they have `BEGIN`. `query` names them in errors.
    pub async fn execute(&mut self, query: &'static str, sql: &str) -> Result<(), EngineError> {
        let result = self.session.query(query, sql, None, |_| {}).await;
        result.map_err(|kind| kind.at(&self.host))
    }
}

impl Connection for PostgresConnection {
    async fn state(&mut self) -> Result<State, EngineError> {
        self.session.clear_notification();
        let state = async {
            match &mut self.content {
                Content::Tables(tables) => tables.state(&mut self.session).await,
                Content::Queries(queries) => queries.state(&mut self.session, self.hang).await,
            }
        };
        let result = timeout(self.hang, state).await;
        result
            .unwrap_or_else(|_| Err(hang(self.hang)))
            .map_err(|kind| kind.at(&self.host))
    }

    async fn read(&mut self, known: Option<&State>, rows: &mut dyn Rows) -> Result<Reading, EngineError> {
        self.session.clear_notification();
        let read = async {
            match &mut self.content {
                Content::Tables(tables) => tables.read(&mut self.session, self.hang, known, rows).await,
                Content::Queries(queries) => queries.read(&mut self.session, self.hang, rows).await,
            }
        };
        let result = timeout(READ_TIMEOUT, read).await;
        let result = result.unwrap_or_else(|_| Err(hang(READ_TIMEOUT)));
        result.map_err(|kind| kind.at(&self.host))
    }

    async fn hint(&mut self) {
        self.session.notification().await;
    }
}

/// Returns the statements that begin to read. A lock that another transaction keeps, and a reader that is gone, end it in time.
fn begin(session: &Session, hang: Duration) -> String {
    // Without an encoding, a row may have any bytes, and is refused alone and not with all others.
    let encoding = if session.is_without_encoding() {
        "SET LOCAL client_encoding = 'SQL_ASCII'; "
    } else {
        ""
    };
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {encoding}SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}; ",
        hang.as_millis().clamp(1, 600_000),
        STATEMENT_TIMEOUT.as_millis(),
    )
}

/// Returns the time so many microseconds after 1970; the first or the last one that has a text in RFC 3339 format where that
/// one has none.
fn time(microseconds: i64) -> SystemTime {
    let distance = Duration::from_micros(u64::try_from(microseconds).unwrap_or_default());
    let time = SystemTime::UNIX_EPOCH.checked_add(distance.min(LAST_TIME));
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}
