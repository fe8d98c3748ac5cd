//! Findings for machines. Names and meaning are an interface (contract: `check --format json`).

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Finding, Findings, Place};
use crate::printable::json;

/// A finding, as JSON has it.
#[derive(Default, Deserialize, Serialize)]
pub struct FindingObject {
    /// `error` or `warning`.
    pub severity: String,
    /// The kind of finding.
    pub code: String,
    /// `null` where the finding is about a flag or a variable.
    pub file: Option<String>,
    /// The flag or the variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// Of master.cf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of main.cf or master.cf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// In bytes, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl FindingObject {
    /// This finding.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        let object = Self {
            severity: finding.severity.to_string(),
            code: finding.code.to_owned(),
            message: finding.message.clone(),
            help: finding.help.clone(),
            ..Self::default()
        };
        match &finding.place {
            Place::File(path, position) => Self {
                file: Some(path.to_string_lossy().into_owned()),
                line: position.map(|at| at.line),
                column: position.map(|at| at.column),
                ..object
            },
            Place::Setting(name) => Self {
                setting: Some((*name).to_owned()),
                ..object
            },
            Place::Parameter { service, name } => {
                let file = if service.is_some() { "master.cf" } else { "main.cf" };
                Self {
                    file: Some(file.to_owned()),
                    service: service.clone(),
                    parameter: Some(name.clone()),
                    ..object
                }
            }
        }
    }
}

/// Prints findings, in the order of `findings`, of which `all` has the numbers.
pub fn print<'a>(
    findings: impl IntoIterator<Item = &'a Finding>,
    all: &Findings,
    out: &mut impl Write,
) -> io::Result<()> {
    let object = Object {
        findings: findings.into_iter().map(FindingObject::of).collect(),
        errors: all.errors(),
        warnings: all.warnings(),
    };
    json::write(&object, &mut *out)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Object {
    findings: Vec<FindingObject>,
    errors: usize,
    warnings: usize,
}
