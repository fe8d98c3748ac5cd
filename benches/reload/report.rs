//! The results as Markdown: medians with the minimum and the maximum of all runs.

use std::io;
use std::time::Duration;

use super::apparatus::postmap::{self, Built};
use super::apparatus::spread::{Digits, Spread, grouped};
use super::client::Latency;
use super::tables::Tables;
use super::{CONNECTIONS, RELOADS};

/// One run of one size.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) start: Duration,
    pub(crate) reloads: Vec<Duration>,
    /// The server's own share of the reloads.
    pub(crate) loads: Vec<Duration>,
    /// The formats built by `postmap`.
    pub(crate) built: Vec<(&'static str, Built)>,
    pub(crate) memory_after_start: u64,
    pub(crate) memory_after_one: u64,
    pub(crate) memory_after_all: u64,
    pub(crate) memory_peak: u64,
    /// The time of a reload in which every line of both files is new, and the server's own share.
    pub(crate) rewrite: Duration,
    pub(crate) rewrite_load: Duration,
    pub(crate) memory_peak_of_rewrite: u64,
    pub(crate) memory_after_rewrite: u64,
    /// For each of [`CONNECTIONS`].
    pub(crate) baseline: Vec<Latency>,
    pub(crate) busy: Vec<Latency>,
    pub(crate) reloading: Vec<Latency>,
}

/// All runs of one size.
pub(crate) struct Measured {
    entries: u64,
    sizes: [u64; 2],
    pub(crate) runs: Vec<Run>,
}

impl Measured {
    pub(crate) fn new(tables: &Tables) -> io::Result<Self> {
        Ok(Self {
            entries: tables.entries,
            sizes: tables.sizes()?,
            runs: Vec::new(),
        })
    }

    /// The outcomes of this format in the runs so far.
    fn built(&self, format: &str) -> impl Iterator<Item = Built> {
        let built = self.runs.iter().flat_map(|run| &run.built);
        built
            .filter(move |(name, _)| *name == format)
            .map(|(_, built)| *built)
    }

    /// Whether this format need not be built again.
    pub(crate) fn has_enough(&self, format: &str) -> bool {
        self.built(format).any(Built::is_enough)
    }

    fn files(&self) -> f64 {
        self.sizes.iter().sum::<u64>() as f64
    }

    fn spread(&self, of: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(of).collect())
    }

    fn reload(&self) -> Spread {
        Spread::of(self.seconds(|run| &run.reloads))
    }

    fn seconds(&self, of: impl Fn(&Run) -> &Vec<Duration>) -> Vec<f64> {
        self.runs.iter().flat_map(of).map(Duration::as_secs_f64).collect()
    }
}

/// Prints everything.
pub(crate) fn print(machine: &str, measured: &[Measured]) {
    println!("{machine}");
    print_sizes(measured);
    println!();
    print_latencies(measured);
}

/// A row: its name, and its cell for each size.
fn row(name: &str, measured: &[Measured], cell: impl Fn(&Measured) -> String) {
    let cells: Vec<String> = measured.iter().map(cell).collect();
    println!("| {name} | {} |", cells.join(" | "));
}

fn print_sizes(measured: &[Measured]) {
    row("entries in each file", measured, |size| grouped(size.entries));
    println!("|---|{}", "---|".repeat(measured.len()));
    row("relay map + credentials", measured, |size| {
        let [relay_map, credentials] = size.sizes.map(|bytes| Digits(bytes as f64 / 1e6));
        format!("{relay_map} + {credentials} MB")
    });
    row("start: process to listening", measured, |size| {
        size.spread(|run| run.start.as_secs_f64()).time()
    });
    row("**reload**: rename to first new reply", measured, |size| {
        size.reload().time()
    });
    row("of this, reading, parsing and indexing", measured, |size| {
        Spread::of(size.seconds(|run| &run.loads)).time()
    });
    row("**reload of every line of both files**", measured, |size| {
        size.spread(|run| run.rewrite.as_secs_f64()).time()
    });
    row("of this, reading, parsing and indexing", measured, |size| {
        size.spread(|run| run.rewrite_load.as_secs_f64()).time()
    });
    for format in postmap::FORMATS {
        row(
            &format!("`postmap {format}:` of the relay map"),
            measured,
            |size| beside_reload(size, format),
        );
    }
    let memory = |name: &str, of: fn(&Run) -> u64| {
        row(name, measured, |size| {
            let spread = size.spread(|run| of(run) as f64);
            let times = spread.median / size.files();
            format!("{}, {}× the files", spread.show(1e6, " MB"), Digits(times))
        });
    };
    memory("resident after the start", |run| run.memory_after_start);
    memory("resident after one reload", |run| run.memory_after_one);
    memory(&format!("resident after {RELOADS} reloads"), |run| {
        run.memory_after_all
    });
    memory("the most while one line changes", |run| run.memory_peak);
    memory("the most while every line changes", |run| {
        run.memory_peak_of_rewrite
    });
    memory("resident after that", |run| run.memory_after_rewrite);
}

fn beside_reload(size: &Measured, format: &str) -> String {
    let times = |seconds: f64| Digits(seconds / size.reload().median);
    let mut seconds = Vec::new();
    for built in size.built(format) {
        match built {
            Built::In(took) => seconds.push(took.as_secs_f64()),
            Built::NotInstalled => return "not installed".into(),
            Built::GivenUp => {
                let timeout = postmap::TIMEOUT.as_secs_f64();
                return format!(
                    "given up after {timeout} s, more than {}× a reload",
                    times(timeout)
                );
            }
        }
    }
    let spread = Spread::of(seconds);
    format!("{}, {}× a reload", spread.time(), times(spread.median))
}

fn print_latencies(measured: &[Measured]) {
    println!("| entries, connections | meanwhile | lookups/s | p50 | p99 | p99.9 | max |");
    println!("|---|---|---|---|---|---|---|");
    for size in measured {
        for (number, connections) in CONNECTIONS.iter().enumerate() {
            let heading = format!("{}, {connections}", grouped(size.entries));
            let summary = |name: &str, of: fn(&Run) -> &Vec<Latency>, others: &[(&str, &Summary)]| {
                let summary = Summary::of(size, |run| of(run).get(number).copied().unwrap_or_default());
                summary.print(&heading, name, others);
                summary
            };
            let baseline = summary("nothing", |run| &run.baseline, &[]);
            let busy = summary(
                "a busy thread elsewhere",
                |run| &run.busy,
                &[("quiet", &baseline)],
            );
            let others = [("quiet", &baseline), ("busy", &busy)];
            summary("**reloads**, one after another", |run| &run.reloading, &others);
        }
    }
}

/// Latencies of all runs: p50, p99, p99.9 and the maximum.
struct Summary {
    per_second: Spread,
    quantiles: [Spread; 4],
}

impl Summary {
    fn of(size: &Measured, of: impl Fn(&Run) -> Latency) -> Self {
        Self {
            per_second: size.spread(|run| of(run).per_second),
            quantiles: [
                size.spread(|run| of(run).p50),
                size.spread(|run| of(run).p99),
                size.spread(|run| of(run).p999),
                size.spread(|run| of(run).max),
            ],
        }
    }

    fn print(&self, heading: &str, name: &str, others: &[(&str, &Self)]) {
        let cells = self.quantiles.iter().enumerate().map(|(number, spread)| {
            let ratios = others.iter().filter_map(|(other, summary)| {
                let ratio = Digits(spread.median / summary.quantiles.get(number)?.median);
                Some(format!("; {ratio}× {other}"))
            });
            spread.time() + &ratios.collect::<String>()
        });
        let cells: Vec<String> = cells.collect();
        let per_second = self.per_second.show(1000.0, " k");
        println!("| {heading} | {name} | {per_second} | {} |", cells.join(" | "));
    }
}
