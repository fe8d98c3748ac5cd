//! `postmapd status`: the state of a running server and its files, from its admin listener.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use humantime::parse_rfc3339;

use super::admin::{AdminListener, admin_help};
use super::{Error, OutputFormat, exit_code};
use crate::config::options::Options;
use crate::config::setting;
use crate::control::admin::age::age;
use crate::control::admin::client::AdminErrorKind;
use crate::control::admin::status::{FileStatus, SourceStatus, Status as ServerStatus};
use crate::diagnostics::Severity;
use crate::diagnostics::machine::FindingObject;
use crate::os::printable::{json, printable};

/// Show the state of a running server and its files
#[derive(Args)]
#[command(after_help = "\
The server must run with --admin, which is disabled by default. The address comes from the same flag, variable and \
settings file as the server's; the default is 127.0.0.1:9451. The admin listener is HTTP without authentication: \
restrict it to loopback, a UNIX socket (--socket-mode, --socket-owner and --socket-group apply to it) or a private \
network. Set the address of a health check in the environment variable, because the settings file can become invalid \
while the server keeps its active settings. The replies contain paths of files and the errors in them, but no \
credential and no user of one. Only / and /explain contain senders and their next hops.

status exits with 69 if it has no complete reply within 10 seconds.

/: a read-only page for people, with the state of the server and its files, lookups a second, and a form that explains \
where the mail of a sender goes. It needs no script.

/explain?map=MAP&key=KEY: JSON of query --explain, with the generation and the age of the active snapshot, and the files \
that differ from it on disk (fields below). KEY is percent-encoded; a + is a plus sign, except in a quoted local part. \
Logins are masked as a whole.

/ and /explain answer only to clients that may query the maps: local users and hosts in allow_networks (other hosts get \
the page without the form). A URL must have an address, localhost, a name without a dot, or the host of the setting \
admin, so that no page of another site can read them with the browser of an administrator (DNS rebinding). To see the \
page of a server with a UNIX socket, forward a port to it: ssh -L 9451:/run/postmapd/admin HOST, then open \
http://localhost:9451/.

/healthz: 200 if the thread that answers lookups responds within 2 s, else 503. For liveness probes.

/readyz: 200 if every file is valid, else 503 and a line for each invalid file: its path, since when, and why. For \
alerts. Seldom suitable for routing traffic: a server with an invalid file still answers from the last valid \
snapshot.

/status: JSON with the fields below. --format json prints it unchanged, except that control characters are escaped.

/metrics: Prometheus text format 0.0.4. Alert rules and a dashboard are in contrib/prometheus and contrib/grafana.

A file is valid if it was read without an error and the result is active. A file that is missing, or still being \
written, keeps its state until the change is accepted (see reload in postmapd.toml(5)).

Exit codes: 0 every file is valid; 1 a file is invalid; 2 usage; 69 the server is unreachable, is not postmapd, or does \
not answer lookups.

Examples:
  postmapd serve --admin 127.0.0.1:9451 &
  postmapd status
  postmapd status --alive || systemctl restart postmapd
  postmapd status --format json | jq -r '.files[] | select(.valid | not).path'
  curl -s http://127.0.0.1:9451/metrics
  curl -s 'http://127.0.0.1:9451/explain?map=relayhost&key=user@example.com'

Fields of /status and --format json:
  version, started        version of postmapd; start time of the server
  generation, loaded      number of the active snapshot; since when it is active
  ready                   whether every file is valid
  source                  of a directory that a program generates, from its
                          file source.json: source (without a password),
                          revision, version, committed; null if there is none
  files[]                 the files that the server reads:
    path
    map                   relayhost, sasl or tls; null for other files
    digest                of the active version: sha256: and the output of
                          sha256sum; for files with credentials, hmac-sha256:
                          and a digest with a random key that changes at each
                          start, so that passwords cannot be guessed from it;
                          null if the file does not exist
    stat                  of the version that was read last: the output of
                          stat -Lc '%i %.9Z'; null if there was no file
    active                whether that version is active
    entries               of the active version; null if it is not a table
    valid, invalid_since, problem
    differs               whether it differs from the active version on disk
  last_reload             outcome: changed, unchanged, failed; at. The first
                          load, at the start, is a reload too
  last_success            when the files were last found valid and active
  findings[]              as in check --format json, for the current files
  errors, warnings        total numbers; not all of them are listed
  senders_in_flight       entries of the relay map that had another next hop
                          within reload.in_flight: mail on its way to the old
                          next hop gets the credentials for that one
  listeners, connections  endpoints of the server; number of connections

Fields of /explain, after those of query --explain --format json:
  generation, loaded      number of the active snapshot; since when it is active
  age_seconds             for how many seconds
  differing_files[]       files that differ from it on disk, or have changed
                          since they were last read

Fields of /metrics:
  postmapd_lookups_total            map, outcome: found, not_found, cannot_tell,
                                    refused
  postmapd_lookup_duration_seconds  histogram: from the arrival of a request
                                    until its reply, and all others of the
                                    same write, are ready to be written
  postmapd_protocol_errors_total    kind: length, terminator, too_long,
                                    truncated, timeout
  postmapd_refusals_total           reason: no_such_map, not_a_request, user,
                                    network, connections
  postmapd_connections
  postmapd_reloads_total            outcome: changed, unchanged, failed. A poll
                                    that finds no change is not counted
  postmapd_reload_last_success_timestamp_seconds
                                    as last_success; each poll updates it
  postmapd_snapshot_generation, postmapd_snapshot_loaded_timestamp_seconds
  postmapd_files_valid              file: its path. 1 or 0
  postmapd_findings                 severity: error, warning. Findings about the
                                    files at the last reload
  postmapd_table_entries            map
  postmapd_senders_in_flight        entries of the relay map that had another next
                                    hop within reload.in_flight
  postmapd_source_revision, postmapd_source_committed_timestamp_seconds
                                    of a directory that a program generates:
                                    the revision of its source that is active;
                                    when it was committed there
  postmapd_build_info               version
  process_resident_memory_bytes, process_cpu_seconds_total, process_open_fds,
  process_max_fds, process_start_time_seconds
                                    of the server process; the limit on
                                    connections keeps process_open_fds below
                                    process_max_fds")]
pub(super) struct Status {
    #[command(flatten)]
    options: Options,

    #[arg(long, value_name = setting::ADMIN.value, help = admin_help())]
    admin: Option<String>,

    /// Check only whether the server answers lookups, and print nothing if it does: for health checks
    #[arg(long, conflicts_with = "format")]
    alive: bool,

    /// The output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: OutputFormat,
}

impl Status {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let listener = AdminListener::find(&self.options, self.admin.as_ref())?;
        if self.alive {
            return match listener.get("/healthz")?.code {
                200 => Ok(ExitCode::SUCCESS),
                503 => Err(listener.error(AdminErrorKind::NotAlive).into()),
                _ => Err(listener.error(AdminErrorKind::NotAdmin).into()),
            };
        }
        let reply = listener.get("/status")?;
        let state = listener.parse_status(&reply)?;
        let mut out = anstream::stdout().lock();
        let printed = match self.format {
            OutputFormat::Text => print(&state, &mut out),
            OutputFormat::Json => out.write_all(json::escaped(&reply.body).as_bytes()),
        };
        printed
            .and_then(|()| out.flush())
            .map_err(Error::system("cannot print the status"))?;
        Ok(exit_code(state.ready))
    }
}

fn print(state: &ServerStatus, out: &mut impl Write) -> io::Result<()> {
    for line in report_lines(state) {
        writeln!(out, "{}", printable(line.as_bytes()))?;
    }
    Ok(())
}

/// The maximum width to which paths are padded, in characters.
const MAX_PATH_WIDTH: usize = 100;

fn report_lines(state: &ServerStatus) -> Vec<String> {
    let mut lines = vec![format!(
        "postmapd {}, started {}; generation {}, active since {}",
        state.version,
        format_time(&state.started),
        state.generation,
        format_time(&state.loaded)
    )];
    if let Some(source) = &state.source {
        lines.push(source_line(source));
    }
    let width = state.files.iter().map(|file| file.path.chars().count()).max();
    for file in &state.files {
        // A listener that is no postmapd may return a path of a megabyte, and many others.
        let width = width.unwrap_or_default().min(MAX_PATH_WIDTH);
        lines.push(format!("  {:width$}  {}", file.path, file_state(file)));
        // Errors of the file itself are listed below.
        let is_about_file = |finding: &FindingObject| {
            finding.severity == Severity::Error && finding.file.as_ref() == Some(&file.path)
        };
        if let Some(problem) = &file.problem
            && !state.findings.iter().any(is_about_file)
        {
            lines.push(format!("    {problem}"));
        }
    }
    lines.extend(state.findings.iter().map(FindingObject::to_line));
    let listed = state.findings.len();
    let all = state.errors.saturating_add(state.warnings);
    if all > listed {
        lines.push(format!("{} more findings not shown", all - listed));
    }
    lines.push(format!(
        "last reload: {}, {}",
        state.last_reload.outcome,
        format_time(&state.last_reload.at)
    ));
    lines.push(format!(
        "listening on {}; connections: {}",
        state.listeners.join(", "),
        state.connections
    ));
    lines
}

/// Describes the source of the directory.
fn source_line(source: &SourceStatus) -> String {
    let revision = source.revision.map(|revision| format!(", revision {revision}"));
    let committed = source.committed.as_deref();
    let committed = committed.map(|time| format!(", committed {}", format_time(time)));
    let [revision, committed] = [revision, committed].map(Option::unwrap_or_default);
    format!("source: {}{revision}{committed}", source.source)
}

/// Describes the state of a file.
fn file_state(file: &FileStatus) -> String {
    let what = match (file.entries, &file.digest) {
        (Some(1), _) => "1 entry, ".to_owned(),
        (Some(entries), _) => format!("{entries} entries, "),
        (None, _) => String::new(),
    };
    match (&file.invalid_since, &file.digest) {
        (Some(since), _) => format!("{what}INVALID since {}", format_time(since)),
        (None, _) if file.differs => format!("{what}changed on disk, not active yet"),
        (None, None) => "missing".to_owned(),
        (None, Some(_)) => format!("{what}valid"),
    }
}

/// Returns a time, with how long ago it was.
pub(super) fn format_time(time: &str) -> String {
    let ago = parse_rfc3339(time)
        .ok()
        .and_then(|time| SystemTime::now().duration_since(time).ok());
    // If the clock was set back, a past time may be in the future.
    let age = age(ago.unwrap_or_default().as_secs());
    let time = time
        .split_once('.')
        .map_or(time, |(time, _)| time)
        .trim_end_matches('Z');
    format!("{time}Z ({age} ago)")
}
