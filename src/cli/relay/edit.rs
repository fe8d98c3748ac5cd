//! One edit: read, changed, judged, put in place; and what is said of it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::super::{Error, say, say_environment};
use super::{RelayError, key, standing};
use crate::config::Sources;
use crate::diagnostics::{Findings, Place, Severity};
use crate::lookup::table::edit::{self, Change, Edited};
use crate::lookup::table::spec::{CREDENTIALS, TableSpec};
use crate::lookup::table::{self, Table};
use crate::os::printable::printable;
use crate::os::replace_file;
use crate::source::evaluate;
use crate::source::evaluate::LoadedConfig;

/// An edit of one file.
pub(super) struct Edit<'a> {
    pub(super) table: &'static TableSpec,
    pub(super) key: Vec<u8>,
    pub(super) what: What<'a>,
}

pub(super) enum What<'a> {
    /// This is the value; the key alone where it is empty.
    Set(&'a [u8]),
    /// The key goes. With what may have been meant where there is no such key.
    Remove(Option<Hint<'a>>),
}

/// If there is this key, that is what to say.
pub(super) struct Hint<'a> {
    pub(super) other_key: &'a [u8],
    pub(super) text: &'static str,
}

impl Edit<'_> {
    /// Makes it, and says what then holds.
    pub(super) fn make(&self, sources: &Sources) -> Result<ExitCode, Error> {
        let table = self.table;
        let path = sources.file(table);
        let new_mode = if table.is_secret() { 0o600 } else { 0o644 };
        let mut warnings = Vec::new();
        let held = replace_file::edit::<RelayError>(&path, new_mode, |text| {
            let edited = self.apply(&path, text)?;
            warnings.clear();
            if edited.change == Change::None {
                return Ok(None);
            }
            judge(self.table, &path, text, &edited, &mut warnings)?;
            Ok(Some(edited.text))
        })?;
        // The lock keeps other edits out until it is known what takes effect.
        let loaded = evaluate::load(sources);
        drop(held);
        self.say(sources, &loaded, warnings)
            .map_err(Error::system("cannot say what holds now; the file is changed"))?;
        Ok(ExitCode::SUCCESS)
    }

    fn apply(&self, path: &Path, text: &[u8]) -> Result<Edited, RelayError> {
        let format = self.table.format;
        match &self.what {
            What::Set(value) => {
                key::length(&self.key, value)?;
                Ok(edit::set(format, text, &self.key, value)?)
            }
            What::Remove(hint) => {
                let edited = edit::remove(format, text, &self.key);
                if edited.change != Change::None {
                    return Ok(edited);
                }
                let meant = hint
                    .as_ref()
                    .filter(|hint| edit::get(format, text, hint.other_key).is_some());
                Err(RelayError::NoEntry {
                    path: path.to_owned(),
                    // What is no key may be a password.
                    key: match table::key::validate(CREDENTIALS.format, &self.key) {
                        Ok(()) => printable(&self.key),
                        Err(_) => "what was given".to_owned(),
                    },
                    hint: meant.map_or("", |hint| hint.text),
                })
            }
        }
    }

    /// The one line on standard output, and the warnings on standard error.
    fn say(&self, sources: &Sources, loaded: &LoadedConfig, mut warnings: Vec<String>) -> io::Result<()> {
        let held = standing::after_edit(self.table, &self.key, &loaded.snapshot);
        let needs_default = standing::needs_default(&self.key, &loaded.snapshot);
        warnings.extend(held.warnings);
        let errors = loaded.findings.with_severity(Severity::Error);
        let mut said = 0;
        for finding in errors.take(MOST_ERRORS) {
            warnings.push(finding.to_string());
            said += 1;
        }
        if said > 0 {
            warnings.push("until that is fixed, a running server keeps its active tables".to_owned());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{}: {}", printable(&self.key), held.line)?;
        out.flush()?;
        for warning in warnings {
            say(warning);
        }
        if needs_default && !sources.environment.is_own() {
            say_environment(sources);
        }
        Ok(())
    }
}

/// How many errors of a file are repeated.
pub(super) const MOST_ERRORS: usize = 5;

/// Refuses what the server would refuse. What it would warn of in the new entry goes to `warnings`.
fn judge(
    table: &'static TableSpec,
    path: &Path,
    before: &[u8],
    edited: &Edited,
    warnings: &mut Vec<String>,
) -> Result<(), RelayError> {
    let mut findings = Findings::default();
    drop(Table::build(table, path, edited.text.clone(), &mut findings));
    if findings.errors() > 0 {
        // Nothing is written, so the lines to fix are those of the file as it is.
        let mut present = Findings::default();
        drop(Table::build(table, path, before.to_vec().into(), &mut present));
        if present.errors() > 0 {
            findings = present;
        }
        let errors = findings.with_severity(Severity::Error);
        return Err(RelayError::Errors {
            path: path.to_owned(),
            errors: errors.take(MOST_ERRORS).map(ToString::to_string).collect(),
        });
    }
    let of_entry = findings.iter().filter(|finding| {
        matches!(&finding.place, Place::File(_, Some(at)) if usize::try_from(at.line) == Ok(edited.line))
    });
    warnings.extend(of_entry.map(ToString::to_string));
    Ok(())
}
