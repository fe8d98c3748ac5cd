//! `/readyz`: whether every map has a valid snapshot of the present files, and if not, why and since when.

use humantime::format_rfc3339_seconds;

use crate::diagnostic::{Place, Severity};
use crate::printable::of_path;
use crate::reload::ledger::{Account, File, Invalid};

/// One line for each file that is not valid, and for each error that is about no file; nothing where all is well.
#[must_use]
pub fn obstacles(account: &Account) -> Vec<String> {
    let files = account.files.iter().filter_map(obstacle);
    let errors = account
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error && !matches!(finding.place, Place::File(..)));
    files.chain(errors.map(ToString::to_string)).collect()
}

fn obstacle(file: &File) -> Option<String> {
    let invalid = file.invalid.as_ref()?;
    let path = of_path(&file.in_force.path);
    let since = format_rfc3339_seconds(invalid.since);
    Some(format!("{path}: not valid since {since}: {}", problem(invalid)))
}

/// Why a file is not valid, in words.
#[must_use]
pub fn problem(invalid: &Invalid) -> String {
    match (invalid.errors, &invalid.first) {
        (0, _) => "it is not used until the other files are right".to_owned(),
        (1, Some(first)) => first.to_string(),
        (errors, Some(first)) => format!("{errors} errors, of which the first is: {first}"),
        (errors, None) => format!("errors: {errors}"),
    }
}
