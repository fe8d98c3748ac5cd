//! What DOMAIN, HOST, USER and PASSWORD of `postmapd relay` mean, and why some are refused.
//!
//! | DOMAIN is | the key is |
//! |---|---|
//! | `example.com` | `@example.com` |
//! | `@example.com`, `someone@example.com`, `"john doe"@example.com` | the same |
//! | `<>` | the null sender; in the relay map alone, because Postfix asks for no credentials of it |
//! | `[relay.example.com]:587`, `relay.example.com:587` | a next hop; for credentials alone |
//! | anything, with `--next-hop` | a host or a next hop; for credentials alone |
//!
//! Nothing that was typed is repeated in a refusal: a password may stand in the wrong place.

use thiserror::Error;

use crate::address::NULL_SENDER;
use crate::nexthop::{self, Problem};
use crate::secret::Secret;
use crate::table::grammar::MAX_LINE;

/// Why something that was typed is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Nothing, or `@`.
    #[error("the domain is empty; write for example example.com, @example.com or someone@example.com")]
    EmptyDomain,
    /// A domain that no sender can have.
    #[error(
        "this is no domain: it may have letters, digits, hyphens and underscores, parted by single dots; write for \
         example example.com"
    )]
    Domain,
    /// A second line, perhaps.
    #[error("the domain has a line end or another control character")]
    ControlInDomain,
    /// `john doe@example.com`
    #[error(
        "the part before the @ has a blank or another special character; quote it: '\"john doe\"@example.com', in \
         quotes for the shell too"
    )]
    LocalPart,
    /// A next hop where a sender is wanted.
    #[error(
        "this is a next hop; here the sender comes first, for example: example.com relay.example.com 587"
    )]
    NextHopForSender,
    /// `<>` for credentials.
    #[error(
        "Postfix never asks for the credentials of the null sender; add those of its next hop, for example for \
         [relay.example.com]:587"
    )]
    NullSenderCredentials,
    /// A next hop that is none.
    #[error(
        "this is not a next hop: {0}; write it as the relay map has it, for example [relay.example.com]:587"
    )]
    NextHop(Problem),
    /// Several where one is wanted.
    #[error("these are several next hops; add the credentials of each by itself")]
    SeveralNextHops,
    /// A host that is none.
    #[error("this is no relay: {0}; write the host and the port apart, for example relay.example.com 587")]
    Host(Problem),
    /// A port twice.
    #[error("the host has a port already; give it once")]
    PortTwice,
    /// `DUNNO` for a host.
    #[error("DUNNO is no host; use postmapd relay exclude-domain")]
    Dunno,
    /// No user.
    #[error("the user is empty")]
    EmptyUser,
    /// A user that the file cannot hold.
    #[error(
        "the user has a `:`, at which Postfix would part it from the password; the format cannot carry that"
    )]
    ColonInUser,
    /// Likewise.
    #[error("the user has a line end or another control character; the format cannot carry that")]
    ControlInUser,
    /// Likewise.
    #[error("the user begins or ends with a blank; the format cannot carry that")]
    BlankAroundUser,
    /// No password.
    #[error("the password is empty")]
    EmptyPassword,
    /// A password that the file cannot hold.
    #[error("the password has a line end or another control character; the format cannot carry that")]
    ControlInPassword,
    /// Likewise.
    #[error("the password begins or ends with a blank; the format cannot carry that")]
    BlankAroundPassword,
    /// `--pasword-stdin`, perhaps.
    #[error(
        "the password begins with --; if it is one, and no misspelt flag, write -- before it, or give it with \
         --password-stdin"
    )]
    LikeAFlag,
    /// Likewise.
    #[error("the entry is longer than a line of the file can be, {MAX_LINE} bytes")]
    TooLong,
}

/// The key of a sender.
pub(super) fn sender(typed: &[u8]) -> Result<Vec<u8>, Refused> {
    if typed == NULL_SENDER || typed == b"\"<>\"" {
        return Ok(NULL_SENDER.to_vec());
    }
    if typed.iter().any(u8::is_ascii_control) {
        return Err(Refused::ControlInDomain);
    }
    let Some((local, domain)) = parts(typed) else {
        return match typed {
            [] => Err(Refused::EmptyDomain),
            [b'[', ..] => Err(Refused::NextHopForSender),
            _ if is_domain(typed) => Ok([b"@", typed].concat()),
            _ => Err(Refused::Domain),
        };
    };
    if domain.is_empty() {
        return Err(Refused::EmptyDomain);
    }
    if !is_domain(domain) && !is_literal(domain) {
        return Err(Refused::Domain);
    }
    if local.is_empty() || is_quoted(local) || is_plain(local) {
        Ok(typed.to_vec())
    } else {
        Err(Refused::LocalPart)
    }
}

/// The key of credentials.
pub(super) fn of_credentials(typed: &[u8], is_next_hop: bool) -> Result<Vec<u8>, Refused> {
    if is_next_hop || is_bracketed(typed) {
        nexthop::judge(typed).map_err(|fault| Refused::NextHop(fault.problem))?;
        if nexthop::elements(typed).next() != Some(typed) {
            return Err(Refused::SeveralNextHops);
        }
        return Ok(typed.to_vec());
    }
    match sender(typed)? {
        null if null == NULL_SENDER => Err(Refused::NullSenderCredentials),
        key => Ok(key),
    }
}

/// The key of an entry that is to go: as it may have been written by hand, right or wrong.
pub(super) fn to_remove(typed: &[u8], is_next_hop: bool) -> Result<Vec<u8>, Refused> {
    let as_is = is_next_hop || typed.contains(&b'@') || typed.starts_with(b"<") || is_bracketed(typed);
    match typed {
        [] | b"@" => Err(Refused::EmptyDomain),
        _ if as_is => Ok(typed.to_vec()),
        _ => Ok([b"@", typed].concat()),
    }
}

/// `[HOST]:PORT`. A host that comes with a port needs no other.
pub(super) fn next_hop(host: &[u8], port: Option<&[u8]>) -> Result<Vec<u8>, Refused> {
    if nexthop::is_dunno(host) {
        return Err(Refused::Dunno);
    }
    let own = split_port(host);
    let (host, port) = match (own, port) {
        (Some(_), Some(_)) => return Err(Refused::PortTwice),
        (Some((host, port)), None) => (host, port),
        (None, port) => (host, port.unwrap_or(b"25")),
    };
    nexthop::of_host_and_port(host, port).map_err(Refused::Host)
}

/// `user:password`.
pub(super) fn credentials(user: &[u8], password: &Secret) -> Result<Secret, Refused> {
    self::user(user)?;
    match password.expose() {
        [] => return Err(Refused::EmptyPassword),
        text if has_control(text) => return Err(Refused::ControlInPassword),
        text if has_blank_around(text) => return Err(Refused::BlankAroundPassword),
        _ => {}
    }
    let mut value = Secret::with_capacity(user.len() + 1 + password.len());
    for part in [user, b":", password.expose()] {
        value.append(part);
    }
    Ok(value)
}

/// Whether a user can be written.
pub(super) fn user(user: &[u8]) -> Result<(), Refused> {
    match user {
        [] => Err(Refused::EmptyUser),
        _ if user.contains(&b':') => Err(Refused::ColonInUser),
        _ if has_control(user) => Err(Refused::ControlInUser),
        _ if has_blank_around(user) => Err(Refused::BlankAroundUser),
        _ => Ok(()),
    }
}

/// Whether a line of the file can be that long.
pub(super) fn length(key: &[u8], value: &[u8]) -> Result<(), Refused> {
    if key.len() + 1 + value.len() > MAX_LINE {
        Err(Refused::TooLong)
    } else {
        Ok(())
    }
}

/// What stands before and after the last `@`.
fn parts(address: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memrchr(b'@', address)?;
    let (local, domain) = address.split_at_checked(at)?;
    Some((local, domain.strip_prefix(b"@")?))
}

/// `[host]`, `[host]:port` or `host:port`.
fn is_bracketed(typed: &[u8]) -> bool {
    !typed.contains(&b'@') && (typed.starts_with(b"[") || typed.contains(&b':'))
}

/// `[host]:port` and `host:port` in two. An IPv6 address has more than one colon, and needs brackets for a port.
fn split_port(host: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memrchr(b':', host)?;
    let (before, port) = host.split_at_checked(colon)?;
    let is_port = before.ends_with(b"]") || !before.contains(&b':');
    is_port.then_some((before, port.strip_prefix(b":")?))
}

/// Labels between single dots, in ASCII or beyond: an internationalised domain comes from Postfix in either form.
fn is_domain(text: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        !label.is_empty()
            && label
                .iter()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_') || !c.is_ascii())
    };
    text.split(|c| *c == b'.').all(is_label)
}

/// `[192.0.2.1]` as the domain of an address.
fn is_literal(domain: &[u8]) -> bool {
    let inner = domain.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    inner.is_some_and(|text| {
        !text.is_empty()
            && text
                .iter()
                .all(|c| c.is_ascii_graphic() && !matches!(c, b'[' | b']' | b'\\' | b'"'))
    })
}

/// One string in quotes, from end to end.
fn is_quoted(local: &[u8]) -> bool {
    let Some(inner) = local
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
    else {
        return false;
    };
    let mut escaped = false;
    for &c in inner {
        match c {
            _ if c.is_ascii_control() => return false,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return false,
            _ => {}
        }
    }
    !escaped
}

/// A local part that needs no quotes.
fn is_plain(local: &[u8]) -> bool {
    !local.starts_with(b"#")
        && local.iter().all(|c| {
            !c.is_ascii()
                || (c.is_ascii_graphic()
                    && !matches!(
                        c,
                        b'"' | b'\\' | b'@' | b'(' | b')' | b'<' | b'>' | b',' | b';' | b'[' | b']'
                    ))
        })
}

fn has_control(text: &[u8]) -> bool {
    text.iter().any(|c| c.is_ascii_control() && *c != b'\t')
}

fn has_blank_around(text: &[u8]) -> bool {
    let is_blank = |c: Option<&u8>| matches!(c, Some(b' ' | b'\t'));
    is_blank(text.first()) || is_blank(text.last())
}

#[cfg(test)]
mod tests;
