//! The entries of a Postfix table, as Postfix itself lists them: `postmap -s`.
//!
//! Formats that Postfix cannot list (cdb), and tables without their indexed file, are read from their source text
//! through Postfix's own `texthash:`. `inline:` tables are read by [`super::inline`], because postmap would get their
//! entries, passwords included, on its command line. Tables that query a network, compute or match patterns have no
//! entries to read.
//!
//! postmap is killed if it prints nothing for 10 seconds, runs for ten minutes, or prints more than 256 MiB, enough for
//! some five million senders.
//!
//! A table whose source was edited after it was indexed is rejected, because either version could be the intended one.
//! A relative path is resolved in the queue directory, as Postfix's daemons do.
//!
//! Limits: where the source is read instead of the indexed file, an edit within the second of the indexing is not
//! noticed. Local domains that `mydestination` has in a table, and addresses of interfaces (`user@[192.0.2.1]`), are
//! not known.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::convert::Entry;
use super::inline;
use super::table::{ReadTableError, type_and_name};
use crate::os::secret::Secret;
use crate::postfix::program::{self, Limits, RunError};

/// The limits of one run of postmap. Listing ten million entries takes half a minute, with continuous output;
/// `texthash:` is first read into memory, at about half a million entries a second.
const LIMITS: Limits = Limits {
    idle_timeout: Duration::from_secs(10),
    total_timeout: Duration::from_secs(600),
    max_output: 256 << 20,
};

/// Table types whose entries Postfix can list.
const LISTABLE: [&str; 6] = ["hash", "btree", "lmdb", "sdbm", "dbm", "texthash"];

/// Table types that Postfix builds from a source text, but cannot list.
const ONLY_FROM_SOURCE: [&str; 1] = ["cdb"];

/// The suffix of the indexed file, by table type. Postfix appends it to the name of the source text.
const INDEX_SUFFIXES: [(&str, &str); 6] = [
    ("hash", ".db"),
    ("btree", ".db"),
    ("lmdb", ".lmdb"),
    ("cdb", ".cdb"),
    ("sdbm", ".pag"),
    ("dbm", ".pag"),
];

/// The entries of a table.
#[derive(Default)]
pub(crate) struct Dump {
    /// The entries, sorted by domain; the entry of a whole domain comes first.
    pub entries: Vec<Entry>,
    /// Whether the source text was read, although Postfix reads an indexed file.
    pub is_from_source: bool,
}

/// The directories of the Postfix that reads the tables.
pub(crate) struct Directories<'a> {
    /// The configuration directory. `None` for the default.
    pub config_directory: Option<&'a Path>,
    /// The directory in which Postfix's daemons resolve relative paths.
    pub queue_directory: &'a Path,
}

/// Reads the entries of `table`, as main.cf names it. `number` is its number in the list.
pub(crate) fn dump(
    table: &str,
    number: usize,
    directories: &Directories<'_>,
) -> Result<Dump, ReadTableError> {
    let (table_type, path) = type_and_name(table);
    if table_type == "inline" {
        let mut entries = inline::entries(path, number)?;
        sort(&mut entries);
        return Ok(Dump {
            entries,
            is_from_source: false,
        });
    }
    let path = directories.queue_directory.join(path);
    let source = || format!("texthash:{}", path.to_string_lossy());
    let run = |table: &str| run_postmap(table, directories.config_directory);
    if is_stale(table_type, &path) {
        return Err(ReadTableError::Stale {
            table: format!("{table_type}:{}", path.to_string_lossy()),
        });
    }
    let (output, is_from_source) = if LISTABLE.contains(&table_type) {
        match run(&format!("{table_type}:{}", path.to_string_lossy())) {
            Ok(output) => (output, false),
            Err(ReadTableError::Failed { .. }) if table_type != "texthash" && path.is_file() => {
                (run(&source())?, true)
            }
            Err(error) => return Err(error),
        }
    } else if ONLY_FROM_SOURCE.contains(&table_type) {
        (run(&source())?, true)
    } else {
        return Err(ReadTableError::Unlistable {
            table_type: table_type.to_owned(),
            help: alternative(table_type),
        });
    };
    Ok(Dump {
        entries: entries(output.expose(), number),
        is_from_source,
    })
}

/// Whether the source was edited in a later second than the one in which postmap indexed it.
fn is_stale(table_type: &str, source: &Path) -> bool {
    let Some((_, suffix)) = INDEX_SUFFIXES.iter().find(|(known, _)| *known == table_type) else {
        return false;
    };
    let mut index = source.as_os_str().to_owned();
    index.push(suffix);
    let changed = |path: &Path| fs::metadata(path).map(|metadata| metadata.mtime());
    match (changed(source), changed(Path::new(&index))) {
        (Ok(source), Ok(index)) => source > index,
        _ => false,
    }
}

fn alternative(table_type: &str) -> &'static str {
    match table_type {
        "socketmap" | "tcp" => "a server answers these lookups: import the tables of that server",
        "static" => {
            "import supports static: only as the first table of smtp_sasl_password_maps; for a default next hop, \
             remove the table from the list, and set relayhost"
        }
        "regexp" | "pcre" | "cidr" => {
            "write the matching senders to a file, and name that file as texthash:FILE"
        }
        _ => "write the entries to a file, and name that file as texthash:FILE",
    }
}

fn run_postmap(table: &str, config_directory: Option<&Path>) -> Result<Secret, ReadTableError> {
    let finished = program::run("postmap", config_directory, &["-s", table], LIMITS);
    let finished = finished.map_err(|error| match error {
        RunError::NotStarted(source) => ReadTableError::NotStarted(source),
        RunError::TimedOut(_) | RunError::TooMuchOutput(_) => ReadTableError::LimitExceeded {
            table: table.to_owned(),
            reason: error,
        },
    })?;
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    let reason = finished.stderr.lines().last().unwrap_or("no error message");
    Err(ReadTableError::Failed {
        table: table.to_owned(),
        reason: reason.trim_start_matches("postmap: ").to_owned(),
    })
}

/// Parses the output of postmap: a key, a tab and a value on each line.
fn entries(output: &[u8], table: usize) -> Vec<Entry> {
    let lines = output.split(|c| *c == b'\n').filter(|line| !line.is_empty());
    let mut entries: Vec<Entry> = lines
        .filter_map(|line| {
            let tab = memchr::memchr(b'\t', line)?;
            let (key, value) = line.split_at_checked(tab)?;
            Some(Entry {
                key: key.to_vec(),
                value: Secret::from(value.get(1..)?.to_vec()),
                table,
            })
        })
        .collect();
    // Postfix lists them in the order of its hash table.
    sort(&mut entries);
    entries
}

fn sort(entries: &mut [Entry]) {
    entries.sort_by(|one, other| domain_and_local(&one.key).cmp(&domain_and_local(&other.key)));
}

fn domain_and_local(key: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'@', key).and_then(|at| key.split_at_checked(at)) {
        Some((local, domain)) => (domain, local),
        None => (b"", key),
    }
}
