//! The configuration of an installed Postfix, read through its own `postconf`.
//!
//! Nothing here parses main.cf or master.cf: postconf(1) resolves includes, continuation lines, `$name` and the
//! defaults of its own version ([`super::program`] runs it). Only flags that every Postfix since 3.5 supports are used.
//!
//! Limits: postconf expands `$name` in a service's value with the value of main.cf. Only a value that is nothing but
//! `$name` is resolved with the service's own value, as Postfix does.
//!
//! The output of postconf may contain credentials (`static:user:password`), so errors do not repeat it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use thiserror::Error;

use super::command::{Commands, ServiceName};
use super::program::{self, Limits, RunError};
use super::sasl_plugins;
use crate::os::printable::printable_path;

/// The limits of one run of postconf. It reads two files in 10 ms, but waits until main.cf has not changed for a whole
/// second; 8 MiB are a hundred times what the largest configuration needs.
const LIMITS: Limits = Limits {
    idle_timeout: Duration::from_secs(10),
    total_timeout: Duration::from_secs(10),
    max_output: 8 << 20,
};

/// The maximum number of `$name` references that are followed from one parameter.
const MAX_REFERENCES: usize = 8;

/// Why the configuration cannot be read.
#[derive(Debug, Error)]
pub enum ReadConfigError {
    /// postconf does not exist, or cannot be executed.
    #[error("cannot run postconf: {0}; is Postfix installed, and the directory of its programs in PATH?")]
    NotStarted(#[source] io::Error),
    /// postconf exited with an error.
    #[error("{command} failed{detail}")]
    Failed {
        /// The command line.
        command: String,
        /// The error message, if it cannot contain a credential.
        detail: String,
        /// Whether main.cf does not exist.
        is_absent: bool,
    },
    /// postconf ran too long, or printed too much.
    #[error("{command} {reason}")]
    LimitExceeded {
        /// The command line.
        command: String,
        /// The exceeded limit.
        #[source]
        reason: RunError,
    },
}

impl ReadConfigError {
    /// Whether Postfix or its main.cf does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::NotStarted(error) => error.kind() == io::ErrorKind::NotFound,
            Self::Failed { is_absent, .. } => *is_absent,
            Self::LimitExceeded { .. } => false,
        }
    }
}

/// A service of master.cf.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// The service name and type.
    pub id: ServiceName,
    /// Whether the service is chrooted to the queue directory.
    pub chrooted: bool,
    /// The file name of its program, without directory and arguments.
    pub program: String,
    /// The columns of master.cf between the service type and the command.
    pub columns: Vec<String>,
    /// The program with its arguments, as in master.cf.
    pub command: String,
}

/// The configuration of one Postfix, as postconf prints it.
#[derive(Debug, Default)]
pub(crate) struct PostfixConfig {
    /// Creates commands that change this Postfix.
    pub commands: Commands,
    /// All services of master.cf.
    pub services: Vec<Service>,
    /// The supported table types (`postconf -m`).
    pub table_types: BTreeSet<String>,
    /// The SASL implementations that its SMTP client supports (`postconf -A`).
    pub sasl_types: BTreeSet<String>,
    /// Whether its SMTP client finds a SASL plug-in for XOAUTH2.
    pub has_xoauth2: bool,
    /// Names in main.cf that no program reads.
    pub unused: Vec<String>,
    /// The parameters that have a built-in default.
    built_in: BTreeSet<String>,
    /// The parameters that main.cf sets.
    set_in_main_cf: BTreeSet<String>,
    main: Values,
    overrides: BTreeMap<ServiceName, Values>,
}

/// Values by parameter, as written and with each `$name` expanded.
#[derive(Debug, Default)]
struct Values {
    written: BTreeMap<String, String>,
    expanded: BTreeMap<String, String>,
}

/// Returns the value of one parameter in main.cf, or its default, without reading the rest of the configuration.
pub(crate) fn parameter(commands: &Commands, name: &str) -> Result<String, ReadConfigError> {
    let printed = run(commands, &["-x", "-h", name])?;
    Ok(printed.stdout.trim_end().to_owned())
}

impl PostfixConfig {
    /// Reads the configuration of the Postfix that these commands are for.
    pub(crate) fn read(commands: Commands) -> Result<Self, ReadConfigError> {
        let text = |arguments: &[&str]| run(&commands, arguments).map(|printed| printed.stdout);
        let written = run(&commands, &[])?;
        let main = Values {
            written: parse_assignments(&written.stdout).collect(),
            expanded: parse_assignments(&text(&["-x"])?).collect(),
        };
        let mut overrides: BTreeMap<ServiceName, Values> = BTreeMap::new();
        for (service, name, value) in parse_service_assignments(&text(&["-P"])?) {
            overrides.entry(service).or_default().written.insert(name, value);
        }
        for (service, name, value) in parse_service_assignments(&text(&["-P", "-x"])?) {
            overrides.entry(service).or_default().expanded.insert(name, value);
        }
        let words = |text: String| text.split_whitespace().map(ToOwned::to_owned).collect();
        Ok(Self {
            built_in: parse_assignments(&text(&["-d"])?).map(|(name, _)| name).collect(),
            set_in_main_cf: parse_assignments(&text(&["-n"])?).map(|(name, _)| name).collect(),
            services: parse_services(&text(&["-F"])?, chroots_by_default(&main)),
            table_types: words(text(&["-m"])?),
            sasl_types: words(text(&["-A"])?),
            has_xoauth2: sasl_plugins::has_xoauth2(),
            unused: parse_unused(&written.stderr),
            main,
            overrides,
            commands,
        })
    }

    /// Returns the value of a parameter in main.cf, or its default, expanded.
    pub(crate) fn main_cf(&self, parameter: &str) -> &str {
        self.main.expanded.get(parameter).map_or("", String::as_str)
    }

    /// Returns the value in main.cf with `$name` as written. `None` where the default applies.
    pub(crate) fn written_in_main_cf(&self, parameter: &str) -> Option<&str> {
        let is_set = self.set_in_main_cf.contains(parameter);
        let written = self.main.written.get(parameter).filter(|_| is_set);
        written.map(String::as_str)
    }

    /// Whether main.cf sets the parameter to more than a reference to another parameter.
    pub(crate) fn is_explicit_in_main_cf(&self, parameter: &str) -> bool {
        let written = self.written_in_main_cf(parameter);
        written.is_some_and(|written| referenced_parameter(written).is_none())
    }

    /// Whether the value that takes effect for this service was written for this parameter: it is neither a default nor
    /// only a reference to another parameter.
    pub(crate) fn is_explicit(&self, service: &ServiceName, parameter: &str) -> bool {
        let own = self.overrides.get(service);
        let own = own.and_then(|values| values.written.get(parameter));
        own.map_or_else(
            || self.is_explicit_in_main_cf(parameter),
            |written| referenced_parameter(written).is_none(),
        )
    }

    /// Whether this Postfix has the parameter.
    pub(crate) fn has_parameter(&self, parameter: &str) -> bool {
        self.built_in.contains(parameter)
    }

    /// Returns the parameters that master.cf overrides for this service, and their values as written.
    pub(crate) fn options(&self, service: &ServiceName) -> impl Iterator<Item = (&str, &str)> {
        let values = self.overrides.get(service).into_iter();
        let options = values.flat_map(|values| &values.written);
        options.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether master.cf overrides the parameter for this service.
    pub(crate) fn is_overridden(&self, service: &ServiceName, parameter: &str) -> bool {
        let values = self.overrides.get(service);
        values.is_some_and(|values| values.written.contains_key(parameter))
    }

    /// Returns the value that takes effect for this service.
    pub(crate) fn value(&self, service: &ServiceName, parameter: &str) -> &str {
        let own = self.overrides.get(service);
        let mut name = parameter;
        for _ in 0..MAX_REFERENCES {
            let own = own.filter(|values| values.written.contains_key(name));
            let values = own.unwrap_or(&self.main);
            let written = values.written.get(name).map_or("", String::as_str);
            match referenced_parameter(written) {
                Some(other) if other != name => name = other,
                _ => return values.expanded.get(name).map_or("", String::as_str),
            }
        }
        self.main_cf(name)
    }

    /// Returns all values of main.cf, master.cf and the defaults, each with its service (`None` for main.cf) and
    /// parameter.
    pub(crate) fn all_values(&self) -> impl Iterator<Item = (Option<&ServiceName>, &str, &str)> {
        let main = self.main.expanded.iter();
        let main = main.map(|(name, value)| (None, name.as_str(), value.as_str()));
        let overrides = self.overrides.iter().flat_map(|(service, values)| {
            let values = values.expanded.iter();
            values.map(move |(name, value)| (Some(service), name.as_str(), value.as_str()))
        });
        main.chain(overrides)
    }
}

/// Returns the parameter that a value refers to, if it is nothing but `$name`, `${name}` or `$(name)`.
fn referenced_parameter(value: &str) -> Option<&str> {
    let rest = value.strip_prefix('$')?;
    let braced = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let parenthesised = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let name = braced.or(parenthesised).unwrap_or(rest);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

/// Whether `-` in the chroot column means `y`, as below compatibility_level 1.
fn chroots_by_default(main: &Values) -> bool {
    let level = main
        .expanded
        .get("compatibility_level")
        .map_or("0", String::as_str);
    let major = level.split('.').next().unwrap_or_default();
    major.parse::<u32>().unwrap_or(0) < 1
}

/// Parses `name = value` lines.
fn parse_assignments(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(" =")?;
        Some((name.to_owned(), value.trim().to_owned()))
    })
}

/// Parses `service/type/name = value` lines.
fn parse_service_assignments(text: &str) -> impl Iterator<Item = (ServiceName, String, String)> {
    parse_assignments(text).filter_map(|(path, value)| {
        let mut parts = path.rsplitn(3, '/');
        let (last, service_type, name) = (parts.next()?, parts.next()?, parts.next()?);
        let service = ServiceName {
            name: name.to_owned(),
            service_type: service_type.to_owned(),
        };
        Some((service, last.to_owned(), value))
    })
}

fn parse_services(text: &str, chrooted_by_default: bool) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for (id, column, value) in parse_service_assignments(text) {
        if services.last().is_none_or(|service| service.id != id) {
            services.push(Service {
                id,
                chrooted: chrooted_by_default,
                program: String::new(),
                columns: Vec::new(),
                command: String::new(),
            });
        }
        let Some(service) = services.last_mut() else {
            continue;
        };
        if !["service", "type", "command"].contains(&column.as_str()) {
            service.columns.push(value.clone());
        }
        match (column.as_str(), value.as_str()) {
            ("chroot", "y") => service.chrooted = true,
            ("chroot", "n") => service.chrooted = false,
            ("command", command) => {
                command.clone_into(&mut service.command);
                let program = command.split_whitespace().next().unwrap_or_default();
                program
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut service.program);
            }
            _ => {}
        }
    }
    services
}

/// Returns the unused parameters that postconf warns about, without the rest of the line, which may be a credential.
fn parse_unused(stderr: &str) -> Vec<String> {
    let named = stderr.lines().filter_map(|line| {
        let (_, rest) = line.split_once(": unused parameter: ")?;
        Some(rest.split_once('=')?.0.to_owned())
    });
    named.collect()
}

struct PostconfOutput {
    stdout: String,
    stderr: String,
}

fn run(commands: &Commands, arguments: &[&str]) -> Result<PostconfOutput, ReadConfigError> {
    let command_line = || {
        let directory = commands.directory.as_ref();
        let directory = directory.map(|path| format!("-c {}", printable_path(path)));
        let words = ["postconf"].into_iter().chain(directory.as_deref());
        let words: Vec<&str> = words.chain(arguments.iter().copied()).collect();
        format!("`{}`", words.join(" "))
    };
    let finished = program::run("postconf", commands.directory.as_deref(), arguments, LIMITS);
    let finished = finished.map_err(|error| match error {
        RunError::NotStarted(source) => ReadConfigError::NotStarted(source),
        RunError::TimedOut(_) | RunError::TooMuchOutput(_) => ReadConfigError::LimitExceeded {
            command: command_line(),
            reason: error,
        },
    })?;
    let stderr = finished.stderr;
    if finished.status.success() {
        return Ok(PostconfOutput {
            stdout: String::from_utf8_lossy(finished.stdout.expose()).into_owned(),
            stderr,
        });
    }
    // Everything else on standard error may contain the value of a parameter.
    let open_error = stderr.lines().find_map(|line| line.split_once("fatal: open "));
    Err(ReadConfigError::Failed {
        command: command_line(),
        is_absent: open_error.is_some_and(|(_, what)| what.ends_with("No such file or directory")),
        detail: open_error.map_or_else(
            || "; run it to see the error".to_owned(),
            |(_, what)| format!(": cannot open {what}"),
        ),
    })
}
