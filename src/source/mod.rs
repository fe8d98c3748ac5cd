//! Where the tables come from: notice, read, judge, decide, publish or keep.
//!
//! One thread does all of it, apart from the one that answers. It sleeps until a hint comes (inotify, SIGHUP) or the poll is
//! due, waits until the files have come to rest (`rest`), and reads them whole ([`load`]). What to do with them is decided
//! without a file, a clock or a log (`decision`, which has the rules): nothing, where they read as before; or they are judged
//! ([`judge`]) and become the next snapshot; or the last good one stays active, and the log says once what is wrong. A file
//! that is missing, empty, open for writing or always changing stays as it is active, and the others are used without it
//! after a moment (`waits`). What came of each reading is in the [`ledger`].
//!
//! Limits: a file that was written to is read when it is closed, or after [`crate::config::Pace::patience`]. Where the kernel reports
//! no changes, a change is found after up to [`crate::config::Pace::poll`], once nothing has changed for [`QUIET`], and nothing
//! tells whether the writer is done.

mod content;
mod decision;
mod hints;
pub(crate) mod judge;
pub(crate) mod ledger;
pub(crate) mod load;
mod report;
mod rest;
mod waits;
mod watch;
mod way;

use std::hash::RandomState;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{debug, error, info, warn};

use crate::config::{Settings, Sources, setting};
use crate::diagnostics::Findings;
use crate::lookup::snapshot::{Routes, Snapshot};
use crate::os::background::yield_to_lookups;
use crate::os::memory;
use crate::os::printable::of_path;
use decision::{Decision, Next, Outcome, Seen, Timing, Trigger, Verdict};
use hints::{Hint, Hints};
use judge::Loaded;
use ledger::Ledger;
use load::Reading;
use report::{announce, report, waited_for};
use rest::{RESTLESS_AT_MOST, rest};
use waits::{Awaited, TOGETHER};
use watch::Watch;
use way::Stamps;

/// How long nothing may change in a file of which the kernel does not report who writes to it.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// Keeps the snapshot up to date, once it is started.
pub(crate) struct Keeper {
    sources: Sources,
    hints: Arc<Hints>,
    watch: Watch,
    /// What came of each reading, for status and metrics.
    ledger: Arc<Ledger>,
    /// Makes the digests, always the same way: they are compared with those of what is in force.
    hasher: RandomState,
    /// The settings at the start, of which some cannot change.
    started_with: Settings,
    /// The settings as of the snapshot in force.
    settings: Settings,
    /// What to do after each reading.
    decision: Decision,
    /// What the snapshot in force was made of.
    in_force: Reading,
    /// The stamps of what was read last.
    stamps: Vec<Stamps>,
    /// Whether these can be trusted to change with the content.
    stamps_tell: bool,
    /// Files that still changed when the kernel did not report who writes to them.
    moving: Vec<bool>,
}

/// The thread of a [`Keeper`]. Ends, and is waited for, when dropped.
pub(crate) struct Reloader {
    hints: Arc<Hints>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    /// Asks to read again now. [`Ledger::follow`] says when the request of this number is answered.
    #[must_use]
    pub(crate) fn reread(&self) -> u64 {
        self.hints.ask()
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.hints.give(Hint::Stop);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Keeper {
    /// The first reading: the snapshot of what there is, be it with errors, which the log has then. `settings` are
    /// those with which the server starts, `said` what the log has about them already.
    #[must_use]
    pub(crate) fn first(sources: Sources, settings: Settings, said: &Findings) -> (Self, Snapshot) {
        let started = Instant::now();
        let hints = Arc::new(Hints::default());
        let hasher = RandomState::new();
        let mut watch = Watch::new(Arc::clone(&hints));
        // From before the reading, so that no change and no writer escapes.
        watch.arm(&load::paths(&sources));
        let mut reading = load::read(&sources, &hasher, None);
        let loaded = reading.judge(&sources, None);
        let errors = loaded.findings.errors();
        let said = said.iter().map(ToString::to_string).collect();
        let mut decision = Decision::new(load::roles(&sources), reading.digests.clone(), said);
        report(&loaded.findings, &mut decision);
        decision.judged(errors, reading.matters(&loaded.snapshot));
        reading.keep_default(&loaded.snapshot.default, loaded.default_findings);
        announce(&loaded.snapshot, &loaded.findings, started.elapsed());
        let keeper = Self {
            sources,
            hints,
            watch,
            ledger: Arc::new(Ledger::new(loaded.versions, loaded.findings)),
            stamps: reading.stamps.clone(),
            stamps_tell: can_be_trusted(&reading),
            moving: Vec::new(),
            in_force: reading,
            decision,
            hasher,
            settings: settings.clone(),
            started_with: settings,
        };
        if errors > 0 {
            warn!(
                "what has an error is answered with 'cannot tell' until it is mended; mail that needs it waits"
            );
        }
        (keeper, loaded.snapshot)
    }

    /// Where everything is read.
    #[must_use]
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What becomes of each reading.
    #[must_use]
    pub(crate) fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// Starts the thread that publishes in `routes` from now on.
    pub(crate) fn start(self, routes: Arc<Routes>) -> io::Result<Reloader> {
        let hints = Arc::clone(&self.hints);
        let thread = thread::Builder::new()
            .name("reload".into())
            .spawn(move || self.run(&routes))?;
        Ok(Reloader {
            hints,
            thread: Some(thread),
        })
    }

    fn run(mut self, routes: &Routes) {
        yield_to_lookups();
        loop {
            let pace = self.settings.pace;
            let now = Instant::now();
            let next = self.decision.deadline(self.timing(), now);
            let deadline = next.into_iter().fold(now + pace.poll, Instant::min);
            let deadline = self.forget(routes).into_iter().fold(deadline, Instant::min);
            let noticed = self.hints.take(deadline);
            let together = TOGETHER.min(pace.patience);
            let hint = rest(&self.hints, noticed, together, RESTLESS_AT_MOST);
            if hint == Some(Hint::Stop) {
                return;
            }
            // Those that were made by now are answered by what is read from now on.
            let requests = (hint == Some(Hint::Reread)).then(|| self.hints.requests());
            let look = || {
                self.watch.arm(&load::paths(&self.sources));
                self.look(hint, routes);
            };
            if catch_unwind(AssertUnwindSafe(look)).is_err() {
                // The hook has said where. This thread must live on, or no edit would ever count again.
                error!("reading the files failed in a way that it never should; what is in force stays so");
                self.ledger.failed();
            }
            self.ledger.ended(requests);
        }
    }

    fn timing(&self) -> Timing {
        Timing {
            grace: self.settings.pace.grace,
            patience: self.settings.pace.patience,
        }
    }

    /// Forgets the edits that are old enough, and says when the next one will be.
    fn forget(&self, routes: &Routes) -> Option<Instant> {
        let window = self.settings.pace.in_flight;
        let now = Instant::now();
        let current = routes.load_full();
        let expires = current.history.expires(window)?;
        if expires > now {
            return Some(expires);
        }
        let history = current.history.without_expired(now, window);
        let expires = history.expires(window);
        let next = current.with_history(history);
        drop(current);
        retire(routes.publish(next));
        expires
    }

    /// Reads where there may be something new, and publishes or keeps.
    fn look(&mut self, hint: Option<Hint>, routes: &Routes) {
        self.moving.clear();
        if hint.is_none() && !self.decision.is_waiting() && !self.may_have_changed_unheard() {
            if self.watch.hears_everything() {
                self.ledger.confirmed();
            }
            return;
        }
        self.read_again(hint, routes);
        // Whatever came of it: what was read and is not used takes as much memory as what is.
        memory::give_back();
    }

    fn read_again(&mut self, hint: Option<Hint>, routes: &Routes) {
        let started = Instant::now();
        let trigger = match hint {
            None => Trigger::Poll,
            Some(Hint::Changed) => Trigger::Change,
            Some(Hint::Reread | Hint::Stop) => Trigger::Request,
        };
        let in_force = routes.load();
        let mut reading = load::read(&self.sources, &self.hasher, Some(&in_force));
        let now = Instant::now();
        let seen = self.seen(&reading);
        self.forget_slow_writers(now);
        self.stamps_tell = can_be_trusted(&reading);
        self.stamps.clone_from(&reading.stamps);
        let Outcome {
            next,
            is_held,
            awaited,
        } = self.decision.read(&seen, trigger, self.timing(), now);
        self.report_waits(&awaited);
        match next {
            Next::Unchanged { is_return, is_reload } => {
                if is_return {
                    info!(
                        generation = in_force.generation,
                        "the files are again as they are in force"
                    );
                }
                self.ledger.unchanged(is_reload);
            }
            Next::StillRejected { is_reload: true } => self.ledger.failed(),
            Next::StillRejected { is_reload: false } => {}
            Next::Wait => debug!("a file changed while another is waited for; waiting for both"),
            Next::Judge => {
                for (file, _) in is_held.iter().enumerate().filter(|(_, is_held)| **is_held) {
                    reading.hold(file, &self.in_force);
                }
                let loaded = reading.judge(&self.sources, Some(&in_force));
                drop(in_force);
                report(&loaded.findings, &mut self.decision);
                self.apply_or_keep(loaded, reading, started, routes);
            }
        }
    }

    /// What this reading, the last one, saw of each file.
    fn seen(&self, reading: &Reading) -> Vec<Seen> {
        let mut seen: Vec<Seen> = reading.seen(&self.stamps);
        // A program may have begun to write while the files were read, and have paused.
        for (place, since) in self.hints.open() {
            for file in self.watch.files_at(&place) {
                if let Some(seen) = seen.get_mut(file) {
                    seen.written_since = seen.written_since.max(Some(since));
                }
            }
        }
        for (seen, is_moving) in seen.iter_mut().zip(&self.moving) {
            seen.is_unsettled |= is_moving;
        }
        seen
    }

    /// No longer waits for those writers that take longer than the patience lasts. If one goes on, it is another wait.
    fn forget_slow_writers(&self, now: Instant) {
        let patience = self.settings.pace.patience;
        self.hints.retain_open(|_, since| now < since + patience);
    }

    /// Reports what is waited for too long, and logs what is waited for where the reading was requested.
    fn report_waits(&self, awaited: &[Awaited]) {
        let paths = load::paths(&self.sources);
        let mut of_files = vec![None; paths.len()];
        for wait in awaited {
            let (Some(path), Some(of_file)) = (paths.get(wait.source), of_files.get_mut(wait.source)) else {
                continue;
            };
            let finding = waited_for(path, wait.why);
            if wait.is_news {
                self.ledger.failed();
            }
            if wait.is_to_log {
                warn!("{finding}");
            }
            if wait.is_overdue {
                *of_file = Some(finding);
            }
        }
        self.ledger.waiting(of_files);
    }

    /// Publishes what was loaded, or keeps what is in force.
    fn apply_or_keep(&mut self, loaded: Loaded, mut reading: Reading, started: Instant, routes: &Routes) {
        let current = routes.load();
        let generation = current.generation;
        let errors = loaded.findings.errors();
        let is_unpaired = match self.decision.judged(errors, reading.matters(&loaded.snapshot)) {
            Verdict::Apply { is_unpaired } => is_unpaired,
            Verdict::Same => {
                self.ledger.unchanged(true);
                info!(generation, errors, "read again: nothing changed");
                return;
            }
            Verdict::Reject => {
                self.ledger.kept(&loaded.versions, loaded.findings);
                error!(
                    generation,
                    errors, "the files have errors and are not used; generation {generation} stays in force"
                );
                return;
            }
        };
        self.name_what_needs_a_restart(&loaded.settings);
        self.settings = loaded.settings;
        let history = current.history.after(
            generation,
            current.parts_to_remember(),
            loaded.snapshot.parts(),
            Instant::now(),
            self.settings.pace.in_flight,
        );
        let last_pair = is_unpaired.then(|| current.pair());
        drop(current);
        reading.keep_default(&loaded.snapshot.default, loaded.default_findings);
        self.in_force = reading;
        let snapshot = Snapshot {
            generation: generation + 1,
            history,
            last_pair,
            ..loaded.snapshot
        };
        let before = routes.publish(snapshot);
        announce(&routes.load(), &loaded.findings, started.elapsed());
        self.ledger.published(loaded.versions, loaded.findings);
        retire(before);
    }

    /// Whether the files may be others than those that were read last, though no hint came.
    fn may_have_changed_unheard(&mut self) -> bool {
        let stamps = load::stamps(&self.sources);
        let is_as_before = self.stamps_tell && self.stamps == stamps;
        if self.watch.hears_everything() {
            return !is_as_before;
        }
        // No event says when a writer is done, so wait until nothing changes. The stamps of such a file system may
        // be out of date, and so the content decides in any case.
        if !is_as_before {
            let latest = Instant::now() + TOGETHER.min(self.settings.pace.patience);
            let mut last = stamps;
            loop {
                let quiet = QUIET.min(self.settings.pace.poll);
                if let Some(urgent @ (Hint::Reread | Hint::Stop)) = self.hints.take(Instant::now() + quiet) {
                    self.hints.give(urgent);
                    return false;
                }
                let now = load::stamps(&self.sources);
                if now == last {
                    break;
                }
                if Instant::now() >= latest {
                    self.moving = now.iter().zip(&last).map(|(now, last)| now != last).collect();
                    break;
                }
                last = now;
            }
        }
        true
    }

    /// Says which changed settings cannot count while the server runs.
    fn name_what_needs_a_restart(&self, settings: &Settings) {
        let now = setting::changed_for_the_next_start(settings, &self.settings);
        for name in setting::changed_for_the_next_start(settings, &self.started_with) {
            if now.contains(&name) {
                let file = of_path(self.sources.settings_file());
                warn!("{file}: {name} has changed, which counts after a restart");
            }
        }
    }
}

/// Drops a snapshot here, and not in a thread that answers: wiping and freeing a large one takes milliseconds. A
/// lookup that still uses it ends within microseconds.
fn retire(snapshot: Arc<Snapshot>) {
    let latest = Instant::now() + Duration::from_secs(1);
    while Arc::strong_count(&snapshot) > 1 && Instant::now() < latest {
        thread::sleep(Duration::from_millis(1));
    }
    drop(snapshot);
}

/// Whether the next poll knows by the stamps whether anything changed. A file that was changed within the last second
/// may change again without a new stamp, because the kernel's clock for files ticks slowly. One that the system failed to
/// read (out of descriptors, an error of a disk) may be read the next time with the same stamp.
fn can_be_trusted(reading: &Reading) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut times = reading.stamps.iter().flat_map(Stamps::times);
    !reading.unsettled.contains(&true) && !reading.has_failed() && times.all(|changed| changed < now - 1)
}
