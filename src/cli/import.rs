//! `postmapd import`: the tables of an existing Postfix as the files and the settings that give the same answers.
//!
//! Nothing is written unless all of it can be: an entry that cannot be carried over is named, and the exit code is 1.
//! A file that has entries already is left alone without `--force`. Postfix itself is only read.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{EX_USAGE, Error};
use crate::address::Delimiters;
use crate::answer::Map;
use crate::config::Sources;
use crate::config::options::{Options, ServiceOptions};
use crate::diagnostic::{Findings, Severity};
use crate::import::convert::{self, Converted, Existing, PASSWORDS, RELAYS, Remark};
use crate::import::dump;
use crate::nexthop;
use crate::postfix::command::{Commands, ServiceName};
use crate::postfix::live::Live;
use crate::postfix::table_list;
use crate::printable::printable;
use crate::reload::load;
use crate::replace_file;
use crate::secret::Secret;
use crate::table::Table;
use crate::whole_file;

/// Write the files and settings that answer as an existing Postfix's tables do
#[derive(Args)]
#[command(after_help = "\
Read are sender_dependent_relayhost_maps, smtp_sasl_password_maps, relayhost and recipient_delimiter as postconf names \
them, and the entries of hash:, btree:, lmdb:, sdbm:, dbm:, cdb: and texthash: tables (with proxy: or without) as \
postmap -s lists them. Written are postfix-relaymap.cf, postfix-sasl-password.cf, recipient_delimiter in postmapd.toml \
where it is not +, and DEFAULT_RELAY_HOST in postmapd.env where there is a relayhost: start the server with that \
variable.

One thing is answered otherwise, on purpose: the credentials of a sender that has no next hop are withheld.

Exit codes: 0 written, or nothing to write; 1 refused, and nothing is written; 2 usage or a wrong setting; 69 Postfix \
cannot be read.

Examples:
  postmapd import --dry-run
  postmapd import --dir /etc/postmapd && postmapd check && postmapd postconf
  postmapd import -c /etc/postfix-out --dir /etc/postmapd-out --force")]
pub(super) struct Import {
    #[command(flatten)]
    options: Options,

    /// Postfix's configuration directory, as for postconf -c
    #[arg(short = 'c', value_name = "DIR")]
    config_directory: Option<PathBuf>,

    /// Show what would change, passwords masked, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Replace files that have entries already
    #[arg(long)]
    force: bool,
}

/// A file to be written.
struct File {
    path: PathBuf,
    text: Secret,
    mode: u32,
    /// What may be shown of a line.
    holds: Holds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Relays,
    Credentials,
    Settings,
}

impl Import {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let mut findings = Findings::default();
        let sources = Sources::new(self.options.clone(), ServiceOptions::default(), &mut findings);
        let settings = load::first_settings(&sources, &mut findings);
        if findings.errors() > 0 {
            return Err(Error::Settings {
                findings,
                code: EX_USAGE,
            });
        }
        let live = Live::read(Commands {
            directory: self.config_directory.clone(),
        })?;
        let mut said = Said::default();
        let (existing, tables) = self.existing(&live, &mut said);
        let converted = convert::convert(&existing);
        for remark in &converted.remarks {
            said.remark(remark, &tables);
        }
        let files = files(&sources, &settings.delimiters, &existing, converted, &mut said);
        for file in &files {
            self.judge(file, &mut said);
        }
        said.print()?;
        if said.is_refused {
            return Ok(ExitCode::FAILURE);
        }
        let written = if self.dry_run { show(&files) } else { write(&files) };
        written?;
        Ok(ExitCode::SUCCESS)
    }

    /// What Postfix has, and the tables of each list.
    fn existing(&self, live: &Live, said: &mut Said) -> (Existing, Tables) {
        let rewrite = service("rewrite");
        let smtp = service("smtp");
        let relays: Vec<String> = owned_tables(live.value(&rewrite, RELAYS));
        let passwords: Vec<String> = owned_tables(live.value(&smtp, PASSWORDS));
        let mut existing = Existing {
            relayhost: live.value(&rewrite, "relayhost").as_bytes().to_vec(),
            authenticates_by_sender: live.value(&smtp, "smtp_sender_dependent_authentication") == "yes",
            null_sender_key: live
                .value(&rewrite, "empty_address_relayhost_maps_lookup_key")
                .as_bytes()
                .to_vec(),
            local_domains: local_domains(live),
            ..Existing::default()
        };
        match Delimiters::new(live.value(&rewrite, "recipient_delimiter")) {
            Some(delimiters) => existing.delimiters = delimiters,
            None => said.refuse("main.cf: recipient_delimiter has a character that postmapd cannot have"),
        }
        if !existing.relayhost.is_empty() && nexthop::judge(&existing.relayhost).is_err() {
            said.refuse("main.cf: relayhost is no next hop that postmapd could answer; correct it first");
        }
        for (parameter, tables, entries) in [
            (RELAYS, &relays, &mut existing.relays),
            (PASSWORDS, &passwords, &mut existing.passwords),
        ] {
            for (number, table) in (1..).zip(tables) {
                match dump::dump(table, number, self.config_directory.as_deref()) {
                    Ok(dump) => {
                        if dump.is_from_source {
                            said.note(format!(
                                "main.cf: {parameter}: table {number} is read from its source text; what postmap \
                                 made of it may be older"
                            ));
                        }
                        entries.extend(dump.entries);
                    }
                    Err(error) => said.refuse(format!("main.cf: {parameter}: table {number}: {error}")),
                }
            }
        }
        (existing, Tables { relays, passwords })
    }

    /// Refuses to replace what somebody wrote, and to write what the server would refuse.
    fn judge(&self, file: &File, said: &mut Said) {
        let map = match file.holds {
            Holds::Relays => Map::Relayhost,
            Holds::Credentials => Map::Sasl,
            Holds::Settings => return,
        };
        let mut findings = Findings::default();
        Table::build(map, &file.path, file.text.clone(), &mut findings);
        for finding in findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
        {
            said.refuse(finding.to_string());
        }
        let Ok(there) = whole_file::read(&file.path) else {
            return;
        };
        let is_same = there.text == file.text;
        let has_entries = !Table::build(map, &file.path, there.text, &mut Findings::default()).is_empty();
        if has_entries && !is_same && !self.force && !self.dry_run {
            said.refuse(format!(
                "{}: there are entries already; --dry-run shows what would change, --force replaces them",
                file.path.display()
            ));
        }
    }
}

fn service(name: &str) -> ServiceName {
    ServiceName {
        name: name.to_owned(),
        kind: "unix".to_owned(),
    }
}

fn owned_tables(list: &str) -> Vec<String> {
    table_list::tables(list).map(ToOwned::to_owned).collect()
}

/// The domains that Postfix completes an address without a domain with, or takes for its own. Tables among them are
/// not read.
fn local_domains(live: &Live) -> Vec<String> {
    let mut domains: Vec<String> = Vec::new();
    for parameter in ["myorigin", "mydestination"] {
        for name in table_list::tables(live.main(parameter)) {
            let is_name = !name.contains([':', '/', '!', '{']);
            if is_name && !domains.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                domains.push(name.to_owned());
            }
        }
    }
    domains
}

/// The tables of both lists.
struct Tables {
    relays: Vec<String>,
    passwords: Vec<String>,
}

/// What is said on standard error, all of it before anything is written.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    is_refused: bool,
}

impl Said {
    fn note(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    fn refuse(&mut self, text: impl Into<String>) {
        self.is_refused = true;
        self.lines.push(text.into());
    }

    fn remark(&mut self, remark: &Remark, tables: &Tables) {
        let list = if remark.parameter == RELAYS {
            &tables.relays
        } else {
            &tables.passwords
        };
        let table = remark.table.checked_sub(1).and_then(|at| list.get(at));
        let table = table.map_or("", String::as_str);
        // What is neither a sender nor a next hop may be a password that stands in the wrong place.
        let is_key = remark.key.contains(&b'@') || nexthop::judge(&remark.key).is_ok();
        let key = if is_key || remark.parameter == RELAYS {
            printable(&remark.key)
        } else {
            "a key that is not shown".to_owned()
        };
        let line = format!("{}: {table}: {key}: {}", remark.parameter, remark.text);
        if remark.is_error {
            self.refuse(line);
        } else {
            self.note(line);
        }
    }

    fn print(&self) -> Result<(), Error> {
        let mut err = io::stderr().lock();
        let mut print = || {
            for line in &self.lines {
                writeln!(err, "postmapd: {line}")?;
            }
            if self.is_refused {
                writeln!(err, "postmapd: nothing is written")?;
            }
            Ok(())
        };
        print().map_err(Error::system("cannot print"))
    }
}

/// Everything that is to be written.
fn files(
    sources: &Sources,
    delimiters: &Delimiters,
    existing: &Existing,
    converted: Converted,
    said: &mut Said,
) -> Vec<File> {
    let mut files = vec![
        File {
            path: sources.relay_map(),
            text: converted.relay_map,
            mode: 0o644,
            holds: Holds::Relays,
        },
        File {
            path: sources.credentials(),
            text: converted.credentials,
            mode: 0o600,
            holds: Holds::Credentials,
        },
    ];
    if existing.delimiters != *delimiters {
        match with_delimiters(sources.settings_file(), &existing.delimiters) {
            Ok(text) => files.push(File {
                path: sources.settings_file().to_owned(),
                text,
                mode: 0o644,
                holds: Holds::Settings,
            }),
            Err(text) => said.refuse(text),
        }
    }
    if !existing.relayhost.is_empty() {
        let text = [b"DEFAULT_RELAY_HOST=", existing.relayhost.as_slice(), b"\n"].concat();
        files.push(File {
            path: sources.dir().join("postmapd.env"),
            text: text.into(),
            mode: 0o644,
            holds: Holds::Settings,
        });
        said.note(format!(
            "relayhost of main.cf becomes DEFAULT_RELAY_HOST: start the server with the variable in {}, and empty \
             relayhost in main.cf (postmapd postconf)",
            sources.dir().join("postmapd.env").display()
        ));
    }
    files
}

/// The settings file with this delimiter, which it does not have yet.
fn with_delimiters(path: &Path, delimiters: &Delimiters) -> Result<Secret, String> {
    let there = match whole_file::read(path) {
        Ok(file) => file.text,
        Err(error) if error.is_not_found() => Secret::default(),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let has_one = String::from_utf8_lossy(there.expose())
        .lines()
        .any(|line| line.trim_start().starts_with("recipient_delimiter"));
    let value = delimiters.to_string().replace('\\', "\\\\");
    if has_one {
        return Err(format!(
            "{}: set recipient_delimiter = \"{value}\" there, as main.cf has it",
            path.display()
        ));
    }
    // At the beginning: at the end it would belong to the last table.
    let line = format!("recipient_delimiter = \"{value}\"\n");
    let mut text = Secret::from(line.into_bytes());
    text.append(there.expose());
    Ok(text)
}

/// Shows what would change, line by line.
fn show(files: &[File]) -> Result<(), Error> {
    let mut out = String::new();
    for file in files {
        let there = whole_file::read(&file.path)
            .map(|file| file.text)
            .unwrap_or_default();
        let (old, new) = (there.expose(), file.text.expose());
        let (in_old, in_new): (HashSet<_>, HashSet<_>) = (lines(old).collect(), lines(new).collect());
        let gone = lines(old).filter(|line| !in_new.contains(line));
        let added = lines(new).filter(|line| !in_old.contains(line));
        let mut changes = String::new();
        for (sign, line) in gone.map(|line| ('-', line)).chain(added.map(|line| ('+', line))) {
            let _ = writeln!(changes, "{sign}{}", shown(file.holds, line));
        }
        if changes.is_empty() {
            let _ = writeln!(out, "{}: nothing changes", file.path.display());
        } else {
            let _ = write!(out, "{}:\n{changes}", file.path.display());
        }
    }
    print(&out)
}

/// The lines that are not empty.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|c| *c == b'\n').filter(|line| !line.is_empty())
}

/// A line without its password.
fn shown(holds: Holds, line: &[u8]) -> String {
    match holds {
        Holds::Relays => crate::check::excerpt::of_table(Map::Relayhost, line, 1).text,
        Holds::Credentials => crate::check::excerpt::of_table(Map::Sasl, line, 1).text,
        Holds::Settings => printable(line),
    }
}

fn write(files: &[File]) -> Result<(), Error> {
    let mut out = String::new();
    for file in files {
        let mut is_new = false;
        let edit = |there: &[u8]| -> Result<Option<Secret>, replace_file::ReplaceError> {
            is_new = there != file.text.expose();
            Ok(is_new.then(|| file.text.clone()))
        };
        replace_file::edit(&file.path, file.mode, edit)?;
        let lines = lines(file.text.expose()).count();
        let done = if is_new { "written" } else { "as it was" };
        let _ = writeln!(out, "{}: {lines} lines, {done}", file.path.display());
    }
    print(&out)
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::system("cannot print"))
}
