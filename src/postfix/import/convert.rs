//! Converts the tables of Postfix to the two files with the same answers.
//!
//! Entries that mean the same on both sides are copied. The differences:
//!
//! - Of several tables in a list, Postfix uses the first that has a key, and tries a longer key in all of them before a
//!   shorter one. A single table with the first entry of each key gives the same answers.
//! - An address whose local part needs quotes is looked up with quotes, then without. In the files both are one key,
//!   and the entry with quotes applies. Postfix never looks up a key whose quotes are needless.
//! - A key without a domain is looked up only for senders of local domains; it becomes one entry for each of these. In
//!   the password tables it may also be a host. A key with a dot, a colon or a bracket, or that a next hop names, is
//!   only that.
//! - `relayhost` becomes the entries for `@*` and `<>`. `DUNNO` means the `relayhost`, if there is one. In the files a key
//!   without a destination means direct delivery, so such a key gets the `relayhost` as its next hop.
//! - The entry that answers for `empty_address_relayhost_maps_lookup_key` becomes the entry for `<>`.
//! - `static:`, as the first password table, answers every key, so each next hop of the relay map and `relayhost` gets
//!   its login. Postfix never queries a table after it.
//! - `user` without a colon means an empty password in Postfix (`smtp_sasl_passwd_lookup`). postmapd has no empty
//!   passwords: an error.
//!
//! Keys that Postfix never looks up ([`crate::lookup::table::key`]) are left out, with a remark; so are the wildcards
//! that the files have and Postfix has not. Entries that the files cannot represent, and values at which smtp(8) would
//! exit, are errors.

mod file_lines;

use std::collections::HashSet;

use crate::lookup::address::{ANY_SENDER, Delimiters, Key, LookupKeys, NULL_SENDER, Scope, fold_into};
use crate::lookup::nexthop;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};
use crate::os::secret::Secret;
use file_lines::FileLines;

/// An entry of a table, as `postmap -s` prints it.
pub(crate) struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The value, which may be a credential.
    pub value: Secret,
    /// The number of the table in its list.
    pub table: usize,
}

/// The tables and parameters of an existing Postfix.
#[derive(Default)]
pub(crate) struct ExistingPostfix {
    /// The entries of `sender_dependent_relayhost_maps`, in the order of the tables.
    pub relays: Vec<Entry>,
    /// The parameter that these come from, if it is another one.
    pub relays_parameter: Option<&'static str>,
    /// The entries of `smtp_sasl_password_maps`, in the order of the tables.
    pub passwords: Vec<Entry>,
    /// The login of a `static:` table, if it is the first of `smtp_sasl_password_maps`.
    pub static_login: Option<Secret>,
    /// `relayhost`.
    pub relayhost: Vec<u8>,
    /// `smtp_sender_dependent_authentication`.
    pub authenticates_by_sender: bool,
    /// `empty_address_relayhost_maps_lookup_key`.
    pub null_sender_key: Vec<u8>,
    /// The domains of `mydestination` and `myorigin`. Keys without a domain are looked up for their senders.
    pub local_domains: Vec<String>,
    /// `recipient_delimiter`.
    pub delimiters: Delimiters,
}

/// A note on an entry that is not converted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// Whether it prevents the conversion.
    pub is_error: bool,
    /// The parameter whose list has the table.
    pub parameter: &'static str,
    /// The number of the table in its list.
    pub table: usize,
    /// The key of the entry.
    pub key: Vec<u8>,
    /// The note. Never quotes the value.
    pub text: &'static str,
}

/// The contents of the two files.
#[derive(Default)]
pub(crate) struct Converted {
    /// The lines of the relay map.
    pub relay_map: Secret,
    /// The lines of the credentials.
    pub credentials: Secret,
    /// Whether some credentials belong to senders, rather than to servers or next hops.
    pub has_credentials_of_senders: bool,
    /// Notes on the entries that are not converted.
    pub remarks: Vec<Remark>,
}

/// The parameter with the tables of next hops.
pub(crate) const RELAYS: &str = "sender_dependent_relayhost_maps";
/// The parameter with the password tables.
pub(crate) const PASSWORDS: &str = "smtp_sasl_password_maps";

/// Converts all tables.
pub(crate) fn convert(existing: &ExistingPostfix) -> Converted {
    let relays = relay_map_lines(existing);
    let passwords = credentials_lines(existing);
    let mut remarks = relays.remarks;
    remarks.extend(passwords.remarks);
    Converted {
        relay_map: relays.text,
        credentials: passwords.text,
        has_credentials_of_senders: existing.static_login.is_none()
            && passwords.keys.iter().any(|key| key.contains(&b'@')),
        remarks,
    }
}

fn relay_map_lines(existing: &ExistingPostfix) -> FileLines {
    let mut lines = FileLines::new(existing.relays_parameter.unwrap_or(RELAYS), RELAY_MAP.format);
    if let Some(entry) = null_sender_entry(existing)
        && let Some(value) = next_hop(existing, entry, &mut lines)
    {
        lines.add(NULL_SENDER, value, entry);
    }
    for entry in quoted_first(&existing.relays) {
        if !entry.key.contains(&b'@') {
            continue;
        }
        let Some(key) = lookup_key(&entry.key) else {
            lines.remark(false, entry, NEVER_LOOKED_UP);
            continue;
        };
        if let Some(value) = next_hop(existing, entry, &mut lines) {
            lines.add(&key, value, entry);
        }
    }
    let with_domain = lines.keys.clone();
    for entry in quoted_first(&existing.relays) {
        if entry.key.contains(&b'@') || is_null_sender(&entry.key) {
            continue;
        }
        let keys = expand_to_local_domains(existing, &entry.key, &with_domain);
        if keys.is_empty() {
            lines.remark(
                false,
                entry,
                "left out: Postfix looks up a key without @ only for users of its local domains",
            );
        } else if let Some(value) = next_hop(existing, entry, &mut lines) {
            for key in keys.iter().flatten() {
                lines.add(key, value, entry);
            }
        }
    }
    // An invalid one is reported as such.
    if nexthop::validate(&existing.relayhost).is_ok() {
        let default = Entry {
            key: Vec::new(),
            value: existing.relayhost.clone().into(),
            table: 0,
        };
        for key in [ANY_SENDER, NULL_SENDER] {
            lines.add_line(key, &existing.relayhost, &default);
        }
    }
    lines
}

const NEVER_LOOKED_UP: &str = "left out: Postfix never looks up an address with these quotes; if the entry is needed, \
                           remove the quotes";

const INVALID_KEY: &str = "left out: Postfix never looks up such a key";

fn is_null_sender(key: &[u8]) -> bool {
    key == NULL_SENDER || key == b"\"<>\""
}

/// Returns the entries with quoted keys, then the others, because Postfix looks up the quoted form first in all tables.
fn quoted_first(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let is_quoted = |entry: &&Entry| entry.key.starts_with(b"\"");
    let others = entries.iter().filter(move |entry| !is_quoted(entry));
    entries.iter().filter(is_quoted).chain(others)
}

/// Returns the entry that answers for the null sender. Postfix looks it up under a configured key, like an address.
fn null_sender_entry(existing: &ExistingPostfix) -> Option<&Entry> {
    let configured = &existing.null_sender_key;
    let senders = LookupKeys::of(configured, &existing.delimiters);
    let mut keys = vec![quote(configured)];
    let mut folded = Vec::new();
    fold_into(configured, &mut folded);
    keys.push(folded);
    keys.extend(senders.of_postfix().map(Key::to_vec));
    keys.iter().find_map(|key| {
        let is_match = |entry: &&Entry| entry.key.eq_ignore_ascii_case(key);
        existing.relays.iter().find(is_match)
    })
}

/// Returns the key of a sender or domain as the file has it. `None` if Postfix never looks it up: it quotes an address
/// only if it must, and escapes only quotes and backslashes.
fn lookup_key(key: &[u8]) -> Option<Vec<u8>> {
    let (local, domain) = split_at_domain(key);
    if !key.starts_with(b"\"") {
        // A `#` at the beginning would turn the line into a comment.
        let is_plain = local.is_empty() || !needs_quotes(local) && !local.starts_with(b"#");
        return Some(if is_plain { key.to_vec() } else { add_quotes(key) });
    }
    let inner = local.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut plain = Vec::with_capacity(key.len());
    let mut escaped = false;
    for &c in inner {
        if c == b'\\' && !escaped {
            escaped = true;
        } else {
            plain.push(c);
            escaped = false;
        }
    }
    plain.extend_from_slice(domain);
    (quote(&plain) == key).then(|| key.to_vec())
}

/// Returns the next hop of an entry for the relay map. `None`, with a remark, if it is invalid.
fn next_hop<'a>(existing: &'a ExistingPostfix, entry: &'a Entry, lines: &mut FileLines) -> Option<&'a [u8]> {
    let value = entry.value.expose();
    if nexthop::is_dunno(value) {
        return Some(&existing.relayhost);
    }
    if nexthop::validate(value).is_ok() {
        return Some(value);
    }
    lines.remark(
        true,
        entry,
        "the value is not a valid next hop, and smtp(8) would exit; correct it in the table",
    );
    None
}

/// Expands a key without a domain to one key for each local domain, `None` where a longer key takes precedence. Postfix
/// tries such a key after those with a domain and before `@domain`.
fn expand_to_local_domains(
    existing: &ExistingPostfix,
    key: &[u8],
    with_domain: &HashSet<Vec<u8>>,
) -> Vec<Option<Vec<u8>>> {
    let is_next_hop = key.starts_with(b"[");
    let Some(local) = lookup_key(key).filter(|_| !is_next_hop) else {
        return Vec::new();
    };
    let in_domain = |domain: &String| {
        let key = [&local, &b"@"[..], domain.as_bytes()].concat();
        let keys = LookupKeys::of(&key, &existing.delimiters);
        let is_shadowed = keys
            .of_postfix()
            .filter(|key| key.scope() == Scope::Single)
            .any(|key| with_domain.contains(key.bytes()));
        (!is_shadowed).then_some(key)
    };
    existing.local_domains.iter().map(in_domain).collect()
}

/// Returns credentials lines with the login of a `static:` table, one for each next hop that a sender may have.
fn static_login_lines(existing: &ExistingPostfix, login: &Secret) -> FileLines {
    let table = Entry {
        key: Vec::new(),
        value: login.clone(),
        table: 1,
    };
    let mut lines = FileLines::new(PASSWORDS, CREDENTIALS.format);
    let Some(value) = valid_login(&table, &mut lines) else {
        return lines;
    };
    let relays = existing.relays.iter().map(|entry| entry.value.expose());
    let lists = [existing.relayhost.as_slice()].into_iter().chain(relays);
    let lists = lists.filter(|list| !nexthop::is_dunno(list) && nexthop::validate(list).is_ok());
    for element in lists.flat_map(nexthop::elements) {
        lines.add(element, value.expose(), &table);
    }
    if lines.keys.is_empty() {
        lines.remark(
            true,
            &table,
            "the login is for every server, and neither relayhost nor sender_dependent_relayhost_maps names its \
             relay; set relayhost first",
        );
    }
    lines
}

fn credentials_lines(existing: &ExistingPostfix) -> FileLines {
    if let Some(login) = &existing.static_login {
        return static_login_lines(existing, login);
    }
    let mut lines = FileLines::new(PASSWORDS, CREDENTIALS.format);
    let mut without_domain = Vec::new();
    for entry in quoted_first(&existing.passwords) {
        let is_sender = entry.key.contains(&b'@');
        if is_sender && !existing.authenticates_by_sender {
            lines.remark(
                false,
                entry,
                "left out: Postfix does not look up senders, because smtp_sender_dependent_authentication is off",
            );
            continue;
        }
        let Some(key) = lookup_key(&entry.key) else {
            lines.remark(false, entry, NEVER_LOOKED_UP);
            continue;
        };
        let Some(value) = valid_login(entry, &mut lines) else {
            continue;
        };
        let may_be_host = !entry.key.starts_with(b"\"") && !entry.key.starts_with(b"#");
        if is_sender {
            lines.add(&key, value.expose(), entry);
        } else if may_be_host && !is_null_sender(&entry.key) {
            lines.add(&entry.key, value.expose(), entry);
        }
        if !is_sender && existing.authenticates_by_sender && !is_only_host(existing, &entry.key) {
            without_domain.push((entry, value));
        }
    }
    let with_domain = lines.keys.clone();
    for (entry, value) in without_domain {
        for key in expand_to_local_domains(existing, &entry.key, &with_domain)
            .iter()
            .flatten()
        {
            lines.add(key, value.expose(), entry);
        }
    }
    lines
}

/// Whether a key without `@` can only be a host, so that it is not also a user of a local domain: it has a dot, a colon
/// or a bracket, or is the server of a next hop.
fn is_only_host(existing: &ExistingPostfix, key: &[u8]) -> bool {
    let relays = existing.relays.iter().map(|entry| entry.value.expose());
    let is_server = |element: &[u8]| {
        let (host, _) = nexthop::host_and_port(element);
        host.eq_ignore_ascii_case(key)
    };
    is_null_sender(key)
        || key.iter().any(|c| matches!(c, b'.' | b':' | b'['))
        || relays
            .chain([existing.relayhost.as_slice()])
            .any(|list| nexthop::elements(list).any(is_server))
}

/// Returns the login of an entry for the credentials. `None`, with a remark, if it is invalid.
fn valid_login(entry: &Entry, lines: &mut FileLines) -> Option<Secret> {
    let value = entry.value.expose();
    let error = match memchr::memchr(b':', value) {
        Some(0) => "the value has no user before the colon, so no login can succeed; correct it in the table",
        Some(at) if at + 1 < value.len() => return Some(entry.value.clone()),
        _ => {
            "the value has no password: Postfix logs in with an empty one, which postmapd rejects; correct it in the \
             table, or remove the entry"
        }
    };
    lines.remark(true, entry, error);
    None
}

/// Returns an unquoted address in the form that Postfix looks up first (`quote_822_local(3)`).
fn quote(address: &[u8]) -> Vec<u8> {
    if needs_quotes(split_at_domain(address).0) {
        add_quotes(address)
    } else {
        address.to_vec()
    }
}

fn needs_quotes(local: &[u8]) -> bool {
    let is_special = |c: &u8| c.is_ascii_control() || b" ()<>@,;:\\\"[]".contains(c);
    local.is_empty()
        || local.iter().any(is_special)
        || local.starts_with(b".")
        || local.ends_with(b".")
        || local.windows(2).any(|two| two == b"..")
}

fn add_quotes(address: &[u8]) -> Vec<u8> {
    let (local, domain) = split_at_domain(address);
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

/// Splits an address into the local part, and the rest from the last `@` on.
fn split_at_domain(address: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memrchr(b'@', address).unwrap_or(address.len());
    address.split_at_checked(at).unwrap_or((address, &[]))
}
