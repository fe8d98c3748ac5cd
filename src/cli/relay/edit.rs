//! One edit: reads, changes, validates and replaces a file, and prints the result.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::super::{Error, print_environment, print_message};
use super::wait::Wait;
use super::{MAX_ERRORS_SHOWN, RelayError, effective, key, tls};
use crate::config::{ReloadErrors, Sources};
use crate::diagnostics::{Findings, Place, Severity};
use crate::lookup::table::edit::{self, Change, Edited};
use crate::lookup::table::spec::{CREDENTIALS, RELAY_TLS, TableSpec};
use crate::lookup::table::{self, Table};
use crate::os::printable::printable;
use crate::os::replace_file;
use crate::source::evaluate;
use crate::source::evaluate::LoadedConfig;

/// An edit of one table file.
pub(super) struct Edit<'a> {
    pub(super) table: &'static TableSpec,
    pub(super) key: Vec<u8>,
    pub(super) action: EditAction<'a>,
}

pub(super) enum EditAction<'a> {
    /// Sets the value of the key; if it is empty, writes the key alone.
    Set(&'a [u8]),
    /// Removes the entry of the key. The hint is for a key without an entry.
    Remove(Option<Hint<'a>>),
}

/// What to print if the file has an entry for `other_key`.
pub(super) struct Hint<'a> {
    pub(super) other_key: &'a [u8],
    pub(super) text: &'static str,
}

impl Edit<'_> {
    /// Makes the edit, prints what takes effect, and waits until it is active.
    pub(super) fn run(&self, sources: &Sources, wait: Option<&Wait>) -> Result<ExitCode, Error> {
        let table = self.table;
        let path = sources.file(table);
        let new_mode = if table.is_secret() { 0o600 } else { 0o644 };
        let mut warnings = Vec::new();
        let lock = replace_file::edit::<RelayError>(&path, new_mode, |text| {
            let edited = self.apply(&path, text)?;
            warnings.clear();
            if edited.change == Change::None {
                return Ok(None);
            }
            validate(self.table, &path, text, &edited, &mut warnings)?;
            if *table == RELAY_TLS {
                tls::reject_conflicts(sources, &edited.text)?;
            }
            Ok(Some(edited.text))
        })?;
        // The lock keeps other edits out until it is known what takes effect.
        let loaded = evaluate::load(sources);
        drop(lock);
        report(table, &self.key, "", sources, &loaded, warnings).map_err(Error::system(
            "the file was changed, but the result cannot be printed",
        ))?;
        let waited = wait.map(|wait| wait.run(table, &path));
        Ok(waited.unwrap_or(ExitCode::SUCCESS))
    }

    fn apply(&self, path: &Path, text: &[u8]) -> Result<Edited, RelayError> {
        let format = self.table.format;
        match &self.action {
            EditAction::Set(value) => {
                key::validate_length(&self.key, value)?;
                Ok(edit::set(format, text, &self.key, value)?)
            }
            EditAction::Remove(hint) => {
                let edited = edit::remove(format, text, &self.key);
                if edited.change != Change::None {
                    return Ok(edited);
                }
                let alternative = hint
                    .as_ref()
                    .filter(|hint| edit::get(format, text, hint.other_key).is_some());
                Err(RelayError::NoEntry {
                    path: path.to_owned(),
                    // An invalid key may be a password.
                    key: if [format, CREDENTIALS.format]
                        .iter()
                        .any(|format| table::key::validate(*format, &self.key).is_ok())
                    {
                        printable(&self.key)
                    } else {
                        "this argument".to_owned()
                    },
                    hint: alternative.map_or("", |hint| hint.text),
                })
            }
        }
    }
}

/// Prints the one line on standard output, with `done` before what takes effect, and the warnings on standard error.
pub(super) fn report(
    table: &TableSpec,
    key: &[u8],
    done: &str,
    sources: &Sources,
    loaded: &LoadedConfig,
    mut warnings: Vec<String>,
) -> io::Result<()> {
    let summary = effective::summarize(table, key, &loaded.snapshot);
    let depends_on_default = effective::depends_on_default(key, &loaded.snapshot);
    warnings.extend(summary.warnings);
    let errors = loaded.findings.with_severity(Severity::Error);
    let mut shown = 0;
    for finding in errors.take(MAX_ERRORS_SHOWN) {
        warnings.push(finding.to_string());
        shown += 1;
    }
    if shown > 0 {
        let effect = match loaded.settings.reload_errors {
            ReloadErrors::Keep => "until this is fixed, a running server keeps its active tables",
            ReloadErrors::Holes => "until this is fixed, lookups that depend on it get a temporary error",
        };
        warnings.push(effect.to_owned());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {done}{}", printable(key), summary.line)?;
    out.flush()?;
    for warning in warnings {
        print_message(warning);
    }
    if depends_on_default && !sources.environment.is_own() {
        print_environment(sources);
    }
    Ok(())
}

/// Rejects what the server would reject. Adds the warnings about the new entry to `warnings`.
pub(super) fn validate(
    table: &'static TableSpec,
    path: &Path,
    previous: &[u8],
    edited: &Edited,
    warnings: &mut Vec<String>,
) -> Result<(), RelayError> {
    let mut findings = Findings::default();
    drop(Table::build(table, path, edited.text.clone(), &mut findings));
    if findings.errors() > 0 {
        // Nothing is written, so the lines to fix are those of the file as it is.
        let mut present = Findings::default();
        drop(Table::build(table, path, previous.to_vec().into(), &mut present));
        if present.errors() > 0 {
            findings = present;
        }
        let errors = findings.with_severity(Severity::Error);
        return Err(RelayError::Errors {
            path: path.to_owned(),
            errors: errors.take(MAX_ERRORS_SHOWN).map(ToString::to_string).collect(),
        });
    }
    let entry_findings = findings.iter().filter(|finding| {
        matches!(&finding.place, Place::File(_, Some(at)) if usize::try_from(at.line) == Ok(edited.line))
    });
    warnings.extend(entry_findings.map(ToString::to_string));
    Ok(())
}
