use super::{KeyErrorKind, Refused, next_hop, of_credentials, sender, to_remove};

fn text(result: Result<Vec<u8>, Refused>) -> Result<String, Refused> {
    result.map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn a_domain_an_address_and_the_null_sender_are_senders() {
    for (typed, key) in [
        ("example.com", "@example.com"),
        ("@example.com", "@example.com"),
        ("Example.COM", "@Example.COM"),
        ("user+x@example.com", "user+x@example.com"),
        ("\"john doe\"@example.com", "\"john doe\"@example.com"),
        ("\"a@b\"@example.com", "\"a@b\"@example.com"),
        ("localhost", "@localhost"),
        ("münchen.example", "@münchen.example"),
        ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("<>", "<>"),
        ("\"<>\"", "<>"),
    ] {
        assert_eq!(text(sender(typed.as_bytes())), Ok(key.to_owned()));
    }
    for (typed, refused) in [
        ("", Refused::EmptyDomain),
        ("@", Refused::EmptyDomain),
        ("user@", Refused::EmptyDomain),
        ("example..com", Refused::Domain),
        (".example.com", Refused::Key(KeyErrorKind::Wildcard)),
        ("example.com.", Refused::Key(KeyErrorKind::TrailingDot)),
        ("exam ple.com", Refused::Domain),
        ("@exam\nple.com", Refused::ControlInDomain),
        ("a,b", Refused::Key(KeyErrorKind::Separator(','))),
        ("*", Refused::Key(KeyErrorKind::Wildcard)),
        ("*.example.com", Refused::Key(KeyErrorKind::Wildcard)),
        ("@.example.com", Refused::Key(KeyErrorKind::Wildcard)),
        ("@@example.com", Refused::Key(KeyErrorKind::TwoAts)),
        (
            "example.com\u{a0}",
            Refused::Key(KeyErrorKind::Invisible('\u{a0}')),
        ),
        ("mailto:u@e.example", Refused::LocalPart),
        ("'u@e.example'", Refused::Key(KeyErrorKind::Enclosed)),
        ("john doe@example.com", Refused::LocalPart),
        ("#a@example.com", Refused::LocalPart),
        ("\"open@example.com", Refused::LocalPart),
        ("\"a\"b\"@example.com", Refused::LocalPart),
        ("[relay.test]:25", Refused::NextHopForSender),
        ("relay.test:25", Refused::Key(KeyErrorKind::Separator(':'))),
    ] {
        assert_eq!(text(sender(typed.as_bytes())), Err(refused), "{typed}");
    }
}

#[test]
fn credentials_are_of_senders_and_of_next_hops() {
    for (typed, is_next_hop, key) in [
        ("example.com", false, "@example.com"),
        ("relay.test", true, "relay.test"),
        ("[relay.test]:587", false, "[relay.test]:587"),
        ("relay.test:587", false, "relay.test:587"),
        ("[2001:db8::1]:25", false, "[2001:db8::1]:25"),
        ("someone@example.com", false, "someone@example.com"),
        ("2001:db8::1", true, "2001:db8::1"),
    ] {
        assert_eq!(
            text(of_credentials(typed.as_bytes(), is_next_hop)),
            Ok(key.to_owned())
        );
    }
    assert_eq!(of_credentials(b"<>", false), Err(Refused::NullSenderCredentials));
    assert_eq!(
        of_credentials(b"[a]:25,[b]:25", false),
        Err(Refused::SeveralNextHops)
    );
    assert!(matches!(of_credentials(b"[a", false), Err(Refused::NextHop(_))));
    assert!(matches!(
        of_credentials(b"a:99999", false),
        Err(Refused::NextHop(_))
    ));
}

#[test]
fn a_host_may_come_with_brackets_or_a_port_and_not_with_two() {
    let joined = |host: &str, port: Option<&str>| text(next_hop(host.as_bytes(), port.map(str::as_bytes)));
    for (host, port, expected) in [
        ("relay.test", None, "[relay.test]:25"),
        ("relay.test", Some("587"), "[relay.test]:587"),
        ("[relay.test]", Some("587"), "[relay.test]:587"),
        ("[relay.test]:465", None, "[relay.test]:465"),
        ("relay.test:587", None, "[relay.test]:587"),
        ("2001:db8::1", None, "[2001:db8::1]:25"),
        ("[2001:db8::1]:26", None, "[2001:db8::1]:26"),
        ("relay.test", Some("submission"), "[relay.test]:submission"),
    ] {
        assert_eq!(joined(host, port), Ok(expected.to_owned()));
    }
    assert_eq!(joined("relay.test:587", Some("25")), Err(Refused::PortTwice));
    assert_eq!(joined("dunno", None), Err(Refused::Dunno));
    assert_eq!(joined("https://relay.test", Some("587")), Err(Refused::Url));
    assert_eq!(joined("https://relay.test", None), Err(Refused::Url));
    assert_eq!(joined("smtp:[relay.test]:587", None), Err(Refused::Transport));
    assert_eq!(joined("smtp:[relay.test]", Some("587")), Err(Refused::Transport));
    for (host, port) in [
        ("", None),
        ("a", Some("")),
        ("a", Some("0")),
        ("a", Some("text")),
        ("a b", None),
    ] {
        assert!(matches!(joined(host, port), Err(Refused::Host(_))), "{host}");
    }
}

#[test]
fn what_is_to_go_may_be_written_wrongly() {
    for (typed, is_next_hop, key) in [
        ("example.com", false, "@example.com"),
        ("john doe@example.com", false, "john doe@example.com"),
        ("<>", false, "<>"),
        ("user@", false, "user@"),
        ("[broken", false, "[broken"),
        ("relay.test", true, "relay.test"),
    ] {
        assert_eq!(text(to_remove(typed.as_bytes(), is_next_hop)), Ok(key.to_owned()));
    }
    assert_eq!(to_remove(b"", true), Err(Refused::EmptyDomain));
    assert_eq!(to_remove(b"@", false), Err(Refused::EmptyDomain));
}
