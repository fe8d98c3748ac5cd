//! The log of the tables that are active.

use std::time::Duration;

use tracing::info;

use crate::engine::{State, Table};
use crate::status::Tables;

/// Logs that the active tables were not replaced, because the source has no others.
pub(super) fn log_confirmation(state: Option<&State>) {
    info!(
        revision = state.and_then(|state| state.revision),
        "the active tables are those of the source"
    );
}

/// Logs a publication.
pub(super) fn log_publication(state: &State, tables: &Tables, duration: Duration) {
    let rows = |table| {
        let of = tables.rows.iter().find(|(other, _)| *other == table);
        of.map(|(_, rows)| *rows)
    };
    info!(
        revision = state.revision,
        relay = rows(Table::Relay),
        credentials = rows(Table::Credentials),
        tls = rows(Table::Tls),
        bad_rows = tables.bad_rows,
        ?duration,
        "tables published"
    );
}
