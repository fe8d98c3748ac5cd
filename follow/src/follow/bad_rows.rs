//! The log of bad rows: each once, and not again with each publication that still has it.

use tracing::warn;

use crate::rows::BadRow;

/// The most bad rows that are remembered.
const MAX_REMEMBERED: usize = 1000;

/// The bad rows that have been logged.
#[derive(Default)]
pub(super) struct BadRowLog {
    logged: Vec<BadRow>,
    /// The number of all bad rows at that time.
    count: u64,
}

impl BadRowLog {
    /// Logs the bad rows of a publication that have not been logged: those in `first`, and the number of all, `count`, if it has
    /// changed and there are more. `is_everything` says whether all rows were read, and not only those that have changed.
    pub(super) fn log(&mut self, first: Vec<BadRow>, count: u64, is_everything: bool) {
        let before = if count == 0 {
            Vec::new()
        } else {
            std::mem::take(&mut self.logged)
        };
        for bad in first.iter().filter(|bad| !is_among(bad, &before)) {
            let BadRow {
                table,
                row,
                key,
                column,
                reason,
            } = bad;
            warn!(
                table,
                row,
                key = key.as_ref(),
                %column,
                %reason,
                "bad row; lookups of its key return a temporary error"
            );
        }
        self.logged = first;
        if !is_everything {
            let others = before.into_iter().filter(|bad| !is_among(bad, &self.logged));
            let others: Vec<BadRow> = others.collect();
            self.logged.extend(others);
            self.logged.truncate(MAX_REMEMBERED);
        }
        let is_more = u64::try_from(self.logged.len()).is_ok_and(|logged| count > logged);
        if is_more && count != self.count {
            warn!(bad_rows = count, "there are more bad rows than those in the log");
        }
        self.count = count;
    }
}

/// Whether this row is among others. The number of a row changes with the rows before it, so the key identifies it, if it is
/// shown.
fn is_among(bad: &BadRow, others: &[BadRow]) -> bool {
    others.iter().any(|other| {
        let is_same_row = if bad.key.is_some() {
            other.key == bad.key
        } else {
            other.key.is_none() && bad.row.is_some() && other.row == bad.row
        };
        is_same_row && (other.table, other.column, &other.reason) == (bad.table, bad.column, &bad.reason)
    })
}
