//! The report, as text, JSON, CSV and HdrHistogram text.
//!
//! JSON and CSV are interfaces: fields may be added, and none changes its meaning. All latencies are in microseconds. A
//! wrong reply is reported by its key and the kinds of the expected and the actual reply, never by a value.

mod format;
mod hdr;
mod structured;
mod tables;
mod text;
mod warnings;

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::latency::Latency;
use super::load::Run;
use super::machine::Machine;
use super::number::{ratio, to_f64};
use super::tally::{ErrorCounts, Tally};
use super::{Measurement, Plan};
pub(super) use format::format_micros;
use format::{percent, plural};

/// Above this share of late requests, the figures depend on the generator as much as on the server.
const MAX_LATE_SHARE: f64 = 0.01;

/// Measurements and their circumstances.
pub(crate) struct Report<'a> {
    /// The plan that was carried out.
    pub plan: &'a Plan,
    /// The seed of the random choices.
    pub seed: u64,
    /// Whether the replies were compared with the files.
    pub verified: bool,
    /// The machine of the generator.
    pub machine: &'a Machine,
    /// When the first run began.
    pub started_at: SystemTime,
    /// How long all runs took, with their warm-ups.
    pub elapsed: Duration,
    /// The results.
    pub measured: &'a [Measurement],
}

/// The generator's own figures, with the names of the JSON fields.
#[derive(Clone, Copy, Serialize)]
struct GeneratorFigures {
    /// Shares of one processor.
    cpu: f64,
    cpu_wait: f64,
    late: u64,
    lateness_p99_us: f64,
    lateness_max_us: f64,
    valid: bool,
}

/// Rounds to three decimals; further digits would be noise.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

impl GeneratorFigures {
    fn new(run: &Run) -> Self {
        let share = |nanos| rounded(ratio(to_f64(nanos) / 1e9, run.generator_seconds));
        let sent = to_f64(run.lateness.len());
        Self {
            cpu: share(run.generator_cpu.running),
            cpu_wait: share(run.generator_cpu.waiting),
            late: run.late,
            lateness_p99_us: rounded(run.lateness.quantile(0.99)),
            lateness_max_us: rounded(run.lateness.quantile(1.0)),
            valid: ratio(to_f64(run.late), sent) <= MAX_LATE_SHARE,
        }
    }
}

/// All rounds of one server with one number of connections.
pub(super) struct Row {
    pub(super) server: usize,
    pub(super) connections: usize,
    pub(super) latency: Latency,
    tally: Tally,
    seconds: f64,
    cpu: Option<u64>,
    /// Whether the generator kept up in every round.
    is_valid: bool,
    /// Whether no round was interrupted.
    is_complete: bool,
}

impl Row {
    fn new(measurement: &Measurement) -> Self {
        let run = &measurement.run;
        Self {
            server: measurement.server,
            connections: measurement.connections,
            latency: run.latency.clone(),
            tally: run.tally,
            seconds: run.seconds,
            cpu: run.server_cpu.map(|usage| usage.running),
            is_valid: GeneratorFigures::new(run).valid,
            is_complete: run.is_complete,
        }
    }

    /// Adds another round.
    fn append(&mut self, round: &Row) {
        self.latency.append(&round.latency);
        self.tally.append(&round.tally);
        self.seconds += round.seconds;
        self.cpu = self.cpu.zip(round.cpu).map(|(sum, more)| sum + more);
        self.is_valid &= round.is_valid;
        self.is_complete &= round.is_complete;
    }

    pub(super) fn rate(&self) -> f64 {
        ratio(to_f64(self.tally.replies()), self.seconds)
    }

    /// Returns words for what makes the figures of the row doubtful.
    pub(super) fn marks(&self) -> impl Iterator<Item = &'static str> {
        let marks = [(!self.is_valid, "invalid"), (!self.is_complete, "incomplete")];
        marks
            .into_iter()
            .filter_map(|(applies, mark)| applies.then_some(mark))
    }
}

impl Report<'_> {
    /// Whether every request got the expected reply, in the warm-up too.
    pub(crate) fn is_ok(&self) -> bool {
        self.errors().total() == 0
    }

    /// Whether every run of the plan was made, and none was interrupted.
    pub(crate) fn is_complete(&self) -> bool {
        let is_complete = |measurement: &Measurement| measurement.run.is_complete;
        self.measured.len() == self.plan.runs() && self.measured.iter().all(is_complete)
    }

    /// Returns the errors of all runs, warm-ups included.
    fn errors(&self) -> ErrorCounts {
        let mut all = self.total();
        for measured in self.measured {
            all.append(&measured.run.warm_up);
        }
        all.errors
    }

    /// Returns the counts of all runs, without the warm-ups.
    fn total(&self) -> Tally {
        let mut all = Tally::default();
        for measured in self.measured {
            all.append(&measured.run.tally);
        }
        all
    }

    /// Sums the rounds by server and number of connections.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for round in self.measured.iter().map(Row::new) {
            let same = |row: &&mut Row| (row.server, row.connections) == (round.server, round.connections);
            match rows.iter_mut().find(same) {
                Some(row) => row.append(&round),
                None => rows.push(round),
            }
        }
        rows.sort_by_key(|row| (row.connections, row.server));
        rows
    }

    fn is_comparison(&self) -> bool {
        self.plan.servers.len() > 1
    }

    /// Returns the servers and the map, each server with its letter if there are two.
    pub(super) fn servers(&self) -> Vec<String> {
        let servers = ('A'..).zip(&self.plan.servers);
        servers
            .map(|(letter, server)| {
                let letter = if self.is_comparison() {
                    format!("{letter} = ")
                } else {
                    String::new()
                };
                format!("{letter}{}, map {}", server.target, server.target.map)
            })
            .collect()
    }

    /// Returns a description of the load.
    fn load_description(&self) -> String {
        let load = &self.plan.load;
        match load.rate {
            Some(rate) => format!("open loop, {rate} requests/s"),
            None if load.pipeline == 1 => "closed loop, one request in flight on each connection".into(),
            None => format!(
                "closed loop, {} requests in flight on each connection",
                load.pipeline
            ),
        }
    }

    /// Returns a description of the length of a run.
    fn run_length(&self) -> String {
        let load = &self.plan.load;
        let seconds = load
            .duration
            .map(|duration| format!("{} s", duration.as_secs_f64()));
        let requests = load.count.map(|count| plural(count, "request"));
        let limits: Vec<String> = requests.into_iter().chain(seconds).collect();
        format!("{} for each run", limits.join(" or "))
    }

    /// Returns the date, the version of postmapd and the machine.
    pub(super) fn origin(&self) -> String {
        format!(
            "{}, postmapd {}, on {}",
            self.date(),
            env!("CARGO_PKG_VERSION"),
            self.machine
        )
    }

    /// Returns when the first run began, in UTC (RFC 3339).
    fn date(&self) -> String {
        humantime::format_rfc3339_seconds(self.started_at).to_string()
    }

    /// Returns a summary: load, length of a run, and the share of replies with a value.
    pub(super) fn summary(&self) -> String {
        let total = self.total();
        format!(
            "{}; {}; {} found",
            self.load_description(),
            self.run_length(),
            percent(total.found, total.replies())
        )
    }

    /// Returns the name of a row for a legend, which says whether it is invalid.
    pub(super) fn row_label(&self, row: &Row) -> String {
        let letter = server_prefix(self.plan.servers.len(), row.server);
        let noun = if row.connections == 1 {
            "connection"
        } else {
            "connections"
        };
        let mark = if row.is_valid { "" } else { ", invalid" };
        format!("{letter}{} {noun}{mark}", row.connections)
    }
}

/// Returns the prefix that tells several servers apart.
pub(super) fn server_prefix(servers: usize, server: usize) -> &'static str {
    match (servers, server) {
        (0 | 1, _) => "",
        (_, 0) => "A, ",
        _ => "B, ",
    }
}
