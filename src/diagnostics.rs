//! A finding about a file or a setting: how bad, where, what is wrong, what to do.
//!
//! Start, reload, `query` and `check` all speak through [`Finding`]. A finding never quotes the text that it is
//! about: in a credentials file a password may stand anywhere, in the place of a key too, and a credentials line
//! may have been pasted into the relay map. The place (file:line:column) leads the reader to the text instead.

mod code;
pub(crate) mod machine;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::os::printable::{of_path, of_text, printable};
pub use code::{Code, Leak};

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; everything is usable.
    Warning,
    /// Something cannot be answered until it is fixed.
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

/// A line and a column of a file, both counted from 1, the column in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The byte within the line, from 1.
    pub column: u32,
}

/// Where a finding points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A position in a file, or the file as a whole.
    File(PathBuf, Option<Position>),
    /// A flag or an environment variable, by its name.
    Setting(&'static str),
    /// A parameter of Postfix.
    Parameter {
        /// The service for which master.cf has it (`smtp/unix`), or `None` for main.cf.
        service: Option<String>,
        /// The parameter, or the column of master.cf.
        name: String,
    },
}

impl Place {
    /// A parameter of Postfix: of that service in master.cf, or in main.cf.
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
            Self::File(path, Some(at)) => write!(f, "{}:{}:{}", of_path(path), at.line, at.column),
            Self::File(path, None) => write!(f, "{}", of_path(path)),
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

/// One thing that is wrong, or that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is: as findings of its kind are ([`Code::severity`]), unless its place makes it less bad.
    pub severity: Severity,
    /// Its kind.
    pub code: Code,
    /// Where it is.
    pub place: Place,
    /// What is wrong, without a quotation.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Finding {
    /// A finding of this kind at `position` of the file `path`, or about the file as a whole.
    pub fn in_file(code: Code, path: &Path, position: impl Into<Option<Position>>) -> Self {
        Self::new(code, Place::File(path.into(), position.into()))
    }

    /// A finding of this kind without words yet; see [`Finding::says`] and [`Finding::help`].
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

    /// The same finding, at `place`.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// The same finding, saying `message`, [`printable`].
    #[must_use]
    pub fn says(mut self, message: impl Into<String>) -> Self {
        self.message = of_text(message.into());
        self
    }

    /// The same finding, with what to do, [`printable`].
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = of_text(help.into());
        self
    }
}

/// One line: `FILE:LINE:COLUMN: error: what is wrong; what to do`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.severity, self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

/// The findings of one reading. All are counted, the first [`Findings::KEPT`] errors and as many warnings are kept: a
/// file with a million bad lines must not become a million lines of log, and warnings must not hide an error.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    errors: usize,
    warnings: usize,
    /// How many of those that are kept are errors.
    errors_kept: usize,
}

/// Its errors, a line each.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors: Vec<String> = self.of(Severity::Error).map(ToString::to_string).collect();
        f.write_str(&errors.join("\n"))
    }
}

impl Findings {
    /// How many errors, and how many warnings, are kept for the reader.
    pub const KEPT: usize = 200;

    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        self.keep(finding);
    }

    /// Keeps one that is counted already, if there is room.
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
        kept < Self::KEPT
    }

    /// Adds one whose message takes time to make, and makes it only if it is kept.
    pub fn push_with(&mut self, finding: Finding, message: impl FnOnce() -> String) {
        if self.has_room_for(finding.severity) {
            self.push(finding.says(message()));
        } else {
            self.push(finding);
        }
    }

    /// Adds those of another reading.
    pub fn append(&mut self, other: &Self) {
        self.errors += other.errors;
        self.warnings += other.warnings;
        for finding in &other.kept {
            self.keep(finding.clone());
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors + self.warnings == 0
    }

    /// How many errors there were.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many warnings there were.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// How many findings are counted but not kept.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.errors + self.warnings - self.kept.len()
    }

    /// The kept findings that are as bad as this, in the order in which they were made.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.iter().filter(move |finding| finding.severity == severity)
    }

    /// The kept findings, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.kept.iter()
    }
}
