//! `postmapd check`: reports all errors and warnings about the files, as a compiler does.
//!
//! It reads and validates as the server does, and then checks the entries together ([`crate::check`]). A line is shown
//! only where that cannot show a credential ([`crate::check::excerpt`]). With `--against-server` it also compares the
//! files with those that a running server has active ([`super::against_server`]).

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use clap::Args;

use super::admin::admin_help;
use super::against_server::{Comparison, RunningServer};
use super::{Error, OutputFormat, count_of, exit_code, log};
use crate::check::excerpt::{self, Excerpt};
use crate::check::{self, dns, main_cf};
use crate::config::Sources;
use crate::config::options::{Options, ServeOptions};
use crate::config::setting;
use crate::diagnostics::{Code, Finding, Findings, Place, Position, Severity, machine};
use crate::lookup::snapshot::Snapshot;
use crate::os::printable::printable_path;
use crate::os::whole_file;
use crate::postfix::command::Commands;
use crate::source::evaluate;

/// Check tables, settings and environment, and report each problem with its fix
#[derive(Args)]
#[command(after_help = "\
The default relay comes from the environment of this command, if that sets one of its variables (RELAY_HOST and so on); \
else from the server that runs for the same directory, whose environment root and the server's own user can read; else \
from postmapd.env in that directory. The output names the source. Variables POSTMAPD_... are always those of this command.

--against-server shows what the files would change in the running server before they are moved into place: senders that \
are added, removed, moved to another next hop or excluded, each with the next hops before and after; logins that are added, \
removed or changed, without user and password; the TLS of next hops; the default relay. It asks the server's admin listener \
(see admin in postmapd.toml(5)) for its directory and the versions of its files, and reads these files there, so run it as \
root. Where --dir has no settings file and no postmapd.env, those of the server remain; a missing table file is an empty \
table.

Exit codes: 0 no errors, 1 errors (with --strict, also warnings), 2 usage; with --against-server also 1 if something \
changes, and 75 if that is unknown: the server does not answer, or its active files cannot be read or are no longer on disk.

Examples:
  postmapd check --dir /etc/postmapd
  postmapd check --strict --dns && systemctl start postmapd
  postmapd check --dir /etc/postmapd.new --against-server --admin unix:/run/postmapd/admin
  postmapd check --format json | jq -r '.findings[] | \"\\(.file):\\(.line) \\(.code)\"'

Fields of \"changes\" with --format json (null if unknown):
  generation        of the snapshot that is active in the server
  senders[]         sender; change: added, moved, excluded, removed; before and
                    after: the next hop, null for direct delivery
  logins[]          key; change: added, changed, excluded, removed
  tls[]             nexthop; before and after: mode and policy
  default_relay[]   variable; before and after: its next hop, null if unset
  settings          whether the settings differ
  restart[]         changed settings that take effect on restart")]
pub(super) struct Check {
    #[command(flatten)]
    options: Options,

    /// Exit with 1 if there are warnings
    #[arg(long)]
    strict: bool,

    /// Resolve the host of every next hop
    #[arg(long)]
    dns: bool,

    /// Postfix's configuration directory, as for postconf -c; if it has a main.cf, its relayhost is checked [default:
    /// $MAIL_CONFIG or /etc/postfix]
    #[arg(short = 'c', value_name = "DIR")]
    config_directory: Option<PathBuf>,

    /// Show also what these files would change in the running server: see below
    #[arg(long)]
    against_server: bool,

    #[arg(long, value_name = setting::ADMIN.value, help = admin_help(), requires = "against_server")]
    admin: Option<String>,

    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let mut findings = Findings::default();
        log::check_settings(&ServeOptions::default(), &mut findings);
        let server = self
            .against_server
            .then(|| RunningServer::ask(&self.options, self.admin.as_ref()))
            .transpose()?;
        let sources = match &server {
            Some(Ok(server)) => server.candidate(self.options, &mut findings),
            Some(Err(_)) | None => Sources::for_command(self.options, &mut findings),
        };
        let loaded = evaluate::load(&sources);
        findings.append(&loaded.findings);
        check::examine(&sources, &loaded.snapshot, &mut findings);
        let commands = Commands {
            directory: self.config_directory,
        };
        main_cf::examine(&loaded.snapshot, &commands, &mut findings);
        if self.dns {
            dns::examine(&loaded.snapshot, &sources.relay_map(), &mut findings);
        }
        let has_errors = findings.errors() > 0;
        let has_failed = has_errors || (self.strict && findings.warnings() > 0);
        let is_rejected = has_errors
            && (findings.errors() > loaded.findings.errors() || !loaded.is_applied_despite_errors());
        let changes = server.map(|server| match server {
            _ if is_rejected => Comparison::Rejected,
            Ok(server) => server.compare(&loaded),
            Err(reason) => Comparison::Unknown(reason),
        });
        let ordered = sorted_by_place(&findings);
        let printed = match self.format {
            OutputFormat::Text => {
                // The environment is of no interest where nothing depends on it.
                let has_withheld = ordered
                    .iter()
                    .any(|finding| finding.code == Code::CredentialsWithheld);
                let environment_matters =
                    has_withheld || sources.relay.is_set() || sources.environment.needs_mention();
                print(
                    &ordered,
                    &findings,
                    &sources,
                    &loaded.snapshot,
                    environment_matters,
                )
            }
            OutputFormat::Json => {
                let mut out = io::stdout().lock();
                match &changes {
                    Some(changes) => {
                        machine::print_with_changes(ordered, &findings, changes.changes(), &mut out)
                    }
                    None => machine::print(ordered, &findings, &mut out),
                }
            }
        };
        printed.map_err(Error::system("cannot print the findings"))?;
        let code = exit_code(!has_failed);
        match changes {
            Some(changes) => changes.finish(self.format, code),
            None => Ok(code),
        }
    }
}

/// Returns the findings file by file, each file from top to bottom.
fn sorted_by_place(findings: &Findings) -> Vec<&Finding> {
    let mut files: HashMap<&Path, usize> = HashMap::new();
    let mut ordered: Vec<_> = findings
        .iter()
        .map(|finding| match &finding.place {
            Place::File(path, position) => {
                let next = files.len() + 1;
                let file = *files.entry(path).or_insert(next);
                let position = position.map(|at| (at.line, at.column));
                ((file, position), finding)
            }
            Place::Setting(_) | Place::Parameter { .. } => ((0, None), finding),
        })
        .collect();
    ordered.sort_by_key(|(place, _)| *place);
    ordered.into_iter().map(|(_, finding)| finding).collect()
}

/// Prints the findings, in this order, with their lines.
fn print(
    ordered: &[&Finding],
    all: &Findings,
    sources: &Sources,
    snapshot: &Snapshot,
    environment_matters: bool,
) -> io::Result<()> {
    let renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
    let mut out = anstream::stdout().lock();
    for finding in ordered {
        let excerpt = excerpt(&finding.place, sources, snapshot);
        writeln!(
            out,
            "{}\n",
            renderer.render(&[to_group(finding, excerpt.as_ref())])
        )?;
    }
    if all.dropped() > 0 {
        writeln!(out, "{} more findings not shown\n", all.dropped())?;
    }
    if environment_matters {
        writeln!(out, "evaluated with {}", sources.environment)?;
    }
    let number = |number, noun| match number {
        0 => format!("no {noun}s"),
        _ => count_of(number, noun),
    };
    let (errors, warnings) = (number(all.errors(), "error"), number(all.warnings(), "warning"));
    writeln!(out, "{}: {errors}, {warnings}", printable_path(sources.dir()))?;
    out.flush()
}

/// Converts a finding for the renderer.
fn to_group<'a>(finding: &'a Finding, excerpt: Option<&'a Excerpt>) -> Group<'a> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    // Columns are those of the file. The renderer would count them in the excerpt.
    let heading = level.with_name(format!("{}: {}", finding.place, finding.severity));
    let mut group = Group::with_title(heading.primary_title(&finding.message).id(finding.code.as_str()));
    if let (Some(excerpt), Place::File(_, Some(position))) = (excerpt, &finding.place) {
        let caret = AnnotationKind::Primary.span(excerpt.at.clone());
        let snippet = Snippet::source(&excerpt.text).line_start(number(position.line));
        group = group.element(snippet.annotation(caret));
    }
    if let Some(why) = finding.code.rationale() {
        group = group.element(Level::NOTE.message(why));
    }
    if !finding.help.is_empty() {
        group = group.element(Level::HELP.message(&finding.help));
    }
    group
}

fn number(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Returns what may be shown of the line at this place.
fn excerpt(place: &Place, sources: &Sources, snapshot: &Snapshot) -> Option<Excerpt> {
    let Place::File(path, Some(Position { line, column })) = place else {
        return None;
    };
    let mut tables = snapshot.tables();
    if let Some(table) = tables.find(|table| *path == sources.file(table.spec())) {
        let text = table.line(*line)?;
        Some(excerpt::table_line(table.spec().format, text.expose(), *column))
    } else if path == sources.settings_file() {
        let file = whole_file::read(path).ok()?;
        let mut lines = file.text.expose().split(|c| *c == b'\n');
        let text = lines.nth(number(*line).checked_sub(1)?)?;
        Some(excerpt::settings_line(text, *column))
    } else {
        None
    }
}
