//! Findings for machines. Names and meaning are an interface (contract: `check --format json`).

use std::io::{self, Write};

use serde::Serialize;

use crate::diagnostic::machine::FindingObject;
use crate::diagnostic::{Finding, Findings};
use crate::printable::json;

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
    json::write(&object, &mut *out)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Object {
    findings: Vec<FindingObject>,
    errors: usize,
    warnings: usize,
}
