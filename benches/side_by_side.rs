//! Postfix's own tables and postmapd side by side, through Postfix's own client: a lookup and a rebuild of each.
//!
//! `cargo bench --bench side_by_side` generates a relay map, serves it by each method, has `postmap -q` look up the
//! same keys in all of them, compares every answer with the only right one, and changes a line of it by each method.
//! benches/README.md explains each column, and has the results.
//!
//! The methods take turns within a round, in another order each round, so that other load on the machine affects all of
//! them alike: compare within one run, never two runs. Times are not asserted. A wrong answer ends it, except from an
//! external server (`--endpoint`), whose row says whether its answers are the same.
//!
//! Limits: one client at a time; `postmapd bench` measures many at once. Everything is on loopback, and in temporary
//! directories (in `TMPDIR`), which are removed at the end, and on Ctrl-C. `proxy:` needs a running Postfix: a private
//! one, which only root can start. A method that is not available has a row with the reason.
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]
#![allow(clippy::print_stderr, reason = "progress, beside the tables")]
#![allow(
    clippy::cast_precision_loss,
    reason = "what is measured has three digits, and an f64 has fifteen"
)]

#[path = "apparatus/mod.rs"]
mod apparatus;
#[path = "side_by_side/change.rs"]
mod change;
#[path = "../tests/promises/harness/daemon.rs"]
#[allow(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "harness of the tests, of which postfix uses one function"
)]
mod daemon;
#[path = "side_by_side/interruption.rs"]
mod interruption;
#[path = "side_by_side/lookup.rs"]
mod lookup;
#[path = "../tests/promises/harness/postfix.rs"]
mod postfix;
#[path = "side_by_side/report.rs"]
mod report;
#[path = "side_by_side/table.rs"]
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use apparatus::Result;
use apparatus::entries::Edition;
use apparatus::machine::{self, Machine};
use apparatus::postmap::Postmap;
use apparatus::relay_map::{self, RelayMap};
use interruption::Interruption;
use lookup::{Keys, Requests};
use report::Size;
use table::Fixture;

/// Postfix's own tables and postmapd side by side, through Postfix's own client.
#[derive(Parser)]
#[command(name = "side_by_side", bin_name = "cargo bench --bench side_by_side --")]
struct Options {
    /// Numbers of entries in the relay map, measured one after another.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000], value_parser = clap::value_parser!(u64).range(2..))]
    entries: Vec<u64>,
    /// Number of rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Keys looked up in a round in a table in the client's own process; a server gets a tenth of them.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(10..))]
    keys: u64,
    /// An external server for the same keys, in main.cf's notation: socketmap:inet:HOST:PORT:MAP, tcp:HOST:PORT, …
    #[arg(long)]
    endpoint: Vec<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Only check that it works and the answers agree: 2 rounds of 500 keys, whose times mean nothing.
    #[arg(long)]
    quick: bool,
    /// Fail where a method cannot be measured, instead of giving the reason in its row.
    #[arg(long)]
    require_all: bool,
    /// Write the relay map (of the first size) to this file and exit, to load it into the server of --endpoint.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Set by Cargo for a benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
    Markdown,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this program without the flag, as a test.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("a benchmark: cargo bench --bench side_by_side -- --help");
        return ExitCode::SUCCESS;
    }
    match benchmark(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side_by_side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn benchmark(mut options: Options) -> Result<()> {
    if let Some(file) = &options.write {
        let entries = options.entries.first().copied().unwrap_or_default();
        relay_map::write(file, entries, Edition::First)?;
        return Ok(());
    }
    if options.quick {
        options.rounds = 2;
        options.keys = 500;
    }
    let interruption = Interruption::expect()?;
    let directory = tempfile::Builder::new()
        .prefix("postmapd-side-by-side-")
        .tempdir()?;
    let postmap = Postmap::find(directory.path())?;
    if postmap.version.is_none() {
        return Err(
            "no Postfix here, whose client is to ask: apt install postfix postfix-lmdb postfix-cdb".into(),
        );
    }
    let load_before = machine::load();
    let mut sizes = Vec::new();
    for &entries in &options.entries {
        let here = directory.path().join(entries.to_string());
        fs::create_dir(&here)?;
        let size = measure(&options, entries, &here, &postmap, &interruption);
        // After Ctrl-C, the error of the child that it ended is not reported.
        interruption.check()?;
        sizes.push(size?);
        fs::remove_dir_all(&here)?;
    }
    let machine = Machine::seen("side_by_side", &postmap, load_before);
    report::print(options.format, &machine, &sizes)?;
    match sizes.iter().find_map(Size::skipped) {
        Some((name, why)) if options.require_all => Err(format!("{name}: {why}").into()),
        _ => Ok(()),
    }
}

/// Measures one size.
fn measure(
    options: &Options,
    entries: u64,
    directory: &Path,
    postmap: &Postmap,
    interruption: &Interruption,
) -> Result<Size> {
    eprintln!("{entries} entries: writing and building the tables");
    let relay_map = RelayMap::write(directory, entries)?;
    let requests = Requests {
        one: Keys::write(directory, "one", entries, 1)?,
        few: Keys::write(directory, "few", entries, options.keys / 10)?,
        many: Keys::write(directory, "many", entries, options.keys)?,
    };
    let mut fixture = Fixture::set(postmap, &relay_map, directory, &options.endpoint, &requests.one)?;
    for round in 0..options.rounds {
        eprintln!("{entries} entries: round {} of {}", round + 1, options.rounds);
        fixture.turn(round);
        for table in fixture.tables() {
            interruption.check()?;
            lookup::measure(table, &requests)?;
        }
        for table in fixture.tables() {
            interruption.check()?;
            change::measure(table)?;
        }
        change::measure_served(&mut fixture)?;
    }
    Ok(Size::of(entries, &requests, fixture.into_rows()))
}
