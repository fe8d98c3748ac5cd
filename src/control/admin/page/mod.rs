//! `/`: the page for people. It shows the state of the server and its files, and explains a sender.
//!
//! It is one template, `templates/page.html`, which escapes every value: HTML and CSS, without scripts and without other
//! resources. Its content security policy permits that style and a form that leads back to it, and nothing else. All
//! text from files and requests is [`printable`] before it is escaped.
//!
//! - [`files`]: the files with their findings;
//! - [`lookups`]: lookups a second and their outcomes;
//! - [`sender`]: the explanation of a sender.

mod files;
mod lookups;
mod sender;

use std::time::SystemTime;

use askama::Template;
use humantime::format_rfc3339_seconds;

use super::View;
use super::access::AccessError;
use super::age::age;
use super::explain::SnapshotState;
use crate::lookup::directory_source::DirectorySource;
use crate::os::printable::{printable, printable_path};
use crate::source::reload_status::StatusReport;
use files::Files;
use lookups::Lookups;
use sender::Sender;

/// The media type of the page.
pub(super) const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// What the page may do: use its style, which is named by its SHA-256, and send its form to this listener.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'sha256-/5yJmYQJZK9V84xsEbnN8WN0Xm8CKgoR1C1Cx8y3Heg='; form-action 'self'; \
                                 frame-ancestors 'none'; base-uri 'none'";

/// The content of the page.
#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    version: &'static str,
    state: State,
    generation: u64,
    active_since: Moment,
    started: Moment,
    last_reload: &'static str,
    last_reload_at: Moment,
    connections: u64,
    senders_in_flight: usize,
    listeners: Vec<String>,
    source: Option<Source>,
    differing_files: Vec<String>,
    files: Files,
    lookups: Lookups,
    sender: Sender,
}

/// The state of the server at a glance.
struct State {
    /// `good`, `warning` or `bad`: a class of the style.
    class: &'static str,
    /// In a word or two, for the title.
    title: &'static str,
    /// In a sentence.
    text: String,
}

/// The source of a directory that a program generates.
struct Source {
    place: String,
    revision: Option<u64>,
    committed: Option<Moment>,
}

impl Source {
    fn new(source: &DirectorySource) -> Self {
        Self {
            place: printable(source.source.as_bytes()),
            revision: source.revision,
            committed: source.committed.as_ref().map(|commit| Moment::new(commit.time)),
        }
    }
}

/// A time in the past.
struct Moment {
    /// With its time zone, which is UTC.
    time: String,
    /// How long ago it was.
    age: String,
}

impl Moment {
    fn new(time: SystemTime) -> Self {
        let ago = SystemTime::now().duration_since(time).unwrap_or_default();
        Self {
            time: format_rfc3339_seconds(time)
                .to_string()
                .replace('T', " ")
                .replace('Z', " UTC"),
            age: age(ago.as_secs()),
        }
    }
}

/// Returns the page. `is_alive` is whether lookups are answered, `access` whether the client may learn about senders.
pub(super) fn render(
    view: &View,
    is_alive: bool,
    access: Result<(), AccessError>,
    query: Option<&str>,
) -> Result<String, askama::Error> {
    let SnapshotState { differing_files, .. } = SnapshotState::new(view, printable_path);
    let snapshot = view.active_snapshot.load_full();
    let report = view.reload_status.report();
    let lookups = Lookups::new(&view.rates, &view.counters);
    let state = State::new(&report, is_alive, !differing_files.is_empty());
    Page {
        version: env!("CARGO_PKG_VERSION"),
        state: state.with_temporary_errors(&lookups),
        generation: snapshot.generation,
        active_since: Moment::new(report.active_since),
        started: Moment::new(view.started),
        last_reload: report.last_reload.outcome.label(),
        last_reload_at: Moment::new(report.last_reload.at),
        connections: view.counters.connections(),
        senders_in_flight: snapshot.history.moved_entries(),
        listeners: view
            .listeners
            .iter()
            .map(|endpoint| printable(endpoint.as_bytes()))
            .collect(),
        source: snapshot.directory_source.as_deref().map(Source::new),
        files: Files::new(&report, &snapshot, &differing_files),
        differing_files,
        lookups,
        sender: Sender::new(view, &snapshot, access, query),
    }
    .render()
}

impl State {
    fn new(report: &StatusReport, is_alive: bool, files_differ: bool) -> Self {
        let warnings = report.findings.warnings();
        let state = |class, title, text: &str| Self {
            class,
            title,
            text: text.to_owned(),
        };
        if !is_alive {
            return state(
                "bad",
                "not responding",
                "Lookups are not answered. Restart postmapd.",
            );
        }
        if !report.is_ready() && report.errors_are_active() {
            return state(
                "bad",
                "invalid files",
                "The files have errors, and their valid entries are active. Lookups that depend on the errors return a \
                 temporary error until they are fixed.",
            );
        }
        if !report.is_ready() {
            return state(
                "bad",
                "invalid files",
                "The files on disk are not used. Lookups are answered from the last valid version.",
            );
        }
        if files_differ {
            return state("warning", "changed files", "Changed files are not active yet.");
        }
        let all = "All files are valid and active.";
        match warnings {
            0 => state("good", "OK", all),
            1 => state("warning", "1 warning", &format!("{all} There is one warning.")),
            _ => state(
                "warning",
                "warnings",
                &format!("{all} There are {warnings} warnings."),
            ),
        }
    }

    /// Adds the number of recent lookups that got a temporary error: mail that waits.
    fn with_temporary_errors(self, lookups: &Lookups) -> Self {
        let number = match lookups.temporary_errors {
            0 => return self,
            1 => "One lookup".to_owned(),
            number => format!("{number} lookups"),
        };
        let is_good = self.class == "good";
        Self {
            class: if is_good { "warning" } else { self.class },
            title: if is_good { "temporary errors" } else { self.title },
            text: format!(
                "{} {number} got a temporary error in the last {}.",
                self.text, lookups.period
            ),
        }
    }
}

#[cfg(test)]
mod tests;
