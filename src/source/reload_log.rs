//! The log lines of a reload, and the finding for a file that is waited for.

use std::path::Path;
use std::time::Duration;

use tracing::{error, info, warn};

use super::decision::Decision;
use super::load;
use super::waits::WaitReason;
use crate::diagnostics::{Code, Finding, Findings, Severity};
use crate::lookup::snapshot::Snapshot;

/// Returns the finding for a file that is waited for.
pub(super) fn finding_of_wait(path: &Path, reason: WaitReason) -> Finding {
    match reason {
        WaitReason::Changing => load::changing_finding(path),
        WaitReason::OpenForWriting(_) => Finding::in_file(Code::FileOpenForWriting, path, None)
            .message("a program has the file open for writing, and its present content is not used yet")
            .help("let that program close it, or write a new file and rename it over this one"),
        WaitReason::MissingOrEmpty => Finding::in_file(Code::FileGone, path, None)
            .message("the file is missing or empty, and what it had stays in force for now")
            .help("write it again, or leave it alone if it is to count as empty; for no entries, a comment will do"),
    }
}

/// Logs the findings that are not logged yet.
pub(super) fn log_findings(findings: &Findings, decision: &mut Decision) {
    let is_to_log = decision.take_unlogged(findings.iter().map(ToString::to_string).collect());
    for (finding, _) in findings.iter().zip(is_to_log).filter(|(_, is_to_log)| *is_to_log) {
        match finding.severity {
            Severity::Error => error!("{finding}"),
            Severity::Warning => warn!("{finding}"),
        }
    }
    if findings.dropped() > 0 {
        warn!("and {} findings more", findings.dropped());
    }
}

/// Logs the new snapshot.
pub(super) fn log_snapshot(snapshot: &Snapshot, findings: &Findings, duration: Duration) {
    info!(
        generation = snapshot.generation,
        relayhost_entries = snapshot.relay_map.len(),
        sasl_entries = snapshot.credentials.len(),
        errors = findings.errors(),
        warnings = findings.warnings(),
        duration_us = duration.as_micros(),
        "loaded"
    );
}
