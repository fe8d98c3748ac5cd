use proptest::prelude::*;

use super::{Level, Mode, ServiceName, TlsErrorKind, TlsSetting, computed, parse};

fn parsed(value: &str) -> (Option<Mode>, Option<(Level, String)>, Option<String>) {
    let setting = parse(value.as_bytes()).unwrap_or_else(|error| panic!("{value}: {error}"));
    let policy = setting
        .policy
        .map(|policy| (policy.level, String::from_utf8(policy.text.to_vec()).unwrap()));
    (
        setting.mode,
        policy,
        setting.service.map(|service| service.to_string()),
    )
}

#[test]
fn a_value_has_a_mode_a_policy_and_a_service_each_optional() {
    let policy = |level, text: &str| Some((level, text.to_owned()));
    assert_eq!(parsed("implicit"), (Some(Mode::Implicit), None, None));
    assert_eq!(parsed("STARTTLS"), (Some(Mode::Starttls), None, None));
    assert_eq!(parsed("none"), (None, policy(Level::None, "none"), None));
    assert_eq!(parsed("VIA=relay-2"), (None, None, Some("relay-2".to_owned())));
    assert_eq!(
        parsed("Implicit, Secure match=a.example,  Match=.b.example servername=nexthop via=relay_x"),
        (
            Some(Mode::Implicit),
            policy(
                Level::Secure,
                "Secure match=a.example,  Match=.b.example servername=nexthop"
            ),
            Some("relay_x".to_owned())
        )
    );
}

#[test]
fn what_postfix_refuses_and_what_would_never_deliver_is_an_error() {
    for (value, kind, offset) in [
        ("", TlsErrorKind::Empty, 0),
        (" , ", TlsErrorKind::Empty, 0),
        ("secure match=a\rb", TlsErrorKind::Control, 14),
        ("fingerprint match=3D\u{1}", TlsErrorKind::Control, 20),
        ("secur", TlsErrorKind::Word, 0),
        ("secure match", TlsErrorKind::Word, 7),
        ("secure implicit", TlsErrorKind::LateMode, 7),
        ("implicit starttls", TlsErrorKind::LateMode, 9),
        ("verify secure", TlsErrorKind::SecondLevel, 7),
        ("match=nexthop secure", TlsErrorKind::BeforeLevel, 0),
        ("implicit match=nexthop", TlsErrorKind::BeforeLevel, 9),
        ("via=a secure", TlsErrorKind::AfterService, 6),
        ("via=a via=b", TlsErrorKind::AfterService, 6),
        ("via=", TlsErrorKind::Service, 0),
        ("via=:", TlsErrorKind::Service, 0),
        ("via=-a", TlsErrorKind::Service, 0),
        ("via=smtp:", TlsErrorKind::Service, 0),
        ("secure verify_depth=3", TlsErrorKind::UnknownAttribute, 7),
        ("secure =a", TlsErrorKind::UnknownAttribute, 7),
        ("secure match=", TlsErrorKind::NoValue, 7),
        ("secure ciphers=high ciphers=low", TlsErrorKind::Repeated, 20),
        ("none ciphers=high", TlsErrorKind::NoAttributes, 5),
        ("encrypt match=a", TlsErrorKind::Match, 8),
        ("dane-only match=a", TlsErrorKind::Match, 10),
        ("fingerprint match=a tafile=/a", TlsErrorKind::TrustAnchors, 20),
        ("fingerprint", TlsErrorKind::FingerprintWithoutMatch, 0),
        (
            "fingerprint ciphers=high",
            TlsErrorKind::FingerprintWithoutMatch,
            0,
        ),
        ("secure protocols=TLSv1.4", TlsErrorKind::Protocols, 7),
        ("secure protocols=>=SSLv2", TlsErrorKind::Protocols, 7),
        ("secure protocols=!SSLv2, !SSLv3", TlsErrorKind::Word, 25),
        ("secure ciphers=best", TlsErrorKind::Ciphers, 7),
        ("secure servername=a..b", TlsErrorKind::ServerName, 7),
        ("secure connection_reuse=maybe", TlsErrorKind::YesOrNo, 7),
        ("secure enable_rpk=1", TlsErrorKind::YesOrNo, 7),
        ("implicit none", TlsErrorKind::ImplicitWithoutTls, 0),
        ("implicit may", TlsErrorKind::ImplicitWithoutTls, 0),
        ("implicit dane", TlsErrorKind::ImplicitWithoutTls, 0),
    ] {
        let error = parse(value.as_bytes()).expect_err(value);
        assert_eq!((error.kind, error.offset), (kind, offset), "{value}");
    }
}

#[test]
fn what_postfix_accepts_is_valid() {
    for value in [
        "may",
        "encrypt protocols=>=TLSv1.2",
        "encrypt protocols=!SSLv2:!SSLv3:tlsv1.3",
        "encrypt protocols=>=0303:<=0x304",
        "verify match=hostname:nexthop ciphers=HIGH exclude=aNULL:MD5",
        "secure match=a match=b tafile=/a tafile=/b",
        "fingerprint match=3D:95|4E:01 match=EC:3B",
        "implicit fingerprint match=3D:95",
        "implicit dane-only",
        "dane connection_reuse=no enable_rpk=YES",
    ] {
        parse(value.as_bytes()).unwrap_or_else(|error| panic!("{value}: {error}"));
    }
}

#[test]
fn the_name_of_a_service_cannot_make_an_answer_that_stops_mail() {
    for name in ["smtp", "relay-implicit", "a_b", "4"] {
        assert_eq!(ServiceName::try_from(name).unwrap().as_str(), name);
    }
    for name in [
        "", ":", " smtp", "smtp ", "-a", "_a", "a:b", "a,b", "ä", "a\0", "a\n",
    ] {
        assert!(ServiceName::try_from(name).is_err(), "{name:?}");
    }
}

#[test]
fn a_next_hop_without_a_policy_has_the_strictest_that_can_hold() {
    let brackets = "secure match=nexthop servername=hostname";
    for (next_hop, starttls, implicit) in [
        ("[relay1.org]:587", brackets, brackets),
        ("[relay1.org]", brackets, brackets),
        (
            "relay1.org:587",
            "secure servername=hostname",
            "secure servername=hostname",
        ),
        (
            "relay1.org",
            "secure servername=hostname",
            "secure servername=hostname",
        ),
        ("[192.0.2.1]:25", "encrypt", "encrypt"),
        ("192.0.2.1", "encrypt", "encrypt"),
        ("[IPv6:2001:db8::1]:25", "encrypt", "encrypt"),
        ("[127.0.0.9]:25", "may", "encrypt"),
        ("[::1]:25", "may", "encrypt"),
        ("[::ffff:127.0.0.1]:25", "may", "encrypt"),
        ("[localhost]:25", "may", "encrypt"),
    ] {
        let policy = |mode| std::str::from_utf8(computed(next_hop.as_bytes(), mode)).unwrap();
        assert_eq!(policy(Mode::Starttls), starttls, "{next_hop}");
        assert_eq!(policy(Mode::Implicit), implicit, "{next_hop}");
        for mode in [Mode::Starttls, Mode::Implicit] {
            let setting = parse(policy(mode).as_bytes()).unwrap();
            assert!(!setting.conflicts_with(mode), "{next_hop}");
        }
    }
}

#[test]
fn the_ports_of_implicit_tls_are_those_of_submissions() {
    for next_hop in ["[a]:465", "a:smtps", "[a]:submissions"] {
        assert_eq!(Mode::of_port(next_hop.as_bytes()), Mode::Implicit, "{next_hop}");
    }
    for next_hop in ["[a]:587", "[a]", "a", "[a]:2465", "[a]:4650", "[a]:submission"] {
        assert_eq!(Mode::of_port(next_hop.as_bytes()), Mode::Starttls, "{next_hop}");
    }
}

fn value() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "implicit",
        "starttls",
        "none",
        "may",
        "dane",
        "encrypt",
        "secure",
        "fingerprint",
        "match=a",
        "match=",
        "ciphers=high",
        "tafile=/a",
        "servername=hostname",
        "protocols=>=TLSv1.2",
        "via=a-b",
        "via=:",
        "=",
        "é",
    ]);
    let separator = prop::sample::select(vec![" ", ", ", "\t", ",,", ""]);
    prop::collection::vec((word, separator), 0..6).prop_map(|words| {
        words
            .into_iter()
            .flat_map(|(word, separator)| [word, separator])
            .collect()
    })
}

proptest! {
    /// A policy is answered as written, and what is answered says what was parsed.
    #[test]
    fn a_policy_parses_again_to_itself(value in value()) {
        if let Ok(TlsSetting { policy: Some(policy), .. }) = parse(value.as_bytes()) {
            let again = parse(&policy.text).unwrap();
            prop_assert_eq!(again, TlsSetting { policy: Some(policy), ..TlsSetting::default() });
        }
    }

    /// The position of an error is that of a word.
    #[test]
    fn an_error_is_inside_of_the_value(value in value()) {
        if let Err(error) = parse(value.as_bytes()) {
            prop_assert!(error.offset == 0 || value.len() > error.offset);
        }
    }
}
