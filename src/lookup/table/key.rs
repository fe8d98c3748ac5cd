//! The keys of the two files: the grammar of all keys that Postfix can look up, and of no others.
//!
//! The server, `check`, `relay` and `import` validate keys here. Postfix looks up envelope senders in the relay map,
//! and senders, hosts and next hops in the credentials (`mail_addr_find(3)`, `smtp_sasl_passwd_lookup`). A line with
//! any other key is not merely useless: it is a sign that the file is not a table at all (an encrypted file, a merge
//! conflict, a key and a value joined by a no-break space), and such a file must not replace a good one.
//!
//! - A sender is `<>`, `@domain` or `local-part@domain`. The local part is a dot-atom, in any script, or one quoted
//!   string with any content: Postfix looks up both forms (`quote_822_local(3)`). The domain is a domain name of
//!   letters, digits, hyphens and underscores (`valid_hostname(3)`), in ASCII or with Unicode labels, or an address
//!   literal.
//! - Two keys are postmapd's own, and Postfix does not look them up: `@.domain` for all subdomains of a domain name, and, in
//!   the relay map, `@*` for all senders without another entry. In the credentials, the login of `@*` would be offered to
//!   the relays of other senders.
//! - A host is a host name or an address without brackets. A next hop is one that [`nexthop`] accepts, not a list.
//!
//! An error never contains the key, which may be a password.
//!
//! Limits: a Unicode label is checked by its characters (no invisible ones, no punctuation), not by the tables of IDNA,
//! and its length in A-label form is not computed. Domains are not looked up.

use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::spec::{Format, KeyKind, ValueKind};
use crate::lookup::address::NULL_SENDER;
use crate::lookup::nexthop;
use crate::os::invisible::{self, Invisible};

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyErrorKind {
    /// A no-break space, a zero width space, a byte order mark within the file.
    #[error("the key contains an invisible character: {}", invisible::name(*.0))]
    Invisible(char),
    /// A dash, a quotation mark or an `@` of another script.
    #[error("the key contains a character that no domain or host can have: {}", invisible::name(*.0))]
    Punctuation(char),
    /// A domain that is not UTF-8.
    #[error("the domain contains a byte that is not UTF-8")]
    NotUtf8,
    /// `$ANSIBLE_VAULT;1.1;AES256`
    #[error("the file is encrypted")]
    Encrypted,
    /// `<<<<<<< HEAD`
    #[error("the file has an unresolved merge conflict")]
    MergeConflict,
    /// `@@example.com`, as `setup relay` of docker-mailserver writes it for `@example.com`.
    #[error("two @ precede the domain, so the entry matches no sender")]
    TwoAts,
    /// `user@`
    #[error("the key has no domain after the `@`")]
    NoDomain,
    /// `*.example.com`, `.example.com`, `*`, `user@.example.com`, `user@*`
    #[error("this is not one of the two forms of a wildcard")]
    Wildcard,
    /// `@*` in the credentials.
    #[error("a login of @* would be offered to the relays of all senders")]
    AnySender,
    /// `@example.com.`
    #[error("the domain ends in a dot, which Postfix removes from a sender before it looks it up")]
    TrailingDot,
    /// `@a.example,@b.example`, `@a.example: [relay]`, `user@a.example:password`
    #[error("a `{0}` follows the key instead of whitespace")]
    Separator(char),
    /// `'user@example.com'`, `<user@example.com>`
    #[error("the key is in quotes or brackets, but Postfix looks it up without them")]
    Enclosed,
    /// `@example..com`, `@-example.com`, `@exam$ple.com`
    #[error("the domain is not a valid domain name")]
    Domain,
    /// `user@[999.0.2.1]`
    #[error("the domain in brackets is not a valid address")]
    AddressLiteral,
    /// `mailto:user@example.com`, `a..b@example.com`
    #[error("the part before the @ contains a character that requires quotes, or a misplaced dot")]
    LocalPart,
    /// A next hop in the relay map.
    #[error("the key is a next hop, but the keys of the relay map are senders")]
    NextHop,
    /// A domain in the relay map.
    #[error("the key is a domain without the `@`, which Postfix never looks up here")]
    BareDomain,
    /// A word in the relay map.
    #[error("the key is not a sender: it has no `@`")]
    NoSender,
    /// `[a]:25,[b]:25` as a key of the credentials.
    #[error("the key is a list of next hops, but Postfix looks up each of them separately")]
    SeveralNextHops,
    /// A word in the credentials.
    #[error("the key is not a sender, a host or a next hop")]
    NeitherSenderNorHost,
    /// A sender in the TLS file.
    #[error("the key is a sender, and TLS depends on the next hop")]
    Sender,
    /// A word in the TLS file.
    #[error("the key is neither a next hop nor a host")]
    NoNextHop,
    /// `user:password` or `password` alone.
    #[error("the line is a single word that is not a sender")]
    OneWord,
}

/// The error in a key, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind}")]
pub(crate) struct KeyError {
    /// What is wrong.
    pub kind: KeyErrorKind,
    /// The position in bytes from the start of the key.
    pub offset: usize,
}

impl KeyErrorKind {
    /// Returns how to fix it in a file of this format.
    #[must_use]
    pub fn help(self, format: Format) -> &'static str {
        match (self, format.keys) {
            (Self::Invisible(_), _) => {
                "remove it, or replace it with a space if it separates the key from the value"
            }
            (Self::Punctuation(_), _) => "type the ASCII character instead",
            (Self::NotUtf8, _) => "save the file as UTF-8, or write the domain in its xn-- form",
            (Self::Encrypted, _) => "decrypt it before you put it here",
            (Self::MergeConflict, _) => "resolve the conflict, and remove its markers",
            (Self::TwoAts, _) => {
                "write it with one @, for example @example.com; the domain argument of setup relay has none"
            }
            (Self::NoDomain, _) => "write user@domain, or @domain",
            (Self::Wildcard, KeyKind::Sender) => {
                "write @.example.com for all subdomains of a domain, or @* for all senders without another entry"
            }
            (Self::Wildcard, KeyKind::SenderOrHost) => {
                "write @.example.com for all subdomains of a domain; for all senders, use the next hop as the key: \
                 [relay.example.com]:587"
            }
            (Self::Wildcard, KeyKind::NextHop) => "write one next hop or one host, or * for all others",
            (Self::AnySender, _) => {
                "use its next hop as the key, as in the relay map: [relay.example.com]:587 user:password"
            }
            (Self::TrailingDot, _) => "remove the dot",
            (Self::Separator(_), _) => "write each key on its own line, then whitespace, then its value",
            (Self::Enclosed, _) => {
                "write only the address: user@domain, or @domain; only the part before the @ can be quoted"
            }
            (Self::Domain, _) => {
                "use labels of letters, digits, hyphens and underscores, separated by single dots"
            }
            (Self::AddressLiteral, _) => "write it as user@[192.0.2.1] or user@[IPv6:2001:db8::1]",
            (Self::LocalPart, _) => {
                "write only user@domain, or quote the part before the @: \"john doe\"@example.com"
            }
            (Self::NextHop, _) => {
                "write the sender first, then the next hop; credentials of a next hop belong in the other file"
            }
            (Self::BareDomain, _) => "put an @ before it",
            (Self::NoSender, _) => "write @domain or user@domain, then whitespace, then the next hop",
            (Self::SeveralNextHops, _) => "write one line for each next hop of the list",
            (Self::Sender | Self::NoNextHop, _) => {
                "write a next hop as in the relay map, [relay.example.com]:587, or a host, or * for all others"
            }
            (Self::NeitherSenderNorHost | Self::OneWord, _) => {
                "write @domain, user@domain, a host, or one next hop as in the relay map, then whitespace, then \
                 user:password"
            }
        }
    }

    /// Whether the line certainly concerns this key only, which Postfix never looks up, so that no other key loses its
    /// entry.
    #[must_use]
    pub fn affects_no_other_key(self) -> bool {
        matches!(self, Self::TwoAts)
    }
}

/// Whether this is the key of a sender. Hosts and next hops have no `@`.
#[must_use]
pub(crate) fn is_sender(key: &[u8]) -> bool {
    key.contains(&b'@') || key == NULL_SENDER || key == b"\"<>\""
}

/// Returns the key that was certainly intended by a line whose own key matches no sender, if *not found* would do harm:
/// for credentials, because Postfix then sends without authenticating. A relay map entry with two @ never had an
/// effect, not in docker-mailserver either, and affects no mail.
#[must_use]
pub(super) fn intended_key(format: Format, key: &[u8]) -> Option<&[u8]> {
    let intended = key
        .strip_prefix(b"@")
        .filter(|intended| intended.starts_with(b"@"))?;
    (format.values == ValueKind::Login && validate(format, intended).is_ok()).then_some(intended)
}

fn error<T>(kind: KeyErrorKind, offset: usize) -> Result<T, KeyError> {
    Err(KeyError { kind, offset })
}

/// Validates a key of a file of this format.
pub(crate) fn validate(format: Format, key: &[u8]) -> Result<(), KeyError> {
    if format.keys == KeyKind::NextHop {
        return match key {
            b"*" => Ok(()),
            _ if is_sender(key) => error(KeyErrorKind::Sender, 0),
            _ => validate_without_at(format, key),
        };
    }
    if key == NULL_SENDER || key == b"\"<>\"" {
        return Ok(());
    }
    match memchr::memrchr(b'@', key).and_then(|at| key.split_at_checked(at)) {
        Some((local, domain)) => validate_sender(format, local, domain.get(1..).unwrap_or_default()),
        None => validate_without_at(format, key),
    }
}

/// Validates the key of a line without a value: only a sender may be alone. A text that is certainly a host or a next
/// hop is valid here; the caller reports the missing credentials.
pub(crate) fn validate_alone(format: Format, key: &[u8]) -> Result<(), KeyError> {
    validate(format, key)?;
    let may_be_value =
        format.keys == KeyKind::SenderOrHost && !is_sender(key) && !key.iter().any(|c| b".:[".contains(c));
    if may_be_value {
        return error(KeyErrorKind::OneWord, 0);
    }
    Ok(())
}

/// Validates what follows the `@` of a key without a local part, if it is a wildcard. `None` if it is not.
fn validate_wildcard(format: Format, wildcard: &[u8]) -> Option<Result<(), KeyError>> {
    if wildcard == b"*" {
        return Some(match format.keys {
            KeyKind::Sender => Ok(()),
            KeyKind::SenderOrHost | KeyKind::NextHop => error(KeyErrorKind::AnySender, 0),
        });
    }
    let domain = wildcard.strip_prefix(b".")?;
    let at = b"@.".len();
    Some(match domain {
        // An address has no subdomains.
        [] | [b'[', ..] => error(KeyErrorKind::Domain, at - 1),
        _ => validate_domain(domain).or_else(|bad| error(bad.kind, at + bad.offset)),
    })
}

fn validate_sender(format: Format, local: &[u8], domain: &[u8]) -> Result<(), KeyError> {
    if local.is_empty()
        && let Some(validity) = validate_wildcard(format, domain)
    {
        return validity;
    }
    let domain_at = local.len() + 1;
    let is_quoted = is_quoted_string(local);
    if !is_quoted && let Some(bad) = non_ascii_invisible(local) {
        return error(KeyErrorKind::Invisible(bad.character), bad.offset);
    }
    if domain.is_empty() {
        return error(KeyErrorKind::NoDomain, local.len());
    }
    if local == b"@" && validate_sender(format, b"", domain).is_ok() {
        return error(KeyErrorKind::TwoAts, 0);
    }
    if let Err(bad) = validate_domain(domain) {
        let encloses = |open: &[u8], close: &[u8]| local.starts_with(open) && domain.ends_with(close);
        let is_enclosed = !is_quoted
            && [
                (b"'", b"'"),
                (b"\"", b"\""),
                (b"<", b">"),
                (b"(", b")"),
                (b"`", b"`"),
            ]
            .into_iter()
            .any(|(open, close)| encloses(open, close));
        return if is_enclosed {
            error(KeyErrorKind::Enclosed, 0)
        } else {
            error(bad.kind, domain_at + bad.offset)
        };
    }
    if is_quoted {
        return Ok(());
    }
    match local_part_error(local) {
        None => Ok(()),
        // `@a.example,@b.example`
        Some(at) if local.contains(&b'@') => {
            let mut bytes = local.iter().enumerate();
            match bytes.find(|(_, c)| is_separator(**c)) {
                Some((separator, c)) => error(KeyErrorKind::Separator(char::from(*c)), separator),
                None => error(KeyErrorKind::LocalPart, at),
            }
        }
        Some(at) => error(KeyErrorKind::LocalPart, at),
    }
}

/// Whether users write this character in place of the whitespace after a key.
fn is_separator(c: u8) -> bool {
    b":,;=|".contains(&c)
}

fn non_ascii_invisible(text: &[u8]) -> Option<Invisible> {
    (!text.is_ascii()).then(|| Invisible::first(text)).flatten()
}

/// Whether `local` consists of a single quoted string. More lenient than RFC 5321 section 4.1.2: control characters are
/// allowed, because Postfix looks them up too.
fn is_quoted_string(local: &[u8]) -> bool {
    let Some(inner) = local
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
    else {
        return false;
    };
    let mut escaped = false;
    for &c in inner {
        match c {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return false,
            _ => {}
        }
    }
    !escaped
}

/// Returns the offset of the first error in an unquoted local part, which must have the form that Postfix leaves
/// unquoted (`is_822_dot_string`). An empty one is valid: it means the whole domain.
fn local_part_error(local: &[u8]) -> Option<usize> {
    let mut before = b'.';
    for (at, &c) in local.iter().enumerate() {
        if (c == b'.' && before == b'.') || c <= b' ' || c == 0x7f || b"()<>@,;:\\\"[]".contains(&c) {
            return Some(at);
        }
        before = c;
    }
    (before == b'.' && !local.is_empty()).then(|| local.len() - 1)
}

/// The maximum length of a label and of a name (RFC 1035 section 2.3.4, and `valid_hostname(3)`).
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;

/// Validates the part after the `@`.
pub(crate) fn validate_domain(domain: &[u8]) -> Result<(), KeyError> {
    if let [b'[', inner @ .., b']'] = domain {
        return if is_address(inner) {
            Ok(())
        } else {
            error(KeyErrorKind::AddressLiteral, 0)
        };
    }
    if domain.starts_with(b".") || domain.starts_with(b"*") {
        return error(KeyErrorKind::Wildcard, 0);
    }
    if !domain.is_ascii() {
        validate_characters(domain)?;
    }
    let is_of_label = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_' || !c.is_ascii();
    if let Some((at, &bad)) = domain
        .iter()
        .enumerate()
        .find(|(_, c)| !is_of_label(**c) && **c != b'.')
    {
        let kind = if is_separator(bad) {
            KeyErrorKind::Separator(char::from(bad))
        } else {
            KeyErrorKind::Domain
        };
        return error(kind, at);
    }
    let mut at = 0;
    for label in domain.split(|c| *c == b'.') {
        if label.is_empty() && at > 0 && at == domain.len() {
            return error(KeyErrorKind::TrailingDot, at - 1);
        }
        let is_too_long = char_count(label) > MAX_LABEL;
        if label.is_empty() || label.starts_with(b"-") || label.ends_with(b"-") || is_too_long {
            return error(KeyErrorKind::Domain, at);
        }
        at += label.len() + 1;
    }
    if char_count(domain) > MAX_NAME {
        return error(KeyErrorKind::Domain, 0);
    }
    Ok(())
}

/// Returns the length in characters: the A-label form of a Unicode label has at least as many bytes.
fn char_count(text: &[u8]) -> usize {
    text.iter().filter(|c| (**c & 0xC0) != 0x80).count()
}

fn is_address(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let v6 = match text.split_at_checked(5) {
        Some((tag, v6)) if tag.eq_ignore_ascii_case("ipv6:") => v6,
        _ => text,
    };
    text.parse::<Ipv4Addr>().is_ok() || v6.parse::<Ipv6Addr>().is_ok()
}

/// Validates the characters beyond ASCII of a domain or a host.
fn validate_characters(text: &[u8]) -> Result<(), KeyError> {
    let whole = match std::str::from_utf8(text) {
        Ok(whole) => whole,
        Err(invalid) => return error(KeyErrorKind::NotUtf8, invalid.valid_up_to()),
    };
    let mut before = None;
    let mut rest = whole.char_indices();
    while let Some((at, c)) = rest.next() {
        let is_joiner = matches!(c, '\u{200c}' | '\u{200d}')
            && [before, rest.clone().next().map(|(_, next)| next)]
                .iter()
                .all(|beside| beside.is_some_and(|c: char| !c.is_ascii() && !invisible::is_invisible(c)));
        if !c.is_ascii() && !is_joiner && invisible::is_invisible(c) {
            return error(KeyErrorKind::Invisible(c), at);
        }
        if invisible::is_non_ascii_punctuation(c) {
            return error(KeyErrorKind::Punctuation(c), at);
        }
        before = Some(c);
    }
    Ok(())
}

fn validate_without_at(format: Format, key: &[u8]) -> Result<(), KeyError> {
    if key.starts_with(b"$ANSIBLE_VAULT") || key.starts_with(b"-----BEGIN") {
        return error(KeyErrorKind::Encrypted, 0);
    }
    if [&b"<<<<<<<"[..], b"=======", b">>>>>>>", b"|||||||"]
        .iter()
        .any(|marker| key.starts_with(marker))
    {
        return error(KeyErrorKind::MergeConflict, 0);
    }
    if key == b"*" || key.starts_with(b"*.") || key.starts_with(b".") {
        return error(KeyErrorKind::Wildcard, 0);
    }
    if !key.is_ascii() {
        validate_characters(key)?;
    }
    match format.keys {
        KeyKind::Sender if is_next_hop(key) && key.iter().any(|c| b"[:".contains(c)) => {
            error(KeyErrorKind::NextHop, 0)
        }
        KeyKind::Sender if key.contains(&b'.') && validate_domain(key).is_ok() => {
            error(KeyErrorKind::BareDomain, 0)
        }
        KeyKind::Sender => error(KeyErrorKind::NoSender, 0),
        KeyKind::SenderOrHost | KeyKind::NextHop if nexthop::is_bare_ipv6(key) => Ok(()),
        KeyKind::SenderOrHost if !is_next_hop(key) => error(KeyErrorKind::NeitherSenderNorHost, 0),
        // One with an internationalised host is in no relay map.
        KeyKind::NextHop if nexthop::validate(key).is_err() => error(KeyErrorKind::NoNextHop, 0),
        KeyKind::SenderOrHost | KeyKind::NextHop if nexthop::elements(key).next() != Some(key) => {
            error(KeyErrorKind::SeveralNextHops, 0)
        }
        KeyKind::SenderOrHost | KeyKind::NextHop => Ok(()),
    }
}

/// Whether this is a next hop, or a list of them. Its host may be internationalised: Postfix may have it from main.cf
/// and look it up, although it could not be served from here.
fn is_next_hop(key: &[u8]) -> bool {
    if key.is_ascii() {
        return nexthop::validate(key).is_ok();
    }
    let as_ascii: Vec<u8> = key
        .iter()
        .filter(|c| (**c & 0xC0) != 0x80)
        .map(|c| if c.is_ascii() { *c } else { b'x' })
        .collect();
    nexthop::validate(&as_ascii).is_ok()
}

#[cfg(test)]
mod tests;
