//! The loop: keeps the directory in step with a source, whichever it is.
//!
//! ```text
//! connect ─► ask for the state ─► another one: read ─► publish ─► wait for a hint or the next poll ─► ask for the state …
//! ```
//!
//! A hint of the source only shortens the wait, so that one that is lost costs an interval. Publications are at least
//! [`PAUSE`] apart, and a read returns the newest state, so many changes are one publication and the last is never left out.
//!
//! After any error of the source, the connection is dropped, and the active tables stay. That is one outage, with one message at its
//! beginning and one at its end, however many attempts it takes. The next connection may be to another host, which lacks the last
//! commits; then its state has another version. An equal version is the same rows, and confirms the active tables without a read:
//! otherwise a restart of the database would send all tables to all servers at the same moment. All the same, each connection reads
//! everything once, within [`RECHECK`], because rows may have been changed where no trigger recorded it; the first one of a process
//! does so at once. States are compared for equality, and never for order.
//!
//! What is read and not published:
//! - a read that ended with an error: nothing of it;
//! - a table that had rows and has none ([`Staging::emptied`](crate::directory::Staging::emptied)), unless the source has recorded
//!   each change since the active state, or the settings allow it. The source may be another or a restored database, and then
//!   all mail would be delivered directly. It is read again when the source has another state;
//! - a table whose rows all have invalid keys;
//! - tables that cannot be written. They are read again after a wait, and until then only the state is.
//!
//! Files that another program removes or changes are restored meanwhile ([`active_tables`]). The loop ends when its future is dropped, or
//! if another directory takes the place of the one that was opened. Between two of its waits, a publication is whole or has not begun.

mod active_tables;
mod backoff;
mod bad_rows;
mod outage;
mod publication_log;
mod refusal;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use crate::directory::{Directory, DirectoryError, Provenance, Published, Staging};
use crate::engine::{Connection, Engine, EngineError, Reading, State, Table};
use crate::status::{Outcome, Status, Tables};
use active_tables::{ActiveTables, replacement};
use backoff::Backoff;
use bad_rows::BadRowLog;
use outage::Outage;
use publication_log::{log_confirmation, log_publication};
pub(crate) use refusal::Refusal;

/// The shortest time between a publication and the next read. It is longer where a publication takes longer: half of the time of the
/// disk is left to others.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// Within this time, at a random moment, a connection that has confirmed the active tables by their version reads everything.
const RECHECK: Duration = Duration::from_secs(3600);

/// The shortest time between two questions for the state, however many hints there are.
const HINT_PAUSE: Duration = Duration::from_millis(50);

/// The first and the longest wait for a source that cannot be reached.
const SOURCE_WAITS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// The first and the longest wait after an error that only a person ends: a password, a right, a table. Each attempt is in the log
/// of the database, which may lock the user after many.
const REJECTED_WAITS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];

/// How to follow a source.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The source, without a password.
    pub(crate) source: String,
    /// The tables that it has. Others are reported only if they have rows.
    pub(crate) tables: Vec<Table>,
    /// The interval of the polls.
    pub(crate) interval: Duration,
    /// Whether a table may become empty.
    pub(crate) allow_empty: bool,
}

/// Why `once` did not publish.
#[derive(Debug, Error)]
pub(crate) enum OnceError {
    /// The source cannot be read, and another attempt would not help.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The tables must not be published.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The directory cannot be written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// Follows a source.
pub(crate) struct Follower<E> {
    engine: E,
    active_tables: ActiveTables,
    options: Options,
    status: Arc<Status>,
    source_backoff: Backoff,
    rejected_backoff: Backoff,
    source_outage: Outage,
    /// The version whose tables were refused last.
    refused: Option<String>,
    refusal_outage: Outage,
    /// Whether this connection has confirmed the active tables.
    is_confirmed: bool,
    /// Whether the next read is of everything.
    needs_everything: bool,
    /// When this connection reads everything, if it has not.
    recheck: Option<Instant>,
    bad_rows: BadRowLog,
    /// When the next read may begin.
    next_read: Option<Instant>,
}

/// What to do after an attempt to publish.
enum Attempt {
    Published,
    Refused(Refusal),
    Failed(DirectoryError),
}

impl<E: Engine> Follower<E> {
    /// Prepares to follow `engine` into this directory.
    pub(crate) fn new(engine: E, directory: Directory, options: Options, status: Arc<Status>) -> Self {
        Self {
            engine,
            active_tables: ActiveTables::new(directory, Arc::clone(&status)),
            options,
            status,
            source_backoff: Backoff::new(SOURCE_WAITS),
            rejected_backoff: Backoff::new(REJECTED_WAITS),
            source_outage: Outage::default(),
            refused: None,
            refusal_outage: Outage::default(),
            is_confirmed: false,
            // The settings may be others than those of the process before.
            needs_everything: true,
            recheck: None,
            bad_rows: BadRowLog::default(),
            next_read: None,
        }
    }

    /// Follows the source until the future is dropped.
    ///
    /// # Errors
    ///
    /// Another directory has taken the place of the one that was opened.
    pub(crate) async fn run(&mut self) -> Result<Infallible, DirectoryError> {
        let place = self.active_tables.directory.place();
        tokio::select! {
            biased;
            error = replacement(&place) => Err(error),
            never = self.follow_source() => match never {},
        }
    }

    async fn follow_source(&mut self) -> Infallible {
        loop {
            let error = match self.connect().await {
                Ok(mut connection) => match self.follow(&mut connection).await {
                    Ok(never) => return never,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            self.status.disconnected(&error);
            self.log_outage(&error);
            self.active_tables.tick();
            let wait = sleep(self.wait_after(&error));
            self.active_tables.during(wait).await;
        }
    }

    /// Publishes the tables of the source once, on the disk. An error of the source that may be temporary leads to another
    /// attempt; the caller sets the deadline.
    ///
    /// # Errors
    ///
    /// Any other error.
    pub(crate) async fn once(&mut self) -> Result<(), OnceError> {
        let attempt = loop {
            let result = match self.connect().await {
                Ok(mut connection) => self.publish(&mut connection, None).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(attempt) => break attempt,
                Err(error) if error.kind.is_temporary() => self.status.disconnected(&error),
                Err(error) => return Err(error.into()),
            }
            sleep(self.source_backoff.wait()).await;
        };
        match attempt {
            Attempt::Published => Ok(self.active_tables.directory.sync()?),
            Attempt::Refused(refusal) => Err(refusal.into()),
            Attempt::Failed(error) => Err(error.into()),
        }
    }

    /// Returns how long to wait after an error of the source.
    fn wait_after(&mut self, error: &EngineError) -> Duration {
        if error.kind.is_temporary() {
            self.source_backoff.wait()
        } else {
            self.rejected_backoff.wait()
        }
    }

    async fn connect(&mut self) -> Result<E::Connection, EngineError> {
        let connecting = self.engine.connect();
        let connection = self.active_tables.during(connecting).await?;
        self.status.connected();
        Ok(connection)
    }

    /// Follows the source on one connection.
    async fn follow(&mut self, connection: &mut E::Connection) -> Result<Infallible, EngineError> {
        self.is_confirmed = false;
        self.recheck = None;
        if !self.needs_everything && self.is_active(&connection.state().await?) {
            self.is_confirmed = true;
            self.recheck = Some(Instant::now() + backoff::at_random(RECHECK));
            self.status.confirmed();
            self.source_is_back();
            log_confirmation(self.active().as_ref());
            self.wait_for_change(connection).await?;
        }
        loop {
            let known = self.active().filter(|_| !self.needs_everything);
            let attempt = self.publish(connection, known.as_ref()).await?;
            self.source_is_back();
            match attempt {
                Attempt::Published => {
                    self.needs_everything = false;
                    self.active_tables.published();
                }
                Attempt::Refused(refusal) => {
                    if self.refusal_outage.begin() {
                        refusal.log();
                    }
                    self.status.not_published(Outcome::Refused, &refusal);
                }
                Attempt::Failed(error) => {
                    // Perhaps the changes do not fit the active files.
                    self.needs_everything = true;
                    self.is_confirmed = false;
                    self.active_tables.failed(&error);
                    self.status.not_published(Outcome::Failed, &error);
                }
            }
            self.wait_for_change(connection).await?;
        }
    }

    /// Waits until the source has tables to publish.
    async fn wait_for_change(&mut self, connection: &mut E::Connection) -> Result<(), EngineError> {
        loop {
            let asked = Instant::now();
            let poll = asked + self.options.interval;
            let next = self.active_tables.next().map_or(poll, |next| next.min(poll));
            let wait = async {
                tokio::select! {
                    () = connection.hint() => {}
                    () = sleep_until(next) => {}
                }
            };
            self.active_tables.during(wait).await;
            sleep_until(asked + HINT_PAUSE).await;
            let state = self.active_tables.during(connection.state()).await?;
            if self.recheck.is_some_and(|at| at <= Instant::now()) {
                self.recheck = None;
                self.needs_everything = true;
                return Ok(());
            }
            self.active_tables.tick();
            if self.active_tables.are_damaged() && self.active_tables.may_try() {
                self.needs_everything = true;
                return Ok(());
            }
            if self.is_confirmed && self.is_active(&state) {
                self.refusal_outage.end();
                self.status.confirmed();
            } else if self.refused.as_ref() != Some(&state.version) && self.active_tables.may_try() {
                return Ok(());
            }
        }
    }

    /// Reads the tables and publishes them.
    async fn publish(
        &mut self,
        connection: &mut E::Connection,
        known: Option<&State>,
    ) -> Result<Attempt, EngineError> {
        if let Some(next_read) = self.next_read {
            sleep_until(next_read).await;
        }
        let begun = Instant::now();
        let read = self.read(connection, known).await?;
        self.next_read = Some(Instant::now() + PAUSE.max(begun.elapsed()));
        let (staging, reading) = match read {
            Ok(read) => read,
            Err(error) => return Ok(Attempt::Failed(error)),
        };
        if let Some(refusal) = self.refusal(&staging, &reading) {
            self.refused = Some(reading.state.version);
            return Ok(Attempt::Refused(refusal));
        }
        let provenance = Provenance {
            source: self.options.source.clone(),
            state: reading.state,
        };
        let tables = self.tables(&staging);
        let bad_rows = staging.first_bad_rows().to_vec();
        let is_everything = known.is_none() || bad_rows.iter().any(|bad| bad.row.is_some());
        let published = match self.active_tables.directory.publish(staging, &provenance) {
            Ok(published) => published,
            Err(error) => return Ok(Attempt::Failed(error)),
        };
        self.refused = None;
        self.refusal_outage.end();
        self.bad_rows.log(bad_rows, tables.bad_rows, is_everything);
        self.published(published, &provenance.state, tables, begun.elapsed());
        Ok(Attempt::Published)
    }

    /// Records a publication that took this time.
    fn published(&mut self, published: Published, state: &State, tables: Tables, duration: Duration) {
        let outcome = match published {
            Published::Changed => {
                log_publication(state, &tables, duration);
                self.active_tables.replaced();
                Outcome::Changed
            }
            Published::Unchanged => {
                if !self.is_confirmed {
                    log_confirmation(Some(state));
                }
                Outcome::Unchanged
            }
        };
        self.is_confirmed = true;
        if let Some(active) = self.active() {
            self.status.published(outcome, active, tables);
        }
    }

    /// Reads the tables into a new generation.
    async fn read(
        &mut self,
        connection: &mut E::Connection,
        known: Option<&State>,
    ) -> Result<Result<(Staging, Reading), DirectoryError>, EngineError> {
        let read = self.read_once(connection, known).await?;
        if let (Ok((staging, reading)), None) = (&read, known)
            && self.emptied(staging, reading).is_some()
            && let Some(active) = self.active()
        {
            // The first read of a connection does not depend on what came before. Whether the source has recorded each change
            // since the active state is seen by a read of those changes.
            drop(read);
            return self.read_once(connection, Some(&active)).await;
        }
        Ok(read)
    }

    async fn read_once(
        &mut self,
        connection: &mut E::Connection,
        known: Option<&State>,
    ) -> Result<Result<(Staging, Reading), DirectoryError>, EngineError> {
        let mut staging = match self.active_tables.directory.stage() {
            Ok(staging) => staging,
            Err(error) => return Ok(Err(error)),
        };
        let reading = connection.read(known, &mut staging).await?;
        Ok(Ok((staging, reading)))
    }

    /// Returns the number of rows of each table that the source has.
    fn tables(&self, staging: &Staging) -> Tables {
        let rows = Table::ALL.into_iter().map(|table| (table, staging.rows(table)));
        Tables {
            rows: rows
                .filter(|(table, rows)| *rows > 0 || self.options.tables.contains(table))
                .collect(),
            bad_rows: staging.bad_rows(),
        }
    }

    /// Returns why what was read must not be published.
    fn refusal(&self, staging: &Staging, reading: &Reading) -> Option<Refusal> {
        let unusable = staging.unusable().map(Refusal::Unusable);
        unusable.or_else(|| self.emptied(staging, reading).map(Refusal::Emptied))
    }

    /// Returns the table that must not become empty.
    fn emptied(&self, staging: &Staging, reading: &Reading) -> Option<Table> {
        let is_allowed = reading.is_continuous || self.options.allow_empty;
        staging.emptied().filter(|_| !is_allowed)
    }

    fn active(&self) -> Option<State> {
        let active = self.active_tables.directory.active();
        active.map(|active| active.state.clone())
    }

    fn is_active(&self, state: &State) -> bool {
        let active = self.active_tables.directory.active();
        active.is_some_and(|active| active.state.version == state.version)
    }

    fn log_outage(&mut self, error: &EngineError) {
        if !self.source_outage.begin() {
            return;
        }
        if self.active_tables.directory.active().is_some() {
            warn!(%error, "the source is unavailable; keeping the active tables, and trying again");
        } else {
            error!(%error, "the source is unavailable, and there are no tables yet; trying again");
        }
    }

    /// Ends an outage, once the active tables are confirmed or have been read.
    fn source_is_back(&mut self) {
        self.source_backoff.reset();
        self.rejected_backoff.reset();
        if let Some(away) = self.source_outage.end() {
            info!(?away, "the source is available again");
        }
    }
}

#[cfg(test)]
mod tests;
