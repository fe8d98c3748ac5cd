//! Findings for machines. Names and meaning are an interface (contract: `check --format json`).

use std::io::{self, Write};

use serde::Serialize;

use crate::diagnostic::{Finding, Findings, Place};

/// Prints findings, in the order of `findings`, of which `all` has the numbers.
pub(super) fn print_json<'a>(
    findings: impl IntoIterator<Item = &'a Finding>,
    all: &Findings,
    out: &mut impl Write,
) -> io::Result<()> {
    let object = Object {
        findings: findings.into_iter().map(FindingObject::of).collect(),
        errors: all.errors(),
        warnings: all.warnings(),
    };
    serde_json::to_writer(&mut *out, &object)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Object<'a> {
    findings: Vec<FindingObject<'a>>,
    errors: usize,
    warnings: usize,
}

#[derive(Default, Serialize)]
struct FindingObject<'a> {
    severity: String,
    code: &'a str,
    /// `null` where the finding is about a flag or a variable.
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<&'a str>,
    /// Of master.cf.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    /// Of main.cf or master.cf.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    message: &'a str,
    help: &'a str,
}

impl<'a> FindingObject<'a> {
    fn of(finding: &'a Finding) -> Self {
        let object = Self {
            severity: finding.severity.to_string(),
            code: finding.code,
            message: &finding.message,
            help: &finding.help,
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
                setting: Some(name),
                ..object
            },
            Place::Parameter { service, name } => {
                let file = if service.is_some() { "master.cf" } else { "main.cf" };
                Self {
                    file: Some(file.to_owned()),
                    service: service.as_deref(),
                    parameter: Some(name),
                    ..object
                }
            }
        }
    }
}
