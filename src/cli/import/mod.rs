//! `postmapd import`: converts the tables of an existing Postfix to files and settings that give the same answers.
//!
//! Everything is written, or nothing: an entry that cannot be converted is reported, and the exit code is 1. A file
//! that has entries already is replaced only with `--force`. Postfix itself is only read.

mod messages;
mod output;
mod tls;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::generated::Generated;
use super::{EX_USAGE, Error};
use crate::config::options::{Options, ServiceOptions};
use crate::config::{NextHops, Settings, Sources};
use crate::diagnostics::{Findings, Severity};
use crate::lookup::address::{Delimiters, NULL_SENDER};
use crate::lookup::nexthop;
use crate::lookup::table::Table;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use crate::os::printable::printable_path;
use crate::os::replace_file;
use crate::os::secret::Secret;
use crate::os::whole_file;
use crate::postfix::command::{Commands, ServiceName};
use crate::postfix::config::PostfixConfig;
use crate::postfix::import::convert::{self, Converted, ExistingPostfix, PASSWORDS, RELAYS};
use crate::postfix::import::dump::{self, Directories};
use crate::postfix::import::inline;
use crate::postfix::import::tls::TlsEntries;
use crate::postfix::table_list;
use crate::source::evaluate;
use messages::{Messages, TableNames};
use output::{File, FileKind};

/// Convert the tables of an existing Postfix into files and settings that give the same answers
#[derive(Args)]
#[command(after_help = "\
import reads sender_dependent_relayhost_maps or sender_dependent_default_transport_maps, smtp_sasl_password_maps, \
smtp_tls_policy_maps, relayhost and recipient_delimiter as postconf \
prints them; the entries of hash:, btree:, lmdb:, sdbm:, dbm:, cdb: and texthash: tables (with or without proxy:) as \
postmap -s lists them; the entries of inline: tables; and static:user:password as the first table of \
smtp_sasl_password_maps, whose credentials become an entry for each next hop.

import writes postfix-relaymap.cf, postfix-sasl-password.cf, recipient_delimiter in postmapd.toml if it is not +, and \
postfix-relay-tls.cf if there are policies of next hops, or transports (service:[host]:port). relayhost becomes the \
entries for @* and <> in postfix-relaymap.cf. import keeps the comments of the tables, and all other content of \
postmapd.toml.

If main.cf has neither sender_dependent_relayhost_maps nor a relayhost, its other parameters choose the next hops. Then \
import writes next_hops = \"main.cf\" to postmapd.toml, and postmapd returns the credentials of senders as before.

If main.cf has one of them, one answer is different on purpose: postmapd withholds the credentials of a sender \
without a next hop.

Exit codes: 0 written, or nothing to write; 1 rejected, and nothing written; 2 usage or an invalid setting; 69 the \
configuration of Postfix cannot be read.

Examples:
  postmapd import --dry-run
  postmapd import --dir /etc/postmapd && postmapd check && postmapd postconf
  postmapd import -c /etc/postfix-out --dir /etc/postmapd-out --force")]
pub(super) struct Import {
    #[command(flatten)]
    options: Options,

    /// Postfix's configuration directory, as in postconf -c
    #[arg(short = 'c', value_name = "DIR")]
    config_directory: Option<PathBuf>,

    /// Show what would change, with passwords masked, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Replace files that already have entries
    #[arg(long)]
    force: bool,
}

impl Import {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let mut findings = Findings::default();
        let sources = Sources::new(self.options.clone(), ServiceOptions::default(), &mut findings);
        let settings = evaluate::read_settings(&sources, &mut findings);
        Error::fail_on_errors(findings, EX_USAGE)?;
        let config = PostfixConfig::read(Commands {
            directory: self.config_directory.clone(),
        })?;
        let mut messages = Messages::default();
        let (existing, tables, tls) = self.read_existing(&config, &mut messages);
        let converted = convert::convert(&existing);
        for remark in converted.remarks.iter().chain(&tls.remarks) {
            messages.remark(remark, &tables);
        }
        let next_hops = next_hops(&existing, &tables, &converted).unwrap_or(settings.next_hops);
        let mut files = table_files(&sources, &tables, converted);
        if !existing.relayhost.is_empty() {
            messages.note(
                "main.cf: relayhost becomes the entries for @* (all senders without another entry) and <> (bounces); empty \
                 relayhost in main.cf (postmapd postconf)",
            );
        }
        let lines = tls.lines();
        if !lines.is_empty() {
            let path = sources.file(&RELAY_TLS);
            let text = output::with_comments(&path, &lines);
            files.push(File::new(path, text, FileKind::Table(&RELAY_TLS)));
        }
        files.extend(settings_file(
            &sources,
            &settings,
            &existing.delimiters,
            next_hops,
            &mut messages,
        ));
        if let Some(generated) = Generated::find(&sources) {
            messages.reject(generated.to_string());
        }
        let mut missing = Vec::new();
        for file in &files {
            match replace_file::check_directory(&file.path) {
                Ok(()) => self.check_file(file, &mut messages),
                Err(error) => missing.push(error.to_string()),
            }
        }
        // All files are in one directory, as a rule.
        missing.dedup();
        for error in missing {
            messages.reject(error);
        }
        messages.print()?;
        if messages.is_rejected {
            return Ok(ExitCode::FAILURE);
        }
        if self.dry_run {
            output::print_changes(&files)?;
        } else {
            output::write_files(&files)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Reads what Postfix has, and returns it with the tables of each list.
    fn read_existing(
        &self,
        config: &PostfixConfig,
        messages: &mut Messages,
    ) -> (ExistingPostfix, TableNames, TlsEntries) {
        let rewrite = ServiceName::unix("rewrite");
        let smtp = ServiceName::unix("smtp");
        let relays: Vec<String> = table_names(config.value(&rewrite, RELAYS));
        let passwords: Vec<String> = table_names(config.value(&smtp, PASSWORDS));
        let mut existing = ExistingPostfix {
            relayhost: config.value(&rewrite, "relayhost").as_bytes().to_vec(),
            authenticates_by_sender: config
                .value(&smtp, "smtp_sender_dependent_authentication")
                .eq_ignore_ascii_case("yes"),
            null_sender_key: config
                .value(&rewrite, "empty_address_relayhost_maps_lookup_key")
                .as_bytes()
                .to_vec(),
            local_domains: local_domains(config),
            ..ExistingPostfix::default()
        };
        match Delimiters::new(config.value(&rewrite, "recipient_delimiter")) {
            Some(delimiters) => existing.delimiters = delimiters,
            None => {
                messages
                    .reject("main.cf: recipient_delimiter: postmapd supports only printable ASCII characters other than @ and \"; correct \
                     it first");
            }
        }
        if !existing.relayhost.is_empty() && nexthop::validate(&existing.relayhost).is_err() {
            messages.reject("main.cf: relayhost is not a valid next hop; correct it first");
        }
        // Since Postfix 3.9.
        let delimiter = config.value(&smtp, "smtp_sasl_password_result_delimiter");
        if !passwords.is_empty() && !delimiter.is_empty() && !delimiter.starts_with(':') {
            messages.reject(
                "main.cf: smtp_sasl_password_result_delimiter: these tables do not separate user and password by a \
                 colon; rewrite them with colons, and remove the parameter from main.cf first",
            );
        }
        let directories = Directories {
            config_directory: self.config_directory.as_deref(),
            queue_directory: Path::new(config.main_cf("queue_directory")),
        };
        existing.relays = read_tables(RELAYS, &relays, &directories, messages);
        let mut tables = TableNames {
            relays,
            passwords,
            policies: Vec::new(),
        };
        let tls = tls::read(config, &directories, &mut existing, &mut tables, messages);
        let passwords = &tables.passwords;
        if existing.null_sender_key != NULL_SENDER {
            messages.note(
                "main.cf: empty_address_relayhost_maps_lookup_key: the entry for this key becomes the entry for <>, \
                 which is postmapd's key for the null sender; remove the parameter from main.cf (postconf -X)",
            );
        }
        let mut passwords_to_read = passwords.as_slice();
        if let Some((first, others)) = passwords.split_first()
            && let Some(login) = inline::static_value(first)
        {
            passwords_to_read = &[];
            match login {
                Ok(login) => existing.static_login = Some(login),
                Err(error) => messages.reject(format!("main.cf: {PASSWORDS}: table 1: {error}")),
            }
            if !others.is_empty() {
                messages.note(format!(
                    "main.cf: {PASSWORDS}: table 1 is static: and answers every key; the tables after it are left \
                     out, because Postfix never queries them"
                ));
            }
        }
        existing.passwords = read_tables(PASSWORDS, passwords_to_read, &directories, messages);
        note_unread_domains(config, &existing, messages);
        (existing, tables, tls)
    }

    /// Rejects a file that would replace entries, and a text that the server would reject.
    fn check_file(&self, file: &File, messages: &mut Messages) {
        let current = match whole_file::read(&file.path) {
            Ok(current) => Some(current.text),
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                messages.reject(format!("{} cannot be read: {error}", printable_path(&file.path)));
                return;
            }
        };
        let FileKind::Table(table) = file.kind else {
            return;
        };
        let mut findings = Findings::default();
        Table::build(table, &file.path, file.text.clone(), &mut findings);
        for finding in findings.with_severity(Severity::Error) {
            messages.reject(finding.to_string());
        }
        let Some(current) = current.filter(|current| *current != file.text) else {
            return;
        };
        let mut current_findings = Findings::default();
        let has_entries = !Table::build(table, &file.path, current, &mut current_findings).is_empty()
            || current_findings.errors() > 0;
        if has_entries && !self.force && !self.dry_run {
            messages.reject(format!(
                "{}: the file already has entries; --dry-run shows what would change, --force replaces them",
                printable_path(&file.path)
            ));
        }
    }
}

/// Returns the relay map and the credentials.
fn table_files(sources: &Sources, tables: &TableNames, converted: Converted) -> Vec<File> {
    let files = [
        (&RELAY_MAP, converted.relay_map),
        (&CREDENTIALS, converted.credentials),
    ];
    let file = |(table, entries): (&'static TableSpec, Secret)| {
        let path = sources.file(table);
        let mut text = output::with_comments(&path, &entries);
        // Without a relay map, the credentials of senders would be *cannot tell*.
        if !table.is_secret() && text.is_empty() && !tables.relays.is_empty() {
            text.append(NO_RELAYS);
        }
        File::new(path, text, FileKind::Table(table))
    };
    files.map(file).into()
}

const NO_RELAYS: &[u8] =
    b"# The tables of sender_dependent_relayhost_maps had no entries. Because this file exists, postmapd withholds the\n\
      # credentials of senders without a next hop; without the file, it would answer them with a temporary error.\n";

/// Returns where next hops come from after the import: from the imported files if Postfix chose them by what is
/// imported, else from other parameters of main.cf, which stay unchanged. `None` where no answer depends on it.
fn next_hops(existing: &ExistingPostfix, tables: &TableNames, converted: &Converted) -> Option<NextHops> {
    if !tables.relays.is_empty() || !existing.relayhost.is_empty() {
        return Some(NextHops::Postmapd);
    }
    converted.has_credentials_of_senders.then_some(NextHops::MainCf)
}

/// Returns the settings file, if it must change. A setting with another value is rejected, not replaced.
fn settings_file(
    sources: &Sources,
    settings: &Settings,
    delimiters: &Delimiters,
    next_hops: NextHops,
    messages: &mut Messages,
) -> Option<File> {
    let path = sources.settings_file();
    let mut changes = Vec::new();
    if settings.delimiters != *delimiters {
        changes.push(("recipient_delimiter", delimiters.to_string()));
    }
    if settings.next_hops != next_hops {
        let value = match next_hops {
            NextHops::Postmapd => "postmapd",
            NextHops::MainCf => "main.cf",
        };
        changes.push(("next_hops", value.to_owned()));
    }
    if next_hops == NextHops::MainCf {
        messages.note(format!(
            "main.cf: there is neither {RELAYS} nor relayhost, so other parameters choose the next hops. With \
             next_hops = \"main.cf\" in {}, postmapd returns the credentials of senders as before, wherever their \
             mail goes, even to the recipient's own server. To withhold them there, give these senders a next hop \
             (postmapd relay add-domain), and remove that line",
            printable_path(path)
        ));
    }
    if changes.is_empty() {
        return None;
    }
    match output::with_settings(path, &changes) {
        Ok(text) => Some(File::new(path.to_owned(), text, FileKind::Settings)),
        Err(text) => {
            messages.reject(text);
            None
        }
    }
}

/// Reads the entries of the tables of a list.
fn read_tables(
    parameter: &str,
    tables: &[String],
    directories: &Directories<'_>,
    messages: &mut Messages,
) -> Vec<convert::Entry> {
    let mut entries = Vec::new();
    for (number, table) in (1..).zip(tables) {
        match dump::dump(table, number, directories) {
            Ok(dump) => {
                if dump.is_from_source {
                    messages.note(format!(
                        "main.cf: {parameter}: table {number} is read from its source file; the indexed file may be older"
                    ));
                }
                entries.extend(dump.entries);
            }
            Err(error) => messages.reject(format!("main.cf: {parameter}: table {number}: {error}")),
        }
    }
    entries
}

fn table_names(list: &str) -> Vec<String> {
    table_list::tables(list).map(ToOwned::to_owned).collect()
}

/// Returns the domains that Postfix appends to an address without a domain, or takes for its own. Domains in tables are
/// not read.
fn local_domains(config: &PostfixConfig) -> Vec<String> {
    let mut domains: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        let is_name = !name.contains([':', '/', '!', '{']);
        if is_name && !domains.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            domains.push(name.to_owned());
        }
    };
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let origin = config.main_cf("myorigin");
    if origin.starts_with('/') {
        // On Debian, the first line of a file.
        add(read(origin).lines().next().unwrap_or_default().trim());
    } else {
        add(origin);
    }
    for name in table_list::tables(config.main_cf("mydestination")) {
        if name.starts_with('/') {
            let text = read(name);
            let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            lines.flat_map(table_list::tables).for_each(&mut add);
        } else {
            add(name);
        }
    }
    domains.retain(|name| !name.is_empty());
    domains
}

/// Notes that domains in tables are not read, where that matters.
fn note_unread_domains(config: &PostfixConfig, existing: &ExistingPostfix, messages: &mut Messages) {
    let is_table = |name: &str| name.contains(':');
    let mut tables = table_list::tables(config.main_cf("mydestination"));
    let is_without_domain =
        |entry: &convert::Entry| !entry.key.contains(&b'@') && entry.key != existing.null_sender_key;
    if tables.any(is_table) && existing.relays.iter().any(is_without_domain) {
        messages.note(
            "main.cf: mydestination: domains in tables are not read; for each key without a domain, add the entries \
             in these domains by hand",
        );
    }
}
