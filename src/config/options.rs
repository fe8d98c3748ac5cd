//! The flags of the commands that read the directory, and the variable of each.
//!
//! Flags, variables and the settings file share one syntax of values ([`Sourced`]). One difference: a variable that is
//! empty or contains only whitespace is treated as unset, because Compose passes on variables without a value.

use std::collections::HashMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::nearest;
use super::setting::{self, Commands, Setting};
use super::sourced::Sourced;
use crate::diagnostics::{Code, Finding, Findings, Place};

const PREFIX: &str = "POSTMAPD_";

/// The values of the flags of some settings; `OF` is the number of their [`Commands`].
#[derive(Clone, Debug, Default)]
pub struct Flags<const OF: usize> {
    /// By flag. Several values are joined by commas.
    values: HashMap<&'static str, OsString>,
}

/// The flags of every command that reads the directory, before its own subcommand or after it.
pub type Options = Flags<{ Commands::All as usize }>;

/// The flags that describe a server.
pub type ServiceOptions = Flags<{ Commands::Servers as usize }>;

/// The flags of `serve` alone.
pub(crate) type ServeOptions = Flags<{ Commands::Serve as usize }>;

impl<const OF: usize> Args for Flags<OF> {
    fn augment_args(command: Command) -> Command {
        let arguments = settings_of(OF).filter_map(Setting::clap_arg);
        arguments.fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const OF: usize> FromArgMatches for Flags<OF> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = settings_of(OF).filter_map(|setting| {
            let given: Vec<&OsStr> = matches.get_raw(setting.flag?)?.collect();
            Some((setting.flag?, given.join(OsStr::new(","))))
        });
        Ok(Self {
            values: values.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn settings_of(group: usize) -> impl Iterator<Item = &'static Setting> {
    let all = setting::ALL.iter().copied();
    all.filter(move |setting| setting.commands as usize == group)
}

impl<const OF: usize> Flags<OF> {
    /// Returns the flags of both.
    pub(super) fn merge<const OTHERS: usize>(mut self, others: Flags<OTHERS>) -> Self {
        self.values.extend(others.values);
        self
    }

    /// Returns the value of the flag, or else of the variable, with the name of that source.
    fn raw_value(&self, setting: &Setting) -> Option<(OsString, &'static str)> {
        let flag = setting
            .flag
            .and_then(|name| Some((self.values.get(name)?.clone(), name)));
        flag.or_else(|| setting.variable.and_then(|name| Some((variable(name)?, name))))
    }

    /// Returns the value of the flag, or else of the variable. Adds an error for a value that is not UTF-8.
    pub(crate) fn value(&self, setting: &Setting, findings: &mut Findings) -> Option<Sourced> {
        let (value, name) = self.raw_value(setting)?;
        let place = Place::Setting(name);
        if let Ok(text) = value.into_string() {
            return Some(Sourced::trimmed(&text, place));
        }
        findings.push(
            Finding::new(Code::BadSetting, place)
                .message("the value is not UTF-8")
                .help("set it to UTF-8 text"),
        );
        None
    }
}

impl Options {
    /// Returns the directory.
    pub(crate) fn dir(&self) -> PathBuf {
        self.path(&setting::DIR)
            .unwrap_or_else(|| setting::DIR.default.text().into())
    }

    /// Returns whether the flag or the variable names the directory, so that it is not merely the default.
    pub(crate) fn has_explicit_dir(&self) -> bool {
        self.path(&setting::DIR).is_some()
    }

    /// Returns the path that the flag or the variable names.
    pub(super) fn path(&self, setting: &Setting) -> Option<PathBuf> {
        self.raw_value(setting).map(|(path, _)| path.into())
    }
}

impl ServiceOptions {
    /// Creates the options of a client of the admin listener from its flag.
    pub(crate) fn from_admin_flag(flag: Option<String>) -> Self {
        let values = setting::ADMIN.flag.zip(flag.map(OsString::from));
        Self {
            values: values.into_iter().collect(),
        }
    }
}

/// Returns the value of a variable, if it is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.as_bytes().trim_ascii().is_empty())
}

/// Warns of unknown variables, because a misspelt one would otherwise be silently ignored. It is not an error:
/// Kubernetes sets `POSTMAPD_PORT`, `POSTMAPD_SERVICE_HOST` and others where a Service is named postmapd.
pub(super) fn warn_unknown_variables(findings: &mut Findings) {
    let set = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in set.filter(|name| !setting::variables().any(|known| known == name)) {
        let Some(word) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let known = setting::variables().filter_map(|known| known.strip_prefix(PREFIX));
        let help = match nearest(word, known) {
            Some(near) => format!("did you mean {PREFIX}{near}?"),
            None => "postmapd serve --help lists the variables".to_owned(),
        };
        findings.push(
            Finding::new(Code::UnknownVariable, Place::Setting("environment"))
                .message(format!("{name} is not a variable of postmapd and has no effect"))
                .help(help),
        );
    }
}
