//! Reloading: detects changes of the files, reads them, evaluates them, and applies or rejects the result.
//!
//! One thread does all of it; lookups run on another. It sleeps until a trigger (inotify, SIGHUP) or the next poll,
//! waits for further changes (`debounce`), and reads all files ([`load`]). `decision`, which has the rules and uses no
//! file, clock or log, says what follows: nothing, where the files equal the active configuration; or they are
//! evaluated ([`evaluate`]) and become the next snapshot; or they are rejected, the last good snapshot stays active,
//! and the errors are logged once. A file that is missing, empty, open for writing or always changing keeps its active
//! content; after a moment the other files are applied without it (`waits`). The result of each reload is recorded in
//! [`reload_status`].
//!
//! Limits: a file that is open for writing is read when it is closed, or after
//! [`crate::config::ReloadTiming::writer_timeout`]. Where the kernel reports no changes, polling finds a change within
//! [`crate::config::ReloadTiming::poll_interval`] (`poll`); whether its writer is done is then unknown.

mod debounce;
mod decision;
mod disk_comparison;
pub(crate) mod evaluate;
pub(crate) mod load;
mod path_walk;
mod poll;
mod polling_reason;
mod reload_log;
mod reload_queue;
pub(crate) mod reload_status;
mod source_file;
mod tls_conflicts;
mod waits;
mod watch;

use std::hash::RandomState;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::config::{Settings, Sources, setting};
use crate::diagnostics::Findings;
use crate::lookup::history::History;
use crate::lookup::relay_tls::RelayTls;
use crate::lookup::snapshot::{ActiveSnapshot, Snapshot};
use crate::os::allocator;
use crate::os::printable::printable_path;
use crate::os::priority::lower_thread_priority;
use debounce::{DEBOUNCE_MAX, debounce};
use decision::{Action, Cause, Decision, Outcome, SourceState, Timing, Verdict};
use disk_comparison::LastRead;
use evaluate::LoadedConfig;
use load::RawSources;
use poll::Poll;
pub(crate) use reload_log::log_finding;
use reload_log::{finding_of_wait, log_findings, log_snapshot};
use reload_queue::{ReloadQueue, Trigger};
use reload_status::ReloadStatus;
use waits::{Awaited, GROUP_WAIT};
use watch::Watch;

/// Keeps the snapshot up to date, once it is started.
pub(crate) struct Reloader {
    sources: Sources,
    queue: Arc<ReloadQueue>,
    watch: Watch,
    /// The results of reloads, for status and metrics.
    status: Arc<ReloadStatus>,
    /// Makes the digests. The same for all reads, because digests are compared with those of the active configuration.
    hasher: RandomState,
    /// The settings at the start. Some of them take effect on restart only.
    started_with: Settings,
    /// The settings of the active configuration.
    settings: Settings,
    /// Decides what follows each read.
    decision: Decision,
    /// The sources of the active snapshot.
    active: RawSources,
    poll: Poll,
}

/// Controls the thread of a [`Reloader`]. Dropping it stops the thread and waits for its end.
pub(crate) struct ReloadHandle {
    queue: Arc<ReloadQueue>,
    thread: Option<JoinHandle<()>>,
}

impl ReloadHandle {
    /// Requests a reload and returns the number of the request, for [`reload_status::Progress`]. Never blocks.
    #[must_use]
    pub(crate) fn request_reload(&self) -> u64 {
        self.queue.request_reload()
    }
}

impl Drop for ReloadHandle {
    fn drop(&mut self) {
        self.queue.notify(Trigger::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread is logged already.
            let _ = thread.join();
        }
    }
}

impl Reloader {
    /// Reads everything for the first time. Returns the snapshot, even with errors, which are logged. `settings` are
    /// those that the server starts with, `logged` their findings, which the log has already.
    #[must_use]
    pub(crate) fn load_initial(sources: Sources, settings: Settings, logged: &Findings) -> (Self, Snapshot) {
        let started = Instant::now();
        let queue = Arc::new(ReloadQueue::default());
        let hasher = RandomState::new();
        let mut watch = Watch::new(Arc::clone(&queue));
        // Watched before the read, so that no change and no writer is missed.
        watch.update(&load::paths(&sources));
        let mut raw = load::read(&sources, &hasher, None);
        let loaded = raw.evaluate(&sources, None);
        let errors = loaded.findings.errors();
        let logged = logged.iter().map(ToString::to_string).collect();
        let mut decision = Decision::new(load::roles(&sources), raw.digests.clone(), logged);
        log_findings(&loaded.findings, &mut decision);
        decision.after_evaluation(errors, true, raw.loss_changes_answers(&loaded.snapshot));
        raw.set_default_relay(&loaded.snapshot.default, loaded.default_findings);
        log_snapshot(&loaded.snapshot, &loaded.findings, started.elapsed());
        let status = Arc::new(ReloadStatus::new(loaded.versions, loaded.findings));
        status.record_versions(&raw.version_ids(), &[]);
        status.record_read(LastRead {
            differs: vec![false; raw.digests.len()],
            stats: raw.stats.clone(),
        });
        let reloader = Self {
            sources,
            queue,
            watch,
            status,
            poll: Poll::new(&raw),
            active: raw,
            decision,
            hasher,
            settings: settings.clone(),
            started_with: settings,
        };
        if errors > 0 {
            error!(
                errors,
                "started with errors; lookups that depend on them return a temporary error until they are fixed"
            );
        }
        (reloader, loaded.snapshot)
    }

    /// Returns what is read.
    #[must_use]
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Returns the results of reloads.
    #[must_use]
    pub(crate) fn status(&self) -> Arc<ReloadStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread, which from now on publishes snapshots in `active_snapshot`.
    pub(crate) fn start(self, active_snapshot: Arc<ActiveSnapshot>) -> io::Result<ReloadHandle> {
        let queue = Arc::clone(&self.queue);
        let thread = thread::Builder::new()
            .name("reload".into())
            .spawn(move || self.run(&active_snapshot))?;
        Ok(ReloadHandle {
            queue,
            thread: Some(thread),
        })
    }

    fn run(mut self, active_snapshot: &ActiveSnapshot) {
        lower_thread_priority();
        loop {
            let timing = self.settings.reload_timing;
            let now = Instant::now();
            let next = self.decision.deadline(self.timing(), now);
            let deadline = next.into_iter().fold(now + timing.poll_interval, Instant::min);
            let deadline = self
                .expire_history(active_snapshot)
                .into_iter()
                .fold(deadline, Instant::min);
            let trigger = self.queue.wait(deadline);
            let writer_wait = GROUP_WAIT.min(timing.writer_timeout);
            let trigger = debounce(&self.queue, trigger, writer_wait, DEBOUNCE_MAX);
            if trigger == Some(Trigger::Stop) {
                return;
            }
            // Requests up to here are answered by the read that follows.
            let requests = (trigger == Some(Trigger::Reload)).then(|| self.queue.request_count());
            let check = || {
                self.watch.update(&load::paths(&self.sources));
                self.check(trigger, active_snapshot);
            };
            if catch_unwind(AssertUnwindSafe(check)).is_err() {
                // The panic hook has logged where. The thread must go on, or no edit would ever take effect again.
                error!("internal error while reloading (please report it); keeping the active configuration");
                self.status.record_failed();
            }
            self.status.finish_reload(requests);
        }
    }

    fn timing(&self) -> Timing {
        Timing {
            empty_grace: self.settings.reload_timing.empty_grace,
            writer_timeout: self.settings.reload_timing.writer_timeout,
        }
    }

    /// Drops edits from the history that are older than `reload.in_flight`, and the TLS of next hops that they removed.
    /// Returns when the next one expires.
    fn expire_history(&self, active_snapshot: &ActiveSnapshot) -> Option<Instant> {
        let window = self.settings.reload_timing.in_flight;
        let now = Instant::now();
        let current = active_snapshot.load_full();
        let next_expiry = |history: &History, relay_tls: &RelayTls| {
            let both = [history.expires(window), relay_tls.expires()];
            both.into_iter().flatten().min()
        };
        let expires = next_expiry(&current.history, &current.relay_tls)?;
        if expires > now {
            return Some(expires);
        }
        let history = current.history.without_expired(now, window);
        let relay_tls = current.relay_tls.without_expired(now);
        let expires = next_expiry(&history, &relay_tls);
        let next = current.with_history(history, relay_tls);
        drop(current);
        drop_when_unused(active_snapshot.publish(next));
        expires
    }

    /// Reloads if there is a trigger, or if files may have changed.
    fn check(&mut self, trigger: Option<Trigger>, active_snapshot: &ActiveSnapshot) {
        let is_watched = self.watch.is_reliable();
        let timing = self.settings.reload_timing;
        let may_have_changed = trigger.is_some()
            || self.decision.is_waiting()
            || self
                .poll
                .may_have_changed(&self.sources, &self.queue, timing, is_watched);
        if !may_have_changed {
            if is_watched {
                self.status.record_no_change();
            }
            return;
        }
        self.reload(trigger, active_snapshot);
        // In every case: sources that were read and not applied take as much memory as the active ones.
        allocator::trim();
    }

    /// Reads all sources, and waits, keeps or applies, as the decision says.
    fn reload(&mut self, trigger: Option<Trigger>, active_snapshot: &ActiveSnapshot) {
        let started = Instant::now();
        let cause = match trigger {
            None => Cause::Poll,
            Some(Trigger::Changed) => Cause::Change,
            Some(Trigger::Reload | Trigger::Stop) => Cause::Request,
        };
        let active = active_snapshot.load();
        let mut raw = load::read(&self.sources, &self.hasher, Some(&active));
        let now = Instant::now();
        let (digests, stats) = (raw.digests.clone(), raw.stats.clone());
        let seen = self.seen(&raw);
        self.drop_slow_writers(now);
        let Outcome {
            action,
            mut is_held,
            awaited,
        } = self.decision.after_read(&seen, cause, self.timing(), now);
        self.report_waits(&awaited);
        let version_ids = raw.version_ids();
        match action {
            Action::Unchanged { is_return, is_reload } => {
                if is_return {
                    info!(
                        active_generation = active.generation,
                        "files match the active configuration again"
                    );
                }
                self.status.record_unchanged(is_reload);
            }
            Action::StillRejected { is_reload: true } => self.status.record_failed(),
            Action::StillRejected { is_reload: false } => {}
            Action::Wait => {
                debug!("changed files are waiting for a file that is not usable yet");
                is_held.fill(true);
            }
            Action::Evaluate => {
                for (file, _) in is_held.iter().enumerate().filter(|(_, is_held)| **is_held) {
                    raw.hold(file, &self.active);
                }
                let loaded = raw.evaluate(&self.sources, Some(&active));
                drop(active);
                self.apply(loaded, raw, started, active_snapshot);
            }
        }
        // After the outcome: a client that finds its version here finds the outcome for it, too.
        self.status.record_versions(&version_ids, &is_held);
        // A file that is held differs, although its active content was applied again.
        let both = digests.iter().zip(&self.active.digests);
        self.status.record_read(LastRead {
            differs: both.map(|(read, active)| read != active).collect(),
            stats,
        });
    }

    /// Returns what the last read saw of each file.
    fn seen(&mut self, raw: &RawSources) -> Vec<SourceState> {
        let mut seen = self.poll.record_read(raw);
        // A program may have started to write during the read, and have paused.
        for (name, since) in self.queue.writers() {
            for file in self.watch.files_of(&name) {
                if let Some(seen) = seen.get_mut(file) {
                    seen.written_since = seen.written_since.max(Some(since));
                }
            }
        }
        if self.queue.incomplete_until().is_some() {
            // A program may be writing whose events were lost.
            for seen in &mut seen {
                seen.is_unsettled |= !seen.is_unchanged;
            }
        }
        seen
    }

    /// Stops waiting for writers beyond the writer timeout. A further write of the same program starts a new wait.
    fn drop_slow_writers(&self, now: Instant) {
        let timeout = self.settings.reload_timing.writer_timeout;
        self.queue.retain_writers(|_, since| now < since + timeout);
    }

    /// Reports files that are overdue, and logs all files that are waited for if the reload was requested.
    fn report_waits(&self, awaited: &[Awaited]) {
        let paths = load::paths(&self.sources);
        let mut overdue = vec![None; paths.len()];
        let mut to_log = Vec::new();
        for wait in awaited {
            let (Some(path), Some(overdue_finding)) = (paths.get(wait.source), overdue.get_mut(wait.source))
            else {
                continue;
            };
            let finding = finding_of_wait(path, wait.reason);
            if wait.is_new {
                self.status.record_failed();
            }
            if wait.is_to_log {
                to_log.push(finding.clone());
            }
            if wait.is_overdue {
                *overdue_finding = Some(finding);
            }
        }
        // Recorded before it is logged, as in `apply`.
        self.status.set_waiting(overdue);
        to_log.iter().for_each(log_finding);
    }

    /// Publishes the new snapshot, or keeps the active one.
    fn apply(
        &mut self,
        loaded: LoadedConfig,
        mut raw: RawSources,
        started: Instant,
        active_snapshot: &ActiveSnapshot,
    ) {
        let current = active_snapshot.load();
        let generation = current.generation;
        let findings = Arc::new(loaded.findings);
        let errors = findings.errors();
        // Each outcome is recorded before it is logged: who reads the log and then asks for the status finds it there.
        let is_unpaired = match self.decision.after_evaluation(
            errors,
            loaded.are_settings_valid,
            raw.loss_changes_answers(&loaded.snapshot),
        ) {
            Verdict::Apply { is_unpaired } => is_unpaired,
            Verdict::Same => {
                self.status.record_unchanged(true);
                log_findings(&findings, &mut self.decision);
                info!(
                    active_generation = generation,
                    errors, "reload requested, nothing changed"
                );
                return;
            }
            Verdict::Reject => {
                self.status.record_rejected(&loaded.versions, &findings);
                log_findings(&findings, &mut self.decision);
                error!(
                    active_generation = generation,
                    errors, "reload rejected, keeping the active configuration"
                );
                return;
            }
        };
        self.warn_restart_needed(&loaded.settings);
        self.settings = loaded.settings;
        let (now, window) = (Instant::now(), self.settings.reload_timing.in_flight);
        let history = current.history.with_edit(
            generation,
            current.tables_to_remember(),
            loaded.snapshot.tracked_tables(),
            now,
            window,
        );
        let relay_tls = RelayTls::clone(&loaded.snapshot.relay_tls);
        let relay_tls = relay_tls.remembering(&current.relay_tls, now, window);
        let last_consistent = is_unpaired.then(|| current.consistent_tables());
        drop(current);
        raw.set_default_relay(&loaded.snapshot.default, loaded.default_findings);
        self.active = raw;
        let snapshot = Snapshot {
            generation: generation + 1,
            history,
            relay_tls: relay_tls.into(),
            last_consistent,
            ..loaded.snapshot
        };
        let before = active_snapshot.publish(snapshot);
        self.status.record_applied(loaded.versions, Arc::clone(&findings));
        log_findings(&findings, &mut self.decision);
        log_snapshot(&active_snapshot.load(), &findings, started.elapsed());
        drop_when_unused(before);
    }

    /// Logs the changed settings that take effect on restart only.
    fn warn_restart_needed(&self, settings: &Settings) {
        let now = setting::keys_needing_restart(settings, &self.settings);
        for name in setting::keys_needing_restart(settings, &self.started_with) {
            if now.contains(&name) {
                let file = printable_path(self.sources.settings_file());
                warn!(%file, setting = %name, "changed setting takes effect on restart");
            }
        }
    }
}

/// Drops a snapshot in this thread: wiping and freeing a large one takes milliseconds, which lookups must not pay. A
/// lookup that still uses it ends within microseconds.
fn drop_when_unused(snapshot: Arc<Snapshot>) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while Arc::strong_count(&snapshot) > 1 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    drop(snapshot);
}
