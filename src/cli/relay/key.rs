//! The arguments DOMAIN, HOST, USER and PASSWORD of `postmapd relay`, and why some are rejected. Those of `set-tls` are in
//! [`super::tls`].
//!
//! | DOMAIN is | the key is |
//! |---|---|
//! | `example.com` | `@example.com` |
//! | `@example.com`, `someone@example.com`, `"john doe"@example.com` | the same |
//! | `.example.com`, `@.example.com` | `@.example.com`, all subdomains |
//! | `@*` | the same, all senders without another entry; in the relay map only |
//! | `<>` | the null sender; in the relay map only, because Postfix queries no credentials for it |
//! | `[relay.example.com]:587`, `relay.example.com:587` | a next hop; for credentials only |
//! | anything, with `--next-hop` | a host or a next hop; for credentials only |
//!
//! No error repeats an argument: a password may be in the wrong place.

use thiserror::Error;

use crate::lookup::address::{ANY_SENDER, NULL_SENDER};
use crate::lookup::nexthop::{self, NextHopErrorKind};
use crate::lookup::table::disabled::SEPARATOR;
use crate::lookup::table::key::{self, KeyErrorKind};
use crate::lookup::table::line::MAX_LINE;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS};
use crate::lookup::tls_policy::TlsErrorKind;
use crate::os::secret::Secret;

/// The reason why an argument is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ArgumentError {
    /// Empty, or `@`.
    #[error("the domain is empty; write, for example, example.com, @example.com or someone@example.com")]
    EmptyDomain,
    /// A domain that no sender can have.
    #[error(
        "this is not a domain: use letters, digits, hyphens and underscores, separated by single dots, for example \
         example.com"
    )]
    Domain,
    /// A key that Postfix never queries.
    #[error("{0}; write, for example, example.com, @example.com or someone@example.com")]
    Key(KeyErrorKind),
    /// For example `*.example.com`.
    #[error("{kind}; {help}", kind = KeyErrorKind::Wildcard, help = KeyErrorKind::Wildcard.help(RELAY_MAP.format))]
    Wildcard,
    /// `@*` for credentials.
    #[error("{kind}; {help}", kind = KeyErrorKind::AnySender, help = ANY_SENDER_HELP)]
    AnySender,
    /// A second line, perhaps.
    #[error("the domain contains a line end or another control character")]
    ControlInDomain,
    /// For example `john doe@example.com`.
    #[error(
        "the part before the @ contains a space or another special character; quote it: '\"john doe\"@example.com', \
         in quotes for the shell as well"
    )]
    LocalPart,
    #[error("this is a next hop, but the sender comes first, for example: example.com relay.example.com 587")]
    NextHopForSender,
    #[error(
        "Postfix never looks up credentials of the null sender; add those of its next hop, for example \
         [relay.example.com]:587"
    )]
    NullSenderCredentials,
    #[error("this is not a next hop: {0}; write it as in the relay map, for example [relay.example.com]:587")]
    NextHop(NextHopErrorKind),
    #[error("this is a list of next hops; add the credentials of each of them separately")]
    SeveralNextHops,
    #[error(
        "this is not a relay: {0}; write the host and the port as separate arguments, for example \
             relay.example.com 587"
    )]
    Host(NextHopErrorKind),
    /// For example `https://relay.example.com`.
    #[error("this is a URL, not a relay; write only the host, then the port: relay.example.com 587")]
    Url,
    /// For example `smtp:[relay.example.com]:587`.
    #[error(
        "this starts with a transport, as in transport_maps; write only the host, then the port: relay.example.com 587"
    )]
    Transport,
    #[error("the host already has a port; give it only once")]
    DuplicatePort,
    #[error("DUNNO is not a host; use postmapd relay exclude-domain")]
    Dunno,
    #[error("the user is empty")]
    EmptyUser,
    #[error(
        "the user contains a `:`, which separates it from the password; the file format cannot represent it"
    )]
    ColonInUser,
    #[error(
        "the user contains a line end or another control character, which the file format cannot represent"
    )]
    ControlInUser,
    #[error("the user starts or ends with whitespace, which the file format cannot represent")]
    WhitespaceAroundUser,
    #[error("the password is empty")]
    EmptyPassword,
    #[error(
        "the password contains a line end or another control character, which the file format cannot represent"
    )]
    ControlInPassword,
    #[error("the password starts or ends with whitespace, which the file format cannot represent")]
    WhitespaceAroundPassword,
    /// For example the misspelt flag `--pasword-stdin`.
    #[error(
        "the password starts with --; if it is not a misspelled option, write -- before it, or use --password-stdin"
    )]
    LooksLikeFlag,
    #[error("the reason contains a `|`, a line end or another control character")]
    Reason,
    #[error("the next hop is empty; write it as in the relay map, for example [relay.example.com]:587")]
    NoNextHop,
    #[error("{0}; {help}", help = .0.help(RELAY_TLS.format))]
    TlsKey(KeyErrorKind),
    #[error("{0}; {help}", help = .0.help())]
    Tls(TlsErrorKind),
    #[error("the value contains a line end or another control character")]
    ControlInTls,
    #[error("the entry is longer than a line of the file can be ({MAX_LINE} bytes)")]
    TooLong,
}

const ANY_SENDER_HELP: &str = "store the login of its next hop: postmapd relay add-auth '[HOST]:PORT' USER";

/// Returns the key of a sender.
pub(super) fn sender_key(argument: &[u8]) -> Result<Vec<u8>, ArgumentError> {
    if argument == NULL_SENDER || argument == b"\"<>\"" {
        return Ok(NULL_SENDER.to_vec());
    }
    if argument.iter().any(u8::is_ascii_control) {
        return Err(ArgumentError::ControlInDomain);
    }
    let key = match argument {
        [] => return Err(ArgumentError::EmptyDomain),
        [b'[', ..] if !argument.contains(&b'@') => return Err(ArgumentError::NextHopForSender),
        // At the beginning of a line, `#` starts a comment.
        [b'#', ..] => return Err(ArgumentError::LocalPart),
        _ if argument.contains(&b'@') => argument.to_vec(),
        _ => [b"@", argument].concat(),
    };
    key::validate(RELAY_MAP.format, &key).map_err(|error| match error.kind {
        KeyErrorKind::NoDomain => ArgumentError::EmptyDomain,
        KeyErrorKind::Domain => ArgumentError::Domain,
        KeyErrorKind::LocalPart => ArgumentError::LocalPart,
        KeyErrorKind::Wildcard => ArgumentError::Wildcard,
        kind => ArgumentError::Key(kind),
    })?;
    Ok(key)
}

/// Returns the key of credentials.
pub(super) fn credentials_key(argument: &[u8], is_next_hop: bool) -> Result<Vec<u8>, ArgumentError> {
    if is_next_hop || is_bracketed(argument) {
        return match key::validate(CREDENTIALS.format, argument) {
            // A sender is no next hop.
            Ok(()) if !key::is_sender(argument) => Ok(argument.to_vec()),
            Err(error) if error.kind == KeyErrorKind::SeveralNextHops => Err(ArgumentError::SeveralNextHops),
            _ => Err(nexthop::validate(argument).map_or_else(
                |error| ArgumentError::NextHop(error.kind),
                |()| ArgumentError::NextHop(NextHopErrorKind::Host),
            )),
        };
    }
    match sender_key(argument)? {
        null_sender if null_sender == NULL_SENDER => Err(ArgumentError::NullSenderCredentials),
        any if any == ANY_SENDER => Err(ArgumentError::AnySender),
        key => Ok(key),
    }
}

/// Returns the key of an entry to remove, as it may have been written by hand, valid or not.
pub(super) fn key_to_remove(argument: &[u8], is_next_hop: bool) -> Result<Vec<u8>, ArgumentError> {
    let as_is =
        is_next_hop || argument.contains(&b'@') || argument.starts_with(b"<") || is_bracketed(argument);
    match argument {
        [] | b"@" => Err(ArgumentError::EmptyDomain),
        _ if as_is => Ok(argument.to_vec()),
        _ => Ok([b"@", argument].concat()),
    }
}

/// Returns the reason why an entry is disabled, without whitespace around it.
pub(super) fn reason(argument: &[u8]) -> Result<&[u8], ArgumentError> {
    if argument.contains(&SEPARATOR) || argument.iter().any(u8::is_ascii_control) {
        return Err(ArgumentError::Reason);
    }
    Ok(argument.trim_ascii())
}

/// Returns `[HOST]:PORT`. The host may include the port; otherwise the default is 25.
pub(super) fn next_hop(host: &[u8], port: Option<&[u8]>) -> Result<Vec<u8>, ArgumentError> {
    if nexthop::is_dunno(host) {
        return Err(ArgumentError::Dunno);
    }
    match nexthop::validate(host) {
        Err(error) if error.kind == NextHopErrorKind::Url => return Err(ArgumentError::Url),
        Err(error) if error.kind == NextHopErrorKind::Transport => return Err(ArgumentError::Transport),
        _ => {}
    }
    let own = split_port(host);
    let (host, port) = match (own, port) {
        (Some(_), Some(_)) => return Err(ArgumentError::DuplicatePort),
        (Some((host, port)), None) => (host, port),
        (None, port) => (host, port.unwrap_or(b"25")),
    };
    nexthop::join_host_and_port(host, port).map_err(ArgumentError::Host)
}

/// Returns `user:password`.
pub(super) fn credentials_value(user: &[u8], password: &Secret) -> Result<Secret, ArgumentError> {
    validate_user(user)?;
    match password.expose() {
        [] => return Err(ArgumentError::EmptyPassword),
        text if has_control(text) => return Err(ArgumentError::ControlInPassword),
        text if has_whitespace_around(text) => return Err(ArgumentError::WhitespaceAroundPassword),
        _ => {}
    }
    let mut value = Secret::with_capacity(user.len() + 1 + password.len());
    for part in [user, b":", password.expose()] {
        value.append(part);
    }
    Ok(value)
}

/// Checks that the file can represent a user.
pub(super) fn validate_user(user: &[u8]) -> Result<(), ArgumentError> {
    match user {
        [] => Err(ArgumentError::EmptyUser),
        _ if user.contains(&b':') => Err(ArgumentError::ColonInUser),
        _ if has_control(user) => Err(ArgumentError::ControlInUser),
        _ if has_whitespace_around(user) => Err(ArgumentError::WhitespaceAroundUser),
        _ => Ok(()),
    }
}

/// Checks that an entry fits in a line of the file.
pub(super) fn validate_length(key: &[u8], value: &[u8]) -> Result<(), ArgumentError> {
    if key.len() + 1 + value.len() > MAX_LINE {
        Err(ArgumentError::TooLong)
    } else {
        Ok(())
    }
}

/// Whether an argument is `[host]`, `[host]:port` or `host:port`.
fn is_bracketed(argument: &[u8]) -> bool {
    !argument.contains(&b'@') && (argument.starts_with(b"[") || argument.contains(&b':'))
}

/// Splits `[host]:port` or `host:port`. An IPv6 address has more than one colon, and needs brackets for a port.
fn split_port(host: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memrchr(b':', host)?;
    let (before, port) = host.split_at_checked(colon)?;
    let is_port = before.ends_with(b"]") || !before.contains(&b':');
    is_port.then_some((before, port.strip_prefix(b":")?))
}

fn has_control(text: &[u8]) -> bool {
    text.iter().any(|c| c.is_ascii_control() && *c != b'\t')
}

fn has_whitespace_around(text: &[u8]) -> bool {
    let is_whitespace = |c: Option<&u8>| matches!(c, Some(b' ' | b'\t'));
    is_whitespace(text.first()) || is_whitespace(text.last())
}

#[cfg(test)]
mod tests;
