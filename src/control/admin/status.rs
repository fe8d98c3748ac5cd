//! `/status`: everything about the server that may be told, as JSON. Names and meaning are an interface (contract).
//!
//! `/readyz` says of it which files are not valid, why and since when (`obstacles`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use humantime::{format_rfc3339_millis, format_rfc3339_seconds};
use serde::{Deserialize, Serialize};

use super::View;
use crate::diagnostics::machine::FindingObject;
use crate::diagnostics::{Place, Severity};
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Table;
use crate::os::digest;
use crate::os::printable::of_path;
use crate::source::ledger::{Account, File, Invalid};

/// The state of a server. Times are RFC 3339, in UTC.
#[derive(Deserialize, Serialize)]
pub(crate) struct Status {
    /// Of postmapd.
    pub version: String,
    /// When the server started.
    pub started: String,
    /// Which snapshot is in force, from 1.
    pub generation: u64,
    /// Since when.
    pub loaded: String,
    /// Whether every file is valid, as `/readyz` says.
    pub ready: bool,
    /// The files that are read.
    pub files: Vec<FileStatus>,
    /// The last reading; the one at the start is one, too.
    pub last_reload: LastReload,
    /// When the files were last seen to be right and in force. `null` where they never were.
    pub last_success: Option<String>,
    /// What there is to say about the present files.
    pub findings: Vec<FindingObject>,
    /// How many errors there are. Not all findings of a very wrong file are listed.
    pub errors: usize,
    /// Likewise, warnings.
    pub warnings: usize,
    /// How many entries of the relay map had another next hop within `reload.in_flight` ([`crate::lookup::history`]).
    pub senders_in_flight: usize,
    /// Where lookups are answered.
    pub listeners: Vec<String>,
    /// How many connections there are to them.
    pub connections: u64,
}

/// A file.
#[derive(Deserialize, Serialize)]
pub(crate) struct FileStatus {
    /// Where it is.
    pub path: String,
    /// The map that it is the table of. `null` for settings and secret files.
    pub map: Option<String>,
    /// The digest of the version in force ([`crate::os::digest`]). `null` where there is no file.
    pub digest: Option<String>,
    /// How many entries the version in force has. `null` where it is no table.
    pub entries: Option<usize>,
    /// Whether the present version is right and in force.
    pub valid: bool,
    /// Since when it is not.
    pub invalid_since: Option<String>,
    /// Why it is not.
    pub problem: Option<String>,
}

/// A reading of the files.
#[derive(Deserialize, Serialize)]
pub(crate) struct LastReload {
    /// `changed`, `unchanged` or `failed`.
    pub outcome: String,
    /// When that was.
    pub at: String,
}

impl Status {
    /// The state as of now. Takes as long as the digests of tables do that are new; to be called where that disturbs
    /// nobody.
    pub(crate) fn of(view: &View) -> Self {
        let account = view.ledger.account();
        let snapshot = view.routes.load_full();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: time(view.started),
            generation: snapshot.generation,
            loaded: time(account.loaded),
            ready: account.is_ready(),
            files: account
                .files
                .iter()
                .filter(|file| is_told(file))
                .map(|file| FileStatus::of(file, &snapshot, &view.digests))
                .collect(),
            last_reload: LastReload {
                outcome: account.last.outcome.label().to_owned(),
                at: time(account.last.at),
            },
            last_success: account.succeeded.map(time),
            findings: account.findings.iter().map(FindingObject::of).collect(),
            errors: account.findings.errors(),
            warnings: account.findings.warnings(),
            senders_in_flight: snapshot.history.moved_entries(),
            listeners: view.listeners.clone(),
            connections: view.counters.connections(),
        }
    }
}

/// Whether there is anything to tell about a file: settings that are not there are no file.
pub(super) fn is_told(file: &File) -> bool {
    file.in_force.is_there || file.in_force.table.is_some() || file.invalid.is_some()
}

impl FileStatus {
    fn of(file: &File, snapshot: &Snapshot, digests: &TableDigests) -> Self {
        let spec = file.in_force.table;
        let table = spec.and_then(|spec| snapshot.table(spec));
        Self {
            path: file.in_force.path.to_string_lossy().into_owned(),
            map: spec.map(|spec| spec.label.to_owned()),
            digest: match table {
                Some(table) if file.in_force.is_there => digests.of(table),
                _ => file.in_force.digest.clone(),
            },
            entries: table.map(|table| table.len()),
            valid: file.invalid.is_none(),
            invalid_since: file.invalid.as_ref().map(|invalid| time(invalid.since)),
            problem: file.invalid.as_ref().map(problem),
        }
    }
}

/// One line for each file that is not valid, and for each error that is about no file; nothing where all is well.
pub(super) fn obstacles(account: &Account) -> Vec<String> {
    let files = account.files.iter().filter_map(obstacle);
    let errors = account
        .findings
        .of(Severity::Error)
        .filter(|finding| !matches!(finding.place, Place::File(..)));
    files.chain(errors.map(ToString::to_string)).collect()
}

fn obstacle(file: &File) -> Option<String> {
    let invalid = file.invalid.as_ref()?;
    let path = of_path(&file.in_force.path);
    let since = format_rfc3339_seconds(invalid.since);
    Some(format!("{path}: not valid since {since}: {}", problem(invalid)))
}

/// Why a file is not valid, in words.
fn problem(invalid: &Invalid) -> String {
    match (invalid.errors, &invalid.first) {
        (0, _) => "it is not used until the other files are right".to_owned(),
        (1, Some(first)) => first.to_string(),
        (errors, Some(first)) => format!("{errors} errors, of which the first is: {first}"),
        (errors, None) => format!("errors: {errors}"),
    }
}

fn time(time: SystemTime) -> String {
    format_rfc3339_millis(time).to_string()
}

/// The digests of tables, each made at its first request: of a large one that takes longer than an edit.
#[derive(Default)]
pub(crate) struct TableDigests {
    /// By the name of the file.
    known: Mutex<HashMap<&'static str, Known>>,
}

#[derive(Default)]
struct Known {
    table: Weak<Table>,
    digest: Option<String>,
}

impl TableDigests {
    fn of(&self, table: &Arc<Table>) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(table.spec().file).or_default();
        if !std::ptr::eq(known.table.as_ptr(), Arc::as_ptr(table)) {
            let text = table.blocks().flat_map(|block| block.pieces());
            known.digest = if table.spec().is_secret() {
                digest::keyed(text)
            } else {
                Some(digest::plain(text))
            };
            known.table = Arc::downgrade(table);
        }
        known.digest.clone()
    }
}
