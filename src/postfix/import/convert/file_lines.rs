//! The lines of one of the files that an import writes.

use std::collections::HashSet;

use super::{Entry, INVALID_KEY, Remark};
use crate::lookup::address::{Delimiters, Key, LookupKeys, Scope};
use crate::lookup::table::key;
use crate::lookup::table::line::MAX_LINE;
use crate::lookup::table::spec::Format;
use crate::os::secret::Secret;

/// The lines of one file. The first line of a key applies; later ones are dropped.
pub(super) struct FileLines {
    parameter: &'static str,
    format: Format,
    pub(super) text: Secret,
    pub(super) keys: HashSet<Vec<u8>>,
    pub(super) remarks: Vec<Remark>,
}

impl FileLines {
    pub(super) fn new(parameter: &'static str, format: Format) -> Self {
        Self {
            parameter,
            format,
            text: Secret::default(),
            keys: HashSet::new(),
            remarks: Vec::new(),
        }
    }

    pub(super) fn remark(&mut self, is_error: bool, entry: &Entry, text: &'static str) {
        self.remarks.push(Remark {
            is_error,
            parameter: self.parameter,
            table: entry.table,
            key: entry.key.clone(),
            text,
        });
    }

    /// Adds the entry of a table for a key.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8], entry: &Entry) {
        if matches!(Key::from(key).scope(), Scope::Subdomains | Scope::AnySender) {
            self.remark(false, entry, INVALID_KEY);
        } else {
            self.add_line(key, value, entry);
        }
    }

    /// Adds the line of a key, unless it has one.
    pub(super) fn add_line(&mut self, key: &[u8], value: &[u8], entry: &Entry) {
        let keys = LookupKeys::of(key, &Delimiters::new("").unwrap_or_default());
        if !self.keys.insert(keys.whole().to_vec()) {
            return;
        }
        if key::validate(self.format, key).is_err() && !key.iter().any(u8::is_ascii_control) {
            self.remark(false, entry, INVALID_KEY);
            return;
        }
        let is_control = |c: &u8| c.is_ascii_control() && *c != b'\t';
        let has_outer_whitespace = value.trim_ascii() != value;
        let is_too_long = key.len() + value.len() + 1 > MAX_LINE;
        if key.iter().any(u8::is_ascii_control)
            || value.iter().any(is_control)
            || has_outer_whitespace
            || is_too_long
        {
            let text = "the file cannot represent it: a control character, leading or trailing whitespace, or more \
                        than 65535 bytes";
            self.remark(true, entry, text);
            return;
        }
        self.text.append(key);
        if !value.is_empty() {
            self.text.append(b"\t");
            self.text.append(value);
        }
        self.text.append(b"\n");
    }
}
