//! The valid keys: those that Postfix can request.

use std::net::{Ipv4Addr, Ipv6Addr};

use postmapd::lookup::table::spec::{Format, RELAY_MAP, RELAY_TLS};
use postmapd::os::invisible::{is_invisible, is_non_ascii_punctuation};

use super::next_hop;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluated {
    Key,
    /// `@@domain`
    TwoAts,
    /// An invalid key, and the byte that shows it.
    None(usize),
}

/// Evaluates the key of a line. `is_alone`: nothing follows it.
pub fn evaluate(format: Format, key: &[u8], is_alone: bool) -> Evaluated {
    let is_null_sender = key == b"<>" || key == b"\"<>\"";
    if format == RELAY_TLS.format {
        return match key {
            b"*" => Evaluated::Key,
            _ if is_null_sender || key.contains(&b'@') => Evaluated::None(0),
            _ => without_at(format, key, is_alone),
        };
    }
    if is_null_sender {
        return Evaluated::Key;
    }
    if let Some(at) = key.iter().rposition(|c| *c == b'@') {
        return sender(format, &key[..at], &key[at + 1..]);
    }
    without_at(format, key, is_alone)
}

fn without_at(format: Format, key: &[u8], is_alone: bool) -> Evaluated {
    let begins: [&[u8]; 8] = [
        b"$ANSIBLE_VAULT",
        b"-----BEGIN",
        b"<<<<<<<",
        b"=======",
        b">>>>>>>",
        b"|||||||",
        b"*.",
        b".",
    ];
    if key == b"*" || begins.iter().any(|begin| key.starts_with(begin)) {
        return Evaluated::None(0);
    }
    if let Some(at) = odd_character(key) {
        return Evaluated::None(at);
    }
    if format == RELAY_MAP.format {
        return Evaluated::None(0);
    }
    let text = String::from_utf8(key.to_vec()).unwrap();
    if text.parse::<Ipv6Addr>().is_ok() {
        return Evaluated::Key;
    }
    if format == RELAY_TLS.format && (!key.is_ascii() || text.contains(',')) {
        return Evaluated::None(0);
    }
    // An internationalised host is treated like any other.
    let ascii: String = text.chars().map(|c| if c.is_ascii() { c } else { 'x' }).collect();
    let is_one = !ascii.contains([',', ' ', '\t']);
    let is_host = is_one && next_hop::first_fault(ascii.as_bytes()).is_none();
    let is_complete = !is_alone || format == RELAY_TLS.format;
    if is_host && (is_complete || ascii.contains(['.', ':', '['])) {
        Evaluated::Key
    } else {
        Evaluated::None(0)
    }
}

fn is_quoted(local: &[u8]) -> bool {
    if local.len() < 2 || local[0] != b'"' {
        return false;
    }
    let mut at = 1;
    while at < local.len() && local[at] != b'"' {
        at += if local[at] == b'\\' { 2 } else { 1 };
    }
    at == local.len() - 1
}

/// A key for all subdomains of a domain or, in the relay map, for all senders.
fn wildcard(format: Format, wildcard: &[u8]) -> Evaluated {
    if wildcard == b"*" {
        return if format == RELAY_MAP.format {
            Evaluated::Key
        } else {
            Evaluated::None(0)
        };
    }
    match &wildcard[1..] {
        [] | [b'[', ..] => Evaluated::None(1),
        domain => domain_fault(domain).map_or(Evaluated::Key, |at| Evaluated::None(2 + at)),
    }
}

fn sender(format: Format, local: &[u8], domain: &[u8]) -> Evaluated {
    if local.is_empty() && (domain == b"*" || domain.first() == Some(&b'.')) {
        return wildcard(format, domain);
    }
    if !is_quoted(local) {
        let mut at = 0;
        for chunk in local.utf8_chunks() {
            for (within, c) in chunk.valid().char_indices() {
                if !c.is_ascii() && is_invisible(c) {
                    return Evaluated::None(at + within);
                }
            }
            at += chunk.valid().len() + chunk.invalid().len();
        }
    }
    if domain.is_empty() {
        return Evaluated::None(local.len());
    }
    let in_domain = domain_fault(domain);
    if local == b"@" && sender(format, b"", domain) == Evaluated::Key {
        return Evaluated::TwoAts;
    }
    if let Some(at) = in_domain {
        let ends = (local.first().copied(), domain.last().copied());
        let is_enclosed = [
            (b'\'', b'\''),
            (b'"', b'"'),
            (b'<', b'>'),
            (b'(', b')'),
            (b'`', b'`'),
        ]
        .iter()
        .any(|(open, close)| ends == (Some(*open), Some(*close)));
        return Evaluated::None(if is_enclosed && !is_quoted(local) {
            0
        } else {
            local.len() + 1 + at
        });
    }
    if is_quoted(local) || local.is_empty() {
        return Evaluated::Key;
    }
    let is_wrong = |at: usize| {
        let c = local[at];
        let is_dot_in_place = at > 0 && at + 1 < local.len() && local[at - 1] != b'.';
        (c == b'.' && !is_dot_in_place) || c <= b' ' || c == 127 || b"()<>@,;:\\\"[]".contains(&c)
    };
    let Some(mut at) = (0..local.len()).find(|at| is_wrong(*at)) else {
        return Evaluated::Key;
    };
    if local.contains(&b'@') {
        at = local.iter().position(|c| b":,;=|".contains(c)).unwrap_or(at);
    }
    Evaluated::None(at)
}

/// The first invalid byte of a domain.
fn domain_fault(domain: &[u8]) -> Option<usize> {
    if domain.len() >= 2 && domain[0] == b'[' && domain[domain.len() - 1] == b']' {
        let inner = String::from_utf8_lossy(&domain[1..domain.len() - 1]).into_owned();
        let is_tagged = inner
            .get(..5)
            .is_some_and(|tag| tag.eq_ignore_ascii_case("ipv6:"));
        let v6 = if is_tagged { &inner[5..] } else { &inner[..] };
        let is_address = inner.parse::<Ipv4Addr>().is_ok() || v6.parse::<Ipv6Addr>().is_ok();
        return if is_address { None } else { Some(0) };
    }
    if domain[0] == b'.' || domain[0] == b'*' {
        return Some(0);
    }
    if let Some(at) = odd_character(domain) {
        return Some(at);
    }
    let text = std::str::from_utf8(domain).unwrap();
    if let Some((at, _)) = text
        .char_indices()
        .find(|(_, c)| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.".contains(*c))
    {
        return Some(at);
    }
    let mut at = 0;
    for label in text.split('.') {
        if label.is_empty() && at == text.len() {
            // The dot at the end.
            return Some(at - 1);
        }
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') || label.chars().count() > 63 {
            return Some(at);
        }
        at += label.len() + 1;
    }
    (text.chars().count() > 255).then_some(0)
}

/// The first character that no domain contains, or the first byte that is not UTF-8.
fn odd_character(text: &[u8]) -> Option<usize> {
    if text.is_ascii() {
        return None;
    }
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => return Some(error.valid_up_to()),
    };
    let is_joined = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !is_invisible(c));
    let is_odd = |&(at, c): &(usize, char)| {
        let joins = (c == '\u{200c}' || c == '\u{200d}')
            && is_joined(text[..at].chars().last())
            && is_joined(text[at + c.len_utf8()..].chars().next());
        (!c.is_ascii() && is_invisible(c) && !joins) || is_non_ascii_punctuation(c)
    };
    text.char_indices().find(is_odd).map(|(at, _)| at)
}
