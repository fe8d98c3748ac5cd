//! A live Postfix, read through its own `postconf`.
//!
//! Nothing here parses main.cf or master.cf: includes, continuation lines, `$name` and the defaults of that very version
//! are what postconf(1) says they are ([`super::program`] runs it).
//! Only flags that every Postfix since 3.5 has are used.
//!
//! Limits: of a value for one service, `$name` is expanded with what main.cf says about that name, unless the value is
//! nothing but `$name`; then what the service itself says about it counts, as it does in Postfix.
//!
//! What postconf prints may hold credentials (`static:user:password`), so none of it is repeated in an error.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use thiserror::Error;

use super::command::{Commands, ServiceName};
use super::program::{self, Limits, RunError};
use crate::os::printable::of_path;

/// What one run of postconf may take. It reads two files in a hundredth of a second, but waits until main.cf has been
/// as it is for a whole one; 8 MiB are a hundred times what the largest configuration needs.
const LIMITS: Limits = Limits {
    silence: Duration::from_secs(10),
    total: Duration::from_secs(10),
    output: 8 << 20,
};

/// How deep `$name` may stand for `$name`.
const MAX_REFERENCES: usize = 8;

/// Why a Postfix cannot be read.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// There is no postconf, or it may not be run.
    #[error("postconf cannot be run: {0}; is Postfix installed here, and its folder of programs in PATH?")]
    NotRun(#[source] io::Error),
    /// It ended with an error.
    #[error("{command} fails{why}")]
    Failed {
        /// What was run.
        command: String,
        /// What it says, where that cannot hold a credential.
        why: String,
        /// Whether there is no main.cf.
        is_absent: bool,
    },
    /// It does not end, or prints too much.
    #[error("{command}: {why}")]
    Stopped {
        /// What was run.
        command: String,
        /// Which limit it exceeds.
        #[source]
        why: RunError,
    },
}

impl Unreadable {
    /// Whether there is no Postfix, or one without a main.cf.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::NotRun(error) => error.kind() == io::ErrorKind::NotFound,
            Self::Failed { is_absent, .. } => *is_absent,
            Self::Stopped { .. } => false,
        }
    }
}

/// A service of master.cf.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Its name and type.
    pub id: ServiceName,
    /// Whether it sees nothing but the queue directory.
    pub chrooted: bool,
    /// The program that it runs, without folder and arguments.
    pub program: String,
    /// The program with its arguments, as master.cf has it.
    pub command: String,
}

/// What postconf says about one Postfix.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// How to change it.
    pub commands: Commands,
    /// Every service.
    pub services: Vec<Service>,
    /// The types of tables that it knows.
    pub table_types: BTreeSet<String>,
    /// The SASL implementations with which its client can log in.
    pub sasl_types: BTreeSet<String>,
    /// Names in main.cf that nothing reads.
    pub unused: Vec<String>,
    /// The parameters that Postfix itself knows.
    known: BTreeSet<String>,
    /// The parameters that main.cf sets.
    set: BTreeSet<String>,
    main: Values,
    overrides: BTreeMap<ServiceName, Values>,
}

/// Parameters as they are written, and with each `$name` expanded.
#[derive(Debug, Default)]
struct Values {
    written: BTreeMap<String, String>,
    expanded: BTreeMap<String, String>,
}

/// What main.cf, or the default, of the Postfix says that these commands are for: one parameter, for those who need no
/// more.
pub(crate) fn parameter(commands: &Commands, name: &str) -> Result<String, Unreadable> {
    let said = run(commands, &["-x", "-h", name])?;
    Ok(said.output.trim_end().to_owned())
}

impl Live {
    /// Reads the Postfix that these commands are for.
    pub(crate) fn read(commands: Commands) -> Result<Self, Unreadable> {
        let text = |arguments: &[&str]| run(&commands, arguments).map(|said| said.output);
        let written = run(&commands, &[])?;
        let main = Values {
            written: assignments(&written.output).collect(),
            expanded: assignments(&text(&["-x"])?).collect(),
        };
        let mut overrides: BTreeMap<ServiceName, Values> = BTreeMap::new();
        for (service, name, value) in of_services(&text(&["-P"])?) {
            overrides.entry(service).or_default().written.insert(name, value);
        }
        for (service, name, value) in of_services(&text(&["-P", "-x"])?) {
            overrides.entry(service).or_default().expanded.insert(name, value);
        }
        let words = |text: String| text.split_whitespace().map(ToOwned::to_owned).collect();
        Ok(Self {
            known: assignments(&text(&["-d"])?).map(|(name, _)| name).collect(),
            set: assignments(&text(&["-n"])?).map(|(name, _)| name).collect(),
            services: services(&text(&["-F"])?, chroots_by_default(&main)),
            table_types: words(text(&["-m"])?),
            sasl_types: words(text(&["-A"])?),
            unused: unused(&written.errors),
            main,
            overrides,
            commands,
        })
    }

    /// What main.cf, or the default, says.
    pub(crate) fn main(&self, parameter: &str) -> &str {
        self.main.expanded.get(parameter).map_or("", String::as_str)
    }

    /// What stands in main.cf, with `$name` as it is written; nothing where the default counts.
    pub(crate) fn written(&self, parameter: &str) -> Option<&str> {
        let is_set = self.set.contains(parameter);
        let written = self.main.written.get(parameter).filter(|_| is_set);
        written.map(String::as_str)
    }

    /// Whether main.cf sets it to something else than a mere reference to another parameter.
    pub(crate) fn is_explicit_in_main(&self, parameter: &str) -> bool {
        let written = self.written(parameter);
        written.is_some_and(|written| reference(written).is_none())
    }

    /// Whether the value that counts for that service was written for this very parameter: it is neither a default nor
    /// a mere reference to another parameter.
    pub(crate) fn is_explicit(&self, service: &ServiceName, parameter: &str) -> bool {
        let own = self.overrides.get(service);
        let own = own.and_then(|values| values.written.get(parameter));
        own.map_or_else(
            || self.is_explicit_in_main(parameter),
            |written| reference(written).is_none(),
        )
    }

    /// Whether this Postfix has such a parameter.
    pub(crate) fn knows(&self, parameter: &str) -> bool {
        self.known.contains(parameter)
    }

    /// Whether master.cf says something of its own for that service.
    pub(crate) fn is_overridden(&self, service: &ServiceName, parameter: &str) -> bool {
        let values = self.overrides.get(service);
        values.is_some_and(|values| values.written.contains_key(parameter))
    }

    /// What counts for that service.
    pub(crate) fn value(&self, service: &ServiceName, parameter: &str) -> &str {
        let own = self.overrides.get(service);
        let mut name = parameter;
        for _ in 0..MAX_REFERENCES {
            let own = own.filter(|values| values.written.contains_key(name));
            let values = own.unwrap_or(&self.main);
            let written = values.written.get(name).map_or("", String::as_str);
            match reference(written) {
                Some(other) if other != name => name = other,
                _ => return values.expanded.get(name).map_or("", String::as_str),
            }
        }
        self.main(name)
    }

    /// Every value that stands in main.cf, in master.cf, or is a default: the service, the parameter, the value.
    pub(crate) fn everything(&self) -> impl Iterator<Item = (Option<&ServiceName>, &str, &str)> {
        let main = self.main.expanded.iter();
        let main = main.map(|(name, value)| (None, name.as_str(), value.as_str()));
        let overrides = self.overrides.iter().flat_map(|(service, values)| {
            let values = values.expanded.iter();
            values.map(move |(name, value)| (Some(service), name.as_str(), value.as_str()))
        });
        main.chain(overrides)
    }
}

/// The name of which a value is a mere reference: `$name`, `${name}`, `$(name)`.
fn reference(value: &str) -> Option<&str> {
    let rest = value.strip_prefix('$')?;
    let braced = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let parenthesised = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let name = braced.or(parenthesised).unwrap_or(rest);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

/// What `-` in the chroot column means: `y` before compatibility_level 1.
fn chroots_by_default(main: &Values) -> bool {
    let level = main
        .expanded
        .get("compatibility_level")
        .map_or("0", String::as_str);
    let major = level.split('.').next().unwrap_or_default();
    major.parse::<u32>().unwrap_or(0) < 1
}

/// `name = value` lines.
fn assignments(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(" =")?;
        Some((name.to_owned(), value.trim().to_owned()))
    })
}

/// `service/type/name = value` lines.
fn of_services(text: &str) -> impl Iterator<Item = (ServiceName, String, String)> {
    assignments(text).filter_map(|(path, value)| {
        let mut parts = path.rsplitn(3, '/');
        let (last, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        let service = ServiceName {
            name: name.to_owned(),
            kind: kind.to_owned(),
        };
        Some((service, last.to_owned(), value))
    })
}

fn services(text: &str, chrooted_by_default: bool) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for (id, column, value) in of_services(text) {
        if services.last().is_none_or(|service| service.id != id) {
            services.push(Service {
                id,
                chrooted: chrooted_by_default,
                program: String::new(),
                command: String::new(),
            });
        }
        let Some(service) = services.last_mut() else {
            continue;
        };
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

/// The names that postconf complains about; what follows a name may be a credential.
fn unused(errors: &str) -> Vec<String> {
    let named = errors.lines().filter_map(|line| {
        let (_, rest) = line.split_once(": unused parameter: ")?;
        Some(rest.split_once('=')?.0.to_owned())
    });
    named.collect()
}

struct Said {
    output: String,
    errors: String,
}

fn run(commands: &Commands, arguments: &[&str]) -> Result<Said, Unreadable> {
    let name = || {
        let directory = commands.directory.as_ref();
        let directory = directory.map(|path| format!(" -c {}", of_path(path)));
        format!(
            "`postconf{} {}`",
            directory.unwrap_or_default(),
            arguments.join(" ")
        )
        .replace(" `", "`")
    };
    let finished = program::run("postconf", commands.directory.as_deref(), arguments, LIMITS);
    let finished = finished.map_err(|error| match error {
        RunError::NotRun(source) => Unreadable::NotRun(source),
        RunError::TooSlow(_) | RunError::TooMuch(_) => Unreadable::Stopped {
            command: name(),
            why: error,
        },
    })?;
    let errors = finished.errors;
    if finished.status.success() {
        return Ok(Said {
            output: String::from_utf8_lossy(finished.output.expose()).into_owned(),
            errors,
        });
    }
    let opening = errors.lines().find_map(|line| line.split_once("fatal: open "));
    Err(Unreadable::Failed {
        command: name(),
        is_absent: opening.is_some_and(|(_, what)| what.ends_with("No such file or directory")),
        why: opening.map_or_else(
            || "; run it to see why".to_owned(),
            |(_, what)| format!(": it cannot open {what}"),
        ),
    })
}
