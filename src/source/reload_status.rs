//! The results of reloads: written by the reload thread, read by status, metrics and systemd's notifications.
//!
//! It describes the files as they are now, active or not. A file is valid if it has no error and its content is active;
//! otherwise the status has the reason, and since when. A file that is missing, empty or still being written keeps its
//! last state until it is used, or until that takes too long (`super::waits`): then it is not valid.
//!
//! No text of a file comes here: findings never quote, and digests are made by [`crate::os::digest`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use super::disk_comparison::{DiskComparison, LastRead};
use crate::diagnostics::{Finding, Findings, Place, Severity};
use crate::lookup::table::spec::TableSpec;
use crate::os::version_id::VersionId;

/// The outcome of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReloadOutcome {
    /// The sources became active.
    Changed,
    /// The sources were active already.
    Unchanged,
    /// The sources have errors, whether they became active or not, or could not be read as of one moment.
    Failed,
}

impl ReloadOutcome {
    /// All outcomes, in the order of their discriminants.
    pub(crate) const ALL: [Self; 3] = [Self::Changed, Self::Unchanged, Self::Failed];

    /// Returns the label of the metric, and the name in `/status`.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// One version of a file.
#[derive(Clone, Debug)]
pub(crate) struct FileVersion {
    /// The path of the file.
    pub path: PathBuf,
    /// The table that it is, if it is one.
    pub table: Option<&'static TableSpec>,
    /// Whether it existed and could be read.
    pub is_readable: bool,
    /// Equal for equal contents.
    pub content: u64,
    /// Its digest for `/status`, except for a table: that is made of the table on request.
    pub digest: Option<String>,
    /// How many errors its table has. May exceed the findings, of which the number is limited.
    pub table_errors: usize,
}

/// The state of a file.
#[derive(Clone, Debug)]
pub(crate) struct FileState {
    /// Its active version.
    pub active: FileVersion,
    /// The version that was read last, whose outcome this state has. `None` if there was no file.
    pub read: Option<VersionId>,
    /// Whether that version is active, with or without errors.
    pub is_active: bool,
    /// Why its present version is not valid. `None` if it is.
    pub invalid: Option<Invalid>,
}

/// Why a file is not valid.
#[derive(Clone, Debug)]
pub(crate) struct Invalid {
    /// Since when it has not been valid.
    pub since: SystemTime,
    /// How many errors it has. 0 means that it waits for other files.
    pub errors: usize,
    /// The first of its errors.
    pub first: Option<Finding>,
}

/// The result of a reload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reload {
    /// Its outcome.
    pub outcome: ReloadOutcome,
    /// When it ended.
    pub at: SystemTime,
}

/// The reload status at one moment.
#[derive(Clone)]
pub(crate) struct StatusReport {
    /// How many reloads had which outcome, in the order of [`ReloadOutcome::ALL`], without the read at the start.
    pub reloads: [u64; ReloadOutcome::ALL.len()],
    /// The last reload. Until there is one, the read at the start.
    pub last_reload: Reload,
    /// When the files were last known to be without error and active.
    pub last_success: Option<SystemTime>,
    /// Since when the active snapshot has been active.
    pub active_since: SystemTime,
    /// All files, in the order of [`super::load::paths`].
    pub files: Vec<FileState>,
    /// The findings of the last read.
    pub findings: Arc<Findings>,
}

impl StatusReport {
    /// Returns whether every file is valid.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.findings.errors() == 0 && self.files.iter().all(|file| file.invalid.is_none())
    }

    /// Returns whether the files have errors and are active nevertheless.
    #[must_use]
    pub(crate) fn errors_are_active(&self) -> bool {
        self.findings.errors() > 0 && self.files.iter().all(|file| file.is_active)
    }

    /// Returns how many reloads had this outcome.
    #[must_use]
    pub(crate) fn reloads(&self, outcome: ReloadOutcome) -> u64 {
        self.reloads.get(outcome as usize).copied().unwrap_or_default()
    }

    fn count(&mut self, outcome: ReloadOutcome, at: SystemTime) {
        if let Some(count) = self.reloads.get_mut(outcome as usize) {
            *count += 1;
        }
        self.last_reload = Reload { outcome, at };
    }

    fn set_files(
        &mut self,
        read: &[FileVersion],
        active: &[FileVersion],
        findings: &Arc<Findings>,
        now: SystemTime,
    ) {
        let files = read
            .iter()
            .zip(active)
            .enumerate()
            .map(|(number, (version, active))| {
                let (errors, first) = file_errors(version, read, findings);
                let is_valid = errors == 0 && version.content == active.content;
                let before = self.files.get(number).and_then(|file| file.invalid.as_ref());
                FileState {
                    active: active.clone(),
                    read: self.files.get(number).and_then(|file| file.read),
                    is_active: version.content == active.content,
                    invalid: (!is_valid).then(|| Invalid {
                        since: before.map_or(now, |invalid| invalid.since),
                        errors,
                        first: first.cloned(),
                    }),
                }
            });
        self.files = files.collect();
        self.findings = Arc::clone(findings);
        if self.is_ready() {
            self.last_success = Some(now);
        }
    }
}

/// Returns how many errors a file has, and the first. An error that belongs to no file, such as a missing directory,
/// counts for each table.
fn file_errors<'f>(
    version: &FileVersion,
    all: &[FileVersion],
    findings: &'f Findings,
) -> (usize, Option<&'f Finding>) {
    let is_own = |finding: &&Finding| match &finding.place {
        _ if finding.severity != Severity::Error => false,
        Place::File(path, _) if *path == version.path => true,
        Place::File(path, _) => version.table.is_some() && all.iter().all(|other| other.path != *path),
        Place::Setting(_) | Place::Parameter { .. } => false,
    };
    let listed = findings.iter().filter(is_own).count();
    (listed.max(version.table_errors), findings.iter().find(is_own))
}

/// How many reloads and requests are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many reloads there were, without the read at the start.
    pub reloads: u64,
    /// The number of the last request that is answered.
    pub requests: u64,
}

/// The reload status, shared between threads.
pub(crate) struct ReloadStatus {
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    disk: DiskComparison,
}

struct State {
    report: StatusReport,
    active: Vec<FileVersion>,
    /// The findings of the active configuration.
    active_findings: Arc<Findings>,
    /// For each file, the finding if it is overdue, and since when.
    waiting: Vec<Option<(SystemTime, Finding)>>,
}

impl ReloadStatus {
    /// Starts with the first read, which is active even with errors.
    pub(super) fn new(read: Vec<FileVersion>, findings: Findings) -> Self {
        let now = SystemTime::now();
        let findings = Arc::new(findings);
        let mut report = StatusReport {
            reloads: [0; ReloadOutcome::ALL.len()],
            last_reload: Reload {
                outcome: outcome_of(ReloadOutcome::Changed, &findings),
                at: now,
            },
            last_success: None,
            active_since: now,
            files: Vec::new(),
            findings: Arc::clone(&findings),
        };
        report.set_files(&read, &read, &findings, now);
        Self {
            state: Mutex::new(State {
                report,
                active: read,
                active_findings: findings,
                waiting: Vec::new(),
            }),
            progress: watch::Sender::default(),
            disk: DiskComparison::default(),
        }
    }

    /// Returns a receiver that is notified when a reload ends. Its result is then in [`Self::report`].
    #[must_use]
    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Notifies the receivers if a reload ended, or if `requests` is a new number of answered requests.
    pub(super) fn finish_reload(&self, requests: Option<u64>) {
        let reloads = self.lock().report.reloads.iter().sum();
        self.progress.send_if_modified(|progress| {
            let now = Progress {
                reloads,
                requests: requests.unwrap_or(progress.requests),
            };
            std::mem::replace(progress, now) != now
        });
    }

    /// Returns the current status. A file whose wait is overdue is not valid.
    #[must_use]
    pub(crate) fn report(&self) -> StatusReport {
        let state = self.lock();
        let mut report = state.report.clone();
        for (file, waiting) in report.files.iter_mut().zip(&state.waiting) {
            if let (None, Some((since, finding))) = (&file.invalid, waiting) {
                file.invalid = Some(Invalid {
                    since: *since,
                    errors: 1,
                    first: Some(finding.clone()),
                });
            }
        }
        report
    }

    /// Records what a read saw, after its result was applied or not.
    pub(super) fn record_read(&self, last_read: LastRead) {
        self.disk.record(last_read);
    }

    /// Returns the files that differ from the active configuration, or have changed since the last read. Reads metadata, which
    /// may take long on a network.
    #[must_use]
    pub(crate) fn differing_files(&self) -> Vec<PathBuf> {
        let files = self.lock().active.iter().map(|file| file.path.clone()).collect();
        self.disk.differing(files)
    }

    /// Sets for each file the finding if it is overdue, in the order of [`super::load::paths`].
    pub(super) fn set_waiting(&self, reasons: Vec<Option<Finding>>) {
        let mut state = self.lock();
        let before = std::mem::take(&mut state.waiting);
        let before = before.into_iter().chain(std::iter::repeat(None));
        let waiting = reasons.into_iter().zip(before).map(|(reason, before)| {
            let since = before.map_or_else(SystemTime::now, |(since, _)| since);
            Some((since, reason?))
        });
        state.waiting = waiting.collect();
    }

    /// Records which version of each file was read, except those that are held, in the order of [`super::load::paths`].
    /// The outcome must have been recorded already.
    pub(super) fn record_versions(&self, read: &[Option<VersionId>], is_held: &[bool]) {
        let mut state = self.lock();
        let is_held = is_held.iter().copied().chain(std::iter::repeat(false));
        for ((file, read), is_held) in state.report.files.iter_mut().zip(read).zip(is_held) {
            if !is_held {
                file.read = *read;
            }
        }
    }

    /// Records that the sources became active.
    pub(super) fn record_applied(&self, read: Vec<FileVersion>, findings: Arc<Findings>) {
        let now = SystemTime::now();
        let mut state = self.lock();
        state.active = read;
        state.active_findings = findings;
        state.report.active_since = now;
        state.set_active(now);
        let outcome = outcome_of(ReloadOutcome::Changed, &state.active_findings);
        state.report.count(outcome, now);
    }

    /// Records that the sources have errors and were rejected.
    pub(super) fn record_rejected(&self, read: &[FileVersion], findings: &Arc<Findings>) {
        let now = SystemTime::now();
        let mut state = self.lock();
        let State { report, active, .. } = &mut *state;
        report.set_files(read, active, findings, now);
        report.count(ReloadOutcome::Failed, now);
    }

    /// Records that the sources equal the active ones. `is_reload` says whether this was a reload, and not only a poll.
    pub(super) fn record_unchanged(&self, is_reload: bool) {
        let now = SystemTime::now();
        let mut state = self.lock();
        state.set_active(now);
        if is_reload {
            let outcome = outcome_of(ReloadOutcome::Unchanged, &state.active_findings);
            state.report.count(outcome, now);
        }
    }

    /// Records that nothing could be read as of one moment, or that the sources equal those that were rejected.
    pub(super) fn record_failed(&self) {
        self.lock().report.count(ReloadOutcome::Failed, SystemTime::now());
    }

    /// Records a poll that found no change.
    pub(super) fn record_no_change(&self) {
        let mut state = self.lock();
        if state.report.is_ready() && state.waiting.iter().all(Option::is_none) {
            state.report.last_success = Some(SystemTime::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sets the state of every file to its active version.
    fn set_active(&mut self, now: SystemTime) {
        self.report
            .set_files(&self.active, &self.active, &self.active_findings, now);
    }
}

/// Returns the outcome of a reload with these findings, which without errors would be `without_error`.
fn outcome_of(without_error: ReloadOutcome, findings: &Findings) -> ReloadOutcome {
    if findings.errors() > 0 {
        ReloadOutcome::Failed
    } else {
        without_error
    }
}

#[cfg(test)]
mod tests;
