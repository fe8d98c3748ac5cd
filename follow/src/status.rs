//! What postmapd-follow is doing: for the admin listener, systemd, and `once`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use humantime::format_duration;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::{State, Table};

/// The result of an attempt to publish the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Other tables are active.
    Changed,
    /// The tables of the source are those that are active.
    Unchanged,
    /// A table became empty.
    Refused,
    /// The tables cannot be written.
    Failed,
}

impl Outcome {
    /// All outcomes, in the order of [`Report::publications`].
    pub(crate) const ALL: [Self; 4] = [Self::Changed, Self::Unchanged, Self::Refused, Self::Failed];

    /// Returns the name in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The upper bounds of [`Lag`], in milliseconds.
pub(crate) const LAG_BOUNDS: [u64; 11] = [25, 50, 100, 250, 500, 1000, 2000, 5000, 10_000, 60_000, 600_000];

/// How long states took from their commit to their publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// The number of states up to each bound, and of the others.
    pub(crate) counts: [u64; LAG_BOUNDS.len() + 1],
    /// The sum of all.
    pub(crate) sum: Duration,
}

impl Lag {
    fn add(&mut self, lag: Duration) {
        let within = |bound: &u64| lag <= Duration::from_millis(*bound);
        let bucket = LAG_BOUNDS.iter().position(within).unwrap_or(LAG_BOUNDS.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(lag);
    }
}

/// The tables of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// The number of rows of each table, bad ones included.
    pub(crate) rows: Vec<(Table, u64)>,
    /// The number of bad rows.
    pub(crate) bad_rows: u64,
}

/// What there is to report as of now.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The source, without a password.
    pub(crate) source: String,
    /// Whether there is a connection to it.
    pub(crate) is_connected: bool,
    /// How often a connection was made.
    pub(crate) connections: u64,
    /// When the active tables were last known to be those of the source.
    pub(crate) confirmed: Option<SystemTime>,
    confirmed_at: Option<Instant>,
    /// The state of the source that is active.
    pub(crate) active: Option<State>,
    /// When this process last published tables.
    pub(crate) published: Option<SystemTime>,
    /// The tables of the last publication of this process, if there was one.
    pub(crate) tables: Option<Tables>,
    /// The last error, and when it occurred.
    pub(crate) last_error: Option<(SystemTime, String)>,
    /// Whether the tables have been confirmed since the last error.
    is_over: bool,
    /// The number of attempts to publish, by outcome.
    pub(crate) publications: [u64; Outcome::ALL.len()],
    /// How long states took.
    pub(crate) lag: Lag,
}

impl Report {
    /// Returns why this program is not ready, as one line; `None` if it is: tables are active, and were confirmed within
    /// `stale_after`.
    pub(crate) fn not_ready_reason(&self, stale_after: Duration) -> Option<String> {
        let age = self.confirmed_at.map(|at| at.elapsed());
        let what = match (&self.active, age) {
            (None, _) => "no tables are active, and the source has not been read".to_owned(),
            (_, None) => {
                "the source has not been read since the start; the active tables are from an earlier run"
                    .to_owned()
            }
            (_, Some(age)) if age > stale_after => format!(
                "the active tables were last confirmed {} ago (setting stale_after: {})",
                format_duration(Duration::from_secs(age.as_secs())),
                format_duration(stale_after),
            ),
            _ => return None,
        };
        Some(match self.error() {
            Some(error) => format!("{what}: {error}"),
            None => what,
        })
    }

    /// Returns the last error, unless the tables have been confirmed since.
    pub(crate) fn error(&self) -> Option<&str> {
        let (_, error) = self.last_error.as_ref().filter(|_| !self.is_over)?;
        Some(error)
    }
}

/// The state of this process, which one thread changes and others read.
pub(crate) struct Status {
    report: Mutex<Report>,
    changes: watch::Sender<()>,
}

impl Status {
    /// Creates the state at the start of the process, with `active` from an earlier run.
    pub(crate) fn new(source: String, active: Option<State>) -> Self {
        Self {
            report: Mutex::new(Report {
                source,
                is_connected: false,
                connections: 0,
                confirmed: None,
                confirmed_at: None,
                active,
                published: None,
                tables: None,
                last_error: None,
                is_over: true,
                publications: [0; Outcome::ALL.len()],
                lag: Lag::default(),
            }),
            changes: watch::Sender::new(()),
        }
    }

    /// Returns the state as of now.
    pub(crate) fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a receiver of changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Records a connection to the source.
    pub(crate) fn connected(&self) {
        self.update(|report| {
            report.is_connected = true;
            report.connections += 1;
        });
    }

    /// Records that there is no connection, and why.
    pub(crate) fn disconnected(&self, error: &impl ToString) {
        self.update(|report| {
            report.is_connected = false;
            report.set_error(error);
        });
    }

    /// Records that the active tables are those of the source.
    pub(crate) fn confirmed(&self) {
        self.update(Report::set_confirmed);
    }

    /// Records a publication: this state is active.
    pub(crate) fn published(&self, outcome: Outcome, state: State, tables: Tables) {
        self.update(|report| {
            report.count(outcome);
            if outcome == Outcome::Changed {
                let now = SystemTime::now();
                // What was committed before this process started did not wait for it.
                if report.confirmed.is_some() {
                    // Clocks of two hosts differ.
                    report
                        .lag
                        .add(now.duration_since(state.committed).unwrap_or_default());
                }
                report.published = Some(now);
            }
            report.active = Some(state);
            report.tables = Some(tables);
            report.set_confirmed();
        });
    }

    /// Records an attempt that published nothing, and why.
    pub(crate) fn not_published(&self, outcome: Outcome, error: &impl ToString) {
        self.update(|report| {
            report.count(outcome);
            report.set_error(error);
        });
    }

    /// Records another error.
    pub(crate) fn failed(&self, error: &impl ToString) {
        self.update(|report| report.set_error(error));
    }

    fn update(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_replace(());
    }
}

impl Report {
    fn set_confirmed(&mut self) {
        self.confirmed = Some(SystemTime::now());
        self.confirmed_at = Some(Instant::now());
        self.is_over = true;
    }

    fn set_error(&mut self, error: &impl ToString) {
        self.last_error = Some((SystemTime::now(), error.to_string()));
        self.is_over = false;
    }

    fn count(&mut self, outcome: Outcome) {
        for (count, of) in self.publications.iter_mut().zip(Outcome::ALL) {
            *count += u64::from(of == outcome);
        }
    }
}

#[cfg(test)]
mod tests;
