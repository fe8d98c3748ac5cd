//! A table as main.cf names it: its type and name, and why it may be unreadable.

use std::io;

use thiserror::Error;

use crate::postfix::program::RunError;

/// The type and the name of a table of a list, whether proxymap(8) is in between or not.
pub(super) fn kind_and_name(table: &str) -> (&str, &str) {
    let table = table.strip_prefix("proxy:").unwrap_or(table);
    table.split_once(':').unwrap_or(("", table))
}

/// Why a table cannot be read. No value of an entry, and no name that may hold one, is repeated.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    /// Its entries cannot be listed.
    #[error("{kind}: tables have no entries that can be read; {help}")]
    Type {
        /// The type.
        kind: String,
        /// What to do.
        help: &'static str,
    },
    /// The indexed file is older than its source, and which of the two is meant is unknown.
    #[error(
        "{table} is older than its source text, and Postfix answers with what it was: run `postmap {table}`, or undo \
         the edit"
    )]
    Older {
        /// The table.
        table: String,
    },
    /// There is no postmap, or it may not be run.
    #[error("postmap cannot be run: {0}")]
    NotRun(#[source] io::Error),
    /// It does not end, or prints too much.
    #[error("postmap, while it lists {table}: {why}")]
    Stopped {
        /// The table.
        table: String,
        /// Which limit it exceeds.
        #[source]
        why: RunError,
    },
    /// A table that stands in the list itself is not written as Postfix reads it.
    #[error("{kind}: table: {why}")]
    Syntax {
        /// The type.
        kind: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// It ended with an error.
    #[error("postmap cannot list {table}: {why}")]
    Failed {
        /// The table.
        table: String,
        /// What postmap says.
        why: String,
    },
}
