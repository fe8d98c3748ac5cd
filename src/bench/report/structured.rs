//! JSON and CSV: the figures of each run. JSON also has the circumstances and the ratios.

use std::fmt::{self, Write as _};
use std::io;

use serde::Serialize;

use super::{GeneratorFigures, Report, rounded};
use crate::bench::Measurement;
use crate::bench::compare::{Comparison, as_map, compare};
use crate::bench::latency::Figures;
use crate::bench::machine::Machine;
use crate::bench::tally::ErrorCounts;

#[derive(Serialize)]
struct Json<'a> {
    version: &'static str,
    date: String,
    machine: &'a Machine,
    ok: bool,
    complete: bool,
    map: &'a str,
    servers: Vec<String>,
    mode: &'static str,
    rate: Option<f64>,
    pipeline: usize,
    duration_seconds: Option<f64>,
    count: Option<u64>,
    warm_up_seconds: f64,
    elapsed_seconds: f64,
    timeout_seconds: f64,
    rounds: u32,
    keys: usize,
    seed: u64,
    verified: bool,
    runs: Vec<JsonRun>,
    comparison: Vec<Comparison>,
}

#[derive(Serialize)]
struct JsonRun {
    server: usize,
    round: u32,
    connections: usize,
    complete: bool,
    seconds: f64,
    requests: u64,
    replies: u64,
    found: u64,
    not_found: u64,
    cannot_tell: u64,
    replies_per_second: f64,
    #[serde(serialize_with = "as_map")]
    latency_us: Figures,
    errors: JsonErrors,
    server_cpu_us_per_reply: Option<f64>,
    reconnects: u64,
    generator: GeneratorFigures,
    warm_up: WarmUp,
}

#[derive(Serialize)]
struct JsonErrors {
    total: u64,
    #[serde(flatten)]
    kinds: ErrorCounts,
}

#[derive(Serialize)]
struct WarmUp {
    requests: u64,
    replies: u64,
    errors: u64,
}

impl JsonRun {
    fn new(measured: &Measurement) -> Self {
        let run = &measured.run;
        Self {
            server: measured.server,
            round: measured.round,
            connections: measured.connections,
            complete: run.is_complete,
            seconds: run.seconds,
            requests: run.tally.requests,
            replies: run.tally.replies(),
            found: run.tally.found,
            not_found: run.tally.not_found,
            cannot_tell: run.tally.cannot_tell,
            replies_per_second: rounded(run.rate()),
            latency_us: run
                .latency
                .figures()
                .map(|(name, micros)| (name, rounded(micros))),
            errors: JsonErrors {
                total: run.tally.errors.total(),
                kinds: run.tally.errors,
            },
            server_cpu_us_per_reply: run.server_micros_per_reply().map(rounded),
            reconnects: run.reconnects,
            generator: GeneratorFigures::new(run),
            warm_up: WarmUp {
                requests: run.warm_up.requests,
                replies: run.warm_up.replies(),
                errors: run.warm_up.errors.total(),
            },
        }
    }
}

impl Report<'_> {
    /// Prints the report as JSON.
    pub(crate) fn json(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let load = &self.plan.load;
        let first = self.plan.servers.first();
        let json = Json {
            version: env!("CARGO_PKG_VERSION"),
            date: self.date(),
            machine: self.machine,
            ok: self.is_ok(),
            complete: self.is_complete(),
            map: first.map_or("", |server| server.target.map.as_str()),
            servers: self
                .plan
                .servers
                .iter()
                .map(|server| server.target.to_string())
                .collect(),
            mode: if load.rate.is_some() { "open" } else { "closed" },
            rate: load.rate,
            pipeline: load.pipeline,
            duration_seconds: load.duration.map(|duration| duration.as_secs_f64()),
            count: load.count,
            warm_up_seconds: load.warm_up.as_secs_f64(),
            elapsed_seconds: rounded(self.elapsed.as_secs_f64()),
            timeout_seconds: load.timeout.as_secs_f64(),
            rounds: self.plan.rounds,
            keys: first.map_or(0, |server| server.requests.len()),
            seed: self.seed,
            verified: self.verified,
            runs: self.measured.iter().map(JsonRun::new).collect(),
            comparison: if self.is_comparison() {
                compare(self.measured)
            } else {
                Vec::new()
            },
        };
        serde_json::to_writer_pretty(&mut *out, &json)?;
        writeln!(out)
    }

    /// Prints the report as CSV, one line for each run.
    pub(crate) fn csv(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let kinds = ErrorCounts::default()
            .by_kind()
            .map(|(name, ..)| format!("error_{name}"))
            .collect::<Vec<_>>()
            .join(",");
        writeln!(
            out,
            "server,endpoint,round,connections,seconds,requests,replies,found,not_found,cannot_tell,\
             replies_per_second,min_us,mean_us,stddev_us,p50_us,p90_us,p99_us,p99_9_us,p99_99_us,max_us,errors,{kinds},\
             server_cpu_us_per_reply,reconnects,generator_cpu,generator_cpu_wait,late,lateness_p99_us,\
             lateness_max_us,generator_valid,warm_up_requests,warm_up_replies,warm_up_errors,complete"
        )?;
        for measured in self.measured {
            let run = JsonRun::new(measured);
            let endpoint = self.plan.servers.get(run.server);
            let endpoint = endpoint
                .map(|server| server.target.to_string())
                .unwrap_or_default();
            let (generator, warm_up) = (&run.generator, &run.warm_up);
            let mut line = String::new();
            let mut field = |value: &dyn fmt::Display| {
                // Writing to a string does not fail.
                let _ = write!(line, ",{value}");
            };
            field(&quoted(&endpoint));
            field(&run.round);
            field(&run.connections);
            field(&run.seconds);
            for number in [
                run.requests,
                run.replies,
                run.found,
                run.not_found,
                run.cannot_tell,
            ] {
                field(&number);
            }
            field(&run.replies_per_second);
            for (_, micros) in run.latency_us {
                field(&micros);
            }
            field(&run.errors.total);
            for (_, _, number) in run.errors.kinds.by_kind() {
                field(&number);
            }
            field(
                &run.server_cpu_us_per_reply
                    .map_or(String::new(), |cpu| cpu.to_string()),
            );
            field(&run.reconnects);
            field(&generator.cpu);
            field(&generator.cpu_wait);
            field(&generator.late);
            field(&generator.lateness_p99_us);
            field(&generator.lateness_max_us);
            field(&generator.valid);
            for number in [warm_up.requests, warm_up.replies, warm_up.errors] {
                field(&number);
            }
            field(&run.complete);
            writeln!(out, "{}{line}", run.server)?;
        }
        Ok(())
    }
}

/// Quotes a CSV field (RFC 4180), if it needs quotes.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn an_endpoint_is_one_csv_field_whatever_it_contains() {
        assert_eq!(quoted("socketmap:unix:/a b"), "socketmap:unix:/a b");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
