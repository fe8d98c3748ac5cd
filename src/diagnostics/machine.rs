//! Findings as JSON. Names and meaning are an interface (contract: `check --format json`).

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Finding, Findings, Place, Severity};
use crate::os::printable::json;

/// A finding, as JSON.
#[derive(Deserialize, Serialize)]
pub(crate) struct FindingObject {
    /// The severity.
    pub severity: Severity,
    /// The name of its kind ([`Code::as_str`](super::Code::as_str)); other versions may have others.
    pub code: String,
    /// The file; `null` where the finding is about a flag or a variable.
    pub file: Option<String>,
    /// The flag or the variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// The service in master.cf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The parameter of main.cf or master.cf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column in bytes, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl FindingObject {
    /// Creates the object of a finding.
    pub(crate) fn new(finding: &Finding) -> Self {
        let mut object = Self {
            severity: finding.severity,
            code: finding.code.to_string(),
            file: None,
            setting: None,
            service: None,
            parameter: None,
            line: None,
            column: None,
            message: finding.message.clone(),
            help: finding.help.clone(),
        };
        match &finding.place {
            Place::File(path, position) => {
                object.file = Some(path.to_string_lossy().into_owned());
                object.line = position.map(|at| at.line);
                object.column = position.map(|at| at.column);
            }
            Place::Setting(name) => object.setting = Some((*name).to_owned()),
            Place::Parameter { service, name } => {
                let file = if service.is_some() { "master.cf" } else { "main.cf" };
                object.file = Some(file.to_owned());
                object.service.clone_from(service);
                object.parameter = Some(name.clone());
            }
        }
        object
    }

    /// Returns the finding as one line, as in the log. An object of another program may contain control characters.
    pub(crate) fn to_line(&self) -> String {
        let mut line = self
            .file
            .clone()
            .or_else(|| self.setting.clone())
            .unwrap_or_default();
        for number in [self.line, self.column].into_iter().flatten() {
            line.extend([":", &number.to_string()]);
        }
        line.extend([": ", self.severity.as_str(), ": ", &self.message]);
        if !self.help.is_empty() {
            line.extend(["; ", &self.help]);
        }
        line
    }
}

/// Prints findings in the given order. `all` has their numbers.
pub(crate) fn print<'a>(
    findings: impl IntoIterator<Item = &'a Finding>,
    all: &Findings,
    out: &mut impl Write,
) -> io::Result<()> {
    json::write(&Report::new(findings, all), &mut *out)?;
    writeln!(out)
}

/// Prints findings, and `changes` as the field of that name.
pub(crate) fn print_with_changes<'a>(
    findings: impl IntoIterator<Item = &'a Finding>,
    all: &Findings,
    changes: impl Serialize,
    out: &mut impl Write,
) -> io::Result<()> {
    let report = Report::new(findings, all);
    json::write(&WithChanges { report, changes }, &mut *out)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Report {
    findings: Vec<FindingObject>,
    errors: usize,
    warnings: usize,
}

impl Report {
    fn new<'a>(findings: impl IntoIterator<Item = &'a Finding>, all: &Findings) -> Self {
        Self {
            findings: findings.into_iter().map(FindingObject::new).collect(),
            errors: all.errors(),
            warnings: all.warnings(),
        }
    }
}

#[derive(Serialize)]
struct WithChanges<C> {
    #[serde(flatten)]
    report: Report,
    changes: C,
}
