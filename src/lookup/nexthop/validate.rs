//! Whether a text is a next hop, or a list of them, as smtp(8) accepts it.

use std::net::IpAddr;

use thiserror::Error;

use super::{address, elements, host_and_port, is_separator};

/// The services that are valid in place of a port number.
const SERVICES: [&[u8]; 4] = [b"smtp", b"smtps", b"submission", b"submissions"];

/// Words of master.cf(5) and transport(5) that users write before a next hop by mistake.
const TRANSPORTS: [&[u8]; 6] = [b"smtp", b"smtps", b"relay", b"lmtp", b"inet", b"unix"];

/// Why a text is not a next hop. Never contains the text, which may be a credential in the wrong file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NextHopErrorKind {
    /// Only whitespace and commas.
    #[error("the host is missing")]
    Empty,
    /// `[host`
    #[error("the bracket is not closed")]
    UnclosedBracket,
    /// `[host]25`
    #[error("the closing bracket is followed by something other than `:` and a port")]
    AfterBracket,
    /// `host:0`, `host:99999`, `host:`, `host:name`
    #[error("the port must be a number from 1 to 65535, or smtp, smtps, submission or submissions")]
    Port,
    /// `2001:db8::1`
    #[error("an IPv6 address must be in brackets")]
    BareIpv6,
    /// `smtp:[host]:25`
    #[error(
        "the word before the first `:` is a transport, as in transport_maps; only a next hop is allowed here"
    )]
    Transport,
    /// `https://host`
    #[error("this is a URL, not a host")]
    Url,
    /// `-h`, `a..b`, `user@h`, `300.1.1.1`, `[]`
    #[error("the host is neither a valid host name nor a valid address")]
    Host,
    /// `[host]:587` with a separate port
    #[error("the host includes a port, which must be given separately")]
    PortInHost,
    /// `a, b` instead of one host
    #[error("this is a list of hosts, but only one host is allowed")]
    SeveralHosts,
}

/// The error in a next hop, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind}")]
pub(crate) struct NextHopError {
    /// What is wrong.
    pub kind: NextHopErrorKind,
    /// The position in bytes from the start of the text.
    pub offset: usize,
}

/// Validates a next hop, or a list of them separated by commas or whitespace.
pub(crate) fn validate(list: &[u8]) -> Result<(), NextHopError> {
    let mut offset = 0;
    let mut any = false;
    for element in list.split(|c| is_separator(*c)) {
        if !element.is_empty() {
            any = true;
            validate_element(element).map_err(|kind| NextHopError { kind, offset })?;
        }
        offset += element.len() + 1;
    }
    if any {
        Ok(())
    } else {
        Err(NextHopError {
            kind: NextHopErrorKind::Empty,
            offset: 0,
        })
    }
}

fn validate_element(element: &[u8]) -> Result<(), NextHopErrorKind> {
    validate_syntax(element).map_err(|kind| more_specific_kind(element).unwrap_or(kind))
}

/// Returns the kind of an invalid next hop that is known to be something else.
fn more_specific_kind(element: &[u8]) -> Option<NextHopErrorKind> {
    let colon = memchr::memchr(b':', element)?;
    let (word, rest) = element.split_at_checked(colon)?;
    let is_word = |c: &u8| c.is_ascii_alphanumeric() || b"-_+".contains(c);
    if word.is_empty() || !word.iter().all(is_word) {
        return None;
    }
    if rest.starts_with(b"://") {
        return Some(NextHopErrorKind::Url);
    }
    // A number after the colon is a port, and the word a host with the name of a transport.
    let is_number = rest.len() > 1 && rest.iter().skip(1).all(u8::is_ascii_digit);
    let is_transport = !is_number && TRANSPORTS.iter().any(|known| word.eq_ignore_ascii_case(known));
    (rest.starts_with(b":[") || is_transport).then_some(NextHopErrorKind::Transport)
}

fn validate_syntax(element: &[u8]) -> Result<(), NextHopErrorKind> {
    if let Some(inner) = element.strip_prefix(b"[") {
        let close = memchr::memchr(b']', inner).ok_or(NextHopErrorKind::UnclosedBracket)?;
        let (host, rest) = inner
            .split_at_checked(close)
            .ok_or(NextHopErrorKind::UnclosedBracket)?;
        validate_host(host)?;
        return match rest {
            [b']'] => Ok(()),
            [b']', b':', port @ ..] => validate_port(port),
            _ => Err(NextHopErrorKind::AfterBracket),
        };
    }
    let mut colons = memchr::memchr_iter(b':', element);
    match (colons.next(), colons.next()) {
        (None, _) => validate_bare_host(element),
        (Some(at), None) => {
            let (host, port) = element.split_at_checked(at).ok_or(NextHopErrorKind::Host)?;
            validate_bare_host(host)?;
            validate_port(port.strip_prefix(b":").unwrap_or_default())
        }
        (Some(_), Some(_)) if address(element).is_some_and(|ip| ip.is_ipv6()) => {
            Err(NextHopErrorKind::BareIpv6)
        }
        (Some(_), Some(_)) => Err(NextHopErrorKind::Host),
    }
}

fn validate_port(port: &[u8]) -> Result<(), NextHopErrorKind> {
    if SERVICES.contains(&port) {
        return Ok(());
    }
    let digits = std::str::from_utf8(port).map_err(|_| NextHopErrorKind::Port)?;
    if digits.len() > 5 || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(NextHopErrorKind::Port);
    }
    match digits.parse::<u32>() {
        Ok(1..=65535) => Ok(()),
        _ => Err(NextHopErrorKind::Port),
    }
}

/// Validates a host in brackets: a name or an address, IPv6 with or without the `IPv6:` of RFC 5321.
fn validate_host(host: &[u8]) -> Result<(), NextHopErrorKind> {
    if address(host).is_some() || is_host_name(host) {
        Ok(())
    } else {
        Err(NextHopErrorKind::Host)
    }
}

fn validate_bare_host(host: &[u8]) -> Result<(), NextHopErrorKind> {
    match address(host) {
        Some(IpAddr::V6(_)) => Err(NextHopErrorKind::BareIpv6),
        Some(IpAddr::V4(_)) => Ok(()),
        None if is_host_name(host) => Ok(()),
        None => Err(NextHopErrorKind::Host),
    }
}

/// Whether this is a name by `valid_hostname(3)`: non-empty labels of letters, digits, `-` and `_`, without `-` at
/// either end, at most 63 bytes a label and 255 in all, not digits only.
#[must_use]
pub(crate) fn is_host_name(host: &[u8]) -> bool {
    let label = |label: &[u8]| {
        matches!(label, [first, .., last] | [first @ last] if *first != b'-' && *last != b'-')
            && label.len() <= 63
            && label
                .iter()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    host.len() <= 255
        && host.split(|c| *c == b'.').all(label)
        && host.iter().any(|c| !c.is_ascii_digit() && *c != b'.')
}

/// Joins a host and a separate port, as in `RELAY_HOST` and `RELAY_PORT`, to `[host]:port`. Existing brackets are not
/// doubled.
pub(crate) fn join_host_and_port(host: &[u8], port: &[u8]) -> Result<Vec<u8>, NextHopErrorKind> {
    if elements(host).count() > 1 && validate(host).is_ok() {
        return Err(NextHopErrorKind::SeveralHosts);
    }
    if let (own_host, Some(own_port)) = host_and_port(host)
        && validate_host(own_host).is_ok()
        && own_port.iter().all(u8::is_ascii_alphanumeric)
    {
        return Err(NextHopErrorKind::PortInHost);
    }
    let bare = match host {
        [b'[', bare @ .., b']'] => bare,
        [b'[', ..] if !host.contains(&b']') => return Err(NextHopErrorKind::UnclosedBracket),
        [b'[', ..] => return Err(NextHopErrorKind::AfterBracket),
        _ => host,
    };
    if bare.is_empty() {
        return Err(NextHopErrorKind::Empty);
    }
    validate_host(bare).map_err(|kind| more_specific_kind(host).unwrap_or(kind))?;
    validate_port(port)?;
    Ok([b"[", bare, b"]:", port].concat())
}
