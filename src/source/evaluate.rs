//! Evaluates the sources in two steps: the settings, and with them the tables and the default relay.
//!
//! What is wrong becomes a finding; what an error leaves out of the snapshot is *cannot tell* there, and never *not
//! found*. What equals the active snapshot is taken from there, and not evaluated again ([`Table::rebuild`]).

use std::collections::HashMap;
use std::hash::RandomState;
use std::path::Path;
use std::sync::Arc;

use super::decision::{Condition, Evaluation};
use super::load::{self, RawSources, changing_finding};
use super::reload_status::FileVersion;
use super::source_file::{Directory, SourceFile};
use super::tls_conflicts;
use crate::config::{NextHops, ReloadErrors, Settings, Sources};
use crate::diagnostics::{Code, Finding, Findings};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::directory_source::DirectorySource;
use crate::lookup::relay_tls::RelayTls;
use crate::lookup::routing::Routing;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Table;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use crate::lookup::table::text::Text;
use crate::os::secret::Secret;
use crate::os::whole_file::ReadError;

/// The evaluated sources.
pub(crate) struct LoadedConfig {
    /// The snapshot, complete except for its generation.
    pub snapshot: Snapshot,
    /// The settings of the sources.
    pub settings: Settings,
    /// All findings.
    pub findings: Findings,
    /// Those of the findings that concern the default relay.
    pub(super) default_findings: Findings,
    /// The conditions of the settings, each table, and the default relay.
    conditions: Vec<Condition>,
    /// The version of each file, in the order of [`super::load::paths`].
    pub versions: Vec<FileVersion>,
}

impl LoadedConfig {
    /// Whether a server with these settings applies them although they have errors: some entries are invalid, and nothing else.
    #[must_use]
    pub(crate) fn is_applied_despite_errors(&self) -> bool {
        self.settings.reload_errors == ReloadErrors::Holes && !self.conditions.contains(&Condition::Unusable)
    }

    /// Returns what decides whether it may become active. `raw` are the sources that were evaluated.
    pub(super) fn evaluation(&self, raw: &RawSources) -> Evaluation {
        Evaluation {
            errors: self.findings.errors(),
            conditions: self.conditions.clone(),
            accepts_invalid_entries: self.settings.reload_errors == ReloadErrors::Holes,
            loss_changes_answers: raw.loss_changes_answers(&self.snapshot),
        }
    }
}

/// Reads and evaluates everything, with no active configuration.
#[must_use]
pub(crate) fn load(sources: &Sources) -> LoadedConfig {
    load::read(sources, &RandomState::new(), None).evaluate(sources, None)
}

impl RawSources {
    /// Evaluates the sources. What equals `active` is taken from there.
    #[must_use]
    pub(crate) fn evaluate(&self, sources: &Sources, active: Option<&Snapshot>) -> LoadedConfig {
        let mut findings = Findings::default();
        for path in self.unlinked_files(sources) {
            findings.push(
                Finding::in_file(Code::ReplacedUnderItsMount, &path, None)
                    .message("the file was replaced outside this mount, and this is still the old version")
                    .help("mount its directory instead of the file, and restart this container"),
            );
        }
        let errors_before = findings.errors();
        let settings = settings(&self.settings_file, sources, &mut findings);
        let has_valid_settings = findings.errors() == errors_before;
        let (default, default_findings) = self.default_relay(sources);
        let snapshot = self.snapshot(sources, &settings, active, default, &mut findings);
        let whole = |is_valid| {
            if is_valid {
                Condition::Valid
            } else {
                Condition::Unusable
            }
        };
        let tables = self
            .tables
            .iter()
            .map(|(spec, _)| condition(snapshot.table(spec)));
        let conditions = [whole(has_valid_settings)]
            .into_iter()
            .chain(tables)
            .chain([whole(default_findings.errors() == 0)]);
        let conditions = conditions.collect();
        findings.append(&default_findings);
        let mut versions = self.versions.clone();
        for version in &mut versions {
            let table = version.table.and_then(|spec| snapshot.table(spec));
            version.table_errors = table.map_or(0, |table| table.findings().errors());
        }
        LoadedConfig {
            snapshot,
            settings,
            findings,
            default_findings,
            conditions,
            versions,
        }
    }

    fn snapshot(
        &self,
        sources: &Sources,
        settings: &Settings,
        active: Option<&Snapshot>,
        default: Arc<DefaultRelay>,
        findings: &mut Findings,
    ) -> Snapshot {
        let tables = self.tables.iter().map(|(spec, source_file)| {
            let previous = active.and_then(|snapshot| snapshot.table(spec));
            table(
                spec,
                &sources.file(spec),
                source_file,
                previous,
                sources.dir(),
                findings,
            )
        });
        let mut tables: Vec<Arc<Table>> = tables.collect();
        let mut take = |spec| match tables.iter().position(|table| table.spec() == spec) {
            Some(at) => tables.remove(at),
            None => Table::unreadable(spec).into(),
        };
        let (relay_map, credentials) = (take(&RELAY_MAP), take(&CREDENTIALS));
        let has_relay_map = self
            .tables
            .iter()
            .any(|(spec, source_file)| **spec == RELAY_MAP && !matches!(**source_file, SourceFile::Missing));
        let no_tls = Arc::new(Table::empty(&RELAY_TLS));
        let tls = tables
            .iter()
            .find(|table| *table.spec() == RELAY_TLS)
            .unwrap_or(&no_tls);
        let (relay_tls, conflicts) = RelayTls::new(&relay_map, &default, tls, &settings.services);
        tls_conflicts::report(&conflicts, sources, &relay_map, &default, tls, findings);
        Snapshot {
            other_tables: tables,
            relay_tls: relay_tls.into(),
            routing: match settings.next_hops {
                NextHops::MainCf => Routing::MainCf,
                NextHops::Postmapd if has_relay_map || default.is_set() => Routing::Postmapd,
                NextHops::Postmapd => Routing::Unknown,
            },
            default,
            delimiters: settings.delimiters.clone(),
            allowed: settings.allowed(),
            directory_source: directory_source(&self.directory_source, sources, findings).map(Arc::new),
            ..Snapshot::new(relay_map, credentials)
        }
    }
}

impl RawSources {
    /// Returns the default relay and its findings: of the secrets, or the stored one if they are held.
    fn default_relay(&self, sources: &Sources) -> (Arc<DefaultRelay>, Findings) {
        if let Some(default) = &self.default {
            return default.clone();
        }
        let mut findings = Findings::default();
        let secrets: HashMap<&Path, Secret> = self
            .secrets
            .iter()
            .filter_map(|(path, source_file)| {
                Some((path.as_path(), secret(path, source_file, &mut findings)?))
            })
            .collect();
        let default = sources
            .relay
            .resolve(&mut |path| secrets.get(path).cloned(), &mut findings);
        (default.into(), findings)
    }
}

/// Returns the condition of a table. Where not one line has a readable key, the file is no table.
fn condition(table: Option<&Arc<Table>>) -> Condition {
    match table.filter(|table| table.is_readable()) {
        Some(table) if table.findings().errors() == 0 => Condition::Valid,
        Some(table) if !table.is_empty() => Condition::InvalidEntries,
        _ => Condition::Unusable,
    }
}

/// Reads and evaluates the settings alone.
pub(crate) fn read_settings(sources: &Sources, findings: &mut Findings) -> Settings {
    settings(
        &SourceFile::<Secret>::read(sources.settings_file(), &Directory::open(sources.dir())),
        sources,
        findings,
    )
}

fn settings(source_file: &SourceFile, sources: &Sources, findings: &mut Findings) -> Settings {
    let text = match source_file {
        SourceFile::Text(file) => file.text.expose(),
        SourceFile::Missing if !sources.needs_settings_file() => &[],
        // If the whole directory is missing, the tables report it.
        SourceFile::Unreadable(error)
            if error.is_not_found() && !sources.needs_settings_file() && !sources.dir().exists() =>
        {
            &[]
        }
        SourceFile::Unreadable(ReadError::Changing) => {
            findings.push(changing_finding(sources.settings_file()));
            &[]
        }
        SourceFile::Missing | SourceFile::Unreadable(_) => {
            let why = match source_file {
                SourceFile::Unreadable(error) => error.to_string(),
                _ => "no such file".to_owned(),
            };
            findings.push(
                Finding::in_file(Code::SettingsUnreadable, sources.settings_file(), None)
                    .message(format!("cannot read the settings: {why}"))
                    .help("fix the path or the permissions"),
            );
            &[]
        }
    };
    sources.settings(text, findings)
}

fn table(
    spec: &'static TableSpec,
    path: &Path,
    source_file: &SourceFile<Text>,
    previous: Option<&Arc<Table>>,
    dir: &Path,
    findings: &mut Findings,
) -> Arc<Table> {
    match source_file {
        SourceFile::Text(file) => {
            let table = Table::rebuild(previous, spec, path, &file.text);
            findings.append(table.findings());
            table
        }
        SourceFile::Missing => Table::empty(spec).into(),
        SourceFile::Unreadable(ReadError::Changing) => {
            findings.push(changing_finding(path));
            Table::unreadable(spec).into()
        }
        SourceFile::Unreadable(error) => {
            let (what, help) = if dir.is_dir() {
                (path, "fix the file or its permissions")
            } else {
                (dir, "create the directory, or set another with --dir")
            };
            findings.push(
                Finding::in_file(Code::FileUnreadable, what, None)
                    .message(format!("cannot read the {} map: {error}", spec.label))
                    .help(help),
            );
            Table::unreadable(spec).into()
        }
    }
}

/// Returns where the content of the directory is from. What is wrong with that file is a warning: the tables are valid
/// without it.
fn directory_source(
    source_file: &SourceFile,
    sources: &Sources,
    findings: &mut Findings,
) -> Option<DirectorySource> {
    let problem = match source_file {
        SourceFile::Text(file) => match DirectorySource::parse(file.text.expose()) {
            Ok(source) => return Some(source),
            Err(problem) => problem.to_string(),
        },
        SourceFile::Missing => return None,
        // The tables report it.
        SourceFile::Unreadable(error) if error.is_not_found() && !sources.dir().exists() => return None,
        SourceFile::Unreadable(error) => error.to_string(),
    };
    findings.push(
        Finding::in_file(Code::BadDirectorySource, &sources.directory_source(), None)
            .message(format!("the source of this directory is unknown: {problem}"))
            .help("fix the program that writes the file, or remove the file if no program writes this directory"),
    );
    None
}

fn secret(path: &Path, source_file: &SourceFile, findings: &mut Findings) -> Option<Secret> {
    let why = match source_file {
        SourceFile::Text(file) => return Some(file.text.clone()),
        SourceFile::Missing => "no such file".to_owned(),
        SourceFile::Unreadable(error) => error.to_string(),
    };
    findings.push(
        Finding::in_file(Code::SecretUnreadable, path, None)
            .message(format!("cannot read the file: {why}"))
            .help("fix its path or permissions, or unset the variable that names it"),
    );
    None
}
