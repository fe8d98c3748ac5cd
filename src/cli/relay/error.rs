//! Why an edit was not made.

use std::path::PathBuf;

use super::key::ArgumentError;
use crate::cli::generated::Generated;
use crate::cli::password::PasswordError;
use crate::lookup::table::edit::NotRepresentable;
use crate::os::printable::printable_path;
use crate::os::replace_file::ReplaceError;

/// The reason why an edit was not made. Nothing was written, unless the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("{0}; nothing was written")]
    Argument(#[from] ArgumentError),
    #[error("{0}; nothing was written")]
    Password(#[from] PasswordError),
    /// The file format cannot represent an argument.
    #[error("{0}; nothing was written")]
    NotRepresentable(#[from] NotRepresentable),
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// The server would reject the result.
    #[error(
        "{}\n{} was not written: the server would reject the whole file because of this error; fix the line first",
        errors.join("\n"),
        printable_path(path)
    )]
    Errors {
        path: PathBuf,
        /// The first errors of the file.
        errors: Vec<String>,
    },
    /// An entry for a host or for all next hops does not fit one of them.
    #[error(
        "implicit TLS needs a level that always demands TLS, and {next_hop} would get another one; nothing was written"
    )]
    WeakTls {
        /// The next hop.
        next_hop: String,
    },
    /// A program generates the directory.
    #[error("{0}; nothing was written")]
    Generated(Generated),
    /// There is nothing to disable or enable.
    #[error("{files} {what} for {key}")]
    NothingToToggle {
        /// The files, with a verb.
        files: String,
        /// What is missing.
        what: &'static str,
        /// The key, as far as it can be shown.
        key: String,
    },
    /// The key of a disabled entry has another one.
    #[error(
        "{} has another entry for {key} by now; remove it first; nothing was written",
        printable_path(path)
    )]
    EntryInTheWay {
        path: PathBuf,
        /// The key, as far as it can be shown.
        key: String,
    },
    /// There is nothing to remove.
    #[error("{} has no entry for {key}{hint}", printable_path(path))]
    NoEntry {
        path: PathBuf,
        /// The key, as far as it can be shown.
        key: String,
        /// What to try instead; may be empty.
        hint: &'static str,
    },
}
