//! The report, as text, JSON and CSV.
//!
//! JSON and CSV are interfaces: fields may be added, and none changes its meaning. All latencies are in microseconds. A
//! wrong reply is reported by its key and the kinds of the expected and the actual reply, never by a value.

mod machine;
mod text;

use serde::Serialize;

use super::latency::Latency;
use super::load::{LATE_AFTER, Run};
use super::number::{ratio, round, to_f64, to_u64};
use super::tally::{ErrorCounts, Tally};
use super::{Measurement, Plan};

/// Above this share of late requests, the figures depend on the generator as much as on the server.
const MAX_LATE_SHARE: f64 = 0.01;
/// Above this share of a processor, the generator may be the limit.
const BUSY_SHARE: f64 = 0.95;
/// Above this share of time waiting for a processor, the generator shares one with the server or other programs.
const CONTENDED_SHARE: f64 = 0.2;

/// Measurements and their circumstances.
pub(crate) struct Report<'a> {
    /// The plan that was carried out.
    pub plan: &'a Plan,
    /// The seed of the random choices.
    pub seed: u64,
    /// Whether the replies were compared with the files.
    pub verified: bool,
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
fn rounded(number: f64) -> f64 {
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
}

impl Row {
    pub(super) fn rate(&self) -> f64 {
        ratio(to_f64(self.tally.replies()), self.seconds)
    }
}

impl Report<'_> {
    /// Whether every request got the expected reply, in the warm-up too.
    pub(crate) fn is_ok(&self) -> bool {
        self.errors().total() == 0
    }

    /// Returns the errors of all runs, warm-ups included.
    fn errors(&self) -> ErrorCounts {
        let mut all = Tally::default();
        for measured in self.measured {
            all.append(&measured.run.tally);
            all.append(&measured.run.warm_up);
        }
        all.errors
    }

    /// Sums the rounds by server and number of connections.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for Measurement {
            server,
            connections,
            run,
            ..
        } in self.measured
        {
            let same = |row: &&mut Row| (row.server, row.connections) == (*server, *connections);
            let cpu = run.server_cpu.map(|usage| usage.running);
            if let Some(row) = rows.iter_mut().find(same) {
                row.latency.append(&run.latency);
                row.tally.append(&run.tally);
                row.seconds += run.seconds;
                row.cpu = row.cpu.zip(cpu).map(|(sum, more)| sum + more);
            } else {
                rows.push(Row {
                    server: *server,
                    connections: *connections,
                    latency: run.latency.clone(),
                    tally: run.tally,
                    seconds: run.seconds,
                    cpu,
                });
            }
        }
        rows.sort_by_key(|row| (row.connections, row.server));
        rows
    }

    fn is_comparison(&self) -> bool {
        self.plan.servers.len() > 1
    }

    /// Returns a description of the load.
    pub(super) fn load_description(&self) -> String {
        let load = &self.plan.load;
        match load.rate {
            Some(rate) => format!("open loop, {} requests/s", grouped(rate)),
            None if load.pipeline == 1 => "closed loop, one request in flight on each connection".into(),
            None => format!(
                "closed loop, {} requests in flight on each connection",
                load.pipeline
            ),
        }
    }

    /// Whether there were replies, and all of them were *not found*.
    fn are_all_misses(&self) -> bool {
        let tallies = || self.measured.iter().map(|measurement| &measurement.run.tally);
        let are_misses = tallies().all(|tally| tally.found == 0 && tally.cannot_tell == 0);
        are_misses && tallies().any(|tally| tally.not_found > 0)
    }

    /// Returns a caveat for the plot, if its curves are misleading.
    pub(crate) fn caveat(&self) -> Option<&'static str> {
        let is_invalid = self
            .measured
            .iter()
            .any(|measurement| !GeneratorFigures::new(&measurement.run).valid);
        if is_invalid {
            Some("INVALID: the generator could not keep up")
        } else {
            self.are_all_misses().then_some("every reply was not found")
        }
    }

    /// Returns reasons why the figures may not be those of the server.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.are_all_misses() {
            warnings.push(
                "Every reply was not found, so these are the latencies of misses only. Use --dir for the keys of the \
                 tables, or --keys for a list of your own."
                    .to_owned(),
            );
        }
        let generators = || {
            self.measured
                .iter()
                .map(|measurement| (measurement, GeneratorFigures::new(&measurement.run)))
        };
        let invalid: Vec<_> = generators().filter(|(_, generator)| !generator.valid).collect();
        if let Some((measurement, generator)) = invalid.first() {
            warnings.push(format!(
                "Invalid: the generator could not keep up. With {}, it sent {} of {} requests more than {} late (up \
                 to {}), although a connection was free. The latencies include its own delays.",
                plural(to_u64(measurement.connections), "connection"),
                generator.late,
                measurement.run.lateness.len(),
                format_micros(to_f64(LATE_AFTER) / 1e3),
                format_micros(generator.lateness_max_us),
            ));
        }
        let longest = generators()
            .map(|(_, generator)| generator.cpu_wait)
            .fold(0.0, f64::max);
        if longest >= CONTENDED_SHARE {
            warnings.push(format!(
                "The generator waited for a processor {:.0} % of the time, because it shared one with the server or \
                 with other programs. This distorts all figures; use taskset(1) to give each its own.",
                longest * 100.0
            ));
        }
        let busiest = generators()
            .map(|(_, generator)| generator.cpu)
            .fold(0.0, f64::max);
        if busiest >= BUSY_SHARE {
            warnings.push(format!(
                "The generator used {:.0} % of a processor: if the replies per second no longer rise, it may be the \
                 limit.",
                busiest * 100.0
            ));
        }
        warnings
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

fn plural(number: u64, noun: &str) -> String {
    let grouped = grouped(to_f64(number));
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{grouped} {noun}s")
    }
}

/// Formats an integer in groups of three digits.
pub(super) fn grouped(number: f64) -> String {
    let digits = round(number).to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Formats microseconds with three digits and a unit.
pub(super) fn format_micros(micros: f64) -> String {
    let (number, unit) = match micros {
        micros if micros < 999.5 => (micros, "µs"),
        micros if micros < 999_500.0 => (micros / 1e3, "ms"),
        micros => (micros / 1e6, "s"),
    };
    let decimals = match number {
        number if number < 9.995 => 2,
        number if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::{format_micros, grouped};

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (micros, shown) in [
            (0.0, "0.00 µs"),
            (9.994, "9.99 µs"),
            (83.14, "83.1 µs"),
            (999.4, "999 µs"),
            (999.6, "1.00 ms"),
            (12_345.0, "12.3 ms"),
            (1_500_000.0, "1.50 s"),
        ] {
            assert_eq!(format_micros(micros), shown);
        }
        assert_eq!(grouped(123.4), "123");
        assert_eq!(grouped(1_234_567.0), "1 234 567");
    }
}
