//! Counts the instructions of a lookup: decode, identify the peer, fold, search and encode, without the kernel.
//!
//! `cargo bench --bench instructions` counts them under valgrind, which gives nearly the same figure on every machine,
//! however busy. `-- --check` compares with benches/instructions.txt, and fails where a figure has grown by more than
//! 5 %. `-- --write` writes the present figures there.
//!
//! The program runs itself twice for each case, once with more lookups, and takes the difference, which excludes what
//! is done only once (starting, building the tables).
//!
//! Limits: the figures are those of one compiler and one target; with another compiler, 25 % are allowed. The hash of
//! the index has another key in each process, which changes them by some tenths of a per cent.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::print_stderr, reason = "errors, beside the table")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bytes::BytesMut;
use postmapd::diagnostics::Findings;
use postmapd::lookup::address::LookupKeys;
use postmapd::lookup::map::Maps;
use postmapd::lookup::peer::{Allowed, Peer};
use postmapd::lookup::search::Scratch;
use postmapd::lookup::snapshot::Snapshot;
use postmapd::lookup::table::Table;
use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP};
use postmapd::protocol::answer::Answer;
use postmapd::protocol::{Codec, Protocol, Reply, Request};
use postmapd::server::counters::Counters;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The numbers of lookups in the two runs.
const FEW: u64 = 2_000;
const MANY: u64 = 42_000;

/// The growth that fails: with the compiler of the recorded figures, and with another.
const GROWTH: f64 = 1.05;
const GROWTH_OF_ANOTHER_COMPILER: f64 = 1.25;

/// Entries in each table, in domains of ten, the last of which is the domain's entry.
const ENTRIES: u64 = 10_000;

/// The spread of one measurement: the hash of the index has another key in each process.
const SPREAD: f64 = 1.02;

/// A case, another of the same keys in tables without wildcards, and how much the first may cost of the second.
const WILDCARDS: (&str, &str, f64) = ("relayhost-ten-labels-wildcards", "relayhost-ten-labels", 1.3);

/// A lookup: its name, whether it is over socketmap, the map, the key, and whether there is an answer.
struct Case {
    name: &'static str,
    socketmap: bool,
    map: &'static str,
    entries: Entries,
    key: fn(u64) -> String,
    found: bool,
}

/// What the tables have besides the entries for domains.
#[derive(Clone, Copy, PartialEq)]
enum Entries {
    /// Domains that are not looked up.
    Domains,
    Addresses,
    /// Addresses, and as many entries for subdomains as for domains, of up to twelve labels.
    Wildcards,
}

const CASES: [Case; 11] = [
    Case {
        name: "relayhost-sender",
        socketmap: true,
        map: "relayhost",
        entries: Entries::Addresses,
        key: |n| format!("user{}@domain{}.example", n % 9, n / 10 % (ENTRIES / 10)),
        found: true,
    },
    Case {
        name: "relayhost-domain",
        socketmap: true,
        map: "relayhost",
        entries: Entries::Addresses,
        key: |n| format!("Somebody@Domain{}.example", n % (ENTRIES / 10)),
        found: true,
    },
    Case {
        name: "relayhost-domains-only",
        socketmap: true,
        map: "relayhost",
        entries: Entries::Domains,
        key: |n| format!("Somebody@Domain{}.example", n % (ENTRIES / 10)),
        found: true,
    },
    Case {
        name: "relayhost-extension-domain",
        socketmap: true,
        map: "relayhost",
        entries: Entries::Addresses,
        key: |n| format!("somebody+news@domain{}.example", n % (ENTRIES / 10)),
        found: true,
    },
    Case {
        name: "relayhost-not-found",
        socketmap: true,
        map: "relayhost",
        entries: Entries::Addresses,
        key: |n| format!("somebody@elsewhere{n}.example"),
        found: false,
    },
    Case {
        name: "relayhost-ten-labels",
        socketmap: true,
        map: "relayhost",
        entries: Entries::Addresses,
        key: ten_labels,
        found: false,
    },
    Case {
        name: "relayhost-ten-labels-wildcards",
        socketmap: true,
        map: "relayhost",
        entries: Entries::Wildcards,
        key: ten_labels,
        found: false,
    },
    Case {
        name: "relayhost-subdomain",
        socketmap: true,
        map: "relayhost",
        entries: Entries::Wildcards,
        key: |n| format!("somebody@mail.wide{}.example", n % (ENTRIES / 10) / 10 * 10),
        found: true,
    },
    Case {
        name: "sasl-sender",
        socketmap: true,
        map: "sasl",
        entries: Entries::Addresses,
        key: |n| format!("somebody@domain{}.example", n % (ENTRIES / 10)),
        found: true,
    },
    Case {
        name: "sasl-host",
        socketmap: true,
        map: "sasl",
        entries: Entries::Addresses,
        key: |n| format!("relay{}.example", n % 1000),
        found: false,
    },
    Case {
        name: "tcp-table-domain",
        socketmap: false,
        map: "relayhost",
        entries: Entries::Addresses,
        key: |n| format!("somebody@domain{}.example", n % (ENTRIES / 10)),
        found: true,
    },
];

/// A sender without an entry, whose domain has ten labels.
fn ten_labels(n: u64) -> String {
    format!("somebody@eight.seven.six.five.four.three.two.one.elsewhere{n}.example")
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["run", name, lookups] => run(name, lookups),
        ["--bench"] | ["--bench", "--check" | "--write"] | ["--check" | "--write", "--bench"] => {
            measure(&words)
        }
        // `cargo test --all-targets` runs this program without the flag, as a test.
        _ => {
            println!("usage: cargo bench --bench instructions [-- --check | --write]");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn figures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

fn measure(words: &[&str]) -> Result<()> {
    let before = fs::read_to_string(figures()).unwrap_or_default();
    let compiler = compiler()?;
    let is_the_same = before.starts_with(&compiler);
    let growth = if is_the_same {
        GROWTH
    } else {
        GROWTH_OF_ANOTHER_COMPILER
    };
    let mut now = compiler;
    let mut grown = Vec::new();
    let mut measured = BTreeMap::new();
    println!("{:<28} {:>12} {:>12}", "instructions a lookup", "now", "before");
    for case in &CASES {
        let instructions = (count(case, MANY)? - count(case, FEW)?) / (MANY - FEW);
        writeln!(now, "{} {instructions}", case.name)?;
        let known = before
            .lines()
            .find_map(|line| line.strip_prefix(case.name)?.trim().parse::<u64>().ok());
        let shown = known.map_or_else(|| "-".to_owned(), |known| known.to_string());
        println!("{:<28} {instructions:>12} {shown:>12}", case.name);
        measured.insert(case.name, instructions);
        if known.is_none_or(|known| as_f64(instructions) > as_f64(known) * growth) {
            grown.push(case.name);
        }
    }
    let (name, without, factor) = WILDCARDS;
    let of = |name: &str| measured.get(name).copied().map_or(0.0, as_f64);
    if of(name) > of(without) * factor * SPREAD {
        return Err(format!("{name} takes more than {factor} times the instructions of {without}").into());
    }
    if words.contains(&"--write") {
        fs::write(figures(), now)?;
    } else if words.contains(&"--check") && !grown.is_empty() {
        return Err(format!(
            "more than {growth} times benches/instructions.txt, or not in it: {}; if that is worth it, run \
             cargo bench --bench instructions -- --write",
            grown.join(", ")
        )
        .into());
    }
    Ok(())
}

/// The line that names the compiler.
fn compiler() -> Result<String> {
    let ran = Command::new("rustc").arg("--version").output()?;
    Ok(format!("# {}", String::from_utf8(ran.stdout)?))
}

#[allow(clippy::cast_precision_loss, reason = "thousands")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

/// The instructions of a whole run.
fn count(case: &Case, lookups: u64) -> Result<u64> {
    let ran = Command::new("valgrind")
        .args([
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
        ])
        .arg(std::env::current_exe()?)
        .args(["run", case.name, &lookups.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    let output = String::from_utf8_lossy(&ran.stderr);
    let line = output.lines().find_map(|line| line.split_once("I   refs:"));
    let (_, number) = line
        .filter(|_| ran.status.success())
        .ok_or_else(|| format!("valgrind does not count: {output}"))?;
    Ok(number.trim().replace(',', "").parse()?)
}

/// Makes that number of lookups, as a session does.
fn run(name: &str, lookups: &str) -> Result<()> {
    let case = CASES
        .iter()
        .find(|case| case.name == name)
        .ok_or("no such case")?;
    let lookups: u64 = lookups.parse()?;
    if case.socketmap {
        query(case, Protocol::Socketmap.codec(), lookups)
    } else {
        query(case, Protocol::TcpTable(case.map).codec(), lookups)
    }
}

fn query<C: Codec>(case: &Case, mut codec: C, lookups: u64) -> Result<()> {
    let requests: Vec<String> = (0..1000).map(|n| request(case, &(case.key)(n * 7))).collect();
    let snapshot = snapshot(case.entries);
    let peer = Peer::User {
        uid: 102,
        address: "127.0.0.1".parse().ok(),
    };
    let (mut keys, mut scratch) = (LookupKeys::default(), Scratch::default());
    // Without reading the clock, as without an admin listener.
    let counters = Counters::new(Maps::SERVED, false);
    let (mut input, mut output) = (BytesMut::with_capacity(4096), BytesMut::with_capacity(4096));
    for request in requests.iter().cycle().take(usize::try_from(lookups)?) {
        input.extend_from_slice(request.as_bytes());
        let Ok(Some((Request::Lookup { map, key }, taken))) = codec.decode(&mut input) else {
            return Err("a request is refused".into());
        };
        if taken != request.len() {
            return Err("a request is not taken whole".into());
        }
        let mut batch = counters.batch();
        let Some((number, map)) = Maps::SERVED.named(map) else {
            return Err("there is no such map".into());
        };
        if !map.may_be_queried_by(peer, &snapshot.allowed) {
            return Err("the peer is refused".into());
        }
        let answer = map.answer(&snapshot, key, &mut keys, &mut scratch);
        batch.answered(number, &answer);
        if matches!(answer, Answer::Found(_)) != case.found {
            return Err("the answer is wrong".into());
        }
        codec.encode(&Reply::Answer(answer), &mut output);
        batch.end();
        input.clear();
        output.clear();
    }
    Ok(())
}

fn request(case: &Case, key: &str) -> String {
    if case.socketmap {
        let payload = format!("{} {key}", case.map);
        format!("{}:{payload},", payload.len())
    } else {
        format!("get {key}\n")
    }
}

fn snapshot(entries: Entries) -> Snapshot {
    let (mut relay_map, mut credentials) = (String::new(), String::new());
    for n in 0..ENTRIES {
        let key = match n % 10 {
            9 => format!("@domain{}.example", n / 10),
            8 if entries == Entries::Wildcards => {
                let labels = "x.".repeat(usize::try_from(n / 10 % 10).unwrap_or_default());
                format!("@.{labels}wide{}.example", n / 10)
            }
            _ if entries == Entries::Domains => format!("@other{n}.example"),
            user => format!("user{user}@domain{}.example", n / 10),
        };
        // Writing to a String does not fail.
        let _ = writeln!(relay_map, "{key} [relay{}.example]:587", n % 12);
        let _ = writeln!(credentials, "{key} user{n}:{n:016x}");
    }
    let table = |map, text: String| {
        let text = text.into_bytes().into();
        Table::build(map, Path::new("t"), text, &mut Findings::default()).into()
    };
    Snapshot {
        allowed: Allowed::new([0, 102], []),
        ..Snapshot::new(table(&RELAY_MAP, relay_map), table(&CREDENTIALS, credentials))
    }
}
