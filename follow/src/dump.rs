//! The tables of a source as plain files: a copy to look at, to keep, or to serve without a source.
//!
//! The files are those that `run` publishes, without generations and without `source.json`, so that `postmapd relay` can edit
//! them. They are complete before any of them has its name, and replace nothing. A bad row is the invalid entry that it is in a
//! generation, so that nothing answers in its place; `postmapd check` names the line.
//!
//! Limits: a table without rows is no file, except for the relay map and the credentials. Two dumps into the same directory at the same
//! time are not detected before one of them would replace a file of the other.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use postmapd::os::printable::printable_path;
use thiserror::Error;

use crate::engine::{Extent, Rows, Table};
use crate::rows::{BadRows, Line, Row};

/// The end of the name of a file that is not complete.
const INCOMPLETE: &str = ".incomplete";

/// Why a directory cannot take a dump. No file in it has changed.
#[derive(Debug, Error)]
#[error("{}: {kind}", printable_path(path))]
pub(crate) struct DumpError {
    /// The directory or file.
    pub(crate) path: PathBuf,
    /// What is wrong.
    pub(crate) kind: DumpErrorKind,
}

/// The kinds of [`DumpError`].
#[derive(Debug, Error)]
pub(crate) enum DumpErrorKind {
    /// There is such a file.
    #[error("the file exists, and would be replaced; name another directory, or move it away")]
    Exists,
    /// The system reports an error.
    #[error("cannot {operation}: {source}")]
    System {
        /// What failed: `write it`.
        operation: &'static str,
        /// The error.
        source: io::Error,
    },
}

impl DumpErrorKind {
    fn at(self, path: &Path) -> DumpError {
        DumpError {
            path: path.to_owned(),
            kind: self,
        }
    }
}

fn system(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DumpError {
    move |source| DumpErrorKind::System { operation, source }.at(path)
}

/// A table and its file.
struct DumpFile {
    table: Table,
    path: PathBuf,
    incomplete: PathBuf,
    rows: u64,
}

/// Takes the rows of one read, for [`Dump::finish`]. Files of one that is not finished are removed.
pub(crate) struct Dump {
    directory: PathBuf,
    files: Vec<DumpFile>,
    current: Option<BufWriter<File>>,
    bad_rows: BadRows,
    error: Option<DumpError>,
}

impl Dump {
    /// Creates the directory, if it is missing, with mode 0700.
    ///
    /// # Errors
    ///
    /// It cannot be created, or has one of the files.
    pub(crate) fn into_directory(directory: &Path) -> Result<Self, DumpError> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(system("create it", directory)(error));
            }
            _ => {}
        }
        for table in Table::ALL {
            let path = directory.join(table.spec().file);
            if fs::symlink_metadata(&path).is_ok() {
                return Err(DumpErrorKind::Exists.at(&path));
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            files: Vec::new(),
            current: None,
            bad_rows: BadRows::default(),
            error: None,
        })
    }

    /// Returns the rows that cannot be entries.
    pub(crate) fn bad_rows(&self) -> &BadRows {
        &self.bad_rows
    }

    /// Gives the files their names. Returns each with the number of rows.
    ///
    /// # Errors
    ///
    /// The first that occurred since the start.
    pub(crate) fn finish(mut self) -> Result<Vec<(PathBuf, u64)>, DumpError> {
        self.complete_file();
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut written = Vec::new();
        for file in &self.files {
            if file.table == Table::Tls && file.rows == 0 {
                continue;
            }
            // Unlike rename(2), link(2) replaces nothing.
            fs::hard_link(&file.incomplete, &file.path).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => DumpErrorKind::Exists.at(&file.path),
                _ => system("write it", &file.path)(error),
            })?;
            written.push((file.path.clone(), file.rows));
        }
        Ok(written)
    }

    fn start_file(&mut self, table: Table) -> Result<(), DumpError> {
        let path = self.directory.join(table.spec().file);
        let mut incomplete = path.clone().into_os_string();
        incomplete.push(INCOMPLETE);
        let incomplete = PathBuf::from(incomplete);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&incomplete)
            .map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => DumpErrorKind::Exists.at(&incomplete),
                _ => system("write it", &incomplete)(error),
            })?;
        self.current = Some(BufWriter::new(file));
        self.files.push(DumpFile {
            table,
            path,
            incomplete,
            rows: 0,
        });
        Ok(())
    }

    fn complete_file(&mut self) {
        let Some(mut file) = self.current.take() else {
            return;
        };
        if let Err(error) = file.flush().and_then(|()| file.get_ref().sync_all()) {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        let path = self.files.last().map_or(&self.directory, |file| &file.incomplete);
        let error = system("write it", path)(error);
        self.error.get_or_insert(error);
    }
}

impl Rows for Dump {
    fn begin(&mut self, _: Extent) {}

    fn table(&mut self, table: Table) {
        self.complete_file();
        if self.error.is_none()
            && let Err(error) = self.start_file(table)
        {
            self.error = Some(error);
        }
    }

    fn row(&mut self, row: Row<'_>) {
        let (Some(file), Some(to)) = (self.files.last_mut(), &mut self.current) else {
            return;
        };
        file.rows += 1;
        let line = Line::new(row, Some(file.rows));
        self.bad_rows.add(line.error);
        if let Err(error) = to.write_all(line.text.expose()) {
            self.fail(error);
        }
    }

    fn removed(&mut self, _: &[u8]) {}
}

impl Drop for Dump {
    fn drop(&mut self) {
        for file in &self.files {
            // Where it cannot be removed, the next dump names it.
            let _ = fs::remove_file(&file.incomplete);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{Dump, DumpErrorKind};
    use crate::engine::{Extent, Rows, Table};
    use crate::rows::Row;

    fn fill(dump: &mut Dump) {
        dump.begin(Extent::Everything);
        dump.table(Table::Relay);
        dump.row(Row::Relay {
            key: b"@a.test",
            next_hop: Some(b"[r.test]:587"),
        });
        dump.row(Row::Relay {
            key: b"@b.test",
            next_hop: Some(b"[r.test]:587\n@c.test [evil.test]"),
        });
        dump.table(Table::Credentials);
        dump.table(Table::Tls);
    }

    #[test]
    fn a_dump_has_a_private_file_for_each_table_and_an_invalid_entry_for_a_bad_row() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("new");
        let mut dump = Dump::into_directory(&directory).unwrap();
        fill(&mut dump);
        assert_eq!((dump.bad_rows().count(), dump.bad_rows().first().len()), (1, 1));
        let written = dump.finish().unwrap();
        let relay_map = directory.join("postfix-relaymap.cf");
        let credentials = directory.join("postfix-sasl-password.cf");
        assert_eq!(written, [(relay_map.clone(), 2), (credentials.clone(), 0)]);
        let text = fs::read_to_string(&relay_map).unwrap();
        assert_eq!(text, "@a.test [r.test]:587\n@b.test [bad-row\n");
        assert_eq!(fs::read_to_string(&credentials).unwrap(), "");
        for path in [&relay_map, &credentials] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let names = fs::read_dir(&directory).unwrap().count();
        assert_eq!(names, 2, "no incomplete file remains");
    }

    #[test]
    fn a_dump_replaces_no_file_and_one_that_is_not_finished_leaves_none() {
        let temp = tempfile::tempdir().unwrap();
        let mut dump = Dump::into_directory(temp.path()).unwrap();
        fill(&mut dump);
        drop(dump);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
        // One that appears meanwhile, and one that was there.
        let mut dump = Dump::into_directory(temp.path()).unwrap();
        fill(&mut dump);
        let path = temp.path().join("postfix-relaymap.cf");
        fs::write(&path, "mine\n").unwrap();
        assert!(matches!(dump.finish().unwrap_err().kind, DumpErrorKind::Exists));
        let refused = Dump::into_directory(temp.path());
        assert!(matches!(refused.err().unwrap().kind, DumpErrorKind::Exists));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine\n");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }
}
