//! The values of entries: what is valid for each kind, and how to fix what is not.

use super::spec::ValueKind;
use crate::diagnostics::Code;
use crate::lookup::nexthop;
use crate::lookup::tls_policy::{self, TlsError, TlsErrorKind};
use crate::os::invisible::Invisible;

/// Why a value is invalid.
pub(super) struct ValueError {
    pub(super) code: Code,
    /// The position in bytes from the start of the value.
    pub(super) offset: usize,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// Whether a value means *no value on purpose*.
#[must_use]
pub(super) fn is_no_value(kind: ValueKind, value: &[u8]) -> bool {
    match kind {
        ValueKind::NextHop => value.is_empty() || nexthop::is_dunno(value),
        ValueKind::Login => value.is_empty(),
        ValueKind::Tls => false,
    }
}

/// Validates a value of this kind, for this key.
pub(super) fn validate(kind: ValueKind, key: &[u8], value: &[u8]) -> Result<(), ValueError> {
    match kind {
        ValueKind::NextHop => validate_next_hop(value),
        ValueKind::Login => validate_login(value),
        ValueKind::Tls => validate_tls(key, value),
    }
}

/// Whether the validity of a value depends on its key.
#[must_use]
pub(super) fn depends_on_key(kind: ValueKind) -> bool {
    kind == ValueKind::Tls
}

fn validate_next_hop(value: &[u8]) -> Result<(), ValueError> {
    let Err(error) = nexthop::validate(value) else {
        return Ok(());
    };
    let invisible = Invisible::first(value).filter(|_| !value.is_ascii());
    let (offset, message) = match invisible {
        Some(found) => (
            found.offset,
            format!("the next hop contains an invisible character: {}", found.name()),
        ),
        None => (error.offset, format!("this is not a next hop: {error}")),
    };
    let help = match error.kind {
        _ if invisible.is_some() => {
            "remove it, or replace it with a space or a comma if it separates two next hops"
        }
        nexthop::NextHopErrorKind::Transport => "write only the next hop, without the transport",
        nexthop::NextHopErrorKind::Url => "write [host]:port instead of a URL",
        _ => "write [host]:port, [host], host:port or host, or leave the value empty to deliver directly",
    };
    Err(ValueError {
        code: Code::BadNextHop,
        offset,
        message,
        help,
    })
}

fn validate_login(value: &[u8]) -> Result<(), ValueError> {
    let control = value.iter().position(|c| c.is_ascii_control() && *c != b'\t');
    let (offset, message) = match (control, memchr::memchr(b':', value)) {
        _ if value.is_empty() => (
            0,
            "the key is a host or a next hop without a value; only a sender can have an entry without credentials",
        ),
        (Some(bad), _) => (bad, "the credentials contain a control character"),
        (None, None) => (0, "the credentials have no `:` between user and password"),
        (None, Some(0)) => (0, "the credentials have no user before the first `:`"),
        (None, Some(colon)) if colon + 1 == value.len() => (colon, "the password is empty"),
        (None, Some(_)) => return Ok(()),
    };
    Err(ValueError {
        code: Code::BadCredentials,
        offset,
        message: message.to_owned(),
        help: "write user:password on one line; the first `:` separates them",
    })
}

fn validate_tls(key: &[u8], value: &[u8]) -> Result<(), ValueError> {
    let error = match tls_policy::parse(value) {
        // A host and `*` stand for next hops with and without a port.
        Ok(setting) if setting.conflicts_with(setting.mode_for(key)) => TlsError {
            kind: TlsErrorKind::ImplicitWithoutTls,
            offset: 0,
        },
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    Err(ValueError {
        code: Code::BadTls,
        offset: error.offset,
        message: error.to_string(),
        help: error.kind.help(),
    })
}
