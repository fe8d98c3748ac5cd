//! The files that an import comes to: made, shown as a difference, or put in place.
//!
//! What stands in the settings file and in the file of variables besides stays. A password is never shown.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::super::{Error, counted, print};
use crate::check::excerpt;
use crate::lookup::table::spec::TableSpec;
use crate::os::printable::{printable, printable_path};
use crate::os::replace_file;
use crate::os::secret::Secret;
use crate::os::whole_file;

/// A file to be written.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: Secret,
    pub(super) mode: u32,
    /// What may be shown of a line.
    pub(super) holds: Holds,
}

impl File {
    pub(super) fn new(path: PathBuf, text: Secret, holds: Holds) -> Self {
        let is_secret = matches!(holds, Holds::Table(table) if table.is_secret());
        Self {
            path,
            text,
            mode: if is_secret { 0o600 } else { 0o644 },
            holds,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Holds {
    Table(&'static TableSpec),
    Settings,
    /// Variables, which may hold a password.
    Environment,
}

/// The text of a file, or none where it is not there.
fn text_of(path: &Path) -> Result<Secret, String> {
    match whole_file::read(path) {
        Ok(file) => Ok(file.text),
        Err(error) if error.is_not_found() => Ok(Secret::default()),
        Err(error) => Err(format!("{} cannot be read: {error}", printable_path(path))),
    }
}

/// The entries under the comments and blank lines that the file has. One that cannot be read has none.
pub(super) fn with_comments(path: &Path, entries: &Secret) -> Secret {
    let there = text_of(path).unwrap_or_default();
    let there = there.expose();
    let there = there.strip_prefix(BYTE_ORDER_MARK).unwrap_or(there);
    let lines = there.split_inclusive(|c| *c == b'\n');
    let mut text = Secret::with_capacity(there.len() + entries.len() + 1);
    for line in lines.filter(|line| is_comment(line)) {
        text.append(line);
        if !line.ends_with(b"\n") {
            text.append(b"\n");
        }
    }
    text.append(entries.expose());
    text
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether a line of a table is a comment or blank.
fn is_comment(line: &[u8]) -> bool {
    line.trim_ascii_start().first().is_none_or(|c| *c == b'#')
}

/// The file of variables with this default relay. What else stands there stays.
pub(super) fn with_default_relay(path: &Path, relayhost: &[u8], may_replace: bool) -> Result<Secret, String> {
    let there = text_of(path)?;
    let assignment = [DEFAULT_RELAY, relayhost].concat();
    let mut text = Secret::with_capacity(there.len() + assignment.len() + 2);
    let mut is_there = false;
    let lines = there.expose().strip_suffix(b"\n").unwrap_or(there.expose());
    for line in lines.split(|c| *c == b'\n').filter(|_| !lines.is_empty()) {
        let is_it = line.starts_with(DEFAULT_RELAY);
        if is_it && line != assignment && !may_replace {
            return Err(format!(
                "{}: there is another DEFAULT_RELAY_HOST already; --dry-run shows what would change, --force replaces it",
                printable_path(path)
            ));
        }
        is_there |= is_it;
        text.append(if is_it { &assignment } else { line });
        text.append(b"\n");
    }
    if !is_there {
        text.append(&assignment);
        text.append(b"\n");
    }
    Ok(text)
}

const DEFAULT_RELAY: &[u8] = b"DEFAULT_RELAY_HOST=";

/// The settings file with these settings, given by name and value, none of which has this value yet.
pub(super) fn with_settings(path: &Path, settings: &[(&str, String)]) -> Result<Secret, String> {
    let there = text_of(path)?;
    // At the beginning: at the end they would belong to the last table.
    let mut text = Secret::default();
    for (name, value) in settings {
        // A name may stand in quotes, too.
        let has_one = String::from_utf8_lossy(there.expose()).lines().any(|line| {
            let there = line.split('=').next().unwrap_or_default().trim();
            there.trim_matches(['"', '\'']) == *name
        });
        let line = format!("{name} = \"{}\"", value.replace('\\', "\\\\"));
        if has_one {
            return Err(format!(
                "{}: set {line} there; it is another value now, which is not replaced",
                printable_path(path)
            ));
        }
        text.append(line.as_bytes());
        text.append(b"\n");
    }
    text.append(there.expose());
    Ok(text)
}

/// Shows what would change, line by line.
pub(super) fn show(files: &[File]) -> Result<(), Error> {
    let mut out = String::new();
    for file in files {
        let there = whole_file::read(&file.path)
            .map(|file| file.text)
            .unwrap_or_default();
        let (old, new) = (there.expose(), file.text.expose());
        let (in_old, in_new): (HashSet<_>, HashSet<_>) = (lines(old).collect(), lines(new).collect());
        let gone = lines(old).filter(|line| !in_new.contains(line));
        let added = lines(new).filter(|line| !in_old.contains(line));
        let mut changes = String::new();
        for (sign, line) in gone.map(|line| ('-', line)).chain(added.map(|line| ('+', line))) {
            let _ = writeln!(changes, "{sign}{}", shown(file.holds, line));
        }
        if changes.is_empty() {
            let _ = writeln!(out, "{}: nothing changes", printable_path(&file.path));
        } else {
            let _ = write!(out, "{}:\n{changes}", printable_path(&file.path));
        }
    }
    print(&out)
}

/// The lines that are not empty.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|c| *c == b'\n').filter(|line| !line.is_empty())
}

/// A line without its password.
fn shown(holds: Holds, line: &[u8]) -> String {
    match holds {
        Holds::Table(table) => excerpt::of_table(table.format, line, 1).text,
        Holds::Settings => excerpt::of_settings(line, 1).text,
        // Nothing else changes there.
        Holds::Environment if line.starts_with(DEFAULT_RELAY) => printable(line),
        Holds::Environment => String::new(),
    }
}

pub(super) fn write(files: &[File]) -> Result<(), Error> {
    let mut out = String::new();
    for file in files {
        let mut is_new = false;
        let edit = |there: &[u8]| -> Result<Option<Secret>, replace_file::ReplaceError> {
            is_new = there != file.text.expose();
            Ok(is_new.then(|| file.text.clone()))
        };
        replace_file::edit(&file.path, file.mode, edit)?;
        let lines = lines(file.text.expose()).filter(|line| !is_comment(line)).count();
        let done = if is_new { "written" } else { "as it was" };
        let _ = writeln!(
            out,
            "{}: {}, {done}",
            printable_path(&file.path),
            counted(lines, "line")
        );
    }
    print(&out)
}
