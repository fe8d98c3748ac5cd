//! The entries of a Postfix table, as Postfix itself reads them: `postmap -s`.
//!
//! Formats that Postfix cannot list (cdb), and indexed files that are missing, are read from their source text with
//! Postfix's own `texthash:`. What is asked over a network, computed or matched by patterns has no entries to read.
//!
//! Limits: where the source is read in place of the indexed file, it may be newer than what Postfix answers with.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use super::convert::Entry;
use crate::secret::Secret;

/// Types whose entries Postfix lists.
const LISTED: [&str; 6] = ["hash", "btree", "lmdb", "sdbm", "dbm", "texthash"];

/// Types that Postfix builds from a source text, and does not list.
const FROM_SOURCE: [&str; 1] = ["cdb"];

/// Why a table cannot be read. No value of an entry, and no name that may hold one, is repeated.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// Its entries cannot be listed.
    #[error("{kind}: tables have no entries that can be read; {help}")]
    Type {
        /// The type.
        kind: String,
        /// What to do.
        help: &'static str,
    },
    /// There is no postmap, or it may not be run.
    #[error("postmap cannot be run: {0}")]
    NotRun(#[source] io::Error),
    /// It ended with an error.
    #[error("postmap cannot list {table}: {why}")]
    Failed {
        /// The table.
        table: String,
        /// What postmap says.
        why: String,
    },
}

/// A table that was read.
pub struct Dump {
    /// Its entries, by domain, those of a domain as a whole first.
    pub entries: Vec<Entry>,
    /// Whether the source text was read where Postfix reads an indexed file.
    pub is_from_source: bool,
}

/// Reads the entries of `table`, as main.cf names it, which has this number in its list.
pub fn dump(table: &str, number: usize, config_directory: Option<&Path>) -> Result<Dump, Unreadable> {
    let table = table.strip_prefix("proxy:").unwrap_or(table);
    let (kind, path) = table.split_once(':').unwrap_or(("", table));
    let source = || format!("texthash:{path}");
    let run = |table: &str| list(table, config_directory);
    let (output, is_from_source) = if LISTED.contains(&kind) {
        match run(table) {
            Ok(output) => (output, false),
            Err(Unreadable::Failed { .. }) if kind != "texthash" && Path::new(path).is_file() => {
                (run(&source())?, true)
            }
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

fn help(kind: &str) -> &'static str {
    match kind {
        "socketmap" | "tcp" => "a server answers already: import where its entries come from",
        "static" => {
            "what answers every key is a default relay: take the table out of the list, and set RELAY_HOST"
        }
        "inline" => "copy its entries into a file, and name that as texthash:",
        "regexp" | "pcre" | "cidr" => {
            "write the senders that it matches into a file, and name that as texthash:"
        }
        _ => "write its entries into a file, and name that as texthash:",
    }
}

fn list(table: &str, config_directory: Option<&Path>) -> Result<Secret, Unreadable> {
    let mut command = Command::new(program());
    if let Some(directory) = config_directory {
        command.arg("-c").arg(directory);
    }
    let ran = command.args(["-s", table]).output().map_err(Unreadable::NotRun)?;
    let output = Secret::from(ran.stdout);
    if ran.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let why = said.lines().last().unwrap_or("it says nothing");
    Err(Unreadable::Failed {
        table: table.to_owned(),
        why: why.trim_start_matches("postmap: ").to_owned(),
    })
}

/// PATH of many an unprivileged user does not have it.
fn program() -> PathBuf {
    let usual = Path::new("/usr/sbin/postmap");
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_in_path = std::env::split_paths(&paths).any(|folder| folder.join("postmap").is_file());
    if !is_in_path && usual.is_file() {
        usual.to_owned()
    } else {
        PathBuf::from("postmap")
    }
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
    entries.sort_by(|one, other| by_domain(&one.key).cmp(&by_domain(&other.key)));
    entries
}

fn by_domain(key: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'@', key).and_then(|at| key.split_at_checked(at)) {
        Some((local, domain)) => (domain, local),
        None => (b"", key),
    }
}
