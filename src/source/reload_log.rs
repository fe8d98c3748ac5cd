//! The log lines of a reload, and the finding for a file that is waited for.

use std::path::Path;
use std::time::Duration;

use tracing::{error, info, warn};

use super::decision::Decision;
use super::load;
use super::waits::WaitReason;
use crate::diagnostics::{Code, Finding, Findings, Severity};
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::spec::RELAY_TLS;

/// Returns the finding for a file that is waited for.
pub(super) fn finding_of_wait(path: &Path, reason: WaitReason) -> Finding {
    match reason {
        WaitReason::Changing => load::changing_finding(path),
        WaitReason::OpenForWriting(_) => Finding::in_file(Code::FileOpenForWriting, path, None)
            .message("a program has the file open for writing; its current content is not used yet")
            .help("close the file in that program, or write a new file and rename it over this one"),
        WaitReason::MissingOrEmpty => Finding::in_file(Code::FileGone, path, None)
            .message("the file is missing or empty; its previous content stays active for now")
            .help("restore the file, or wait if it is meant to be empty; a file with only a comment takes effect immediately"),
    }
}

/// Logs the findings that are not logged yet. Returns whether any of them is an error.
pub(super) fn log_findings(findings: &Findings, decision: &mut Decision) -> bool {
    let is_to_log = decision.take_unlogged(findings.iter().map(ToString::to_string).collect());
    let mut has_error = false;
    for (finding, _) in findings.iter().zip(is_to_log).filter(|(_, is_to_log)| *is_to_log) {
        log_finding(finding);
        has_error |= finding.severity == Severity::Error;
    }
    if findings.dropped() > 0 {
        warn!(findings = findings.dropped(), "further findings not shown");
    }
    has_error
}

/// Logs a finding, as `FILE:LINE:COLUMN: severity: message; help`.
pub(crate) fn log_finding(finding: &Finding) {
    match finding.severity {
        Severity::Error => error!("{finding}"),
        Severity::Warning => warn!("{finding}"),
    }
}

/// Logs the new snapshot.
pub(super) fn log_snapshot(snapshot: &Snapshot, findings: &Findings, duration: Duration) {
    info!(
        generation = snapshot.generation,
        relayhost_entries = snapshot.relay_map.len(),
        sasl_entries = snapshot.credentials.len(),
        tls_entries = snapshot.table(&RELAY_TLS).map_or(0, |table| table.len()),
        errors = findings.errors(),
        warnings = findings.warnings(),
        duration_us = duration.as_micros(),
        "loaded"
    );
}

/// Logs that a snapshot with errors became active.
pub(super) fn log_active_errors(generation: u64, errors: usize) {
    error!(
        generation,
        errors,
        "applied with errors; lookups that depend on them return a temporary error until they are fixed"
    );
}
