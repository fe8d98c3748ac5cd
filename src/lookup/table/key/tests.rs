use proptest::prelude::*;

use super::{KeyErrorKind, validate, validate_alone};
use crate::lookup::nexthop;
use crate::lookup::table::spec::{CREDENTIALS, Format, RELAY_MAP};

static BOTH: [Format; 2] = [RELAY_MAP.format, CREDENTIALS.format];

fn kind(format: Format, key: &str) -> Option<(KeyErrorKind, usize)> {
    let error = validate(format, key.as_bytes()).err()?;
    Some((error.kind, error.offset))
}

#[test]
fn every_kind_of_sender_is_a_key_of_both_files() {
    for key in [
        "<>",
        "\"<>\"",
        "@example.com",
        "@EXAMPLE.com",
        "@localhost",
        "@my_host-1.example",
        "@123.example",
        "@1.2.3",
        "@xn--mnchen-3ya.example",
        "@münchen.example",
        "@例え.テスト",
        "@نامه\u{200c}ای.example",
        "@l·l.example",
        "@क्षि.example",
        "@.example.com",
        "@.EXAMPLE",
        "@.a-1.b_2.example",
        "@.münchen.example",
        "@[192.0.2.1]",
        "user@example.com",
        "user+x@example.com",
        "üser@example.com",
        "o'neill!#$%&'*+-/=?^_`{|}~@example.com",
        "a.b.c@example.com",
        "*@example.com",
        "user@[192.0.2.1]",
        "user@[IPv6:2001:db8::1]",
        "user@[2001:db8::1]",
        "\"john doe\"@example.com",
        "\"a@b\"@example.com",
        "\"a:b,c\"@example.com",
        "\"a\\\"b\\\\\"@example.com",
        "\"\"@example.com",
        "\"no\u{a0}break\"@example.com",
    ] {
        for format in BOTH {
            assert_eq!(kind(format, key), None, "{key}");
        }
    }
}

#[test]
fn hosts_and_next_hops_are_keys_of_the_credentials_alone() {
    for key in [
        "relay1.org",
        "relay",
        "[relay1.org]",
        "[relay1.org]:587",
        "relay1.org:587",
        "relay1.org:submission",
        "192.0.2.1",
        "[192.0.2.1]:25",
        "::1",
        "2001:db8::1",
        "[2001:db8::1]:25",
        "[IPv6:::1]:2500",
        "[münchen.example]:587",
    ] {
        assert_eq!(kind(CREDENTIALS.format, key), None, "{key}");
        assert!(kind(RELAY_MAP.format, key).is_some(), "{key}");
    }
}

#[test]
fn a_key_that_postfix_never_looks_up_is_invalid() {
    use KeyErrorKind::*;
    for (key, expected, at) in [
        ("@@example.com", TwoAts, 0),
        ("@a.example,@b.example", Separator(','), 10),
        ("u@a.example;v@b.example", Separator(';'), 11),
        ("mailto:u@e.example", LocalPart, 6),
        ("'u@e.example'", Enclosed, 0),
        ("\"@e.example\"", Enclosed, 0),
        ("<u@e.example>", Enclosed, 0),
        ("@example..com", Domain, 9),
        ("@-example.com", Domain, 1),
        ("@exam$ple.com", Domain, 5),
        ("@example.com\u{a0}", Invisible('\u{a0}'), 12),
        ("@example.com\u{a0}[relay]:587", Invisible('\u{a0}'), 12),
        ("@example.com\u{200b}", Invisible('\u{200b}'), 12),
        ("@exa\u{200d}mple.com", Invisible('\u{200d}'), 4),
        ("\u{feff}@example.com", Invisible('\u{feff}'), 0),
        ("@example．com", Punctuation('．'), 8),
        ("‘u@e.example’", Punctuation('’'), 14),
        ("u＠e.example", Punctuation('＠'), 1),
        ("@example.com:[relay]:587", Separator(':'), 12),
        ("@example.com:", Separator(':'), 12),
        ("user@gmail.example:password", Separator(':'), 18),
        ("user@gmail.example=password", Separator('='), 18),
        ("@example.com,[relay]:587", Separator(','), 12),
        ("user@", NoDomain, 4),
        ("@", NoDomain, 0),
        ("@example.com.", TrailingDot, 12),
        ("@.", Domain, 1),
        ("@..example.com", Wildcard, 2),
        ("@.example..com", Domain, 10),
        ("@.example.com.", TrailingDot, 13),
        ("@.[192.0.2.1]", Domain, 1),
        ("@.*", Wildcard, 2),
        ("@*.example.com", Wildcard, 1),
        ("user@.example.com", Wildcard, 5),
        ("user@*", Wildcard, 5),
        ("\"\"@.example.com", Wildcard, 3),
        ("@@.example.com", TwoAts, 0),
        ("*", Wildcard, 0),
        ("*.example.com", Wildcard, 0),
        (".example.com", Wildcard, 0),
        ("user@[999.0.2.1]", AddressLiteral, 5),
        (".a@example.com", LocalPart, 0),
        ("a.@example.com", LocalPart, 1),
        ("a..b@example.com", LocalPart, 2),
        ("a\"b\"c@example.com", LocalPart, 1),
        ("\"a\".\"b\"@example.com", LocalPart, 0),
        ("$ANSIBLE_VAULT;1.1;AES256", Encrypted, 0),
        ("<<<<<<<", MergeConflict, 0),
        ("=======", MergeConflict, 0),
        (">>>>>>>", MergeConflict, 0),
    ] {
        for format in BOTH {
            assert_eq!(kind(format, key), Some((expected, at)), "{key}");
        }
    }
    for (key, of_relay_map, of_credentials) in [
        ("user:password", NoSender, NeitherSenderNorHost),
        ("null", NoSender, OneWord),
        ("-", NoSender, NeitherSenderNorHost),
        ("{", NoSender, NeitherSenderNorHost),
        (
            "QGRvbWFpbjEuY29tIFtyZWxheTEub3JnXTo1ODc=",
            NoSender,
            NeitherSenderNorHost,
        ),
        ("66386439653236336462626566653063", NoSender, NeitherSenderNorHost),
        ("[a]:25,[b]:25", NextHop, SeveralNextHops),
        ("example..com", NoSender, NeitherSenderNorHost),
    ] {
        assert_eq!(kind(RELAY_MAP.format, key), Some((of_relay_map, 0)), "{key}");
        let alone = validate_alone(CREDENTIALS.format, key.as_bytes()).map_err(|error| error.kind);
        assert_eq!(alone, Err(of_credentials), "{key}");
    }
    assert_eq!(kind(RELAY_MAP.format, "example.com"), Some((BareDomain, 0)));
    assert_eq!(kind(RELAY_MAP.format, "@*"), None);
    assert_eq!(kind(CREDENTIALS.format, "@*"), Some((AnySender, 0)));
    assert_eq!(kind(RELAY_MAP.format, "@@*"), Some((TwoAts, 0)));
    for not_utf8 in [&b"@m\xFCnchen.example"[..], b"m\xFCnchen.example"] {
        let error = validate(CREDENTIALS.format, not_utf8).unwrap_err();
        assert_eq!(error.kind, NotUtf8);
    }
    assert_eq!(validate(RELAY_MAP.format, b"m\xFCller@example.com"), Ok(()));
}

#[test]
fn an_error_shows_nothing_of_the_key_and_says_what_to_do() {
    for key in [
        "user:s3cr3t",
        "user@a.example:s3cr3t",
        "s3cr3t",
        "s3cr3t@",
        "s3..cr3t@a.example",
        "@s3cr3t..example",
    ] {
        for format in BOTH {
            let Err(error) = validate_alone(format, key.as_bytes()) else {
                panic!("{key}");
            };
            let message = format!("{error}; {}", error.kind.help(format));
            assert!(
                !message.contains("s3") && !error.kind.help(format).is_empty(),
                "{message}"
            );
        }
    }
}

/// `quote_822_local(3)`: quoted unless it is a dot-string, with a backslash before quotes and backslashes.
fn as_postfix_looks_up(local: &str, domain: &str) -> String {
    let is_special = |c: char| c.is_ascii_control() || " ()<>@,;:\\\"[]".contains(c);
    let is_dot_string = !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && !local.contains(is_special);
    if is_dot_string {
        return format!("{local}@{domain}");
    }
    let quoted = local.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{quoted}\"@{domain}")
}

fn domains() -> impl Strategy<Value = String> {
    let label = "[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,8}[a-zA-Z0-9_])?|[à-öα-ωа-я一-五]{1,5}";
    let name = prop::collection::vec(label, 1..4).prop_map(|labels| labels.join("."));
    let literal = prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|address| format!("[{address}]")),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[IPv6:{address}]")),
    ];
    prop_oneof![4 => name, 1 => literal]
}

proptest! {
    /// The first form in which Postfix looks up a sender, its domain, and the forms of hosts and next hops.
    #[test]
    fn every_key_that_postfix_can_look_up_is_valid(
        local in "[ -~é一😀]{0,8}|[a-z.+]{1,8}",
        domain in domains(),
        port in 1_u16..,
    ) {
        for format in BOTH {
            for key in [as_postfix_looks_up(&local, &domain), format!("@{domain}")] {
                prop_assert_eq!(kind(format, &key), None, "{}", key);
                prop_assert!(validate_alone(format, key.as_bytes()).is_ok());
            }
        }
        let next_hops = [
            domain.clone(),
            format!("[{domain}]"),
            format!("[{domain}]:{port}"),
            format!("{domain}:{port}"),
        ];
        for next_hop in next_hops {
            if nexthop::validate(next_hop.as_bytes()).is_err() {
                continue;
            }
            prop_assert_eq!(kind(CREDENTIALS.format, &next_hop), None, "{}", next_hop);
            let server = nexthop::server_name(next_hop.as_bytes()).unwrap_or(domain.as_bytes());
            prop_assert!(validate(CREDENTIALS.format, server).is_ok());
        }
    }

    /// The offset is that of a character, or 0 in an empty key.
    #[test]
    fn an_error_points_into_the_key(key in "[@a.:\\[\\]\"'<>,*é\u{a0}-]{0,9}") {
        for format in BOTH {
            if let Err(error) = validate(format, key.as_bytes()) {
                prop_assert!(error.offset == 0 || error.offset < key.len());
                prop_assert!(key.is_char_boundary(error.offset));
            }
        }
    }
}
