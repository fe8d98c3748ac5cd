//! What is said of a reading: the log lines of a reload, and the finding of a file that is waited for.

use std::path::Path;
use std::time::Duration;

use tracing::{error, info, warn};

use super::decision::Decision;
use super::load;
use super::waits::Why;
use crate::diagnostics::{Code, Finding, Findings, Severity};
use crate::lookup::snapshot::Snapshot;

/// What there is to say about a file that is waited for.
pub(super) fn waited_for(path: &Path, why: Why) -> Finding {
    match why {
        Why::Changing => load::changing(path),
        Why::Written(_) => Finding::in_file(Code::FileOpenForWriting, path, None)
            .says("a program has the file open for writing, and its present content is not used yet")
            .help("let that program close it, or write a new file and rename it over this one"),
        Why::Gone => Finding::in_file(Code::FileGone, path, None)
            .says("the file is missing or empty, and what it had stays in force for now")
            .help("write it again, or leave it alone if it is to count as empty; for no entries, a comment will do"),
    }
}

/// Logs what was not logged yet.
pub(super) fn report(findings: &Findings, decision: &mut Decision) {
    let is_to_log = decision.take_news(findings.iter().map(ToString::to_string).collect());
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

/// The one line of a reload.
pub(super) fn announce(snapshot: &Snapshot, findings: &Findings, duration: Duration) {
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
