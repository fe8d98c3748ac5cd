//! Notice, read, judge, publish or keep.
//!
//! One thread does all of it, apart from those that answer. It sleeps until a hint comes (inotify, SIGHUP) or the
//! poll is due, waits until the files have come to rest, reads them whole ([`load`]), and then:
//!
//! - what reads as before changes nothing;
//! - what is right becomes the next snapshot;
//! - what is wrong is said in the log, once, and the last good snapshot stays in force. Only where there was never
//!   a good one does a new bad one replace an old bad one, so that mending one error of two has its effect;
//! - a file that vanished, or that was cut to nothing, is believed after [`crate::config::Pace::grace`]: most programs that
//!   rewrite a file have a moment in which it is not there, or empty. A table of which only comments are left, in
//!   contrast, was written by somebody, and counts at once.
//!
//! Limits: a file that was written to is read when it is closed, or after [`crate::config::Pace::patience`]. Where the kernel reports
//! no changes, a change is found after up to [`crate::config::Pace::poll`], once nothing has changed for [`QUIET`], and nothing
//! tells whether the writer is done.

mod content;
pub mod hints;
pub mod ledger;
pub mod load;
mod rest;
mod watch;
mod way;

use std::collections::HashSet;
use std::hash::RandomState;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{debug, error, info, warn};

use crate::background::yield_to_lookups;
use crate::config::{Settings, Sources};
use crate::diagnostic::{Findings, Severity};
use crate::memory;
use crate::printable::of_path;
use crate::routes::{Routes, Snapshot};
use hints::{Hint, Hints};
use ledger::Ledger;
use load::{Gone, Loaded, Reading};
use rest::{RESTLESS_AT_MOST, rest};
use watch::Watch;
use way::Stamp;

/// How long nothing may change in a file of which the kernel does not report who writes to it.
pub const QUIET: Duration = Duration::from_secs(1);

/// Keeps the snapshot up to date, once it is started.
pub struct Keeper {
    sources: Sources,
    hints: Arc<Hints>,
    watch: Watch,
    /// What became of it all, for whoever watches.
    ledger: Arc<Ledger>,
    /// Makes the digests, always the same way: they are compared with those of what is in force.
    hasher: RandomState,
    /// The settings at the start, of which some cannot change.
    started_with: Settings,
    /// The settings as of the snapshot in force.
    settings: Settings,
    /// Whether the snapshot in force is without errors.
    good: bool,
    /// The digest of what was read last, in force or not. `None` where it was torn: it may well have the content of
    /// what is there when the files have come to rest, and was judged as if it had none.
    tried: Option<u64>,
    /// Likewise of the snapshot in force.
    current: Option<u64>,
    /// The stamps of what was read last. `None` where they cannot be trusted to change with the content.
    stamps: Option<Vec<Option<Stamp>>>,
    /// Which files are gone in what is in force.
    gone: Gone,
    /// The findings that the log has already, so that each is said once.
    reported: HashSet<String>,
    /// Those of the snapshot in force.
    reported_in_force: HashSet<String>,
    /// Since when a file is gone that is still in force.
    vanished: Option<Vanished>,
}

/// Files that are gone.
struct Vanished {
    since: Instant,
    files: Vec<Option<Stamp>>,
}

/// The thread of a [`Keeper`]. Ends, and is waited for, when dropped.
pub struct Reloader {
    hints: Arc<Hints>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    /// Asks to read again now. [`Ledger::follow`] says when the request of this number is answered.
    #[must_use]
    pub fn reread(&self) -> u64 {
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
    pub fn first(sources: Sources, settings: Settings, said: &Findings) -> (Self, Snapshot) {
        let started = Instant::now();
        let hints = Arc::new(Hints::default());
        let hasher = RandomState::new();
        let mut watch = Watch::new(Arc::clone(&hints));
        // From before the reading, so that no change and no writer escapes.
        watch.arm(&load::paths(&sources));
        let mut reading = load::read(&sources, &hasher, None);
        let stamps = trusted(&mut reading);
        let digest = (!reading.torn).then_some(reading.digest);
        let loaded = reading.judge(&sources, None);
        let good = loaded.findings.errors() == 0;
        let said = said.iter().map(ToString::to_string).collect();
        let reported = report(&loaded.findings, &said);
        announce(&loaded.snapshot, &loaded.findings, started.elapsed());
        let keeper = Self {
            sources,
            hints,
            watch,
            ledger: Arc::new(Ledger::new(loaded.versions, loaded.findings)),
            hasher,
            settings: settings.clone(),
            started_with: settings,
            gone: loaded.gone,
            good,
            tried: digest,
            current: digest,
            stamps,
            reported_in_force: reported.clone(),
            reported,
            vanished: None,
        };
        if !good {
            warn!(
                "what has an error is answered with 'cannot tell' until it is mended; mail that needs it waits"
            );
        }
        (keeper, loaded.snapshot)
    }

    /// Where everything is read.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What becomes of each reading.
    #[must_use]
    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// Starts the thread that publishes in `routes` from now on.
    pub fn start(self, routes: Arc<Routes>) -> io::Result<Reloader> {
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
            let mut deadline = Instant::now() + self.settings.pace.poll;
            if let Some(expires) = self.forget(routes) {
                deadline = deadline.min(expires);
            }
            if let Some(vanished) = &self.vanished {
                deadline = deadline.min(vanished.since + self.settings.pace.grace);
            }
            let noticed = self.hints.take(deadline);
            let (hint, impatient) = rest(
                &self.hints,
                noticed,
                self.settings.pace.patience,
                RESTLESS_AT_MOST,
            );
            if hint == Some(Hint::Stop) {
                return;
            }
            // Those that were made by now are answered by what is read from now on.
            let requests = (hint == Some(Hint::Reread)).then(|| self.hints.requests());
            let look = || {
                self.watch.arm(&load::paths(&self.sources));
                self.look(hint, impatient, routes);
            };
            if catch_unwind(AssertUnwindSafe(look)).is_err() {
                // The hook has said where. This thread must live on, or no edit would ever count again.
                error!("reading the files failed in a way that it never should; what is in force stays so");
                self.ledger.failed();
            }
            self.ledger.ended(requests);
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

    /// Reads where there may be something new, and publishes or keeps. Who is `impatient` reads what somebody is still
    /// writing.
    fn look(&mut self, hint: Option<Hint>, impatient: bool, routes: &Routes) {
        if hint.is_none() && self.vanished.is_none() && !self.may_have_changed_unheard() {
            if self.watch.hears_everything() {
                self.ledger.confirmed();
            }
            return;
        }
        self.read_again(hint, impatient, routes);
        // Whatever came of it: what was read and is not used takes as much memory as what is.
        memory::give_back();
    }

    fn read_again(&mut self, hint: Option<Hint>, impatient: bool, routes: &Routes) {
        let asked = hint == Some(Hint::Reread);
        let waiting = self.vanished.is_some();
        let started = Instant::now();
        let in_force = routes.load();
        let mut reading = load::read(&self.sources, &self.hasher, Some(&in_force));
        self.stamps = trusted(&mut reading);
        // Somebody may have begun to write while the files were read, and have paused.
        if reading.torn || (!impatient && self.hints.open_since().is_some()) {
            if asked {
                warn!("the files change faster than they can be read; what is in force stays so");
                self.ledger.failed();
            }
            return;
        }
        let digest = Some(reading.digest);
        if digest == self.current && !asked {
            if self.tried != self.current {
                info!(
                    generation = routes.load().generation,
                    "the files are again as they are in force"
                );
                self.reported = self.reported_in_force.clone();
            }
            self.ledger
                .unchanged(hint.is_some() || self.tried != self.current);
            self.tried = self.current;
            self.vanished = None;
            return;
        }
        if digest == self.tried && !asked && !waiting {
            if hint.is_some() {
                self.ledger.failed();
            }
            return;
        }
        self.tried = digest;
        let loaded = reading.judge(&self.sources, Some(&in_force));
        drop(in_force);
        if asked {
            // Whoever asks wants to hear what is wrong, be it said already.
            self.reported.clear();
        }
        self.reported = report(&loaded.findings, &self.reported);
        self.decide(loaded, digest, asked, started, routes);
    }

    /// Publishes what was loaded, or keeps what is in force.
    fn decide(
        &mut self,
        loaded: Loaded,
        digest: Option<u64>,
        asked: bool,
        started: Instant,
        routes: &Routes,
    ) {
        let generation = routes.load().generation;
        let errors = loaded.findings.errors();
        if errors > 0 && self.good {
            self.vanished = None;
            self.ledger.kept(&loaded.versions, loaded.findings);
            error!(
                generation,
                errors, "the files have errors and are not used; generation {generation} stays in force"
            );
            return;
        }
        if digest == self.current {
            self.vanished = None;
            self.ledger.unchanged(true);
            info!(generation, errors, "read again: nothing changed");
            return;
        }
        if !asked && self.has_vanished(loaded.gone, &routes.load()) {
            let files = load::stamps_of_gone(&self.sources, loaded.gone);
            let vanished = match self.vanished.take() {
                Some(before) if before.files == files => before,
                // From now, and not from when the reading began: judging may have taken longer than the grace, and
                // nothing is believed that was seen but once.
                _ => Vanished {
                    since: Instant::now(),
                    files,
                },
            };
            if vanished.since.elapsed() < self.settings.pace.grace {
                debug!("a file is gone; waiting whether it comes back");
                self.vanished = Some(vanished);
                return;
            }
        }
        self.vanished = None;
        self.good = errors == 0;
        self.current = digest;
        self.reported_in_force = self.reported.clone();
        self.name_what_needs_a_restart(&loaded.settings);
        self.settings = loaded.settings;
        self.gone = loaded.gone;
        let current = routes.load();
        let history = current.history.after(
            generation,
            current.parts(),
            loaded.snapshot.parts(),
            Instant::now(),
            self.settings.pace.in_flight,
        );
        drop(current);
        let snapshot = Snapshot {
            generation: generation + 1,
            history,
            ..loaded.snapshot
        };
        let before = routes.publish(snapshot);
        announce(&routes.load(), &loaded.findings, started.elapsed());
        self.ledger.published(loaded.versions, loaded.findings);
        retire(before);
    }

    /// Whether a file that counts for something in what is in force is gone. A table that is in force and cannot tell
    /// counts too: a folder that appears is filled one file after the other.
    fn has_vanished(&self, gone: Gone, current: &Snapshot) -> bool {
        (gone.relay_map && !current.relay_map.is_empty_for_certain())
            || (gone.credentials && !current.credentials.is_empty_for_certain())
            || (gone.settings_file && !self.gone.settings_file)
    }

    /// Whether the files may be others than those that were read last, though no hint came.
    fn may_have_changed_unheard(&self) -> bool {
        let stamps = load::stamps(&self.sources);
        if self.watch.hears_everything() {
            return self.stamps.as_ref() != Some(&stamps);
        }
        // Nobody says when a writer is done, so it is awaited that nothing moves. The stamps of such a file system may
        // be out of date, and so the content decides in any case.
        if self.stamps.as_ref() != Some(&stamps) {
            let latest = Instant::now() + self.settings.pace.patience;
            let mut last = stamps;
            while Instant::now() < latest {
                let quiet = QUIET.min(self.settings.pace.poll);
                if let Some(urgent @ (Hint::Reread | Hint::Stop)) = self.hints.take(Instant::now() + quiet) {
                    self.hints.give(urgent);
                    return false;
                }
                let now = load::stamps(&self.sources);
                if now == last {
                    break;
                }
                last = now;
            }
        }
        true
    }

    /// Says which changed settings cannot count while the server runs.
    fn name_what_needs_a_restart(&self, settings: &Settings) {
        let differences = |other: &Settings| {
            [
                ("listen", settings.listen != other.listen),
                ("admin", settings.admin != other.admin),
                ("socket_owner", settings.sockets.owner != other.sockets.owner),
                ("socket_group", settings.sockets.group != other.sockets.group),
                ("socket_mode", settings.sockets.mode != other.sockets.mode),
                (
                    "limits.connections",
                    settings.limits.connections != other.limits.connections,
                ),
                (
                    "limits.connections_per_peer",
                    settings.limits.connections_per_peer != other.limits.connections_per_peer,
                ),
                ("user", settings.user != other.user),
                ("confinement", settings.is_confined != other.is_confined),
            ]
        };
        let (since_start, now) = (differences(&self.started_with), differences(&self.settings));
        for ((name, since_start), (_, now)) in since_start.into_iter().zip(now) {
            if since_start && now {
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

/// The stamps by which the next poll knows whether anything changed. A file that was changed within the last second
/// may change again without a new stamp, because the kernel's clock for files ticks slowly. One that the system failed to
/// read (out of descriptors, an error of a disk) may be read the next time with the same stamp.
fn trusted(reading: &mut Reading) -> Option<Vec<Option<Stamp>>> {
    let stamps = std::mem::take(&mut reading.stamps);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let now = i64::try_from(now.as_secs()).ok()?;
    let recent = stamps.iter().flatten().any(|stamp| stamp.changed_at() >= now - 1);
    (!recent && !reading.torn && !reading.has_failed()).then_some(stamps)
}

/// Logs what was not logged yet, and says what the log has now.
fn report(findings: &Findings, reported: &HashSet<String>) -> HashSet<String> {
    let mut now = HashSet::new();
    for finding in findings.iter() {
        let text = finding.to_string();
        if !reported.contains(&text) {
            match finding.severity {
                Severity::Error => error!("{text}"),
                Severity::Warning => warn!("{text}"),
            }
        }
        now.insert(text);
    }
    if findings.dropped() > 0 {
        warn!("and {} findings more", findings.dropped());
    }
    now
}

/// The one line of a reload.
fn announce(snapshot: &Snapshot, findings: &Findings, duration: Duration) {
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
