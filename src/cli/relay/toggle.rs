//! `relay disable` and `relay enable`: turns the lines of a key into comments, and back ([`disabled`]).
//!
//! A sender is disabled in both files together. Without its relay map entry it has the relay of a less specific entry or the
//! default relay, and its own login would be offered there. Both files are put in place at once, so that a server sees one
//! edit ([`replace_file::edit_pair`]).
//!
//! Limits: entries of the TLS file are not disabled. They are for next hops, and have no effect without a sender.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use super::super::Error;
use super::RelayError;
use super::edit::{self as cli_edit, report};
use super::key as key_argument;
use super::wait::Wait;
use crate::config::Sources;
use crate::lookup::address::{Delimiters, LookupKeys};
use crate::lookup::table::disabled;
use crate::lookup::table::edit;
use crate::lookup::table::key;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP, TableSpec};
use crate::os::printable::{printable, printable_path};
use crate::os::replace_file;
use crate::os::secret::Secret;
use crate::source::evaluate;

/// What to do with the lines of a key.
enum Action<'a> {
    /// Disable them, for this reason, which may be empty.
    Disable(&'a [u8]),
    /// Enable them.
    Enable,
}

/// An edit of the lines of a key in both files.
struct Toggle<'a> {
    key: Vec<u8>,
    action: Action<'a>,
}

/// Disables the entries of a key, for this reason.
pub(super) fn disable(
    argument: &OsStr,
    is_next_hop: bool,
    reason: &OsStr,
    sources: &Sources,
    wait: Option<&Wait>,
) -> Result<ExitCode, Error> {
    let reason = key_argument::reason(reason.as_bytes()).map_err(RelayError::from)?;
    let key = key_argument::key_to_remove(argument.as_bytes(), is_next_hop).map_err(RelayError::from)?;
    let action = Action::Disable(reason);
    Toggle { key, action }.run(sources, wait)
}

/// Enables the disabled entries of a key.
pub(super) fn enable(
    argument: &OsStr,
    is_next_hop: bool,
    sources: &Sources,
    wait: Option<&Wait>,
) -> Result<ExitCode, Error> {
    let key = key_argument::key_to_remove(argument.as_bytes(), is_next_hop).map_err(RelayError::from)?;
    let action = Action::Enable;
    Toggle { key, action }.run(sources, wait)
}

/// What there is to do in one file.
enum Step {
    /// Replace its text.
    Write(Secret),
    /// Nothing: it is as requested.
    Done,
    /// Nothing: it has no such line.
    NoLine,
}

impl Step {
    fn into_text(self) -> Option<Secret> {
        match self {
            Self::Write(text) => Some(text),
            Self::Done | Self::NoLine => None,
        }
    }
}

impl Toggle<'_> {
    /// Makes the edit, and prints what takes effect.
    fn run(&self, sources: &Sources, wait: Option<&Wait>) -> Result<ExitCode, Error> {
        let (relay_map, credentials) = (sources.relay_map(), sources.credentials());
        let mut warnings = Vec::new();
        let is_sender = key::is_sender(&self.key);
        let (locks, table) = if is_sender {
            let files = [(relay_map.as_path(), 0o644), (credentials.as_path(), 0o600)];
            let locks = replace_file::edit_pair::<RelayError>(files, |relay_map_text, credentials_text| {
                warnings.clear();
                let steps = [
                    self.step(&RELAY_MAP, &relay_map, relay_map_text, &mut warnings)?,
                    self.step(&CREDENTIALS, &credentials, credentials_text, &mut warnings)?,
                ];
                if steps.iter().all(|step| matches!(step, Step::NoLine)) {
                    return Err(self.no_line(&[&relay_map, &credentials]));
                }
                Ok(steps.map(Step::into_text))
            })?;
            (locks, &RELAY_MAP)
        } else {
            let lock = replace_file::edit::<RelayError>(&credentials, 0o600, |text| {
                warnings.clear();
                match self.step(&CREDENTIALS, &credentials, text, &mut warnings)? {
                    Step::NoLine => Err(self.no_line(&[&credentials])),
                    step => Ok(step.into_text()),
                }
            })?;
            (vec![lock], &CREDENTIALS)
        };
        // The locks keep other edits out until it is known what takes effect.
        let loaded = evaluate::load(sources);
        drop(locks);
        let what = match self.action {
            Action::Disable(_) => "disabled; ",
            Action::Enable => "enabled; ",
        };
        report(table, &self.key, what, sources, &loaded, warnings).map_err(Error::system(
            "the files were changed, but the result cannot be printed",
        ))?;
        let files = [(&RELAY_MAP, &relay_map), (&CREDENTIALS, &credentials)];
        let present = files.into_iter().filter(|(_, path)| path.exists());
        let Some(wait) = wait else {
            return Ok(ExitCode::SUCCESS);
        };
        let mut codes = present.map(|(table, path)| wait.run(table, path));
        Ok(codes
            .find(|code| *code != ExitCode::SUCCESS)
            .unwrap_or(ExitCode::SUCCESS))
    }

    fn step(
        &self,
        table: &'static TableSpec,
        path: &Path,
        text: &[u8],
        warnings: &mut Vec<String>,
    ) -> Result<Step, RelayError> {
        let format = table.format;
        let folded = LookupKeys::of(&self.key, &Delimiters::default()).whole().to_vec();
        let all = disabled::find_all(format, text);
        let is_disabled = all.iter().any(|disabled| disabled.has_key(&folded));
        let has_entry = edit::get(format, text, &self.key).is_some();
        let edited = match self.action {
            Action::Disable(reason) => edit::disable(format, text, &self.key, reason)?,
            Action::Enable if has_entry && is_disabled => {
                return Err(RelayError::EntryInTheWay {
                    path: path.to_owned(),
                    key: self.shown_key(),
                });
            }
            Action::Enable => edit::enable(format, text, &self.key),
        };
        let is_done = match self.action {
            Action::Disable(_) => is_disabled,
            Action::Enable => has_entry,
        };
        match edited {
            Some(edited) => {
                cli_edit::validate(table, path, text, &edited, warnings)?;
                Ok(Step::Write(edited.text))
            }
            None if is_done => Ok(Step::Done),
            None => Ok(Step::NoLine),
        }
    }

    fn no_line(&self, paths: &[&Path]) -> RelayError {
        let paths: Vec<String> = paths.iter().map(|path| printable_path(path)).collect();
        RelayError::NothingToToggle {
            files: match paths.as_slice() {
                [one, other] => format!("neither {one} nor {other} has"),
                paths => format!("{} does not have", paths.join(", ")),
            },
            what: match self.action {
                Action::Disable(_) => "an entry",
                Action::Enable => "a disabled entry",
            },
            key: self.shown_key(),
        }
    }

    /// Returns the key, if it is one: another argument may be a password.
    fn shown_key(&self) -> String {
        if key::validate(CREDENTIALS.format, &self.key).is_ok()
            || key::validate(RELAY_MAP.format, &self.key).is_ok()
        {
            printable(&self.key)
        } else {
            "this argument".to_owned()
        }
    }
}
