//! The active tables on the disk: they are flushed after a publication, restored if another program removes or changes them, and what
//! cannot be done is tried again after a wait.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::backoff::Backoff;
use super::outage::Outage;
use crate::directory::{Directory, DirectoryError, DirectoryErrorKind, Place, Restored};
use crate::status::Status;

/// How long after a publication its files are flushed to the disk, which would delay the next one; and the longest time until then
/// if there are always more.
const SYNC_DELAY: Duration = Duration::from_secs(1);
const MAX_SYNC_DELAY: Duration = Duration::from_secs(10);

/// The first and the longest wait for the disk. Each attempt reads whole tables.
pub(super) const DISK_WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// The interval of the checks whether the active files are unchanged. By default, the server treats a table that is missing as
/// one without entries after five seconds.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The directory, and what is to be done there.
pub(super) struct ActiveTables {
    pub(super) directory: Directory,
    status: Arc<Status>,
    backoff: Backoff,
    outage: Outage,
    /// When tables may be written again after an error.
    retry: Option<Instant>,
    /// When the active tables are flushed to the disk, if they are not, and since when they have not been.
    sync_at: Option<Instant>,
    unsynced_since: Option<Instant>,
    /// When files that could not be restored are looked at again.
    check_at: Option<Instant>,
    check_backoff: Backoff,
    loss: Outage,
}

impl ActiveTables {
    pub(super) fn new(directory: Directory, status: Arc<Status>) -> Self {
        Self {
            directory,
            status,
            backoff: Backoff::new(DISK_WAITS),
            outage: Outage::default(),
            retry: None,
            sync_at: None,
            unsynced_since: None,
            check_at: None,
            check_backoff: Backoff::new(DISK_WAITS),
            loss: Outage::default(),
        }
    }

    /// Takes care of the active tables while something else is waited for.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = sleep(CHECK_INTERVAL) => self.tick(),
            }
        }
    }

    /// Restores the active tables and flushes them, if that is due.
    pub(super) fn tick(&mut self) {
        self.check();
        if self.sync_at.is_some_and(|at| at <= Instant::now()) && self.may_try() {
            self.sync();
        }
    }

    /// Returns when there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let sync_at = self.sync_at.filter(|_| self.may_try());
        self.retry.into_iter().chain(sync_at).min()
    }

    /// Whether tables may be written: no wait after an error is under way.
    pub(super) fn may_try(&self) -> bool {
        self.retry.is_none_or(|retry| retry <= Instant::now())
    }

    /// Whether files are missing or changed and could not be restored, so that they must be published again.
    pub(super) fn are_damaged(&self) -> bool {
        self.check_at.is_some()
    }

    /// Records that other files are active.
    pub(super) fn replaced(&mut self) {
        self.flush_after(SYNC_DELAY);
    }

    /// Records a successful publication, also one of the same files.
    pub(super) fn published(&mut self) {
        self.retry = None;
        self.end_damage();
        if self.sync_at.is_none_or(|at| at <= Instant::now()) {
            self.sync();
        }
    }

    /// Records an error of the disk.
    pub(super) fn failed(&mut self, error: &DirectoryError) {
        self.retry = Some(self.begin_outage(error));
    }

    /// Returns when to try again.
    fn begin_outage(&mut self, error: &DirectoryError) -> Instant {
        if self.outage.begin() {
            error!(%error, "the tables cannot be written to the disk; trying again");
        }
        Instant::now() + self.backoff.wait()
    }

    /// Flushes the active tables to the disk, unless they are. An error leaves that to a later attempt.
    fn sync(&mut self) {
        let synced = if self.sync_at.is_some() {
            self.directory.sync()
        } else {
            Ok(())
        };
        match synced {
            Ok(()) => {
                self.sync_at = None;
                self.unsynced_since = None;
                self.retry = None;
                self.backoff.reset();
                if let Some(away) = self.outage.end() {
                    info!(?away, "the directory can be written again");
                }
            }
            Err(error) => {
                // Other tables can be published meanwhile.
                self.sync_at = Some(self.begin_outage(&error));
                self.status.failed(&error);
            }
        }
    }

    fn flush_after(&mut self, delay: Duration) {
        let now = Instant::now();
        let since = *self.unsynced_since.get_or_insert(now);
        self.sync_at = Some((now + delay).min(since + MAX_SYNC_DELAY));
    }

    /// Restores the active files, if another program has removed or changed them.
    fn check(&mut self) {
        let is_due = self.check_at.is_none_or(|at| at <= Instant::now());
        if !is_due || !self.may_try() {
            return;
        }
        if self.directory.is_intact() {
            if self.are_damaged() {
                self.end_damage();
                self.sync();
            }
            return;
        }
        match self.directory.restore() {
            Ok(restored) => {
                if restored == Restored::Changed {
                    warn!("files of the directory had been removed or changed, and are restored");
                    self.flush_after(Duration::ZERO);
                }
                self.end_damage();
            }
            Err(error) => {
                self.check_at = Some(Instant::now() + self.check_backoff.wait());
                if !matches!(error.kind, DirectoryErrorKind::Lost) {
                    self.failed(&error);
                } else if self.loss.begin() {
                    error!(
                        "files of the directory have been removed or changed, and no whole copy is left; publishing them again"
                    );
                }
                self.status.failed(&error);
            }
        }
    }

    fn end_damage(&mut self) {
        self.check_at = None;
        self.check_backoff.reset();
        self.loss.end();
    }
}

/// Waits until another directory has taken the place of the one that was opened.
pub(super) async fn replacement(place: &Place) -> DirectoryError {
    loop {
        match place.check() {
            Err(error) if matches!(error.kind, DirectoryErrorKind::Replaced) => return error,
            // A directory that is missing may come back.
            _ => sleep(CHECK_INTERVAL).await,
        }
    }
}
