//! The attributes of a policy, and the values that each can have (`smtp_tls_policy_maps` in postconf(5)).

use super::{Level, TlsErrorKind};
use crate::lookup::nexthop;

/// An attribute of a policy.
pub(super) struct Attribute {
    pub(super) name: &'static str,
    pub(super) is_repeatable: bool,
    pub(super) validate: fn(Level, &[u8]) -> Result<(), TlsErrorKind>,
}

pub(super) const ATTRIBUTES: [Attribute; 8] = [
    Attribute {
        name: "match",
        is_repeatable: true,
        validate: |level, _| {
            check(
                level.uses_trusted_cas() || level == Level::Fingerprint,
                TlsErrorKind::Match,
            )
        },
    },
    Attribute {
        name: "servername",
        is_repeatable: false,
        validate: |_, value| check(nexthop::is_host_name(value), TlsErrorKind::ServerName),
    },
    Attribute {
        name: "protocols",
        is_repeatable: false,
        validate: |_, value| check(are_protocols(value), TlsErrorKind::Protocols),
    },
    Attribute {
        name: "ciphers",
        is_repeatable: false,
        validate: |_, value| check(is_cipher_grade(value), TlsErrorKind::Ciphers),
    },
    Attribute {
        name: "exclude",
        is_repeatable: false,
        validate: |_, _| Ok(()),
    },
    Attribute {
        name: "tafile",
        is_repeatable: true,
        validate: |level, _| check(level.uses_trusted_cas(), TlsErrorKind::TrustAnchors),
    },
    Attribute {
        name: "connection_reuse",
        is_repeatable: false,
        validate: |_, value| check(is_yes_or_no(value), TlsErrorKind::YesOrNo),
    },
    Attribute {
        name: "enable_rpk",
        is_repeatable: false,
        validate: |_, value| check(is_yes_or_no(value), TlsErrorKind::YesOrNo),
    },
];

fn check(is_valid: bool, kind: TlsErrorKind) -> Result<(), TlsErrorKind> {
    if is_valid { Ok(()) } else { Err(kind) }
}

fn is_one_of(value: &[u8], words: &[&str]) -> bool {
    words
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

fn is_yes_or_no(value: &[u8]) -> bool {
    is_one_of(value, &["yes", "no"])
}

fn is_cipher_grade(value: &[u8]) -> bool {
    is_one_of(value, &["export", "low", "medium", "high", "null"])
}

/// Whether this is a list of protocols: names that are required, or excluded by `!`, or bounds by `>=` and `<=`
/// (`tls_proto_mask_lims` in tls/tls_misc.c). A bound can be a hexadecimal number, as in `>=0303`.
fn are_protocols(list: &[u8]) -> bool {
    const NAMES: [&str; 5] = ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
    let is_name = |word: &[u8]| is_one_of(word, &NAMES) || word.eq_ignore_ascii_case(b"SSLv2");
    let is_bound = |bound: &[u8]| {
        let hexadecimal = bound.strip_prefix(b"0x").or_else(|| bound.strip_prefix(b"0X"));
        let digits = hexadecimal.unwrap_or(bound);
        let is_number = (1..=4).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
        is_number || is_one_of(bound, &NAMES) || bound.eq_ignore_ascii_case(b"None")
    };
    let mut words = list.split(|c| *c == b':').filter(|word| !word.is_empty());
    words.all(|word| {
        let bound = word.strip_prefix(b">=").or_else(|| word.strip_prefix(b"<="));
        bound.map_or_else(|| is_name(word.strip_prefix(b"!").unwrap_or(word)), is_bound)
    })
}
