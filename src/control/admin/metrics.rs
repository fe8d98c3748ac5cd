//! `/metrics`: the metrics with their names, types and labels. Names and labels are an interface (contract).

use std::time::Duration;

use super::View;
use super::exposition::{Exposition, Kind, seconds, timestamp};
use super::process;
use super::status::is_reported;
use crate::lookup::directory_source::DirectorySource;
use crate::lookup::snapshot::Snapshot;
use crate::os::printable::printable_path;
use crate::server::counters::{BOUNDS, Counters, Outcome, ProtocolError, Reason};
use crate::source::reload_status::{ReloadOutcome, StatusReport};

/// [`BOUNDS`] in seconds, in the canonical form of OpenMetrics.
const LE: [&str; BOUNDS.len()] = [
    "1e-06", "2e-06", "4e-06", "8e-06", "1.6e-05", "3.2e-05", "6.4e-05", "0.000128", "0.000256", "0.000512",
    "0.001", "0.01", "0.1", "1.0",
];

/// Returns all metrics as of now.
pub(crate) fn render(view: &View) -> String {
    let mut text = Exposition::default();
    text.family("postmapd_build_info", Kind::Gauge, "The version of the server.");
    text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let snapshot = view.active_snapshot.load_full();
    traffic(&view.counters, &mut text);
    let report = view.reload_status.report();
    reloads(&report, &mut text);
    active(&report, &snapshot, &mut text);
    in_flight(&snapshot, &mut text);
    if let Some(source) = &snapshot.directory_source {
        directory_source(source, &mut text);
    }
    process::render(view.started, &mut text);
    text.finish()
}

fn traffic(counters: &Counters, text: &mut Exposition) {
    text.family(
        "postmapd_lookups_total",
        Kind::Counter,
        "Lookups, by map and outcome.",
    );
    for (number, map) in counters.maps().iter().enumerate() {
        for outcome in Outcome::ALL {
            let labels = [("map", map.name), ("outcome", outcome.label())];
            text.sample(&labels, counters.lookups(number, outcome));
        }
    }
    text.family(
        "postmapd_lookup_duration_seconds",
        Kind::Histogram,
        "Time from the arrival of a request until its reply, and all others of the same write, are ready.",
    );
    let durations = counters.latencies();
    let mut so_far = 0;
    for (count, le) in durations.counts.iter().zip(LE.into_iter().chain(["+Inf"])) {
        so_far += count;
        text.sample_with_suffix("_bucket", &[("le", le)], so_far);
    }
    text.sample_with_suffix("_sum", &[], seconds(Duration::from_nanos(durations.nanoseconds)));
    text.sample_with_suffix("_count", &[], so_far);
    text.family(
        "postmapd_protocol_errors_total",
        Kind::Counter,
        "Connections closed because of a protocol error, by kind.",
    );
    for error in ProtocolError::ALL {
        text.sample(&[("kind", error.label())], counters.protocol_errors(error));
    }
    text.family(
        "postmapd_refusals_total",
        Kind::Counter,
        "Refused requests and connections, by reason.",
    );
    for reason in Reason::ALL {
        text.sample(&[("reason", reason.label())], counters.refusals(reason));
    }
    text.family(
        "postmapd_connections",
        Kind::Gauge,
        "Open connections to the lookup listeners.",
    );
    text.sample(&[], counters.connections());
}

fn reloads(report: &StatusReport, text: &mut Exposition) {
    text.family(
        "postmapd_reloads_total",
        Kind::Counter,
        "Reloads since startup, by outcome.",
    );
    for outcome in ReloadOutcome::ALL {
        text.sample(&[("outcome", outcome.label())], report.reloads(outcome));
    }
    text.family(
        "postmapd_reload_last_success_timestamp_seconds",
        Kind::Gauge,
        "Unix time at which all files were last found valid and active; 0 if never.",
    );
    text.sample(&[], report.last_success.map_or_else(|| "0".to_owned(), timestamp));
    text.family(
        "postmapd_files_valid",
        Kind::Gauge,
        "1 if the version on disk is valid and active, 0 if it was rejected or cannot be read.",
    );
    for file in report.files.iter().filter(|file| is_reported(file)) {
        let path = printable_path(&file.active.path);
        text.sample(&[("file", &path)], u8::from(file.invalid.is_none()));
    }
    text.family(
        "postmapd_findings",
        Kind::Gauge,
        "Findings of the last reload, by severity.",
    );
    for (severity, count) in [
        ("error", report.findings.errors()),
        ("warning", report.findings.warnings()),
    ] {
        text.sample(&[("severity", severity)], count);
    }
}

fn active(report: &StatusReport, snapshot: &Snapshot, text: &mut Exposition) {
    text.family(
        "postmapd_snapshot_generation",
        Kind::Gauge,
        "The number of the active snapshot; 1 at the start.",
    );
    text.sample(&[], snapshot.generation);
    text.family(
        "postmapd_snapshot_loaded_timestamp_seconds",
        Kind::Gauge,
        "When the active snapshot took effect.",
    );
    text.sample(&[], timestamp(report.active_since));
    text.family(
        "postmapd_table_entries",
        Kind::Gauge,
        "Entries of the active table, by map.",
    );
    for table in snapshot.tables() {
        text.sample(&[("map", table.spec().label)], table.len());
    }
}

fn in_flight(snapshot: &Snapshot, text: &mut Exposition) {
    text.family(
        "postmapd_senders_in_flight",
        Kind::Gauge,
        "Entries of the relay map whose next hop changed within reload.in_flight, so that mail can still be on its way to the old one.",
    );
    text.sample(&[], snapshot.history.moved_entries());
}

/// The metrics of a directory that a program generates. What its source does not have is missing.
fn directory_source(source: &DirectorySource, text: &mut Exposition) {
    if let Some(revision) = source.revision {
        text.family(
            "postmapd_source_revision",
            Kind::Gauge,
            "The revision of the source of the directory that the active snapshot has.",
        );
        text.sample(&[], revision);
    }
    if let Some(commit) = &source.committed {
        text.family(
            "postmapd_source_committed_timestamp_seconds",
            Kind::Gauge,
            "Unix time at which that revision was committed to the source.",
        );
        text.sample(&[], timestamp(commit.time));
    }
}

#[cfg(test)]
mod tests {
    use super::{BOUNDS, LE};

    #[test]
    fn the_labels_are_the_bounds_in_seconds() {
        for (nanoseconds, le) in BOUNDS.into_iter().zip(LE) {
            let seconds: f64 = le.parse().unwrap();
            let counted = std::time::Duration::from_nanos(nanoseconds).as_secs_f64();
            assert!((seconds - counted).abs() < counted * 1e-9, "{le}");
        }
    }
}
