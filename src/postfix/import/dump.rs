//! The entries of a Postfix table, as Postfix itself reads them: `postmap -s`.
//!
//! Formats that Postfix cannot list (cdb), and indexed files that are missing, are read from their source text with
//! Postfix's own `texthash:`. `inline:` tables, whose entries stand in main.cf, are read by [`super::written`], because
//! postmap would have to get them, passwords included, on its command line. What is asked over a network, computed or
//! matched by patterns has no entries to read.
//!
//! postmap is ended where it prints nothing for 10 seconds, runs for ten minutes, or prints more than 256 MiB, which
//! some five million senders need.
//!
//! A table whose source was edited after it was built is refused: nobody can say which of the two is meant. A relative
//! path begins at the queue directory, as for Postfix's daemons.
//!
//! Limits: where the source is read in place of the indexed file, an edit in the second in which that was built is not
//! noticed. Own domains that `mydestination` has in a table, and addresses of interfaces (`user@[192.0.2.1]`), are not
//! known.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::convert::Entry;
use super::table::{Unreadable, kind_and_name};
use super::written;
use crate::os::secret::Secret;
use crate::postfix::program::{self, Limits, RunError};

/// What one run of postmap may take. A table of ten million entries takes half a minute, and is printed all the while;
/// `texthash:` is read first, about half a million entries a second.
const LIMITS: Limits = Limits {
    silence: Duration::from_secs(10),
    total: Duration::from_secs(600),
    output: 256 << 20,
};

/// Types whose entries Postfix lists.
const LISTED: [&str; 6] = ["hash", "btree", "lmdb", "sdbm", "dbm", "texthash"];

/// Types that Postfix builds from a source text, and does not list.
const FROM_SOURCE: [&str; 1] = ["cdb"];

/// What Postfix adds to the name of a source text for that of the indexed file.
const ENDINGS: [(&str, &str); 6] = [
    ("hash", ".db"),
    ("btree", ".db"),
    ("lmdb", ".lmdb"),
    ("cdb", ".cdb"),
    ("sdbm", ".pag"),
    ("dbm", ".pag"),
];

/// A table that was read.
#[derive(Default)]
pub(crate) struct Dump {
    /// Its entries, by domain, those of a domain as a whole first.
    pub entries: Vec<Entry>,
    /// Whether the source text was read where Postfix reads an indexed file.
    pub is_from_source: bool,
}

/// Where tables are, and who reads them.
pub(crate) struct Place<'a> {
    /// Postfix's configuration directory, where it is not the default.
    pub config_directory: Option<&'a Path>,
    /// What a relative path begins at for Postfix's daemons.
    pub queue_directory: &'a Path,
}

/// Reads the entries of `table`, as main.cf names it, which has this number in its list.
pub(crate) fn dump(table: &str, number: usize, place: &Place<'_>) -> Result<Dump, Unreadable> {
    let (kind, path) = kind_and_name(table);
    if kind == "inline" {
        let mut entries = written::inline(path, number)?;
        sort(&mut entries);
        return Ok(Dump {
            entries,
            is_from_source: false,
        });
    }
    let path = place.queue_directory.join(path);
    let source = || format!("texthash:{}", path.to_string_lossy());
    let run = |table: &str| list(table, place.config_directory);
    if is_older(kind, &path) {
        return Err(Unreadable::Older {
            table: format!("{kind}:{}", path.to_string_lossy()),
        });
    }
    let (output, is_from_source) = if LISTED.contains(&kind) {
        match run(&format!("{kind}:{}", path.to_string_lossy())) {
            Ok(output) => (output, false),
            Err(Unreadable::Failed { .. }) if kind != "texthash" && path.is_file() => (run(&source())?, true),
            Err(error) => return Err(error),
        }
    } else if FROM_SOURCE.contains(&kind) {
        (run(&source())?, true)
    } else {
        return Err(Unreadable::Type {
            kind: kind.to_owned(),
            help: help(kind),
        });
    };
    Ok(Dump {
        entries: entries(output.expose(), number),
        is_from_source,
    })
}

/// Whether the source was edited in a later second than that in which postmap read it.
fn is_older(kind: &str, source: &Path) -> bool {
    let Some((_, ending)) = ENDINGS.iter().find(|(known, _)| *known == kind) else {
        return false;
    };
    let mut index = source.as_os_str().to_owned();
    index.push(ending);
    let changed = |path: &Path| fs::metadata(path).map(|metadata| metadata.mtime());
    match (changed(source), changed(Path::new(&index))) {
        (Ok(source), Ok(index)) => source > index,
        _ => false,
    }
}

fn help(kind: &str) -> &'static str {
    match kind {
        "socketmap" | "tcp" => "a server answers already: import where its entries come from",
        "static" => {
            "it answers every key, which the files can say of the first table of smtp_sasl_password_maps alone; as a \
             next hop it is a default relay: take the table out of the list, and set RELAY_HOST"
        }
        "regexp" | "pcre" | "cidr" => {
            "write the senders that it matches into a file, and name that as texthash:"
        }
        _ => "write its entries into a file, and name that as texthash:",
    }
}

fn list(table: &str, config_directory: Option<&Path>) -> Result<Secret, Unreadable> {
    let ran = program::run("postmap", config_directory, &["-s", table], LIMITS);
    let ran = ran.map_err(|error| match error {
        RunError::NotRun(source) => Unreadable::NotRun(source),
        RunError::TooSlow(_) | RunError::TooMuch(_) => Unreadable::Stopped {
            table: table.to_owned(),
            why: error,
        },
    })?;
    if ran.status.success() {
        return Ok(ran.output);
    }
    let why = ran.errors.lines().last().unwrap_or("it says nothing");
    Err(Unreadable::Failed {
        table: table.to_owned(),
        why: why.trim_start_matches("postmap: ").to_owned(),
    })
}

/// The lines that postmap prints: a key, a tab and a value.
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
    // Postfix lists them in the order of its hashes.
    sort(&mut entries);
    entries
}

fn sort(entries: &mut [Entry]) {
    entries.sort_by(|one, other| by_domain(&one.key).cmp(&by_domain(&other.key)));
}

fn by_domain(key: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'@', key).and_then(|at| key.split_at_checked(at)) {
        Some((local, domain)) => (domain, local),
        None => (b"", key),
    }
}
