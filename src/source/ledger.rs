//! What became of each reading: written by the thread that reads, read by whoever watches the server.
//!
//! It is about the files as they are now, in force or not. A file is valid if it was read without an error and what was
//! read is in force; else the ledger has since when it is not, and why. A file that has vanished, or is still being
//! written, is not judged before it is believed, and stays meanwhile what it was, unless that takes too long
//! (`super::waits`): then it is not valid.
//!
//! Nothing of a file's text comes here: a finding never quotes, and digests are made by [`crate::os::digest`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::diagnostics::{Finding, Findings, Place, Severity};
use crate::lookup::table::spec::TableSpec;

/// What a reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What was read is in force now.
    Changed,
    /// What was read was in force already.
    Unchanged,
    /// What was read has errors, or could not be read as of one moment.
    Failed,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    pub(crate) const ALL: [Self; 3] = [Self::Changed, Self::Unchanged, Self::Failed];

    /// The label.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// One file as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// Where it is.
    pub path: PathBuf,
    /// Which table it is, if it is one.
    pub table: Option<&'static TableSpec>,
    /// Whether it was there, and could be read.
    pub is_there: bool,
    /// Tells this content from another.
    pub content: u64,
    /// Its digest, where it was made already. That of a table is made from the table, when somebody asks.
    pub digest: Option<String>,
    /// How many errors its table has. The findings of a reading do not keep all.
    pub errors_of_table: usize,
}

/// How one file stands.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// The version of it that is in force.
    pub in_force: Version,
    /// Why the present version is not valid, if it is not.
    pub invalid: Option<Invalid>,
}

/// Why a file is not valid.
#[derive(Clone, Debug)]
pub(crate) struct Invalid {
    /// Since when.
    pub since: SystemTime,
    /// How many errors it has. None means that it waits for the other files.
    pub errors: usize,
    /// The first of them.
    pub first: Option<Finding>,
}

/// A reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reload {
    /// What came of it.
    pub outcome: Outcome,
    /// When that was.
    pub at: SystemTime,
}

/// The state of affairs.
#[derive(Clone)]
pub(crate) struct Account {
    /// How many readings had which outcome, in the order of [`Outcome::ALL`]. The one at the start does not count.
    pub reloads: [u64; Outcome::ALL.len()],
    /// The last reading, be it the one at the start.
    pub last: Reload,
    /// When the files were last seen to be right and in force.
    pub succeeded: Option<SystemTime>,
    /// Since when the snapshot in force is in force.
    pub loaded: SystemTime,
    /// Every file, in the order in which they are read.
    pub files: Vec<File>,
    /// What there is to say about the files as they were read last.
    pub findings: Arc<Findings>,
}

impl Account {
    /// Whether every file is valid.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.findings.errors() == 0 && self.files.iter().all(|file| file.invalid.is_none())
    }

    /// How many readings had this outcome.
    #[must_use]
    pub(crate) fn reloads(&self, outcome: Outcome) -> u64 {
        self.reloads.get(outcome as usize).copied().unwrap_or_default()
    }

    fn count(&mut self, outcome: Outcome, at: SystemTime) {
        if let Some(count) = self.reloads.get_mut(outcome as usize) {
            *count += 1;
        }
        self.last = Reload { outcome, at };
    }

    fn judge(&mut self, read: &[Version], in_force: &[Version], findings: &Arc<Findings>, now: SystemTime) {
        let files = read
            .iter()
            .zip(in_force)
            .enumerate()
            .map(|(number, (version, in_force))| {
                let (errors, first) = errors_of(version, read, findings);
                let is_valid = errors == 0 && version.content == in_force.content;
                let before = self.files.get(number).and_then(|file| file.invalid.as_ref());
                File {
                    in_force: in_force.clone(),
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
            self.succeeded = Some(now);
        }
    }
}

/// How many errors a file has, and the first of them. An error that is about no file in particular, such as a folder that
/// is not there, is one of each table.
fn errors_of<'f>(version: &Version, all: &[Version], findings: &'f Findings) -> (usize, Option<&'f Finding>) {
    let is_its = |finding: &&Finding| match &finding.place {
        _ if finding.severity != Severity::Error => false,
        Place::File(path, _) if *path == version.path => true,
        Place::File(path, _) => version.table.is_some() && all.iter().all(|other| other.path != *path),
        Place::Setting(_) | Place::Parameter { .. } => false,
    };
    let kept = findings.iter().filter(is_its).count();
    (kept.max(version.errors_of_table), findings.iter().find(is_its))
}

/// How far the readings have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many readings there were after the one at the start.
    pub readings: u64,
    /// How many of the requests to read again are answered by them.
    pub requests: u64,
}

/// The ledger.
pub(crate) struct Ledger {
    pages: Mutex<Pages>,
    progress: watch::Sender<Progress>,
}

struct Pages {
    account: Account,
    in_force: Vec<Version>,
    /// What there is to say about what is in force.
    findings_in_force: Arc<Findings>,
    /// What is waited for too long, file by file, and since when that is known.
    waiting: Vec<Option<(SystemTime, Finding)>>,
}

impl Ledger {
    /// A ledger that begins with the first reading, which is in force whatever is wrong with it.
    pub(super) fn new(read: Vec<Version>, findings: Findings) -> Self {
        let now = SystemTime::now();
        let findings = Arc::new(findings);
        let mut account = Account {
            reloads: [0; Outcome::ALL.len()],
            last: Reload {
                outcome: outcome(Outcome::Changed, &findings),
                at: now,
            },
            succeeded: None,
            loaded: now,
            files: Vec::new(),
            findings: Arc::clone(&findings),
        };
        account.judge(&read, &read, &findings, now);
        Self {
            pages: Mutex::new(Pages {
                account,
                in_force: read,
                findings_in_force: findings,
                waiting: Vec::new(),
            }),
            progress: watch::Sender::default(),
        }
    }

    /// Says when a reading has ended. What came of it is in the account by then.
    #[must_use]
    pub(crate) fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// A reading may have ended; one that `requests` answers so many requests, if it does.
    pub(super) fn ended(&self, requests: Option<u64>) {
        let readings = self.lock().account.reloads.iter().sum();
        self.progress.send_if_modified(|progress| {
            let now = Progress {
                readings,
                requests: requests.unwrap_or(progress.requests),
            };
            std::mem::replace(progress, now) != now
        });
    }

    /// The state of affairs.
    #[must_use]
    pub(crate) fn account(&self) -> Account {
        let pages = self.lock();
        let mut account = pages.account.clone();
        for (file, waiting) in account.files.iter_mut().zip(&pages.waiting) {
            if let (None, Some((since, finding))) = (&file.invalid, waiting) {
                file.invalid = Some(Invalid {
                    since: *since,
                    errors: 1,
                    first: Some(finding.clone()),
                });
            }
        }
        account
    }

    /// These files are waited for too long, for these reasons, in the order in which they are read.
    pub(super) fn waiting(&self, reasons: Vec<Option<Finding>>) {
        let mut pages = self.lock();
        let before = std::mem::take(&mut pages.waiting);
        let before = before.into_iter().chain(std::iter::repeat(None));
        let waiting = reasons.into_iter().zip(before).map(|(reason, before)| {
            let since = before.map_or_else(SystemTime::now, |(since, _)| since);
            Some((since, reason?))
        });
        pages.waiting = waiting.collect();
    }

    /// What was read is in force.
    pub(super) fn published(&self, read: Vec<Version>, findings: Findings) {
        let now = SystemTime::now();
        let mut pages = self.lock();
        pages.in_force = read;
        pages.findings_in_force = Arc::new(findings);
        pages.account.loaded = now;
        pages.as_in_force(now);
        let outcome = outcome(Outcome::Changed, &pages.findings_in_force);
        pages.account.count(outcome, now);
    }

    /// What was read has errors and is not in force.
    pub(super) fn kept(&self, read: &[Version], findings: Findings) {
        let now = SystemTime::now();
        let mut pages = self.lock();
        let Pages {
            account, in_force, ..
        } = &mut *pages;
        account.judge(read, in_force, &Arc::new(findings), now);
        account.count(Outcome::Failed, now);
    }

    /// What was read is what is in force. It counts as a reading where somebody asked for one, or something had changed.
    pub(super) fn unchanged(&self, counts: bool) {
        let now = SystemTime::now();
        let mut pages = self.lock();
        pages.as_in_force(now);
        if counts {
            let outcome = outcome(Outcome::Unchanged, &pages.findings_in_force);
            pages.account.count(outcome, now);
        }
    }

    /// Nothing could be read as of one moment, or what was wrong before was read again.
    pub(super) fn failed(&self) {
        self.lock().account.count(Outcome::Failed, SystemTime::now());
    }

    /// Nothing has changed since the last reading.
    pub(super) fn confirmed(&self) {
        let mut pages = self.lock();
        if pages.account.is_ready() && pages.waiting.iter().all(Option::is_none) {
            pages.account.succeeded = Some(SystemTime::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// The files are as they are in force.
    fn as_in_force(&mut self, now: SystemTime) {
        self.account
            .judge(&self.in_force, &self.in_force, &self.findings_in_force, now);
    }
}

/// The outcome of a reading that has these findings and, without any error, would have had that outcome.
fn outcome(without_error: Outcome, findings: &Findings) -> Outcome {
    if findings.errors() > 0 {
        Outcome::Failed
    } else {
        without_error
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, Outcome, Version};
    use crate::diagnostics::{Code, Finding, Findings};
    use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};

    fn versions(contents: [u64; 2]) -> Vec<Version> {
        let of = |path: &str, table, content| Version {
            path: path.into(),
            table: Some(table),
            is_there: true,
            content,
            digest: None,
            errors_of_table: 0,
        };
        let [relay_map, credentials] = contents;
        vec![
            of("/r", &RELAY_MAP, relay_map),
            of("/c", &CREDENTIALS, credentials),
        ]
    }

    fn error_in(path: &str) -> Findings {
        let mut findings = Findings::default();
        findings.push(Finding::in_file(Code::BadKey, std::path::Path::new(path), None));
        findings
    }

    /// Which files are not valid, with the number of their errors.
    fn invalid(ledger: &Ledger) -> Vec<(usize, usize)> {
        let files = ledger.account().files;
        let invalid = files.iter().enumerate();
        invalid
            .filter_map(|(number, file)| Some((number, file.invalid.as_ref()?.errors)))
            .collect()
    }

    #[test]
    fn a_file_is_valid_if_it_is_right_and_in_force() {
        let ledger = Ledger::new(versions([1, 1]), Findings::default());
        assert_eq!((invalid(&ledger), ledger.account().reloads), (vec![], [0, 0, 0]));
        // One is wrong, and the other, which is right, has to wait for it.
        ledger.kept(&versions([2, 2]), error_in("/r"));
        assert_eq!(invalid(&ledger), [(0, 1), (1, 0)]);
        let account = ledger.account();
        assert!(!account.is_ready() && account.last.outcome == Outcome::Failed);
        let since = |number: usize| ledger.account().files[number].invalid.as_ref().unwrap().since;
        let first = since(0);
        ledger.kept(&versions([3, 1]), error_in("/r"));
        assert_eq!(invalid(&ledger), [(0, 1)]);
        assert_eq!(since(0), first);
        ledger.unchanged(true);
        assert!(ledger.account().is_ready());
        ledger.published(versions([4, 2]), Findings::default());
        assert_eq!((invalid(&ledger), ledger.account().reloads), (vec![], [1, 1, 2]));
    }

    #[test]
    fn an_error_about_no_file_is_one_of_every_table() {
        let ledger = Ledger::new(versions([1, 1]), error_in("/folder"));
        assert_eq!(invalid(&ledger), [(0, 1), (1, 1)]);
        assert_eq!(ledger.account().last.outcome, Outcome::Failed);
        assert_eq!(ledger.account().succeeded, None);
        ledger.confirmed();
        assert_eq!(ledger.account().succeeded, None);
    }

    #[test]
    fn what_is_read_without_news_does_not_count_as_a_reading() {
        let ledger = Ledger::new(versions([1, 1]), Findings::default());
        let first = ledger.account().succeeded;
        ledger.unchanged(false);
        assert!(ledger.account().succeeded > first);
        assert_eq!(ledger.account().reloads, [0, 0, 0]);
        assert_eq!(ledger.account().last.outcome, Outcome::Changed);
    }
}
