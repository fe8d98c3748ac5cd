//! `postmapd bench`: measures how many replies a second a server sends, and their latency.
//!
//! The report goes to standard output; a progress line goes to standard error, if that is a terminal.

mod terminal;
mod values;

use std::fs;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::tables::Tables;
use super::{Error, exit_code, print_message};
use crate::bench::keys::{self, KeysError, Random, RequestSet};
use crate::bench::load::Load;
use crate::bench::plot;
use crate::bench::report::Report;
use crate::bench::target::Target;
use crate::bench::{Plan, Server};
use crate::config::options::Options;
use crate::diagnostics::{Code, Finding, Place};
use crate::lookup::map::Map;
use crate::os::printable::printable_path;
use crate::os::replace_file::{self, ReplaceError};
use terminal::{Interrupt, ProgressLine};
use values::{between, duration, map_name, nonzero_duration, number};

/// The numbers of connections without `--connections`, and with `--rate` or `--compare`.
const DEFAULT_CONNECTIONS: [usize; 6] = [1, 2, 4, 8, 16, 32];
const SINGLE_RUN_CONNECTIONS: [usize; 1] = [16];
/// The number of rounds with `--compare`.
const DEFAULT_ROUNDS: u32 = 5;
/// The number of generated keys, where there is neither a list nor a directory.
const GENERATED_KEYS: usize = 10_000;

/// Ask a server as many Postfix processes would, and report replies a second and the latency distribution
#[derive(Args)]
#[command(after_help = "\
Any server of socketmap_table(5) or tcp_table(5) can be measured, under any map name. Without --rate each connection \
asks again when it has its reply, as a Postfix process does (closed loop): a server that stalls is asked less, and the \
stall is one slow reply on each connection. With --rate requests are due at fixed times whatever the server does, and \
each latency counts from then (open loop): a stall shows in every request that should have been sent during it.

The keys are those of --keys, one a line, in that order and over again; else those of the tables in --dir, in random \
order, with somebody of the domain for @domain; else made-up senders. With --dir (or POSTMAPD_DIR) every reply is \
compared with the files and the environment: a value byte for byte. Without it, a reply that cannot tell is an error. \
An error names the key, what the files say and what the server said in kind; a credential is never printed.

The machine that measures is measured, too: the load comes from one thread, whose processor time, time of waiting for a \
processor and late sends are reported (generator). More than 1 in 100 requests sent over 1 ms late by its own fault, \
and the measurement is called invalid. That does not change the exit code.

--plot draws the distribution, with as much room for the slowest hundredth as for the slowest tenth, and for several \
numbers of connections replies a second and latencies over them.

--format json has the fields below, latencies in microseconds; fields may be added, and none changes its meaning. \
--format csv has a line for each run with the same figures; the first line names them: latencies as p99_us, errors as \
errors and error_wrong, and what is of the generator or the warm-up as generator_cpu, late, warm_up_requests.

Ctrl-C ends the measurement and reports what was measured so far; a second one ends the program.

Exit codes: 0 every request had its right reply; 1 wrong or missing replies; 130 interrupted; 2 usage; 69 cannot connect; 71 the system \
refuses something.

Examples:
  postmapd bench socketmap:inet:127.0.0.1:10451 relayhost --dir /etc/postmapd
  postmapd bench socketmap:unix:/var/spool/postfix/postmapd/socketmap relayhost \\
      --connections 1,8,64 --plot curve.svg
  postmapd bench tcp:127.0.0.1:10452 relayhost --dir /etc/postmapd --hits 0.75 \\
      --rate 20000 --duration 30s
  postmapd bench socketmap:inet:127.0.0.1:10451 sasl --keys senders.txt --pid \"$(pidof postmapd)\"
  postmapd bench socketmap:inet:127.0.0.1:10451 relayhost --keys keys.txt \\
      --compare tcp:127.0.0.1:10452
  postmapd bench socketmap:inet:127.0.0.1:10003 forward --keys addresses.txt \\
      --format json | jq '.runs[].latency_us'

Fields of --format json:
  version, ok             of postmapd; whether there was no error
  map, servers, mode      the endpoints as given; closed or open
  rate, pipeline, duration_seconds, count, warm_up_seconds, timeout_seconds,
  rounds, keys, seed, verified
  runs[]                  one for each server, round and number of connections,
                          in the order in which they ran:
    server                0 or 1, as in servers
    round, connections
    seconds               from the end of the warm-up to the last reply
    requests              = replies + malformed + closed + timeout + unsent
    replies               = found + not_found + cannot_tell
    found, not_found, cannot_tell, replies_per_second
    latency_us            mean, p50, p90, p99, p99_9, p99_99, max
    errors                total; replies: wrong, cannot_tell; no replies:
                          malformed, closed, timeout, unsent; extra: bytes that
                          nobody asked for; connect: not opened again
    server_cpu_us_per_reply   user and system time of --pid and the
                          processes that it started; null without it
    reconnects
    generator             cpu, cpu_wait: shares of a processor; late: requests;
                          lateness_p99_us, lateness_max_us; valid
    warm_up               requests, replies, errors; errors count for ok
  comparison[]            of the second server to the first, for each number of
                          connections: connections, rounds, and of each ratio
                          median, min, max, or null where there is none:
    replies_per_second, mean, p50, p90, p99, p99_9, p99_99, max, server_cpu")]
pub(super) struct Bench {
    #[command(flatten)]
    options: Options,

    /// How many connections, each in turn: 1,2,4,8,16,32, and with --rate or --compare 16 alone, without this
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = number::<1, 100_000>)]
    connections: Vec<usize>,

    /// How many requests in flight on each connection; Postfix has one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::<1, 10_000>)]
    pipeline: usize,

    /// So many requests a second, due at fixed times, instead of as many as are answered
    #[arg(long, value_name = "N", value_parser = between(0.01, 10_000_000.0))]
    rate: Option<f64>,

    /// How long to measure each number of connections (500ms, 10s, 2m) [default: 3s without --count]
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration)]
    duration: Option<Duration>,

    /// How many requests to measure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    count: Option<u64>,

    /// How long to ask before anything counts
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    warm_up: Duration,

    /// How long to wait for a connection or a reply; Postfix waits 100 seconds
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = nonzero_duration)]
    timeout: Duration,

    /// The keys, one a line; - reads standard input
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,

    /// The share of keys that are found, from 0 to 1; the rest are senders without an entry
    #[arg(long, value_name = "SHARE", conflicts_with = "keys", value_parser = between(0.0, 1.0))]
    hits: Option<f64>,

    /// How many keys to take from the tables, at most
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = number::<1, 10_000_000>)]
    distinct: usize,

    /// Where the random choice of keys begins
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Take keys from the folder, but do not compare the replies with it
    #[arg(long)]
    no_verify: bool,

    /// The server's process, for its processor time and that of those which it started; several with commas
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pid: Vec<u32>,

    /// A second server, measured in alternation; the report has the ratios, and their spread over the rounds
    #[arg(long, value_name = "ENDPOINT")]
    compare: Option<String>,

    /// The second server's process
    #[arg(long, value_name = "PID,...", value_delimiter = ',', requires = "compare")]
    compare_pid: Vec<u32>,

    /// How often to measure each of the two [default: 5]
    #[arg(long, value_name = "N", requires = "compare", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Draw the result as SVG: FILE.svg
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// The server, as main.cf names it: socketmap:inet:HOST:PORT, socketmap:unix:PATH or tcp:HOST:PORT
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,

    /// The name of the map
    #[arg(value_name = "MAP", value_parser = map_name)]
    map: String,
}

/// The exit code after SIGINT, as in shells: 128 and the number of the signal.
const EXIT_INTERRUPTED: u8 = 130;

/// The format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For machines
    Json,
    /// For machines, a line a run
    Csv,
}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let plot = self.plot_file()?;
        let keys = self.listed_keys()?;
        let needs_tables = self.options.has_explicit_dir() && (keys.is_none() || !self.no_verify);
        let tables = if needs_tables { Some(self.tables()?) } else { None };
        if self.hits.is_some() && tables.is_none() {
            return Err(usage("--hits", "what is found, the folder says; add --dir"));
        }
        let keys = match (keys, &tables) {
            (Some(keys), _) => keys,
            (None, Some((tables, map))) => {
                let random = &mut Random::new(self.seed);
                keys::from_tables(&tables.snapshot, *map, self.hits, self.distinct, random)
                    .map_err(|error| usage("--dir", error))?
            }
            (None, None) => keys::synthetic(GENERATED_KEYS, &mut Random::new(self.seed)),
        };
        let expected = tables.as_ref().filter(|_| !self.no_verify);
        let expected = expected.map(|(tables, map)| (&tables.snapshot, *map));
        let mut servers = vec![self.server("ENDPOINT", &self.endpoint, &self.pid, &keys, expected)?];
        if let Some(second) = &self.compare {
            servers.push(self.server("--compare", second, &self.compare_pid, &keys, expected)?);
        }
        let plan = Plan {
            servers,
            load: self.load(),
            connections: self.connections(),
            rounds: if self.compare.is_some() {
                self.rounds.unwrap_or(DEFAULT_ROUNDS)
            } else {
                1
            },
        };
        raise_file_limit(plan.connections.iter().copied().max().unwrap_or_default());
        let mut line = ProgressLine::default();
        let mut interrupt = Interrupt::block();
        let measured = plan.run(&mut |step, progress| {
            line.show(step, progress);
            if interrupt.as_mut().is_some_and(Interrupt::poll) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        line.clear();
        let measured = measured?;
        let is_interrupted = interrupt.is_some_and(|interrupt| interrupt.received);
        if is_interrupted {
            print_message("interrupted; this is what was measured so far");
        }
        let report = Report {
            plan: &plan,
            seed: self.seed,
            verified: expected.is_some(),
            measured: &measured,
        };
        self.print(&report)
            .map_err(Error::system("cannot print the report"))?;
        if let Some(path) = plot {
            let svg = plot::svg(&report);
            // Follows no link of another user, as root in a directory of that user.
            replace_file::edit::<ReplaceError>(path, 0o644, |_| Ok(Some(svg.clone().into_bytes().into())))
                .map_err(|error| Error::system("cannot write the plot")(io::Error::other(error)))?;
        }
        Ok(if is_interrupted {
            ExitCode::from(EXIT_INTERRUPTED)
        } else {
            exit_code(report.is_ok())
        })
    }

    fn print(&self, report: &Report<'_>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self.format {
            Format::Text => report.text(&mut out)?,
            Format::Json => report.json(&mut out)?,
            Format::Csv => report.csv(&mut out)?,
        }
        if self.format != Format::Text {
            for warning in report.warnings() {
                print_message(warning);
            }
        }
        out.flush()
    }

    /// Returns the file of the plot, checked before the measurement, which may take minutes.
    fn plot_file(&self) -> Result<Option<&Path>, Error> {
        let Some(path) = self.plot.as_deref() else {
            return Ok(None);
        };
        let directory = path
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty());
        if directory.is_some_and(|directory| !directory.is_dir()) {
            return Err(usage("--plot", "its folder does not exist"));
        }
        if !path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("svg"))
        {
            return Err(usage(
                "--plot",
                "the plot is written as SVG, and the name must end in .svg",
            ));
        }
        Ok(Some(path))
    }

    fn listed_keys(&self) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let Some(path) = &self.keys else {
            return Ok(None);
        };
        let text = if path.as_os_str() == "-" {
            let mut text = Vec::new();
            io::stdin().lock().read_to_end(&mut text).map(|_| text)
        } else {
            fs::read(path)
        };
        let text = text.map_err(|error| usage("--keys", format!("{}: {error}", printable_path(path))))?;
        match keys::from_lines(&text) {
            keys if keys.is_empty() => Err(usage("--keys", KeysError::None("the list is empty"))),
            keys => Ok(Some(keys)),
        }
    }

    fn tables(&self) -> Result<(Tables, Map), Error> {
        let Some(map) = Map::named(&self.map) else {
            let message = format!(
                "the folder has the maps relayhost and sasl, and not {}; use --keys with --no-verify, or no folder",
                self.map
            );
            return Err(usage("--dir", message));
        };
        let tables = Tables::read(&self.options)?;
        if tables.findings.errors() > 0 {
            print_message("the files have errors, and some keys cannot be told; postmapd check says more");
        }
        Ok((tables, map))
    }

    fn server(
        &self,
        argument: &'static str,
        endpoint: &str,
        pids: &[u32],
        keys: &[Vec<u8>],
        expected: Option<(&crate::lookup::snapshot::Snapshot, Map)>,
    ) -> Result<Server, Error> {
        let target = Target::new(endpoint, &self.map)
            .map_err(|problem| usage(argument, format!("`{endpoint}` is no endpoint to ask: {problem}")))?;
        let requests = RequestSet::new(&target, keys, expected).map_err(|error| usage("--keys", error))?;
        for pid in pids {
            if !Path::new(&format!("/proc/{pid}/stat")).exists() {
                return Err(usage("--pid", format!("there is no process {pid}")));
            }
        }
        Ok(Server {
            target,
            requests,
            pids: pids.to_vec(),
        })
    }

    fn connections(&self) -> Vec<usize> {
        if !self.connections.is_empty() {
            self.connections.clone()
        } else if self.rate.is_some() || self.compare.is_some() {
            SINGLE_RUN_CONNECTIONS.to_vec()
        } else {
            DEFAULT_CONNECTIONS.to_vec()
        }
    }

    fn load(&self) -> Load {
        Load {
            pipeline: self.pipeline,
            rate: self.rate,
            warm_up: self.warm_up,
            duration: match (self.duration, self.count) {
                (None, None) => Some(Duration::from_secs(3)),
                (duration, _) => duration,
            },
            count: self.count,
            timeout: self.timeout,
        }
    }
}

/// Raises the limit of open files for this many connections. Where the system does not allow it, connecting fails
/// later.
fn raise_file_limit(connections: usize) {
    if let (Ok((soft, hard)), Ok(connections)) =
        (getrlimit(Resource::RLIMIT_NOFILE), u64::try_from(connections))
        && soft < connections + 100
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(connections + 100), hard);
    }
}

fn usage(argument: &'static str, message: impl std::fmt::Display) -> Error {
    let finding = Finding::new(Code::BadArgument, Place::Setting(argument));
    Error::usage(finding.message(message.to_string()))
}
