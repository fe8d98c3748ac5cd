//! The entries of a table file as rows, in the text format of COPY (the manual of PostgreSQL, COPY, "File Formats").

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use postmapd::diagnostics::{Findings, Severity};
use postmapd::lookup::table::grammar::{self, Content};
use postmapd::os::printable::printable_path;
use postmapd::os::secret::Secret;
use postmapd::os::whole_file::{MAX_FILE, ReadError, read_secret};
use thiserror::Error;

use crate::engine::Table;

/// The errors of a file that are reported.
const MAX_ERRORS: usize = 20;

/// Why a file cannot become rows.
#[derive(Debug, Error)]
pub(crate) enum EntriesError {
    /// It cannot be read.
    #[error("{}: error: it cannot be read: {source}", printable_path(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        source: ReadError,
    },
    /// The server would reject entries of it, or answer them with a temporary error. The first of these errors.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// The entries of a file.
#[derive(Default)]
pub(crate) struct Entries {
    /// A line for each entry: its key, and its value or both parts of its login.
    pub(crate) rows: Secret,
    /// The number of lines.
    pub(crate) count: u64,
    /// The number of entries that are left out because an earlier one has the same key, which is the one that answers.
    pub(crate) repeated: u64,
}

impl Entries {
    /// Reads the file of a table in a directory. `None` if it has no such file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has errors.
    pub(crate) fn read(directory: &Path, table: Table) -> Result<Option<Self>, EntriesError> {
        let path = directory.join(table.spec().file);
        match read_secret(&path, MAX_FILE) {
            Ok(text) => Self::parse(&path, text.expose(), table).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(source) => Err(EntriesError::Unreadable { path, source }),
        }
    }

    fn parse(path: &Path, text: &[u8], table: Table) -> Result<Self, EntriesError> {
        let mut findings = Findings::default();
        let mut entries = Self::default();
        let mut keys = HashSet::new();
        grammar::parse(table.spec().format, path, text, &mut findings, |record, _| {
            // As the index of the database, which is of lower(key).
            if keys.insert(String::from_utf8_lossy(record.key).to_lowercase()) {
                entries.push(table, record.key, record.content);
            } else {
                entries.repeated += 1;
            }
        });
        let errors: Vec<String> = findings
            .with_severity(Severity::Error)
            .take(MAX_ERRORS)
            .map(ToString::to_string)
            .collect();
        if errors.is_empty() {
            Ok(entries)
        } else {
            Err(EntriesError::Invalid(errors))
        }
    }

    fn push(&mut self, table: Table, key: &[u8], content: Content<'_>) {
        let value = match content {
            Content::Value(value) => Some(value),
            // An invalid one is an error of the file, which is then not used.
            Content::NoValue | Content::Invalid => None,
        };
        self.count += 1;
        append_escaped(&mut self.rows, Some(key));
        self.rows.append(b"\t");
        if table == Table::Credentials {
            let login = value.map(split_login);
            append_escaped(&mut self.rows, login.map(|(user, _)| user));
            self.rows.append(b"\t");
            append_escaped(&mut self.rows, login.map(|(_, password)| password));
        } else {
            append_escaped(&mut self.rows, value);
        }
        self.rows.append(b"\n");
    }
}

/// Splits `user:password` at the first colon.
fn split_login(login: &[u8]) -> (&[u8], &[u8]) {
    let colon = login.iter().position(|c| *c == b':').unwrap_or(login.len());
    let (user, rest) = login.split_at_checked(colon).unwrap_or((login, b""));
    (user, rest.strip_prefix(b":").unwrap_or(rest))
}

/// Appends a column; `None` is NULL.
fn append_escaped(rows: &mut Secret, column: Option<&[u8]>) {
    let Some(column) = column else {
        rows.append(b"\\N");
        return;
    };
    for part in column.chunk_by(|before, _| *before != b'\\' && *before != b'\t') {
        // Each part ends with the first of these.
        match part.split_last() {
            Some((b'\\', before)) => {
                rows.append(before);
                rows.append(b"\\\\");
            }
            Some((b'\t', before)) => {
                rows.append(before);
                rows.append(b"\\t");
            }
            _ => rows.append(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Entries, EntriesError};
    use crate::engine::Table;

    fn rows(table: Table, text: &str) -> (String, u64) {
        let entries = Entries::parse(Path::new("file"), text.as_bytes(), table).unwrap();
        let rows = String::from_utf8(entries.rows.expose().to_vec()).unwrap();
        assert_eq!(rows.lines().count() as u64, entries.count);
        (rows, entries.repeated)
    }

    #[test]
    fn an_entry_is_a_row_and_the_first_of_those_with_equal_keys_counts() {
        let text = "@a.test [r.test]:587 # comment\n@b.test\n@A.test [other.test]\n<> [r.test]\n";
        assert_eq!(
            rows(Table::Relay, text),
            (
                "@a.test\t[r.test]:587\n@b.test\t\\N\n<>\t[r.test]\n".to_owned(),
                1
            )
        );
        assert_eq!(
            rows(Table::Tls, "[r.test]:587 encrypt\n"),
            ("[r.test]:587\tencrypt\n".to_owned(), 0)
        );
    }

    #[test]
    fn a_login_is_two_columns_and_whatever_is_in_it_survives_copy() {
        let text = "@a.test user:pass:wo rd\\\tx#\\N\n@b.test\n@c.test DOM\\user:\\.\n";
        assert_eq!(
            rows(Table::Credentials, text).0,
            "@a.test\tuser\tpass:wo rd\\\\\\tx#\\\\N\n@b.test\t\\N\t\\N\n@c.test\tDOM\\\\user\t\\\\.\n"
        );
    }

    #[test]
    fn a_file_with_an_error_is_no_rows_and_the_error_names_no_value() {
        let result = Entries::parse(Path::new("file"), b"@a.test hunter2\n", Table::Credentials);
        let Err(EntriesError::Invalid(errors)) = result else {
            panic!("no error");
        };
        assert!(
            errors[0].contains("file:1:") && !errors[0].contains("hunter2"),
            "{errors:?}"
        );
    }
}
