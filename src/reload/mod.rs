//! Notice, read, judge, publish or keep.
//!
//! One thread does all of it, apart from those that answer. It sleeps until a hint comes ([`watch`], SIGHUP) or the
//! poll is due, waits until the files have come to rest, reads them whole ([`load`]), and then:
//!
//! - what reads as before changes nothing;
//! - what is right becomes the next snapshot;
//! - what is wrong is said in the log, once, and the last good snapshot stays in force. Only where there was never
//!   a good one does a new bad one replace an old bad one, so that mending one error of two has its effect;
//! - a table file that vanished, or that was cut to nothing, is believed after [`GRACE`]: most programs that
//!   rewrite a file have a moment in which it is not there, or empty.
//!
//! Limits: a file that is held open and written in pieces more than [`UNSETTLED_REST`] apart may be read in
//! between. Where inotify cannot be had, a change takes up to [`POLL`].

pub mod hints;
pub mod load;
mod watch;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::config::Sources;
use crate::diagnostic::{Findings, Severity};
use crate::routes::{Routes, Snapshot};
use hints::{Hint, Hints};
use load::{Loaded, Presence, Stamp};
use watch::Watch;

/// How long nothing may happen after a file was closed or renamed before it is read: enough for the second of two
/// files that are saved together.
const SETTLED_REST: Duration = Duration::from_millis(10);

/// How long nothing may happen while a file is open for writing.
const UNSETTLED_REST: Duration = Duration::from_millis(300);

/// How long one waits for rest at most.
const RESTLESS_AT_MOST: Duration = Duration::from_secs(1);

/// How often the files are compared without any hint.
const POLL: Duration = Duration::from_secs(5);

/// How long a vanished or emptied table is not believed.
const GRACE: Duration = Duration::from_secs(5);

/// The first reading, before anything is served: what there is, with its errors in the log.
#[must_use]
pub fn first(sources: &Sources) -> (Snapshot, FirstReading) {
    let started = Instant::now();
    let stamps = load::stamps(sources);
    let mut loaded = load::load(sources);
    let mut reported = HashSet::new();
    report(&loaded.findings, &mut reported);
    let reading = FirstReading {
        good: loaded.findings.errors() == 0,
        digest: loaded.digest,
        stamps,
        reported,
    };
    let findings = std::mem::take(&mut loaded.findings);
    let snapshot = loaded.into_snapshot(sources, 1);
    announce(&snapshot, &findings, started.elapsed());
    if !reading.good {
        warn!(
            "what has an error is answered with 'cannot tell' until it is mended; mail that needs it waits in the queue"
        );
    }
    (snapshot, reading)
}

/// What [`first`] leaves to the thread that goes on.
pub struct FirstReading {
    good: bool,
    digest: u64,
    stamps: Vec<Option<Stamp>>,
    reported: HashSet<String>,
}

/// The thread that keeps the snapshot up to date. Ends, and is waited for, when dropped.
pub struct Reloader {
    hints: Arc<Hints>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    /// Starts the thread.
    pub fn start(sources: Sources, routes: Arc<Routes>, first: FirstReading) -> io::Result<Self> {
        let hints = Arc::new(Hints::default());
        let keeper = Keeper {
            watch: Watch::new(Arc::clone(&hints)),
            sources,
            routes,
            good: first.good,
            tried: first.digest,
            current: first.digest,
            stamps: first.stamps,
            reported: first.reported,
            vanished: None,
        };
        let theirs = Arc::clone(&hints);
        let thread = thread::Builder::new()
            .name("reload".into())
            .spawn(move || keeper.run(&theirs))?;
        Ok(Self {
            hints,
            thread: Some(thread),
        })
    }

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

/// What the thread knows.
struct Keeper {
    sources: Sources,
    routes: Arc<Routes>,
    watch: Watch,
    /// Whether the snapshot in force is without errors.
    good: bool,
    /// The digest of what was read last, in force or not.
    tried: u64,
    /// The digest of the snapshot in force.
    current: u64,
    stamps: Vec<Option<Stamp>>,
    /// The findings that the log has already, so that each is said once.
    reported: HashSet<String>,
    /// Since when a table is gone that is still in force.
    vanished: Option<Instant>,
}

impl Keeper {
    fn run(mut self, hints: &Hints) {
        self.watch.arm(&load::paths(&self.sources));
        // Whatever changed between the first reading and this moment gave no hint.
        self.look(false);
        loop {
            let mut deadline = Instant::now() + POLL;
            if let Some(since) = self.vanished {
                deadline = deadline.min(since + GRACE);
            }
            let hint = rest(hints, hints.take(deadline));
            if hint == Some(Hint::Stop) {
                return;
            }
            self.watch.arm(&load::paths(&self.sources));
            self.look(hint == Some(Hint::Reread));
        }
    }

    /// Reads where there is something new to read, and publishes or keeps.
    fn look(&mut self, asked: bool) {
        let stamps = load::stamps(&self.sources);
        let waiting = self.vanished.is_some();
        if stamps == self.stamps && !asked && !waiting {
            return;
        }
        let started = Instant::now();
        self.stamps = stamps;
        let mut loaded = load::load(&self.sources);
        let generation = self.routes.load().generation;
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
        if self.has_vanished(&loaded) && !asked {
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
        let next = loaded.into_snapshot(&self.sources, generation + 1);
        let duration = started.elapsed();
        announce(&next, &findings, duration);
        self.routes.publish(next);
    }

    /// Whether a table that is in force with entries has no file any more, or one without a single byte.
    fn has_vanished(&self, loaded: &Loaded) -> bool {
        let gone = |presence| matches!(presence, Presence::Missing | Presence::Empty);
        let current = self.routes.load();
        (gone(loaded.relay_map_file) && !current.relay_map.is_empty())
            || (gone(loaded.credentials_file) && !current.credentials.is_empty())
    }
}

/// Waits until the files have come to rest, or until somebody does not want to wait.
fn rest(hints: &Hints, mut noticed: Option<Hint>) -> Option<Hint> {
    let latest = Instant::now() + RESTLESS_AT_MOST;
    while let Some(hint @ (Hint::Unsettled | Hint::Settled)) = noticed {
        let quiet = if hint == Hint::Settled {
            SETTLED_REST
        } else {
            UNSETTLED_REST
        };
        // The later event counts: what is being written now makes an earlier close irrelevant.
        noticed = hints.take((Instant::now() + quiet).min(latest));
        if noticed.is_none() || (noticed < Some(Hint::Reread) && Instant::now() >= latest) {
            return Some(hint);
        }
    }
    noticed
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
        duration_ms = duration.as_secs_f64() * 1000.0,
        "loaded"
    );
}
