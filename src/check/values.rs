//! Checks single entries of valid files: marks that other programs leave in a login, values that a protocol cannot
//! carry, and domains that Postfix may query in another form.

use super::{excerpt, warning};
use crate::diagnostics::Finding;
use crate::diagnostics::{Code, Findings, Place};
use crate::lookup::address::{Delimiters, LookupKeys};
use crate::lookup::snapshot::Snapshot;
use crate::lookup::suspicion::Suspicion;
use crate::lookup::table::grammar::{Content, Record};
use crate::lookup::table::{Hit, Table};
use crate::protocol::tcp_table;

/// Warns of a login that is very probably not meant as it is written.
pub(super) fn suspicious_login(record: &Record<'_>) -> Option<Finding> {
    let Content::Value(login) = record.content else {
        return None;
    };
    let (user, password) = login.split_at_checked(memchr::memchr(b':', login)?)?;
    let password = password.strip_prefix(b":").unwrap_or_default();
    let whole = Suspicion::first_in(login).filter(|suspicion| matches!(suspicion, Suspicion::Quoted));
    let (suspicion, what) = whole
        .map(|suspicion| (suspicion, "the value"))
        .or_else(|| Some((Suspicion::first_in(user)?, "the user")))
        .or_else(|| Some((Suspicion::first_in(password)?, "the password")))?;
    Some(
        warning(suspicion.code())
            .message(suspicion.message(what))
            .help(suspicion.help()),
    )
}

/// Warns of a value that is too long for a reply of tcp_table.
pub(super) fn too_long_for_tcp_table(record: &Record<'_>) -> Option<Finding> {
    let Content::Value(value) = record.content else {
        return None;
    };
    (!tcp_table::fits_in_reply(value)).then(too_long_finding)
}

fn too_long_finding() -> Finding {
    warning(Code::TooLongForTcp)
        .message(format!(
            "the value does not fit into a reply of tcp_table ({} bytes, with spaces and non-ASCII bytes \
             percent-encoded)",
            tcp_table::MAX_REPLY
        ))
        .help("use socketmap; over tcp_table, lookups of this value return a temporary error")
}

/// Warns if the login of the default relay is too long for a reply of tcp_table.
pub(super) fn check_default_login(snapshot: &Snapshot, findings: &mut Findings) {
    if snapshot
        .default
        .login()
        .is_some_and(|login| !tcp_table::fits_in_reply(login))
    {
        findings.push(too_long_finding().at(Place::Setting("RELAY_PASSWORD")));
    }
}

/// Warns of a sender whose domain the table has in one of its two forms only: with letters beyond ASCII, or as `xn--`.
pub(super) fn missing_domain_form(table: &Table, record: &Record<'_>) -> Option<Finding> {
    let key = record.key;
    let at = memchr::memrchr(b'@', key)?;
    let (local, domain) = key.split_at_checked(at + 1)?;
    let domain = std::str::from_utf8(domain).ok()?;
    let (other, code, message) = if domain.is_ascii() {
        (
            to_unicode(domain)?,
            Code::DomainWithoutUnicode,
            "the table has this domain only in its xn-- form, and mail with SMTPUTF8 uses the Unicode form",
        )
    } else {
        (
            to_ascii(domain)?,
            Code::DomainWithoutXn,
            "the table has this domain only in its Unicode form, and most mail uses the xn-- form",
        )
    };
    let other_key = [local, other.as_bytes()].concat();
    let keys = LookupKeys::of(&other_key, &Delimiters::default());
    let is_present = !matches!(table.find([keys.whole_key()]), Hit::Absent);
    let help = if excerpt::is_name(key) {
        format!("add the same entry for the domain {other}")
    } else {
        "add the same entry for the other form of the domain".to_owned()
    };
    (!is_present).then(|| warning(code).message(message).help(help))
}

/// Returns the `xn--` form of a domain, if it has one.
fn to_ascii(domain: &str) -> Option<String> {
    let label = |label: &str| {
        if label.is_ascii() {
            return Some(label.to_ascii_lowercase());
        }
        let encoded = punycode::encode(&label.to_lowercase()).ok()?;
        Some(format!("xn--{encoded}"))
    };
    let labels: Option<Vec<String>> = domain.split('.').map(label).collect();
    Some(labels?.join("."))
}

/// Returns the Unicode form of a domain that has an `xn--` label.
fn to_unicode(domain: &str) -> Option<String> {
    let domain = domain.to_ascii_lowercase();
    let label = |label: &str| match label.strip_prefix("xn--") {
        Some(encoded) => punycode::decode(encoded)
            .ok()
            .filter(|decoded| !decoded.is_ascii() && !decoded.chars().any(char::is_control)),
        None => Some(label.to_owned()),
    };
    if !domain.split('.').any(|label| label.starts_with("xn--")) {
        return None;
    }
    let labels: Option<Vec<String>> = domain.split('.').map(label).collect();
    Some(labels?.join("."))
}

#[cfg(test)]
mod tests {
    use super::{to_ascii, to_unicode};

    /// Samples from RFC 3492 and from registries.
    #[test]
    fn a_domain_is_converted_between_its_unicode_and_xn_forms() {
        for (unicode, ascii) in [
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("пример.example", "xn--e1afmkfd.example"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("a.bücher.example", "a.xn--bcher-kva.example"),
        ] {
            assert_eq!(to_ascii(unicode).as_deref(), Some(ascii));
            assert_eq!(to_unicode(ascii).as_deref(), Some(unicode));
        }
        assert_eq!(
            to_ascii("MÜNCHEN.example").as_deref(),
            Some("xn--mnchen-3ya.example")
        );
        for plain in [
            "example.com",
            "xn--a.example",
            "xn--.example",
            "xn--99zzzzzzzzz.example",
        ] {
            assert_eq!(to_unicode(plain), None, "{plain}");
        }
    }
}
