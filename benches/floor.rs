//! Compares postmapd with the floor: a server without a table, which sends the same reply to every request.
//!
//! `cargo bench --bench floor` starts both, measures them in turn with `postmapd bench`, over TCP and over a UNIX
//! socket, and prints the ratios as Markdown. benches/README.md has the results, and benches/runtime.md the designs of
//! the server that were tried.
//!
//! The position of its memory makes one process up to a tenth faster or slower than the next of the same program, for
//! as long as it runs. So both are restarted several times. Each start gives the median of its rounds, and the table
//! has the median, the minimum and the maximum of these.
//!
//! Limits: one thread of the same machine sends the load, on one processor (`taskset`), and both servers run on one
//! too, so what a second processor would change is not measured. Times are not asserted, but a missed goal is marked.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::print_stderr, reason = "progress, beside the table")]

#[path = "floor/reply_loop.rs"]
mod reply_loop;
#[path = "floor/tokio_loop.rs"]
mod tokio_loop;

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use serde_json::Value;
use tokio_loop::Shape;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str =
    "usage: cargo bench --bench floor -- [--connections 1,16,64,256] [--starts N] [--rounds N] [--duration TIME]
           [--entries N] [--sockets TCP,UNIX] [--processors own|any] [--subject SERVER]

  --connections  how many connections ask, one number after the other (default: 1,16,64,256)
  --starts       how often both servers are started (default: 7)
  --rounds       how often each is measured at each number of connections, after each start (default: 7)
  --duration     for how long each time (default: 200ms)
  --entries      entries in the relay map (default: 10000)
  --sockets      TCP,UNIX or one of them (default: both)
  --processors   own: the servers have one processor, and who asks another (default); any: as the scheduler likes
  --subject      what is measured beside the floor: another build of postmapd than this one, or the floor of a runtime:
                 tokio (one thread), tokio-shared (one runtime, several threads), tokio-each (TCP only; a thread for
                 each processor with its own accept)";

/// The argument with which this program runs as a server.
const REPLY_LOOP: &str = "--reply-loop";

const REPLIES: &str = "replies/s";

/// What is compared, the field of `postmapd bench --format json`, and the goal as a ratio to the floor: a minimum for
/// replies, a maximum for the others.
const GOALS: [(&str, &str, f64); 4] = [
    (REPLIES, "replies_per_second", 0.95),
    ("p50", "p50", 1.05),
    ("p99", "p99", 1.2),
    ("processor time", "server_cpu", 1.15),
];

/// The processors of the server and of the load.
const SERVER: usize = 0;
const GENERATOR: usize = 1;

/// The number of connections for which the goal for replies applies.
const BUSY: u64 = 64;

struct Options {
    connections: String,
    starts: u32,
    rounds: String,
    duration: String,
    entries: u32,
    subject: PathBuf,
    sockets: String,
    any_processor: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [REPLY_LOOP, endpoint] => reply_loop::serve(endpoint),
        ["--shape", name, endpoint] => shape(name)
            .ok_or_else(|| USAGE.into())
            .and_then(|shape| tokio_loop::serve(shape, endpoint)),
        // `cargo test --all-targets` runs this program without the flag, as a test.
        arguments if !arguments.contains(&"--bench") => {
            println!("{USAGE}");
            Ok(())
        }
        arguments => options(arguments).and_then(|options| benchmark(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[&str]) -> Result<Options> {
    let mut options = Options {
        connections: "1,16,64,256".into(),
        starts: 7,
        rounds: "7".into(),
        duration: "200ms".into(),
        entries: 10_000,
        subject: env!("CARGO_BIN_EXE_postmapd").into(),
        sockets: "TCP,UNIX".into(),
        any_processor: false,
    };
    let mut arguments = arguments.iter().filter(|argument| **argument != "--bench");
    while let Some(argument) = arguments.next() {
        let value = *arguments.next().ok_or(USAGE)?;
        match *argument {
            "--connections" => options.connections = value.into(),
            "--starts" => options.starts = value.parse()?,
            "--rounds" => options.rounds = value.into(),
            "--duration" => options.duration = value.into(),
            "--entries" => options.entries = value.parse()?,
            "--sockets" => options.sockets = value.into(),
            "--processors" => options.any_processor = value == "any",
            "--subject" => options.subject = value.into(),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

fn shape(name: &str) -> Option<Shape> {
    let mut all = Shape::ALL.into_iter();
    all.find_map(|(other, shape)| (other == name).then_some(shape))
}

/// The parts of a socketmap endpoint.
enum Socket<'a> {
    Inet(SocketAddr),
    Unix(&'a Path),
}

impl Socket<'_> {
    fn at(&self, address: SocketAddr) -> String {
        match self {
            Self::Inet(_) => format!("socketmap:inet:{address}"),
            Self::Unix(path) => format!("socketmap:unix:{}", path.display()),
        }
    }
}

fn socket(endpoint: &str) -> Result<Socket<'_>> {
    if let Some(address) = endpoint.strip_prefix("socketmap:inet:") {
        Ok(Socket::Inet(address.parse()?))
    } else if let Some(path) = endpoint.strip_prefix("socketmap:unix:") {
        Ok(Socket::Unix(Path::new(path)))
    } else {
        Err(format!("{endpoint} is no endpoint of socketmap").into())
    }
}

/// The program on one processor: where the scheduler moves both sides, the figures of a round depend more on it than on
/// them.
fn on_processor(number: usize, options: &Options, program: impl AsRef<OsStr>) -> Command {
    if options.any_processor {
        return Command::new(program.as_ref());
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &number.to_string()]).arg(program);
    command
}

/// A server that ends on drop.
struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    /// Starts it, and waits until it announces its address on standard error.
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(child.stderr.take().ok_or("the server has no standard error")?);
        let mut text = String::new();
        let endpoint = loop {
            let begins = text.len();
            if log.read_line(&mut text)? == 0 {
                return Err(format!("the server does not start; it says {text}").into());
            }
            if let Some((_, endpoint)) = text
                .get(begins..)
                .unwrap_or_default()
                .split_once("listening endpoint=")
            {
                break endpoint.trim().to_owned();
            }
        };
        // The log is read on, so that the server never waits for a reader.
        thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Ok(Self { child, endpoint })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn benchmark(options: &Options) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let tables = directory.path().join("tables");
    fs::create_dir(&tables)?;
    let (mut relay_map, mut keys) = (String::new(), String::new());
    for entry in 0..options.entries {
        writeln!(
            relay_map,
            "@customer{entry}.example [smtp.relay{}.example]:587",
            entry % 10
        )?;
        writeln!(keys, "someone@customer{entry}.example")?;
    }
    fs::write(tables.join("postfix-relaymap.cf"), relay_map)?;
    let key_file = directory.path().join("keys");
    fs::write(&key_file, keys)?;

    println!("| socket | connections | what | ratio to the floor | smallest | largest | goal |");
    println!("|---|---:|---|---:|---:|---:|---|");
    for kind in options.sockets.split(',') {
        let mut ratios = Ratios::new();
        for _ in 0..options.starts {
            let (floor, subject) = start_both(kind, options, directory.path(), &tables)?;
            compare(&floor, &subject, &key_file, options, &mut ratios)?;
        }
        for ((connections, number), starts) in &mut ratios {
            let (name, _, goal) = GOALS.get(*number).ok_or("no goal")?;
            let line = line(*connections, name, *goal, starts).ok_or("nothing was measured")?;
            println!("| {kind} | {line} |");
        }
    }
    Ok(())
}

/// The ratios of each start, by the number of connections and the index in [`GOALS`].
type Ratios = BTreeMap<(u64, usize), Vec<f64>>;

/// A line of the table without the kind of the socket.
fn line(connections: u64, name: &str, goal: f64, ratios: &mut [f64]) -> Option<String> {
    ratios.sort_by(f64::total_cmp);
    let (smallest, largest) = (ratios.first()?, ratios.last()?);
    let median = ratios.get(ratios.len() / 2)?;
    let (goal, is_met) = match name {
        REPLIES if connections == BUSY => (format!("≥ {goal}"), *median >= goal),
        REPLIES => ("–".into(), true),
        _ => (format!("≤ {goal}"), *median <= goal),
    };
    let missed = if is_met { "" } else { ", **missed**" };
    Some(format!(
        "{connections} | {name} | {median:.3} | {smallest:.3} | {largest:.3} | {goal}{missed}"
    ))
}

/// Starts the floor and the server that is compared with it.
fn start_both(kind: &str, options: &Options, directory: &Path, tables: &Path) -> Result<(Server, Server)> {
    let endpoint = |name: &str| {
        if kind == "TCP" {
            return Ok("socketmap:inet:127.0.0.1:0".to_owned());
        }
        let path = directory.join(name);
        // The socket of the start before, which postmapd removes and the others do not.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(format!("socketmap:unix:{}", path.display())),
        }
    };
    let own = |mode: &[&str]| {
        let mut command = on_processor(SERVER, options, env::current_exe()?);
        Server::start(command.args(mode).arg(endpoint(mode.concat().as_str())?))
    };
    let floor = own(&[REPLY_LOOP])?;
    let subject = if let Some(name) = options.subject.to_str().filter(|name| shape(name).is_some()) {
        own(&["--shape", name])?
    } else {
        let mut command = on_processor(SERVER, options, &options.subject);
        command.args(["serve", "--listen", &endpoint("postmapd")?, "--dir"]);
        Server::start(command.arg(tables))?
    };
    Ok((floor, subject))
}

/// Measures both in turn, and adds the results.
fn compare(
    floor: &Server,
    subject: &Server,
    keys: &Path,
    options: &Options,
    ratios: &mut Ratios,
) -> Result<()> {
    let output = on_processor(GENERATOR, options, env!("CARGO_BIN_EXE_postmapd"))
        .args([
            "bench",
            &floor.endpoint,
            "relayhost",
            "--compare",
            &subject.endpoint,
        ])
        .args(["--pid", &floor.child.id().to_string()])
        .args(["--compare-pid", &subject.child.id().to_string()])
        .args(["--connections", &options.connections])
        .args(["--rounds", &options.rounds])
        .args(["--duration", &options.duration, "--warm-up", "50ms"])
        .args(["--format", "json"])
        .arg("--keys")
        .arg(keys)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("postmapd bench ends with {}", output.status).into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let comparisons = report
        .get("comparison")
        .and_then(Value::as_array)
        .ok_or("no comparison")?;
    for comparison in comparisons {
        let connections = comparison
            .get("connections")
            .and_then(Value::as_u64)
            .ok_or("no connections")?;
        for (number, (name, field, _)) in GOALS.into_iter().enumerate() {
            let median = comparison
                .get(field)
                .and_then(|spread| spread.get("median")?.as_f64())
                .ok_or_else(|| format!("no {name} at {connections} connections"))?;
            ratios.entry((connections, number)).or_default().push(median);
        }
    }
    Ok(())
}
