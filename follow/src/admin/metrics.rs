//! `/metrics`: the metrics with their names, types and labels. They are an interface. No label has data of a row.

use std::time::SystemTime;

use postmapd::control::admin::exposition::{Exposition, Kind, seconds, timestamp};
use postmapd::control::admin::process;

use crate::status::{LAG_BOUNDS, Outcome, Report};

/// [`LAG_BOUNDS`] in seconds, in the canonical form of OpenMetrics.
const LE: [&str; LAG_BOUNDS.len()] = [
    "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.0", "5.0", "10.0", "60.0", "600.0",
];

/// Returns all metrics.
pub(super) fn render(report: &Report, started: SystemTime) -> String {
    let mut text = Exposition::default();
    text.family(
        "postmapd_follow_build_info",
        Kind::Gauge,
        "The version of postmapd-follow.",
    );
    text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    source(report, started, &mut text);
    tables(report, &mut text);
    publications(report, &mut text);
    process::render(started, &mut text);
    text.finish()
}

fn source(report: &Report, started: SystemTime, text: &mut Exposition) {
    text.family(
        "postmapd_follow_connected",
        Kind::Gauge,
        "1 if there is a connection to the source, 0 if not.",
    );
    text.sample(&[], u8::from(report.is_connected));
    text.family(
        "postmapd_follow_reconnects_total",
        Kind::Counter,
        "Connections to the source after the first one.",
    );
    text.sample(&[], report.connections.saturating_sub(1));
    text.family(
        "postmapd_follow_confirmed_timestamp_seconds",
        Kind::Gauge,
        "Unix time at which the active tables were last known to be those of the source; the start of the process until then.",
    );
    text.sample(&[], timestamp(report.confirmed.unwrap_or(started)));
}

fn tables(report: &Report, text: &mut Exposition) {
    if let Some(revision) = report.active.as_ref().and_then(|active| active.revision) {
        text.family(
            "postmapd_follow_revision",
            Kind::Gauge,
            "The revision of the source that is active. After a failover it may be smaller than before.",
        );
        text.sample(&[], revision);
    }
    if let Some(active) = &report.active {
        text.family(
            "postmapd_follow_committed_timestamp_seconds",
            Kind::Gauge,
            "Unix time at which that state was committed to the source.",
        );
        text.sample(&[], timestamp(active.committed));
    }
    // Those of a generation from an earlier run are not counted.
    let Some(tables) = &report.tables else { return };
    text.family(
        "postmapd_follow_rows",
        Kind::Gauge,
        "Rows of the active tables, bad ones included, by table.",
    );
    for (table, rows) in &tables.rows {
        text.sample(&[("table", table.label())], rows);
    }
    text.family(
        "postmapd_follow_bad_rows",
        Kind::Gauge,
        "Rows of the active tables that cannot be entries.",
    );
    text.sample(&[], tables.bad_rows);
}

fn publications(report: &Report, text: &mut Exposition) {
    text.family(
        "postmapd_follow_publications_total",
        Kind::Counter,
        "Attempts to publish the tables of the source, by outcome.",
    );
    for (outcome, count) in Outcome::ALL.into_iter().zip(report.publications) {
        text.sample(&[("outcome", outcome.label())], count);
    }
    text.family(
        "postmapd_follow_lag_seconds",
        Kind::Histogram,
        "Time from the commit of a state to its publication, by the clocks of both hosts.",
    );
    let mut so_far = 0;
    for (count, le) in report.lag.counts.iter().zip(LE.into_iter().chain(["+Inf"])) {
        so_far += count;
        text.sample_with_suffix("_bucket", &[("le", le)], so_far);
    }
    text.sample_with_suffix("_sum", &[], seconds(report.lag.sum));
    text.sample_with_suffix("_count", &[], so_far);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LAG_BOUNDS, LE};

    #[test]
    fn the_labels_are_the_bounds_in_seconds() {
        for (milliseconds, le) in LAG_BOUNDS.into_iter().zip(LE) {
            let bound = Duration::from_secs_f64(le.parse().unwrap());
            assert_eq!(bound, Duration::from_millis(milliseconds), "{le}");
        }
    }
}
