//! `/status`: the state of the server that may be shown, as JSON. Names and meaning are an interface (contract).
//!
//! `/readyz` has a part of it: which files are not valid, why and since when (`not_ready_reasons`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use humantime::{format_rfc3339_millis, format_rfc3339_seconds};
use serde::{Deserialize, Serialize};

use super::View;
use crate::diagnostics::machine::FindingObject;
use crate::diagnostics::{Place, Severity};
use crate::lookup::directory_source::DirectorySource;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Table;
use crate::os::digest;
use crate::os::printable::printable_path;
use crate::source::reload_status::{FileState, Invalid, StatusReport};

/// The state of a server. Times are in RFC 3339 format, in UTC.
#[derive(Deserialize, Serialize)]
pub(crate) struct Status {
    /// The version of postmapd.
    pub version: String,
    /// When the server started.
    pub started: String,
    /// The number of the active snapshot, from 1.
    pub generation: u64,
    /// Since when it has been active.
    pub loaded: String,
    /// Whether every file is valid, as in `/readyz`.
    pub ready: bool,
    /// Where the content of the directory is from, if a program generates it.
    #[serde(default)]
    pub source: Option<SourceStatus>,
    /// All files that are read.
    pub files: Vec<FileStatus>,
    /// The last reload. Until there is one, the read at the start.
    pub last_reload: LastReload,
    /// When the files were last known to be without error and active. `null` if never.
    pub last_success: Option<String>,
    /// The findings of the present files.
    pub findings: Vec<FindingObject>,
    /// The number of errors. May exceed `findings`, which are limited.
    pub errors: usize,
    /// The number of warnings. May exceed `findings`.
    pub warnings: usize,
    /// How many entries of the relay map had another next hop within `reload.in_flight` ([`crate::lookup::history`]).
    pub senders_in_flight: usize,
    /// The endpoints of the maps.
    pub listeners: Vec<String>,
    /// How many connections to them are open.
    pub connections: u64,
}

/// The state of a file.
#[derive(Deserialize, Serialize)]
pub(crate) struct FileStatus {
    /// The path of the file.
    pub path: String,
    /// The map whose table it is. `null` for settings and secret files.
    pub map: Option<String>,
    /// The digest of the active version ([`crate::os::digest`]). `null` if there is no file.
    pub digest: Option<String>,
    /// The version that was read last ([`VersionId`](crate::os::version_id::VersionId)). `null` if there was no file, or it
    /// kept changing.
    #[serde(default)]
    pub stat: Option<String>,
    /// Whether that version is active, even with errors.
    #[serde(default)]
    pub active: bool,
    /// The number of entries in the active version. `null` if it is not a table.
    pub entries: Option<usize>,
    /// Whether the present version has no error and is active.
    pub valid: bool,
    /// Whether the present version differs from the active one, or may, because the file has just changed.
    #[serde(default)]
    pub differs: bool,
    /// Since when it has not been valid.
    pub invalid_since: Option<String>,
    /// Why it is not valid.
    pub problem: Option<String>,
}

/// The source of a directory, as its file `source.json` has it.
#[derive(Deserialize, Serialize)]
pub(crate) struct SourceStatus {
    /// Where the content is from, without a password.
    pub source: String,
    /// The number of the content there.
    pub revision: Option<u64>,
    /// The identity of the content there.
    pub version: Option<String>,
    /// When it was committed there.
    pub committed: Option<String>,
}

impl SourceStatus {
    fn new(source: &DirectorySource) -> Self {
        Self {
            source: source.source.clone(),
            revision: source.revision,
            version: source.version.clone(),
            committed: source.committed.as_ref().map(|commit| commit.text.clone()),
        }
    }
}

/// The result of a reload.
#[derive(Deserialize, Serialize)]
pub(crate) struct LastReload {
    /// `changed`, `unchanged` or `failed`.
    pub outcome: String,
    /// When it ended.
    pub at: String,
}

impl Status {
    /// Returns the state as of now. Makes the digests of new tables, which may take seconds: must not run in a thread
    /// that lookups need.
    pub(crate) fn new(view: &View) -> Self {
        let differing = view.reload_status.differing_files();
        let report = view.reload_status.report();
        let snapshot = view.active_snapshot.load_full();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: time(view.started),
            generation: snapshot.generation,
            loaded: time(report.active_since),
            ready: report.is_ready(),
            source: snapshot.directory_source.as_deref().map(SourceStatus::new),
            files: report
                .files
                .iter()
                .filter(|file| is_reported(file))
                .map(|file| FileStatus::new(file, &snapshot, &view.digests, &differing))
                .collect(),
            last_reload: LastReload {
                outcome: report.last_reload.outcome.label().to_owned(),
                at: time(report.last_reload.at),
            },
            last_success: report.last_success.map(time),
            findings: report.findings.iter().map(FindingObject::new).collect(),
            errors: report.findings.errors(),
            warnings: report.findings.warnings(),
            senders_in_flight: snapshot.history.moved_entries(),
            listeners: view.listeners.clone(),
            connections: view.counters.connections(),
        }
    }
}

/// Whether the file is part of the report. A settings file that does not exist is not.
pub(super) fn is_reported(file: &FileState) -> bool {
    file.active.is_readable || file.active.table.is_some() || file.invalid.is_some()
}

impl FileStatus {
    fn new(file: &FileState, snapshot: &Snapshot, digests: &TableDigests, differing: &[PathBuf]) -> Self {
        let spec = file.active.table;
        let table = spec.and_then(|spec| snapshot.table(spec));
        Self {
            path: file.active.path.to_string_lossy().into_owned(),
            map: spec.map(|spec| spec.label.to_owned()),
            digest: match table {
                Some(table) if file.active.is_readable => digests.digest(table),
                _ => file.active.digest.clone(),
            },
            stat: file.read.map(|version| version.to_string()),
            active: file.is_active,
            entries: table.map(|table| table.len()),
            valid: file.invalid.is_none(),
            differs: differing.contains(&file.active.path),
            invalid_since: file.invalid.as_ref().map(|invalid| time(invalid.since)),
            problem: file.invalid.as_ref().map(problem),
        }
    }
}

/// Returns a line for each file that is not valid, and for each error that belongs to no file.
pub(super) fn not_ready_reasons(report: &StatusReport) -> Vec<String> {
    let files = report.files.iter().filter_map(invalid_line);
    let errors = report
        .findings
        .with_severity(Severity::Error)
        .filter(|finding| !matches!(finding.place, Place::File(..)));
    files.chain(errors.map(ToString::to_string)).collect()
}

fn invalid_line(file: &FileState) -> Option<String> {
    let invalid = file.invalid.as_ref()?;
    let path = printable_path(&file.active.path);
    let since = format_rfc3339_seconds(invalid.since);
    Some(format!("{path}: invalid since {since}: {}", problem(invalid)))
}

/// Describes why a file is not valid.
pub(super) fn problem(invalid: &Invalid) -> String {
    match (invalid.errors, &invalid.first) {
        (0, _) => "not used until the errors of the other files are fixed".to_owned(),
        (1, Some(first)) => first.to_string(),
        (errors, Some(first)) => format!("{errors} errors; the first: {first}"),
        (errors, None) => format!("errors: {errors}"),
    }
}

fn time(time: SystemTime) -> String {
    format_rfc3339_millis(time).to_string()
}

/// The digests of tables, each made at its first request: for a large table that takes longer than an edit.
#[derive(Default)]
pub(crate) struct TableDigests {
    /// By file name.
    known: Mutex<HashMap<&'static str, Known>>,
}

#[derive(Default)]
struct Known {
    table: Weak<Table>,
    digest: Option<String>,
}

impl TableDigests {
    fn digest(&self, table: &Arc<Table>) -> Option<String> {
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
