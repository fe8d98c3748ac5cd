//! The rows of a read, counted and validated, and not written: for `check`.

use std::collections::BTreeMap;

use crate::engine::{Extent, Rows, Table};
use crate::rows::{BadRow, Line, Row};

/// The bad rows that are kept.
const MAX_BAD_ROWS: usize = 20;

/// Takes the rows of a read.
#[derive(Default)]
pub struct Inspection {
    tables: BTreeMap<Table, u64>,
    current: Option<Table>,
    bad_rows: u64,
    first_bad_rows: Vec<BadRow>,
}

impl Inspection {
    /// Returns the tables that were read, with the number of their rows.
    pub fn tables(&self) -> impl Iterator<Item = (Table, u64)> {
        self.tables.iter().map(|(table, rows)| (*table, *rows))
    }

    /// Returns the number of rows that cannot be entries.
    #[must_use]
    pub fn bad_rows(&self) -> u64 {
        self.bad_rows
    }

    /// Returns the first of them, at most 20.
    #[must_use]
    pub fn first_bad_rows(&self) -> &[BadRow] {
        &self.first_bad_rows
    }
}

impl Rows for Inspection {
    fn begin(&mut self, _: Extent) {}

    fn table(&mut self, table: Table) {
        self.tables.insert(table, 0);
        self.current = Some(table);
    }

    fn row(&mut self, row: Row<'_>) {
        let Some(count) = self.current.and_then(|table| self.tables.get_mut(&table)) else {
            return;
        };
        *count += 1;
        if let Some(error) = Line::new(row, Some(*count)).error {
            self.bad_rows += 1;
            if self.first_bad_rows.len() < MAX_BAD_ROWS {
                self.first_bad_rows.push(error);
            }
        }
    }

    fn removed(&mut self, _: &[u8]) {}
}
