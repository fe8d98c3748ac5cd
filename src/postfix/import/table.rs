//! A table as main.cf names it: its type and name, and why it cannot be read.

use std::io;

use thiserror::Error;

use crate::postfix::program::RunError;

/// Splits a table into its type and name, without `proxy:`.
pub(super) fn type_and_name(table: &str) -> (&str, &str) {
    let table = table.strip_prefix("proxy:").unwrap_or(table);
    table.split_once(':').unwrap_or(("", table))
}

/// Why a table cannot be read. Never repeats a value of an entry, or a name that may contain one.
#[derive(Debug, Error)]
pub(crate) enum ReadTableError {
    /// Tables of this type cannot be listed.
    #[error("the entries of {} cannot be listed; {help}", tables_of_type(table_type))]
    Unlistable {
        /// The table type.
        table_type: String,
        /// What the user can do instead.
        help: &'static str,
    },
    /// The source text is newer than the indexed file, so either could be the intended one.
    #[error(
        "{table} is older than its source file, and Postfix still uses the old entries: run `postmap {table}`, or \
         undo the edit"
    )]
    Stale {
        /// The table.
        table: String,
    },
    /// postmap does not exist, or cannot be executed.
    #[error("cannot run postmap: {0}")]
    NotStarted(#[source] io::Error),
    /// postmap ran too long, or printed too much.
    #[error("`postmap -s {table}` {reason}")]
    LimitExceeded {
        /// The table.
        table: String,
        /// The exceeded limit.
        #[source]
        reason: RunError,
    },
    /// A table that is written in main.cf itself has a syntax error.
    #[error("{table_type}: table: {reason}")]
    Syntax {
        /// The table type.
        table_type: &'static str,
        /// The error.
        reason: &'static str,
    },
    /// postmap exited with an error.
    #[error("postmap cannot list {table}: {reason}")]
    Failed {
        /// The table.
        table: String,
        /// The message of postmap.
        reason: String,
    },
}

fn tables_of_type(table_type: &str) -> String {
    if table_type.is_empty() {
        "a table without a type".to_owned()
    } else {
        format!("{table_type}: tables")
    }
}
