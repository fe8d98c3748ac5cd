//! The files, each with its state and its findings.

use super::Moment;
use crate::control::admin::status::{is_reported, problem};
use crate::diagnostics::{Finding, Place, Severity};
use crate::lookup::snapshot::Snapshot;
use crate::os::printable::printable_path;
use crate::source::reload_status::{FileState, StatusReport};

/// The files and all findings.
pub(super) struct Files {
    pub(super) rows: Vec<FileRow>,
    /// Findings about other things than these files.
    pub(super) others: Vec<FindingRow>,
    /// How many findings are counted and not kept.
    pub(super) dropped: usize,
}

/// A file.
pub(super) struct FileRow {
    pub(super) path: String,
    /// The map whose table it is.
    pub(super) map: Option<&'static str>,
    /// The number of entries in the active version.
    pub(super) entries: Option<usize>,
    /// `good`, `warning`, `bad` or `neutral`: a class of the style.
    pub(super) class: &'static str,
    pub(super) state: &'static str,
    /// Since when it has not been valid.
    pub(super) since: Option<Moment>,
    /// Why it is not valid, if no finding says it.
    pub(super) problem: Option<String>,
    pub(super) findings: Vec<FindingRow>,
}

/// A finding.
pub(super) struct FindingRow {
    pub(super) severity: &'static str,
    /// The line and the column of the file, or what it is about.
    pub(super) place: String,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) help: String,
}

impl Files {
    pub(super) fn new(report: &StatusReport, snapshot: &Snapshot, differing: &[String]) -> Self {
        let files: Vec<&FileState> = report.files.iter().filter(|file| is_reported(file)).collect();
        let is_about = |finding: &Finding, file: &FileState| match &finding.place {
            Place::File(path, _) => *path == file.active.path,
            Place::Setting(_) | Place::Parameter { .. } => false,
        };
        let rows = files.iter().map(|file| {
            let findings: Vec<&Finding> = report
                .findings
                .iter()
                .filter(|finding| is_about(finding, file))
                .collect();
            FileRow::new(file, &findings, snapshot, differing)
        });
        let others = report.findings.iter().filter(|finding| {
            let mut files = files.iter();
            !files.any(|file| is_about(finding, file))
        });
        Self {
            rows: rows.collect(),
            others: others
                .map(|finding| FindingRow::new(finding, finding.place.to_string()))
                .collect(),
            dropped: report.findings.dropped(),
        }
    }
}

impl FileRow {
    fn new(file: &FileState, findings: &[&Finding], snapshot: &Snapshot, differing: &[String]) -> Self {
        let path = printable_path(&file.active.path);
        let spec = file.active.table;
        let has_error = findings.iter().any(|finding| finding.severity == Severity::Error);
        let (class, state) = match &file.invalid {
            Some(_) => ("bad", "invalid"),
            None if differing.contains(&path) => ("warning", "changed, not active yet"),
            None if !file.active.is_readable => ("neutral", "missing"),
            None if !findings.is_empty() => ("warning", "valid, with warnings"),
            None => ("good", "valid"),
        };
        Self {
            map: spec.map(|spec| spec.label),
            entries: spec.and_then(|spec| Some(snapshot.table(spec)?.len())),
            class,
            state,
            since: file.invalid.as_ref().map(|invalid| Moment::new(invalid.since)),
            problem: file.invalid.as_ref().filter(|_| !has_error).map(problem),
            findings: findings
                .iter()
                .map(|finding| FindingRow::new(finding, place_in_file(finding)))
                .collect(),
            path,
        }
    }
}

fn place_in_file(finding: &Finding) -> String {
    match finding.place {
        Place::File(_, Some(at)) => format!("line {}, column {}", at.line, at.column),
        _ => "whole file".to_owned(),
    }
}

impl FindingRow {
    fn new(finding: &Finding, place: String) -> Self {
        Self {
            severity: finding.severity.as_str(),
            place,
            code: finding.code.to_string(),
            message: finding.message.clone(),
            help: finding.help.clone(),
        }
    }
}
