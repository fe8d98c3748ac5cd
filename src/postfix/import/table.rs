//! A table as main.cf names it: its type and name, and why it cannot be read.

use std::io;

use thiserror::Error;

use crate::postfix::program::RunError;

/// Splits a table into its type and name, without `proxy:`.
pub(super) fn kind_and_name(table: &str) -> (&str, &str) {
    let table = table.strip_prefix("proxy:").unwrap_or(table);
    table.split_once(':').unwrap_or(("", table))
}

/// Why a table cannot be read. Never repeats a value of an entry, or a name that may contain one.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    /// Tables of this type cannot be listed.
    #[error("{kind}: tables have no entries that can be read; {help}")]
    Type {
        /// The table type.
        kind: String,
        /// What the user can do instead.
        help: &'static str,
    },
    /// The source text is newer than the indexed file, so either could be the intended one.
    #[error(
        "{table} is older than its source text, and Postfix answers with what it was: run `postmap {table}`, or undo \
         the edit"
    )]
    Older {
        /// The table.
        table: String,
    },
    /// postmap does not exist, or cannot be executed.
    #[error("postmap cannot be run: {0}")]
    NotRun(#[source] io::Error),
    /// postmap ran too long, or printed too much.
    #[error("postmap, while it lists {table}: {why}")]
    Stopped {
        /// The table.
        table: String,
        /// The exceeded limit.
        #[source]
        why: RunError,
    },
    /// A table that is written in main.cf itself has a syntax error.
    #[error("{kind}: table: {why}")]
    Syntax {
        /// The table type.
        kind: &'static str,
        /// The error.
        why: &'static str,
    },
    /// postmap exited with an error.
    #[error("postmap cannot list {table}: {why}")]
    Failed {
        /// The table.
        table: String,
        /// The message of postmap.
        why: String,
    },
}
