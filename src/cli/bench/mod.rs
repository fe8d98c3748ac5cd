//! `postmapd bench`: measures how many replies a second a server sends, and their latency.
//!
//! The report goes to standard output; a progress line goes to standard error, if that is a terminal.

mod files;
mod terminal;
mod values;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::tables::Tables;
use super::{Error, exit_code, print_message};
use crate::bench::keys::{self, KeysError, Random, RequestSet};
use crate::bench::load::Load;
use crate::bench::machine::Machine;
use crate::bench::report::Report;
use crate::bench::target::Target;
use crate::bench::{Plan, Server};
use crate::config::options::Options;
use crate::diagnostics::{Code, Finding, Place};
use crate::lookup::map::{Map, Maps};
use crate::os::printable::{enumeration, printable_path};
use files::Files;
use terminal::{ProgressLine, catch_interrupt};
use values::{between, duration, map_name, nonzero_duration, number};

/// The numbers of connections without `--connections`, and with `--rate` or `--compare`.
const DEFAULT_CONNECTIONS: [usize; 6] = [1, 2, 4, 8, 16, 32];
const SINGLE_RUN_CONNECTIONS: [usize; 1] = [16];
/// The number of rounds with `--compare`.
const DEFAULT_ROUNDS: u32 = 5;
/// The number of generated keys, where there is neither a list nor a directory.
const GENERATED_KEYS: usize = 10_000;

/// Measure how fast a server answers under the load of many Postfix processes
#[derive(Args)]
#[command(after_help = "\
bench measures any server of socketmap_table(5) or tcp_table(5), under any map name. Without --rate, each connection \
sends its next request when it has the reply, as a Postfix process does (closed loop): a server that stalls receives \
fewer requests, and the stall appears as one slow reply on each connection. With --rate, requests are due at fixed \
times, whatever the server does, and each latency is measured from the due time (open loop): a stall affects every \
request that was due during it.

The keys come from --keys, one a line, in this order and repeatedly; otherwise from the tables in --dir, in random \
order, with a generated user for @domain; otherwise they are generated senders. With --dir (or POSTMAPD_DIR), every \
reply is compared with the files and the environment, a value byte for byte. Without it, only a temporary error \
(cannot tell) is a wrong reply. For a wrong reply, the report has the key and the kinds of the expected and the \
received reply. It never contains a credential.

The report has the date, the version and the machine of the generator; for each number of connections the requests, the \
duration, the replies per second, and how many replies were found, not found and cannot tell; and the latencies, with \
their standard deviation. It warns if 95 % of the replies or more are not found.

The report covers the generator too: one thread generates the load, and its processor time, its time waiting for a \
processor and its late requests are reported (generator). If it sends more than 1 in 100 requests over 1 ms late \
although a connection is free, the report and the plot mark the measurement as invalid. This does not change the exit \
code.

--plot draws the latency distribution on a percentile axis that gives each nine (90 %, 99 %, 99.9 %) the same width. \
For several numbers of connections, it also draws the replies per second and the latencies by number of connections. \
--hdr writes the latency distribution as text for the plotters of HdrHistogram: lines of Value, Percentile, TotalCount \
and 1/(1-Percentile).

--format json has the fields below, with latencies in microseconds. Fields can be added; the meaning of existing \
fields does not change. --format csv has the same figures, one line for each run, and the column names in the first \
line: latencies such as p99_us; errors in total (errors) and by kind, such as error_wrong; and figures of the \
generator and the warm-up, such as generator_cpu, late and warm_up_requests.

Ctrl-C (SIGINT) ends the measurement: after waiting for replies in flight, for a second at most, bench reports the \
results so far, marked as incomplete, and exits with 130. A second Ctrl-C ends the program at once.

Exit codes: 0 every reply was correct; 1 wrong or missing replies; 2 usage; 69 cannot connect; 71 a system call failed; \
130 \
interrupted, so the report is incomplete.

Examples:
  postmapd bench socketmap:inet:127.0.0.1:10451 relayhost --dir /etc/postmapd
  postmapd bench socketmap:unix:/var/spool/postfix/postmapd/socketmap relayhost \\
      --connections 1,8,64 --plot curve.svg --hdr latency.hgrm
  postmapd bench tcp:127.0.0.1:10452 relayhost --dir /etc/postmapd --hits 0.75 \\
      --rate 20000 --duration 30s
  postmapd bench socketmap:inet:127.0.0.1:10451 sasl --keys senders.txt --pid \"$(pidof postmapd)\"
  postmapd bench socketmap:inet:127.0.0.1:10451 relayhost --keys keys.txt \\
      --compare tcp:127.0.0.1:10452
  postmapd bench socketmap:inet:127.0.0.1:10003 forward --keys addresses.txt \\
      --format json | jq '.runs[].latency_us'

Fields of --format json:
  version, date, machine  version of postmapd; start of the first run (RFC 3339);
                          cpu, cpus, kernel of the generator
  ok, complete            whether there was no error, and no interruption
  map, servers, mode      map name; endpoints as given; closed or open
  rate, pipeline, duration_seconds, count, warm_up_seconds, timeout_seconds,
  rounds, keys, seed, verified
  elapsed_seconds         duration of all runs, with their warm-ups
  runs[]                  one for each server, round and number of connections,
                          in the order of measurement:
    server                0 or 1, as in servers
    round, connections
    complete              whether it was not interrupted
    seconds               from the end of the warm-up to the last reply
    requests              = replies + malformed + closed + timeout + unsent
    replies               = found + not_found + cannot_tell
    found, not_found, cannot_tell, replies_per_second
    latency_us            min, mean, stddev, p50, p90, p99, p99_9, p99_99, max
    errors                total; replies: wrong, cannot_tell; no replies:
                          malformed, closed, timeout, unsent; extra: unsolicited
                          bytes; connect: reconnecting failed
    server_cpu_us_per_reply   user and system time of --pid and its child
                          processes; null without --pid
    reconnects
    generator             cpu, cpu_wait: shares of a processor; late: requests;
                          lateness_p99_us, lateness_max_us; valid
    warm_up               requests, replies, errors; its errors affect ok
  comparison[]            ratios of the second server to the first, for each
                          number of connections: connections, rounds, and the
                          median, min and max of each ratio, or null:
    replies_per_second, mean, p50, p90, p99, p99_9, p99_99, max, server_cpu")]
pub(super) struct Bench {
    /// The server, written as in main.cf: socketmap:inet:HOST:PORT, socketmap:unix:PATH or tcp:HOST:PORT
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,

    /// Name of the map
    #[arg(value_name = "MAP", value_parser = map_name)]
    map: String,

    /// Numbers of connections, measured one after the other [default: 1,2,4,8,16,32; with --rate or --compare: 16]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = number::<1, 100_000>)]
    connections: Vec<usize>,

    /// Number of requests per second, due at fixed times [default: as many as the server answers]
    #[arg(long, value_name = "N", value_parser = between(0.01, 10_000_000.0))]
    rate: Option<f64>,

    /// Number of requests in flight on each connection; Postfix has one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::<1, 10_000>)]
    pipeline: usize,

    /// Duration of each run, such as 500ms, 10s or 2m [default: 3s without --count]
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration)]
    duration: Option<Duration>,

    /// Number of requests in each run [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    count: Option<u64>,

    /// Duration of the warm-up before each run, which is not measured
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    warm_up: Duration,

    /// Time to wait for a connection or a reply; Postfix waits 100 seconds
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = nonzero_duration)]
    timeout: Duration,

    /// File with the keys, one a line; - is standard input; not with --hits
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,

    /// Share of keys that are found, from 0 to 1; the others are senders without an entry; needs --dir, not with --keys
    #[arg(long, value_name = "SHARE", conflicts_with = "keys", value_parser = between(0.0, 1.0))]
    hits: Option<f64>,

    /// Maximum number of keys from the tables
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = number::<1, 10_000_000>)]
    distinct: usize,

    /// Seed of the random choice of keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Take keys from the directory, but do not compare the replies with it
    #[arg(long)]
    no_verify: bool,

    #[command(flatten)]
    options: Options,

    /// Process IDs of the server, to report its processor time and that of its child processes
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pid: Vec<u32>,

    /// Second server, measured in alternation; the report has the ratios and their spread over the rounds
    #[arg(long, value_name = "ENDPOINT")]
    compare: Option<String>,

    /// Process IDs of the second server
    #[arg(long, value_name = "PID,...", value_delimiter = ',', requires = "compare")]
    compare_pid: Vec<u32>,

    /// Number of runs of each of the two servers, for each number of connections [default: 5]
    #[arg(long, value_name = "N", requires = "compare", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// The output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    files: Files,
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
    /// For machines, one line for each run
    Csv,
}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let files = self.files.check()?;
        let keys = self.listed_keys()?;
        let needs_tables = self.options.has_explicit_dir() && (keys.is_none() || !self.no_verify);
        let tables = if needs_tables { Some(self.tables()?) } else { None };
        if self.hits.is_some() && tables.is_none() {
            return Err(usage("--hits", "this option needs the tables; add --dir"));
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
        let interrupted = catch_interrupt();
        let (started_at, since) = (SystemTime::now(), Instant::now());
        let measured = plan.run(&interrupted, &mut |step, progress| line.show(step, progress));
        line.clear();
        let report = Report {
            plan: &plan,
            seed: self.seed,
            verified: expected.is_some(),
            machine: &Machine::read(),
            started_at,
            elapsed: since.elapsed(),
            measured: &measured?,
        };
        self.print(&report)
            .map_err(Error::system("cannot print the report"))?;
        files.write(&report)?;
        Ok(if report.is_complete() {
            exit_code(report.is_ok())
        } else {
            ExitCode::from(EXIT_INTERRUPTED)
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
                "the directory has the maps {}, but not {}; use --keys with --no-verify, or omit --dir",
                enumeration(&Maps::SERVED.names(), "and"),
                self.map
            );
            return Err(usage("--dir", message));
        };
        let tables = Tables::read(&self.options)?;
        if tables.findings.errors() > 0 {
            print_message(
                "the files have errors, so some expected replies are temporary errors; run postmapd check",
            );
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
        let target = Target::new(endpoint, &self.map).map_err(|problem| {
            usage(
                argument,
                format!("`{endpoint}` is not a valid endpoint: {problem}"),
            )
        })?;
        let requests = RequestSet::new(&target, keys, expected).map_err(|error| usage("--keys", error))?;
        for pid in pids {
            if !Path::new(&format!("/proc/{pid}/stat")).exists() {
                return Err(usage("--pid", format!("process {pid} does not exist")));
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
