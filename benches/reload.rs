//! The cost of a reload: compared with `postmap`, in memory, and for clients during it.
//!
//! `cargo bench --bench reload -- --entries 10000,1000000,10000000 --runs 5` measures the built program, all sizes and
//! everything about a size in one run, and prints Markdown. benches/README.md explains each row and has the results.
//!
//! The parts of one run follow each other closely, so that other load on the machine affects `postmap` and postmapd
//! alike: compare within a run, never two runs. Times are not asserted. A wrong answer, though, ends the benchmark:
//! every reply is compared byte for byte, also during reloads.
//!
//! Limits: the clients share the machine with the server. All sockets are on loopback, and all files in one temporary
//! directory (in `TMPDIR`), which is removed at the end, and on Ctrl-C.
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]
#![allow(clippy::print_stderr, reason = "progress, beside the tables")]
#![allow(
    clippy::cast_precision_loss,
    reason = "what is measured has three digits, and an f64 has fifteen"
)]

#[path = "apparatus/mod.rs"]
mod apparatus;
#[path = "reload/client.rs"]
mod client;
#[path = "reload/report.rs"]
mod report;
#[path = "reload/tables.rs"]
mod tables;

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use apparatus::Result;
use apparatus::entries::Edition;
use apparatus::machine::{self, Machine};
use apparatus::postmap::{self, Postmap};
use apparatus::server::Server;
use client::{Clients, Meanwhile, Requests};
use report::{Measured, Run};
use tables::Tables;

const USAGE: &str = "usage: cargo bench --bench reload -- [--entries 10000,1000000,10000000] [--runs N]

  --entries  entries in each of the two files, one size after the other (default: 10000,1000000)
  --runs     how often each size is measured (default: 5)";

/// How often a line of the relay map changes in each run while the memory is measured.
const RELOADS: u32 = 10;

/// The numbers of connections: a single Postfix process, and a busy Postfix.
const CONNECTIONS: [usize; 2] = [1, 16];

struct Options {
    entries: Vec<u64>,
    runs: u32,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs this program without the flag, as a test.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match options(&arguments).and_then(|options| benchmark(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options {
        entries: vec![10_000, 1_000_000],
        runs: 5,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--entries" => {
                let sizes = arguments.next().ok_or(USAGE)?.split(',').map(str::parse);
                options.entries = sizes.collect::<std::result::Result<_, _>>()?;
            }
            "--runs" => options.runs = arguments.next().ok_or(USAGE)?.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    if options.runs == 0 || options.entries.contains(&0) {
        return Err(USAGE.into());
    }
    Ok(options)
}

fn benchmark(options: &Options) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("postmapd-bench-").tempdir()?;
    remove_when_interrupted(directory.path())?;
    let postmap = Postmap::find(directory.path())?;
    let load_before = machine::load();
    let mut measured = Vec::new();
    for &entries in &options.entries {
        let here = directory.path().join(entries.to_string());
        measured.push(measure(entries, options.runs, &here, &postmap)?);
        std::fs::remove_dir_all(&here)?;
    }
    report::print(
        &Machine::seen("reload", &postmap, load_before).to_string(),
        &measured,
    );
    Ok(())
}

/// Measures one size, everything in each run.
fn measure(entries: u64, runs: u32, directory: &Path, postmap: &Postmap) -> Result<Measured> {
    eprintln!("{entries} entries: writing the files");
    let mut tables = Tables::write(directory, entries)?;
    let requests = [Edition::First, Edition::Second].map(|edition| Requests::about(&tables, edition));
    // The server relies on a file's modification time once the file is older than a second. Until then it reads it
    // again at each poll, and would not be idle.
    thread::sleep(Duration::from_millis(1500));
    let mut measured = Measured::new(&tables)?;
    for number in 1..=runs {
        eprintln!("{entries} entries: run {number} of {runs}");
        let mut run = run(&mut tables, &requests)?;
        for format in postmap::FORMATS {
            if !measured.has_enough(format) {
                run.built
                    .push((format, postmap.build(format, tables.relay_map())?));
            }
        }
        measured.runs.push(run);
    }
    Ok(measured)
}

/// Runs one server from start to end.
fn run(tables: &mut Tables, [first, second]: &[Requests; 2]) -> Result<Run> {
    let server = Server::start(tables.directory(), &["socketmap:inet:127.0.0.1:0".to_owned()])?;
    let address = server.address()?;
    let mut run = Run {
        start: server.start,
        memory_after_start: server.settled_memory()?,
        ..Run::default()
    };
    let clients = Clients::of(address, first);
    for connections in CONNECTIONS {
        run.baseline
            .push(clients.measure(connections, Meanwhile::Nothing)?);
        run.busy
            .push(clients.measure(connections, Meanwhile::BusyThread)?);
    }
    server.reset_peak();
    for number in 1..=RELOADS {
        run.reloads.push(tables.replace_and_wait(address)?);
        if number == 1 {
            run.memory_after_one = server.settled_memory()?;
        }
    }
    run.memory_after_all = server.settled_memory()?;
    run.loads = server.durations_of_reloads();
    for connections in CONNECTIONS {
        run.reloading
            .push(clients.measure(connections, Meanwhile::Reloads(tables))?);
    }
    run.memory_peak = server.peak_memory()?;
    server.reset_peak();
    run.rewrite = tables.rewrite_and_wait(address)?;
    run.memory_after_rewrite = server.settled_memory()?;
    run.memory_peak_of_rewrite = server.peak_memory()?;
    let last = server.durations_of_reloads().pop();
    run.rewrite_load = last.ok_or("the server does not say how long it took")?;
    // This is not measured, but checked. For the server that saw the rewriting, every sender has moved, and has a login
    // at a next hop only.
    drop(server);
    let server = Server::start(tables.directory(), &["socketmap:inet:127.0.0.1:0".to_owned()])?;
    Clients::of(server.address()?, second).measure(1, Meanwhile::Nothing)?;
    tables.restore()?;
    Ok(run)
}

/// Removes the directory on Ctrl-C, which the server and `postmap` receive too.
fn remove_when_interrupted(directory: &Path) -> Result<()> {
    let directory = directory.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    thread::Builder::new().name("interrupt".into()).spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            // A failure cannot be handled here.
            let _ = std::fs::remove_dir_all(&directory);
            std::process::exit(130);
        }
    })?;
    Ok(())
}
