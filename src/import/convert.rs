//! Tables as Postfix has them, to the two files with the same answers.
//!
//! What is the same on both sides stays as it is. The rest:
//!
//! - Of several tables in a list Postfix believes the first that has a key, and tries a longer key in all of them
//!   before a shorter one. One table in which the first entry of each key is kept answers alike.
//! - A key without a domain is asked for senders of Postfix's own domains only; it becomes one entry for each of them.
//! - `DUNNO` means the `relayhost` of main.cf, if there is one. Here the default relay takes its place, and a key
//!   without destination means direct delivery; so such a key gets the `relayhost` as its next hop.
//! - The entry for `empty_address_relayhost_maps_lookup_key` becomes that for `<>`.
//! - `user` without a colon is a user with an empty password (`smtp_sasl_passwd_lookup`), written `user:`.
//!
//! What Postfix never asks for is left out, and said. What cannot be said in the files, and values at which smtp(8)
//! would exit, are errors.

use std::collections::HashSet;

use crate::address::{Delimiters, NULL_SENDER, SenderKeys};
use crate::nexthop;
use crate::secret::Secret;
use crate::table::grammar::MAX_LINE;

/// An entry of a table, as `postmap -s` prints it.
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Secret,
    /// The table, by its number in its list.
    pub table: usize,
}

/// What Postfix has.
#[derive(Default)]
pub struct Existing {
    /// `sender_dependent_relayhost_maps`, table after table.
    pub relays: Vec<Entry>,
    /// `smtp_sasl_password_maps`, likewise.
    pub passwords: Vec<Entry>,
    /// `relayhost`.
    pub relayhost: Vec<u8>,
    /// `smtp_sender_dependent_authentication`.
    pub authenticates_by_sender: bool,
    /// `empty_address_relayhost_maps_lookup_key`.
    pub null_sender_key: Vec<u8>,
    /// The domains of `mydestination` and `myorigin`, for whose senders keys without a domain are asked.
    pub local_domains: Vec<String>,
    /// `recipient_delimiter`.
    pub delimiters: Delimiters,
}

/// What is not carried over, or cannot be.
#[derive(Debug, PartialEq, Eq)]
pub struct Remark {
    /// Whether it means that nothing can be written.
    pub is_error: bool,
    /// The list that the entry is in.
    pub parameter: &'static str,
    /// The table, by its number in its list.
    pub table: usize,
    /// The key.
    pub key: Vec<u8>,
    /// What about it, without its value.
    pub text: &'static str,
}

/// The two files.
#[derive(Default)]
pub struct Converted {
    /// The lines of the relay map.
    pub relay_map: Secret,
    /// The lines of the credentials.
    pub credentials: Secret,
    /// What is not carried over, or cannot be.
    pub remarks: Vec<Remark>,
}

/// The parameter of the relays.
pub const RELAYS: &str = "sender_dependent_relayhost_maps";
/// The parameter of the passwords.
pub const PASSWORDS: &str = "smtp_sasl_password_maps";

/// Converts everything.
#[must_use]
pub fn convert(existing: &Existing) -> Converted {
    let mut converted = Converted::default();
    relays(existing, &mut converted);
    passwords(existing, &mut converted);
    converted
}

fn relays(existing: &Existing, converted: &mut Converted) {
    let mut lines = Lines::new(RELAYS);
    let mut without_domain = Vec::new();
    for entry in &existing.relays {
        let key = if entry.key == existing.null_sender_key {
            NULL_SENDER
        } else {
            &entry.key
        };
        if key != NULL_SENDER && !key.contains(&b'@') {
            without_domain.push(entry);
            continue;
        }
        if let Some(value) = destination(existing, entry, converted) {
            lines.add(key, value, entry, converted);
        }
    }
    for entry in without_domain {
        local(existing, entry, &mut lines, converted);
    }
    converted.relay_map = lines.text;
}

/// The value of a relay as the relay map has it. `None` where it cannot be said.
fn destination<'a>(existing: &'a Existing, entry: &'a Entry, converted: &mut Converted) -> Option<&'a [u8]> {
    let value = entry.value.expose();
    if nexthop::is_dunno(value) {
        return Some(&existing.relayhost);
    }
    if nexthop::judge(value).is_ok() {
        return Some(value);
    }
    converted.remark(
        true,
        RELAYS,
        entry,
        "the value is no next hop: smtp(8) exits at it; correct it in the table",
    );
    None
}

/// An entry for a key without a domain, once for each domain of Postfix's own. Postfix tries such a key after those
/// with a domain and before `@domain`.
fn local(existing: &Existing, entry: &Entry, lines: &mut Lines, converted: &mut Converted) {
    let looks_like_a_domain = entry.key.contains(&b'.') || entry.key.contains(&b'[');
    if existing.local_domains.is_empty() || looks_like_a_domain {
        converted.remark(
            false,
            RELAYS,
            entry,
            "left out: Postfix asks for a key without @ only for a user of its own domains",
        );
        return;
    }
    let Some(value) = destination(existing, entry, converted) else {
        return;
    };
    for domain in &existing.local_domains {
        let key = [&entry.key, &b"@"[..], domain.as_bytes()].concat();
        let mut keys = SenderKeys::default();
        keys.read(&key, &existing.delimiters);
        let is_shadowed = keys
            .in_order()
            .filter(|key| !key.starts_with(b"@"))
            .any(|key| lines.keys.contains(key));
        if !is_shadowed {
            lines.add(&key, value, entry, converted);
        }
    }
}

fn passwords(existing: &Existing, converted: &mut Converted) {
    let mut lines = Lines::new(PASSWORDS);
    for entry in &existing.passwords {
        if entry.key.contains(&b'@') && !existing.authenticates_by_sender {
            converted.remark(
                false,
                PASSWORDS,
                entry,
                "left out: Postfix does not ask for senders, because smtp_sender_dependent_authentication is off",
            );
            continue;
        }
        let value = entry.value.expose();
        match memchr::memchr(b':', value) {
            Some(0) => converted.remark(
                true,
                PASSWORDS,
                entry,
                "the value has no user before its colon: no login with it can succeed; correct it in the table",
            ),
            Some(_) => lines.add(&entry.key, value, entry, converted),
            None => {
                let mut with_colon = Secret::with_capacity(value.len() + 1);
                with_colon.append(value);
                with_colon.append(b":");
                lines.add(&entry.key, with_colon.expose(), entry, converted);
            }
        }
    }
    converted.credentials = lines.text;
}

impl Converted {
    fn remark(&mut self, is_error: bool, parameter: &'static str, entry: &Entry, text: &'static str) {
        self.remarks.push(Remark {
            is_error,
            parameter,
            table: entry.table,
            key: entry.key.clone(),
            text,
        });
    }
}

/// The lines of one file. The first line of a key counts.
struct Lines {
    parameter: &'static str,
    text: Secret,
    keys: HashSet<Vec<u8>>,
}

impl Lines {
    fn new(parameter: &'static str) -> Self {
        Self {
            parameter,
            text: Secret::default(),
            keys: HashSet::new(),
        }
    }

    fn add(&mut self, key: &[u8], value: &[u8], entry: &Entry, converted: &mut Converted) {
        let mut keys = SenderKeys::default();
        keys.read(key, &Delimiters::new("").unwrap_or_default());
        if !self.keys.insert(keys.whole().to_vec()) {
            return;
        }
        let key = quoted(key);
        let is_control = |c: &u8| c.is_ascii_control() && *c != b'\t';
        let has_blanks_outside = value.trim_ascii() != value;
        let is_too_long = key.len() + value.len() + 1 > MAX_LINE;
        if key.iter().any(u8::is_ascii_control)
            || value.iter().any(is_control)
            || has_blanks_outside
            || is_too_long
        {
            let text =
                "the file cannot carry it: a control byte, a blank at the end, or more than 65535 bytes";
            converted.remark(true, self.parameter, entry, text);
            return;
        }
        self.text.append(&key);
        if !value.is_empty() {
            self.text.append(b"\t");
            self.text.append(value);
        }
        self.text.append(b"\n");
    }
}

/// The key as a line can begin with it: a local part with blanks in it is quoted, as is a `#` at the beginning.
fn quoted(key: &[u8]) -> Vec<u8> {
    let is_plain = !key.contains(&b' ') && !key.starts_with(b"#") && !key.contains(&b'\\');
    if is_plain || key.starts_with(b"\"") {
        return key.to_vec();
    }
    let at = memchr::memrchr(b'@', key).unwrap_or(key.len());
    let (local, domain) = key.split_at_checked(at).unwrap_or((key, &[]));
    let mut quoted = vec![b'"'];
    for &c in local {
        if matches!(c, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(c);
    }
    quoted.push(b'"');
    quoted.extend_from_slice(domain);
    quoted
}
