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

use crate::lookup::address::NULL_SENDER;
use crate::lookup::nexthop::{self, NextHopErrorKind};
use crate::lookup::table::key::{self, KeyErrorKind};
use crate::lookup::table::line::MAX_LINE;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};
use crate::os::secret::Secret;

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
    /// A key that Postfix never asks for.
    #[error("{0}; write for example example.com, @example.com or someone@example.com")]
    Key(KeyErrorKind),
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
    NextHop(NextHopErrorKind),
    /// Several where one is wanted.
    #[error("these are several next hops; add the credentials of each by itself")]
    SeveralNextHops,
    /// A host that is none.
    #[error("this is no relay: {0}; write the host and the port apart, for example relay.example.com 587")]
    Host(NextHopErrorKind),
    /// `https://relay.example.com`
    #[error(
        "this is a URL, and no relay; write the host alone, and the port after it: relay.example.com 587"
    )]
    Url,
    /// `smtp:[relay.example.com]:587`
    #[error(
        "this begins with a transport, as in transport_maps; write the host alone, and the port after it: \
         relay.example.com 587"
    )]
    Transport,
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
    let key = match typed {
        [] => return Err(Refused::EmptyDomain),
        [b'[', ..] if !typed.contains(&b'@') => return Err(Refused::NextHopForSender),
        // At the beginning of a line it would make a comment of it.
        [b'#', ..] => return Err(Refused::LocalPart),
        _ if typed.contains(&b'@') => typed.to_vec(),
        _ => [b"@", typed].concat(),
    };
    key::validate(RELAY_MAP.format, &key).map_err(|fault| match fault.kind {
        KeyErrorKind::NoDomain => Refused::EmptyDomain,
        KeyErrorKind::Domain => Refused::Domain,
        KeyErrorKind::LocalPart => Refused::LocalPart,
        problem => Refused::Key(problem),
    })?;
    Ok(key)
}

/// The key of credentials.
pub(super) fn of_credentials(typed: &[u8], is_next_hop: bool) -> Result<Vec<u8>, Refused> {
    if is_next_hop || is_bracketed(typed) {
        return match key::validate(CREDENTIALS.format, typed) {
            // A sender is none.
            Ok(()) if !key::is_sender(typed) => Ok(typed.to_vec()),
            Err(fault) if fault.kind == KeyErrorKind::SeveralNextHops => Err(Refused::SeveralNextHops),
            _ => Err(nexthop::validate(typed).map_or_else(
                |fault| Refused::NextHop(fault.kind),
                |()| Refused::NextHop(NextHopErrorKind::Host),
            )),
        };
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
    match nexthop::validate(host) {
        Err(fault) if fault.kind == NextHopErrorKind::Url => return Err(Refused::Url),
        Err(fault) if fault.kind == NextHopErrorKind::Transport => return Err(Refused::Transport),
        _ => {}
    }
    let own = split_port(host);
    let (host, port) = match (own, port) {
        (Some(_), Some(_)) => return Err(Refused::PortTwice),
        (Some((host, port)), None) => (host, port),
        (None, port) => (host, port.unwrap_or(b"25")),
    };
    nexthop::join_host_and_port(host, port).map_err(Refused::Host)
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

fn has_control(text: &[u8]) -> bool {
    text.iter().any(|c| c.is_ascii_control() && *c != b'\t')
}

fn has_blank_around(text: &[u8]) -> bool {
    let is_blank = |c: Option<&u8>| matches!(c, Some(b' ' | b'\t'));
    is_blank(text.first()) || is_blank(text.last())
}

#[cfg(test)]
mod tests;
