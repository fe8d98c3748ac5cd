//! Postfix's own tables and postmapd side by side, through Postfix's own client: a lookup and a rebuild of each.
//!
//! `cargo bench --bench side_by_side` makes up a relay map, serves it by each way there is, has `postmap -q` ask all of
//! them the same keys, compares every answer with the only right one, and changes a line of it by each way.
//! benches/README.md says what each column means, and what came out where.
//!
//! The ways take turns within a round, in another order each round, so that whatever else the machine does hits all of
//! them alike: compare within one run, never two runs. Nothing is asserted about times. A wrong answer ends it, except
//! from somebody else's server (`--endpoint`), about whose answers it is said whether they are the same.
//!
//! Limits: one client at a time; what many at once do to a server is what `postmapd bench` is for. Everything is on
//! loopback, and in temporary folders (`TMPDIR` says where), which are removed at the end, and on Ctrl-C. `proxy:` needs
//! a running Postfix: a private one, which only root can start. What cannot be had is a row with its reason.
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
use lookup::{Keys, Questions};
use report::Size;
use table::Stage;

/// Postfix's own tables and postmapd side by side, through Postfix's own client.
#[derive(Parser)]
#[command(name = "side_by_side", bin_name = "cargo bench --bench side_by_side --")]
struct Options {
    /// Entries in the relay map, one size after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000], value_parser = clap::value_parser!(u64).range(2..))]
    entries: Vec<u64>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Keys that a table in the client's own process is asked for in a round; a server is asked for a tenth of them.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(10..))]
    keys: u64,
    /// Another server to ask the same keys, as main.cf names it: socketmap:inet:HOST:PORT:MAP, tcp:HOST:PORT, …
    #[arg(long)]
    endpoint: Vec<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Only whether it works and the answers agree: 2 rounds of 500 keys, whose times mean nothing.
    #[arg(long)]
    quick: bool,
    /// Fail where a way cannot be measured, rather than say why in its row.
    #[arg(long)]
    require_all: bool,
    /// Write the relay map that is asked about (of the first size) into this file and end, to load it into the server
    /// of --endpoint.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Cargo says so to a benchmark.
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
    // `cargo test --all-targets` runs this program without the flag, and means a test.
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
    let folder = tempfile::Builder::new()
        .prefix("postmapd-side-by-side-")
        .tempdir()?;
    let postmap = Postmap::find(folder.path())?;
    if postmap.version.is_none() {
        return Err(
            "no Postfix here, whose client is to ask: apt install postfix postfix-lmdb postfix-cdb".into(),
        );
    }
    let load_before = machine::load();
    let mut sizes = Vec::new();
    for &entries in &options.entries {
        let here = folder.path().join(entries.to_string());
        fs::create_dir(&here)?;
        let size = measure(&options, entries, &here, &postmap, &interruption);
        // The error of a child that Ctrl-C has ended is not what there is to say.
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
    folder: &Path,
    postmap: &Postmap,
    interruption: &Interruption,
) -> Result<Size> {
    eprintln!("{entries} entries: writing and building the tables");
    let relay_map = RelayMap::write(folder, entries)?;
    let questions = Questions {
        one: Keys::write(folder, "one", entries, 1)?,
        few: Keys::write(folder, "few", entries, options.keys / 10)?,
        many: Keys::write(folder, "many", entries, options.keys)?,
    };
    let mut stage = Stage::set(postmap, &relay_map, folder, &options.endpoint, &questions.one)?;
    for round in 0..options.rounds {
        eprintln!("{entries} entries: round {} of {}", round + 1, options.rounds);
        stage.turn(round);
        for table in stage.tables() {
            interruption.check()?;
            lookup::measure(table, &questions)?;
        }
        for table in stage.tables() {
            interruption.check()?;
            change::measure(table)?;
        }
        change::measure_served(&mut stage)?;
    }
    Ok(Size::of(entries, &questions, stage.into_rows()))
}
