//! The rows of a read, counted and validated, and not written: for `check`.

use std::collections::BTreeMap;

use crate::engine::{Extent, Rows, Table};
use crate::rows::{BadRows, Line, Row};

/// Takes the rows of a read.
#[derive(Default)]
pub(crate) struct Inspection {
    tables: BTreeMap<Table, u64>,
    current: Option<Table>,
    bad_rows: BadRows,
}

impl Inspection {
    /// Returns the tables that were read, with the number of their rows.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (Table, u64)> {
        self.tables.iter().map(|(table, rows)| (*table, *rows))
    }

    /// Returns the rows that cannot be entries.
    pub(crate) fn bad_rows(&self) -> &BadRows {
        &self.bad_rows
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
        self.bad_rows.add(Line::new(row, Some(*count)).error);
    }

    fn removed(&mut self, _: &[u8]) {}
}
