//! `/status`: the state, as JSON. Names and meaning are an interface.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize};

use crate::engine::State;
use crate::status::Report;

/// The answer of `/status`. Times are in RFC 3339 format, in UTC.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Answer {
    /// The version of postmapd-follow.
    pub(crate) version: String,
    /// When the process started.
    pub(crate) started: String,
    /// The source, without a password.
    pub(crate) source: String,
    /// Whether there is a connection to it.
    pub(crate) connected: bool,
    /// Whether tables are active and fresh, as in `/readyz`.
    pub(crate) ready: bool,
    /// Why not. `null` if it is ready.
    pub(crate) not_ready: Option<String>,
    /// When the active tables were last known to be those of the source. `null` if never.
    pub(crate) confirmed: Option<String>,
    /// The state of the source that is active. `null` if there is none.
    pub(crate) state: Option<ActiveState>,
    /// When this process last published tables. `null` if never.
    pub(crate) published: Option<String>,
    /// The number of rows of each table, bad ones included. Empty before the first publication of this process.
    pub(crate) rows: BTreeMap<String, u64>,
    /// The number of bad rows. `null` before the first publication of this process.
    pub(crate) bad_rows: Option<u64>,
    /// The last error. `null` if there was none.
    pub(crate) last_error: Option<LastError>,
}

/// A state of the source.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ActiveState {
    /// Its number. `null` if the source does not count its states.
    pub(crate) revision: Option<u64>,
    /// Its identity.
    pub(crate) version: String,
    /// When it was committed.
    pub(crate) committed: String,
}

/// An error.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LastError {
    /// When it last occurred.
    pub(crate) at: String,
    /// Whether the tables have not been confirmed since.
    pub(crate) current: bool,
    /// What is wrong, where, and what to do.
    pub(crate) message: String,
}

impl Answer {
    pub(super) fn new(report: &Report, stale_after: Duration, started: SystemTime) -> Self {
        let time = |time: SystemTime| format_rfc3339_millis(time).to_string();
        let not_ready = report.not_ready_reason(stale_after);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: time(started),
            source: report.source.clone(),
            connected: report.is_connected,
            ready: not_ready.is_none(),
            not_ready,
            confirmed: report.confirmed.map(time),
            state: report.active.as_ref().map(
                |State {
                     revision,
                     version,
                     committed,
                 }| ActiveState {
                    revision: *revision,
                    version: version.clone(),
                    committed: time(*committed),
                },
            ),
            published: report.published.map(time),
            rows: report
                .tables
                .iter()
                .flat_map(|tables| &tables.rows)
                .map(|(table, rows)| (table.label().to_owned(), *rows))
                .collect(),
            bad_rows: report.tables.as_ref().map(|tables| tables.bad_rows),
            last_error: report.last_error.as_ref().map(|(at, message)| LastError {
                at: time(*at),
                current: report.error().is_some(),
                message: message.clone(),
            }),
        }
    }
}
