//! Findings about files and settings: severity, place, what is wrong, and what to do.
//!
//! Start, reload, `query` and `check` all report [`Finding`]s. A finding never quotes the text that it is about: in a
//! credentials file, a password may be anywhere, even in the place of a key, and a credentials line may have been
//! pasted into the relay map. The place (file:line:column) leads the reader to the text instead.

mod code;
pub(crate) mod machine;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::os::printable::{printable, printable_path, printable_text};
pub use code::{Code, Leak};

/// The severity of a [`Finding`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Everything is usable.
    Warning,
    /// Some lookups cannot be answered until it is fixed.
    Error,
}

impl Severity {
    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A line and a column of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The byte within the line, from 1.
    pub column: u32,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A position in a file, or the file as a whole.
    File(PathBuf, Option<Position>),
    /// A flag or an environment variable, by its name.
    Setting(&'static str),
    /// A parameter of Postfix.
    Parameter {
        /// The service whose entry in master.cf sets it (`smtp/unix`), or `None` for main.cf.
        service: Option<String>,
        /// The parameter, or the column of master.cf.
        name: String,
    },
}

impl Place {
    /// Returns a parameter of Postfix: of that service in master.cf, or of main.cf.
    #[must_use]
    pub fn parameter(service: Option<String>, name: &str) -> Self {
        Self::Parameter {
            service,
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(at)) => write!(f, "{}:{}:{}", printable_path(path), at.line, at.column),
            Self::File(path, None) => write!(f, "{}", printable_path(path)),
            Self::Setting(name) => f.write_str(name),
            Self::Parameter { service: None, name } => write!(f, "main.cf: {}", printable(name.as_bytes())),
            Self::Parameter {
                service: Some(service),
                name,
            } => {
                let [service, name] = [service, name].map(|text| printable(text.as_bytes()));
                write!(f, "master.cf: {service}: {name}")
            }
        }
    }
}

/// An error, or a fact that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// That of its code ([`Code::severity`]), unless its place makes it less severe.
    pub severity: Severity,
    /// The kind of finding.
    pub code: Code,
    /// What it is about.
    pub place: Place,
    /// What is wrong, without quoting the text.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Finding {
    /// Creates a finding at `position` of the file `path`, or about the file as a whole.
    pub fn in_file(code: Code, path: &Path, position: impl Into<Option<Position>>) -> Self {
        Self::new(code, Place::File(path.into(), position.into()))
    }

    /// Creates a finding without text; see [`Finding::message`] and [`Finding::help`].
    #[must_use]
    pub fn new(code: Code, place: Place) -> Self {
        Self {
            severity: code.severity(),
            code,
            place,
            message: String::new(),
            help: String::new(),
        }
    }

    /// Returns the finding with another place.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Returns the finding with this message, made [`printable`].
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = printable_text(message.into());
        self
    }

    /// Returns the finding with this help, made [`printable`].
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = printable_text(help.into());
        self
    }
}

/// Formats one line: `FILE:LINE:COLUMN: error: what is wrong; what to do`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.severity, self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

/// The findings of one reading. All are counted; the first [`Findings::MAX_KEPT`] errors and as many warnings are kept:
/// a file with a million invalid lines must not become a million log lines, and warnings must not hide an error.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    errors: usize,
    warnings: usize,
    /// The number of kept errors.
    errors_kept: usize,
}

/// Formats the kept errors, one a line.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors: Vec<String> = self
            .with_severity(Severity::Error)
            .map(ToString::to_string)
            .collect();
        f.write_str(&errors.join("\n"))
    }
}

impl Findings {
    /// The maximum number of errors, and of warnings, that are kept.
    pub const MAX_KEPT: usize = 200;

    /// Adds a finding.
    pub fn push(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        self.keep(finding);
    }

    /// Keeps a finding that is already counted, if there is room.
    fn keep(&mut self, finding: Finding) {
        if self.has_room_for(finding.severity) {
            self.errors_kept += usize::from(finding.severity == Severity::Error);
            self.kept.push(finding);
        }
    }

    fn has_room_for(&self, severity: Severity) -> bool {
        let kept = match severity {
            Severity::Error => self.errors_kept,
            Severity::Warning => self.kept.len() - self.errors_kept,
        };
        kept < Self::MAX_KEPT
    }

    /// Adds a finding whose message is expensive, and creates the message only if the finding is kept.
    pub fn push_with(&mut self, finding: Finding, message: impl FnOnce() -> String) {
        if self.has_room_for(finding.severity) {
            self.push(finding.message(message()));
        } else {
            self.push(finding);
        }
    }

    /// Adds the findings of another reading.
    pub fn append(&mut self, other: &Self) {
        self.errors += other.errors;
        self.warnings += other.warnings;
        for finding in &other.kept {
            self.keep(finding.clone());
        }
    }

    /// Returns whether there are no findings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors + self.warnings == 0
    }

    /// Returns the number of errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Returns the number of warnings.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// Returns the number of findings that are counted but not kept.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.errors + self.warnings - self.kept.len()
    }

    /// Returns the kept findings of this severity, in the order in which they were added.
    pub fn with_severity(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.iter().filter(move |finding| finding.severity == severity)
    }

    /// Returns the kept findings, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.kept.iter()
    }
}
