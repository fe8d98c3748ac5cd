//! Next hops: `[host]:port` and its variants. They are validated here and served as written.
//!
//! Postfix parses a next hop in smtp(8), not in its table client, and smtp(8) exits on an invalid one: a single
//! malformed value then throttles all mail for a minute. So every value that is not known to be valid is rejected when
//! the file is read. The rules are those of `host_port(3)` and `valid_hostname(3)`.
//!
//! Limits: a host name must be ASCII (an internationalised one in its A-label form, `xn--…`, because smtp(8) exits on
//! the other if `smtputf8_enable` is off), and a service must be one of the four that every `/etc/services` has. Names
//! are not resolved.

mod validate;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) use validate::{NextHopErrorKind, is_host_name, join_host_and_port, validate};

/// Whether an element is a domain without brackets and port, as is the next hop of direct delivery.
#[must_use]
pub(crate) fn is_bare_domain(element: &[u8]) -> bool {
    !element.iter().any(|c| matches!(c, b'[' | b']' | b':'))
}

/// Whether `text` means *no destination* (`DUNNO` in any case, as in access(5)).
#[must_use]
pub(crate) fn is_dunno(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"DUNNO")
}

/// Returns the elements of a list of next hops. Postfix 3.5 and later try them in order.
pub(crate) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|c| is_separator(*c))
        .filter(|element| !element.is_empty())
}

/// Whether this byte separates the elements of a list.
#[must_use]
pub(crate) fn is_separator(c: u8) -> bool {
    matches!(c, b',' | b' ' | b'\t')
}

/// Returns the server of an element, as Postfix names it when it looks up credentials: without brackets, port and
/// `IPv6:`. `None` if Postfix looks up MX records first, whose hosts are not known here.
#[must_use]
pub(crate) fn server_name(element: &[u8]) -> Option<&[u8]> {
    let (host, _) = host_and_port(element);
    if let Some((tag, v6)) = host.split_at_checked(5)
        && tag.eq_ignore_ascii_case(b"ipv6:")
    {
        return Some(v6);
    }
    let is_without_mx = element.starts_with(b"[") || address(host).is_some();
    is_without_mx.then_some(host)
}

/// Whether this is an IPv6 address without brackets: not a next hop, but Postfix's name for a server at that address.
#[must_use]
pub(crate) fn is_bare_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Splits an element into its host without brackets and its port, if it has one.
#[must_use]
pub(crate) fn host_and_port(element: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (host, rest) = if let Some(inner) = element.strip_prefix(b"[") {
        let close = memchr::memchr(b']', inner).unwrap_or(inner.len());
        let (host, rest) = inner.split_at_checked(close).unwrap_or((inner, &[]));
        (host, rest.strip_prefix(b"]").unwrap_or_default())
    } else {
        let colon = memchr::memchr(b':', element).unwrap_or(element.len());
        element.split_at_checked(colon).unwrap_or((element, &[]))
    };
    (host, rest.strip_prefix(b":"))
}

/// Returns the host of an element in canonical form: an address as formatted by the standard library, a name in lower
/// case without a final dot.
#[must_use]
pub(crate) fn canonical_host(element: &[u8]) -> Vec<u8> {
    let (host, _) = if is_bare_ipv6(element) {
        (element, None)
    } else {
        host_and_port(element)
    };
    match address(host) {
        Some(address) => address.to_string().into_bytes(),
        None => host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase(),
    }
}

/// Whether the hosts of a list seem to have more than one operator: neither equal nor in one domain, as
/// `smtp1.provider.example` and `smtp2.provider.example` are.
#[must_use]
pub(crate) fn has_several_operators(list: &[u8]) -> bool {
    let mut hosts = elements(list).map(canonical_host);
    let Some(first) = hosts.next() else { return false };
    let domain = |host: &[u8]| {
        let is_name = address(host).is_none();
        let at = memchr::memchr(b'.', host).filter(|_| is_name)?;
        let domain = host.get(at + 1..)?;
        domain.contains(&b'.').then(|| domain.to_vec())
    };
    let ends_in = |host: &[u8], domain: &[u8]| {
        host.strip_suffix(domain)
            .is_some_and(|before| before.is_empty() || before.ends_with(b"."))
    };
    let are_related = |one: &[u8], other: &[u8]| {
        one == other
            || domain(one).is_some_and(|domain| ends_in(other, &domain))
            || domain(other).is_some_and(|domain| ends_in(one, &domain))
    };
    hosts.any(|host| !are_related(&first, &host))
}

/// Whether an element has the port of SMTP with implicit TLS (RFC 8314: `submissions`, 465).
#[must_use]
pub(crate) fn uses_implicit_tls(element: &[u8]) -> bool {
    let (_, port) = host_and_port(element);
    port.is_some_and(|port| [&b"465"[..], b"smtps", b"submissions"].contains(&port))
}

/// What is known of the host of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostKind {
    /// A name, which a certificate can have.
    Name,
    /// An address.
    Address,
    /// An address of this machine, or `localhost` (RFC 6761).
    Loopback,
}

/// Returns the kind of the host of an element.
#[must_use]
pub(crate) fn host_kind(element: &[u8]) -> HostKind {
    let (host, _) = host_and_port(element);
    match address(host) {
        Some(address) if address.to_canonical().is_loopback() => HostKind::Loopback,
        Some(_) => HostKind::Address,
        None if host.eq_ignore_ascii_case(b"localhost") => HostKind::Loopback,
        None => HostKind::Name,
    }
}

/// Returns the address that a host is, IPv6 with or without the `IPv6:` of RFC 5321.
fn address(host: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(host).ok()?;
    if let Some((tag, v6)) = text.split_at_checked(5)
        && tag.eq_ignore_ascii_case("ipv6:")
    {
        return v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    // Nearly all hosts are names, and most names do not end in a digit.
    let may_be_v4 = text.ends_with(|c: char| c.is_ascii_digit());
    may_be_v4
        .then(|| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::{
        NextHopErrorKind, canonical_host, elements, has_several_operators, join_host_and_port, validate,
    };

    #[test]
    fn hosts_of_one_operator_are_equal_or_share_a_domain() {
        for list in [
            "[relay1.org]:587",
            "[relay1.org]:587, [relay1.org]:2525",
            "[relay1.org]:587, RELAY1.org",
            "[smtp1.provider.example]:587, [smtp2.provider.example]:587",
            "[smtp.provider.example]:587, [smtp.eu.provider.example]:587",
            "[::1]:25, [IPv6:0:0::1]:26",
        ] {
            assert!(!has_several_operators(list.as_bytes()), "{list}");
        }
        for list in [
            "[relay1.org]:587, [relay9.org]:587",
            "[smtp.a.example]:587 [smtp.b.example]:587",
            "[a]:1, [a]:2, [b]:3",
            "[192.0.2.1]:25, [192.0.2.2]:25",
            "[smtp.a.co.example]:587, [smtp.b.co.example]:587",
            "[smtp.provider.example]:587, [smtp.otherprovider.example]:587",
        ] {
            assert!(has_several_operators(list.as_bytes()), "{list}");
        }
    }

    #[test]
    fn a_host_has_one_canonical_form() {
        for (element, host) in [
            ("[Relay.test]:587", "relay.test"),
            ("relay.test.", "relay.test"),
            ("[IPv6:0:0::1]:25", "::1"),
            ("::1", "::1"),
            ("192.0.2.1:25", "192.0.2.1"),
        ] {
            assert_eq!(canonical_host(element.as_bytes()), host.as_bytes(), "{element}");
        }
    }

    #[test]
    fn next_hops_that_postfix_accepts_are_valid() {
        for text in [
            "[relay1.org]:587",
            "[relay1.org]",
            "relay1.org:587",
            "relay1.org",
            "[192.0.2.1]:2525",
            "192.0.2.1:2525",
            "[::1]:2500",
            "[IPv6:::1]:2500",
            "[ipv6:2001:db8::25]",
            "[a]:smtp",
            "a:submissions",
            "my_relay-1.example:465",
            "[relay1.org]:587, [relay9.org]:587",
            "a b,c,",
            "1relay",
        ] {
            assert_eq!(validate(text.as_bytes()), Ok(()), "{text}");
        }
    }

    /// Values on which smtp(8) exits or panics, and some more.
    #[test]
    fn next_hops_that_make_smtp_exit_are_invalid() {
        for text in [
            "",
            " ",
            ",",
            " , ",
            "[host",
            "host:badservice",
            "host:0",
            "[h]:99999",
            ":",
            ":25",
            "[]",
            "::1",
            "[IPv6:zz]",
            "smtp:[h]:25",
            "inet:h:25",
            "unix:/path",
            "[h]25",
            "h:25x",
            "a..b",
            "-h",
            "user@h",
            "[h]:25;x",
            "host:",
            "[host]:",
            "a.",
            ".a",
            "h:+25",
            "999.1.1.1",
            "12345",
            "münchen.example",
            "[a],[b",
            "a\0b",
            "h-",
            "[a]:Smtp",
            "[ipv6é]",
        ] {
            assert!(validate(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(
            validate(b"2001:db8::1").unwrap_err().kind,
            NextHopErrorKind::BareIpv6
        );
        for text in ["smtp:[h]:25", "inet:h:25", "relay:", "my-relay:[h]", "smtp:h"] {
            let kind = validate(text.as_bytes()).unwrap_err().kind;
            assert_eq!(kind, NextHopErrorKind::Transport, "{text}");
        }
        assert_eq!(validate(b"https://h:25").unwrap_err().kind, NextHopErrorKind::Url);
        assert_eq!(validate(b"relay:99999").unwrap_err().kind, NextHopErrorKind::Port);
        assert_eq!(validate(b"h:smtpd").unwrap_err().kind, NextHopErrorKind::Port);
        let error = validate(b"[a]:25, [b]:0").unwrap_err();
        assert_eq!((error.kind, error.offset), (NextHopErrorKind::Port, 8));
    }

    #[test]
    fn a_host_and_a_port_become_one_next_hop() {
        let joined = |host: &str, port: &str| {
            join_host_and_port(host.as_bytes(), port.as_bytes()).map(|hop| String::from_utf8(hop).unwrap())
        };
        assert_eq!(joined("relay.test", "25").unwrap(), "[relay.test]:25");
        assert_eq!(joined("[relay.test]", "587").unwrap(), "[relay.test]:587");
        assert_eq!(joined("2001:db8::1", "25").unwrap(), "[2001:db8::1]:25");
        assert_eq!(joined("[2001:db8::1]", "25").unwrap(), "[2001:db8::1]:25");
        for (host, kind) in [
            ("[a]:587", NextHopErrorKind::PortInHost),
            ("a:587", NextHopErrorKind::PortInHost),
            ("[2001:db8::1]:587", NextHopErrorKind::PortInHost),
            ("[a]587", NextHopErrorKind::AfterBracket),
            ("smtp://a", NextHopErrorKind::Url),
            ("a, b", NextHopErrorKind::SeveralHosts),
        ] {
            assert_eq!(join_host_and_port(host.as_bytes(), b"25"), Err(kind), "{host}");
        }
        for (host, port) in [
            ("a:587", "25"),
            ("[a]:587", "25"),
            ("[a", "25"),
            ("a", "0"),
            ("a b", "25"),
            ("[]", "1"),
        ] {
            assert!(joined(host, port).is_err(), "{host} {port}");
        }
    }

    #[test]
    fn a_list_is_split_at_commas_and_whitespace() {
        let list: Vec<_> = elements(b"[a]:1, b\t,c,").collect();
        assert_eq!(list, [&b"[a]:1"[..], b"b", b"c"]);
    }
}
