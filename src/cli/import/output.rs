//! The files of an import: creates them, shows what changes, writes them.
//!
//! Other content of the settings file stays. A password is never shown.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::super::{Error, count_of, print};
use crate::check::excerpt;
use crate::lookup::table::spec::TableSpec;
use crate::os::printable::printable_path;
use crate::os::replace_file;
use crate::os::secret::Secret;
use crate::os::whole_file;

/// A file to write.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: Secret,
    pub(super) mode: u32,
    /// Decides what may be shown of a line.
    pub(super) kind: FileKind,
}

impl File {
    pub(super) fn new(path: PathBuf, text: Secret, kind: FileKind) -> Self {
        let is_secret = matches!(kind, FileKind::Table(table) if table.is_secret());
        Self {
            path,
            text,
            mode: if is_secret { 0o600 } else { 0o644 },
            kind,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum FileKind {
    Table(&'static TableSpec),
    Settings,
}

/// Returns the text of a file; empty if the file does not exist.
fn read_or_empty(path: &Path) -> Result<Secret, String> {
    match whole_file::read(path) {
        Ok(file) => Ok(file.text),
        Err(error) if error.is_not_found() => Ok(Secret::default()),
        Err(error) => Err(format!("{} cannot be read: {error}", printable_path(path))),
    }
}

/// Returns the entries after the comments and empty lines of the file. A file that cannot be read has none.
pub(super) fn with_comments(path: &Path, entries: &Secret) -> Secret {
    let current = read_or_empty(path).unwrap_or_default();
    let current = current.expose();
    let current = current.strip_prefix(BYTE_ORDER_MARK).unwrap_or(current);
    let lines = current.split_inclusive(|c| *c == b'\n');
    let mut text = Secret::with_capacity(current.len() + entries.len() + 1);
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

/// Whether a line of a table is a comment or whitespace.
fn is_comment(line: &[u8]) -> bool {
    line.trim_ascii_start().first().is_none_or(|c| *c == b'#')
}

/// Returns the settings file with these settings (name, value), none of which has this value yet.
pub(super) fn with_settings(path: &Path, settings: &[(&str, String)]) -> Result<Secret, String> {
    let current = read_or_empty(path)?;
    // At the beginning: at the end they would belong to the last TOML table.
    let mut text = Secret::default();
    for (name, value) in settings {
        // The name may be quoted.
        let is_set = String::from_utf8_lossy(current.expose()).lines().any(|line| {
            let current = line.split('=').next().unwrap_or_default().trim();
            current.trim_matches(['"', '\'']) == *name
        });
        let line = format!("{name} = \"{}\"", value.replace('\\', "\\\\"));
        if is_set {
            return Err(format!(
                "{}: the file already sets another value, which import does not replace; change it to {line}",
                printable_path(path)
            ));
        }
        text.append(line.as_bytes());
        text.append(b"\n");
    }
    text.append(current.expose());
    Ok(text)
}

/// Prints what would change, line by line.
pub(super) fn print_changes(files: &[File]) -> Result<(), Error> {
    let mut out = String::new();
    for file in files {
        let current = whole_file::read(&file.path)
            .map(|file| file.text)
            .unwrap_or_default();
        let (old, new) = (current.expose(), file.text.expose());
        let (in_old, in_new): (HashSet<_>, HashSet<_>) = (lines(old).collect(), lines(new).collect());
        let removed = lines(old).filter(|line| !in_new.contains(line));
        let added = lines(new).filter(|line| !in_old.contains(line));
        let mut changes = String::new();
        for (sign, line) in removed
            .map(|line| ('-', line))
            .chain(added.map(|line| ('+', line)))
        {
            let _ = writeln!(changes, "{sign}{}", masked(file.kind, line));
        }
        if changes.is_empty() {
            let _ = writeln!(out, "{}: no changes", printable_path(&file.path));
        } else {
            let _ = write!(out, "{}:\n{changes}", printable_path(&file.path));
        }
    }
    print(&out)
}

/// Returns the lines that are not empty.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|c| *c == b'\n').filter(|line| !line.is_empty())
}

/// Returns a line without its password.
fn masked(kind: FileKind, line: &[u8]) -> String {
    match kind {
        FileKind::Table(table) => excerpt::table_line(table.format, line, 1).text,
        FileKind::Settings => excerpt::settings_line(line, 1).text,
    }
}

pub(super) fn write_files(files: &[File]) -> Result<(), Error> {
    let mut out = String::new();
    for file in files {
        let mut is_changed = false;
        let edit = |current: &[u8]| -> Result<Option<Secret>, replace_file::ReplaceError> {
            is_changed = current != file.text.expose();
            Ok(is_changed.then(|| file.text.clone()))
        };
        replace_file::edit(&file.path, file.mode, edit)?;
        let lines = lines(file.text.expose()).filter(|line| !is_comment(line)).count();
        let done = if is_changed { "written" } else { "unchanged" };
        let _ = writeln!(
            out,
            "{}: {}, {done}",
            printable_path(&file.path),
            count_of(lines, "line")
        );
    }
    print(&out)
}
