//! Notice, read, judge, publish or keep.
//!
//! One thread does all of it, apart from those that answer. It sleeps until a hint comes (inotify, SIGHUP) or the
//! poll is due, waits until the files have come to rest, reads them whole ([`load`]), and then:
//!
//! - what reads as before changes nothing;
//! - what is right becomes the next snapshot;
//! - what is wrong is said in the log, once, and the last good snapshot stays in force. Only where there was never
//!   a good one does a new bad one replace an old bad one, so that mending one error of two has its effect;
//! - a table file that vanished, or that was cut to nothing, is believed after [`GRACE`]: most programs that
//!   rewrite a file have a moment in which it is not there, or empty.
//!
//! Limits: a file that was written to is read when it is closed, or after [`OPEN_AT_MOST`]. Where inotify cannot be
//! had, a change takes up to [`POLL`], and nothing tells whether the writer is done.

pub mod hints;
pub mod load;
mod watch;
mod way;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{debug, error, info, warn};

use crate::config::Sources;
use crate::diagnostic::{Findings, Severity};
use crate::routes::{Routes, Snapshot};
use hints::{Hint, Hints};
use load::{Loaded, Presence};
use watch::Watch;
use way::Stamp;

/// How long nothing may happen before the files are read: enough for the second of two that are saved together.
const REST: Duration = Duration::from_millis(10);

/// How long one waits for that rest at most.
const RESTLESS_AT_MOST: Duration = Duration::from_secs(1);

/// How long one waits at most for somebody to close a file that was written to.
pub const OPEN_AT_MOST: Duration = Duration::from_secs(5);

/// How often the files are compared without any hint.
pub const POLL: Duration = Duration::from_secs(5);

/// How long a vanished or emptied table is not believed.
pub const GRACE: Duration = Duration::from_secs(5);

/// Keeps the snapshot up to date, once it is started.
pub struct Keeper {
    sources: Sources,
    hints: Arc<Hints>,
    watch: Watch,
    /// Whether the snapshot in force is without errors.
    good: bool,
    /// The digest of what was read last, in force or not.
    tried: u64,
    /// The digest of the snapshot in force.
    current: u64,
    /// The stamps of what was read last. `None` where they cannot be trusted to change with the content.
    stamps: Option<Vec<Option<Stamp>>>,
    /// The findings that the log has already, so that each is said once.
    reported: HashSet<String>,
    /// Since when a table is gone that is still in force.
    vanished: Option<Instant>,
}

/// The thread of a [`Keeper`]. Ends, and is waited for, when dropped.
pub struct Reloader {
    hints: Arc<Hints>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    /// Asks to read again now.
    pub fn reread(&self) {
        self.hints.give(Hint::Reread);
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
    /// The first reading: the snapshot of what there is, be it with errors, which the log has then.
    #[must_use]
    pub fn first(sources: Sources) -> (Self, Snapshot) {
        let started = Instant::now();
        let hints = Arc::new(Hints::default());
        let mut watch = Watch::new(Arc::clone(&hints));
        // From before the reading, so that no change and no writer escapes.
        watch.arm(&load::paths(&sources));
        let mut loaded = load::load(&sources);
        let findings = std::mem::take(&mut loaded.findings);
        let mut keeper = Self {
            hints,
            watch,
            good: findings.errors() == 0,
            tried: loaded.digest,
            current: loaded.digest,
            stamps: trusted(&mut loaded),
            reported: HashSet::new(),
            vanished: None,
            sources,
        };
        report(&findings, &mut keeper.reported);
        let snapshot = loaded.into_snapshot(&keeper.sources, 1);
        announce(&snapshot, &findings, started.elapsed());
        if !keeper.good {
            warn!(
                "what has an error is answered with 'cannot tell' until it is mended; mail that needs it waits"
            );
        }
        (keeper, snapshot)
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
        loop {
            let mut deadline = Instant::now() + POLL;
            if let Some(since) = self.vanished {
                deadline = deadline.min(since + GRACE);
            }
            let hint = rest(&self.hints, self.hints.take(deadline));
            if hint == Some(Hint::Stop) {
                return;
            }
            self.watch.arm(&load::paths(&self.sources));
            self.look(hint, routes);
        }
    }

    /// Reads where there is something new to read, and publishes or keeps.
    fn look(&mut self, hint: Option<Hint>, routes: &Routes) {
        let asked = hint == Some(Hint::Reread);
        let waiting = self.vanished.is_some();
        if hint.is_none() && !waiting && self.stamps == Some(load::stamps(&self.sources)) {
            return;
        }
        let started = Instant::now();
        let mut loaded = load::load(&self.sources);
        self.stamps = trusted(&mut loaded);
        if loaded.torn {
            debug!("the files change faster than they can be read; looking again");
            return;
        }
        let generation = routes.load().generation;
        if asked {
            // Whoever asks wants to hear what is wrong, be it said already.
            self.reported.clear();
        }
        if loaded.digest == self.current {
            report(&loaded.findings, &mut self.reported);
            if self.tried != self.current {
                info!(generation, "the files are again as they are in force");
            } else if asked {
                info!(generation, "read again: nothing changed");
            }
            self.tried = self.current;
            self.vanished = None;
            return;
        }
        if loaded.digest == self.tried && !asked && !waiting {
            debug!("read again: as before, and not in force");
            return;
        }
        self.tried = loaded.digest;
        report(&loaded.findings, &mut self.reported);
        let errors = loaded.findings.errors();
        if errors > 0 && self.good {
            self.vanished = None;
            error!(
                generation,
                errors, "the tables have errors and are not used; generation {generation} stays in force"
            );
            return;
        }
        if has_vanished(&loaded, &routes.load()) && !asked {
            let since = *self.vanished.get_or_insert(started);
            if since.elapsed() < GRACE {
                debug!("a table is gone; waiting whether it comes back");
                return;
            }
        }
        self.vanished = None;
        self.good = errors == 0;
        self.current = loaded.digest;
        let findings = std::mem::take(&mut loaded.findings);
        routes.publish(loaded.into_snapshot(&self.sources, generation + 1));
        announce(&routes.load(), &findings, started.elapsed());
    }
}

/// Whether a table that is in force with entries has no file any more, or one without a single byte.
fn has_vanished(loaded: &Loaded, current: &Snapshot) -> bool {
    let gone = |presence| matches!(presence, Presence::Missing | Presence::Empty);
    (gone(loaded.relay_map_file) && !current.relay_map.is_empty())
        || (gone(loaded.credentials_file) && !current.credentials.is_empty())
}

/// Waits until the files have come to rest, or until somebody does not want to wait.
fn rest(hints: &Hints, mut noticed: Option<Hint>) -> Option<Hint> {
    let latest = Instant::now() + RESTLESS_AT_MOST;
    while noticed == Some(Hint::Changed) {
        let until = match hints.open_since() {
            Some(since) => since + OPEN_AT_MOST,
            None => (Instant::now() + REST).min(latest),
        };
        match hints.take(until) {
            Some(more) if more > Hint::Changed || Instant::now() < until => noticed = Some(more),
            _ => break,
        }
    }
    hints.forget_open();
    noticed
}

/// The stamps by which the next poll knows whether anything changed. A file that was changed within the last second
/// may change again without a new stamp, because the kernel's clock for files ticks slowly.
fn trusted(loaded: &mut Loaded) -> Option<Vec<Option<Stamp>>> {
    let stamps = std::mem::take(&mut loaded.stamps);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let now = i64::try_from(now.as_secs()).ok()?;
    let recent = stamps.iter().flatten().any(|stamp| stamp.changed_at() >= now - 1);
    (!recent && !loaded.torn).then_some(stamps)
}

/// Logs what was not logged yet.
fn report(findings: &Findings, reported: &mut HashSet<String>) {
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
    *reported = now;
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
