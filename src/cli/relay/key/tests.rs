use super::{ArgumentError, KeyErrorKind, credentials_key, key_to_remove, next_hop, sender_key};

fn text(result: Result<Vec<u8>, ArgumentError>) -> Result<String, ArgumentError> {
    result.map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn a_domain_an_address_and_the_null_sender_are_senders() {
    for (argument, key) in [
        ("example.com", "@example.com"),
        ("@example.com", "@example.com"),
        ("Example.COM", "@Example.COM"),
        ("user+x@example.com", "user+x@example.com"),
        ("\"john doe\"@example.com", "\"john doe\"@example.com"),
        ("\"a@b\"@example.com", "\"a@b\"@example.com"),
        ("localhost", "@localhost"),
        ("münchen.example", "@münchen.example"),
        ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("@.example.com", "@.example.com"),
        (".example.com", "@.example.com"),
        ("@*", "@*"),
        ("<>", "<>"),
        ("\"<>\"", "<>"),
    ] {
        assert_eq!(text(sender_key(argument.as_bytes())), Ok(key.to_owned()));
    }
    for (argument, error) in [
        ("", ArgumentError::EmptyDomain),
        ("@", ArgumentError::EmptyDomain),
        ("user@", ArgumentError::EmptyDomain),
        ("example..com", ArgumentError::Domain),
        ("example.com.", ArgumentError::Key(KeyErrorKind::TrailingDot)),
        ("exam ple.com", ArgumentError::Domain),
        ("@exam\nple.com", ArgumentError::ControlInDomain),
        ("a,b", ArgumentError::Key(KeyErrorKind::Separator(','))),
        ("*.example.com", ArgumentError::Wildcard),
        ("@*.example.com", ArgumentError::Wildcard),
        ("user@*", ArgumentError::Wildcard),
        ("user@.example.com", ArgumentError::Wildcard),
        ("@.", ArgumentError::Domain),
        ("@@example.com", ArgumentError::Key(KeyErrorKind::TwoAts)),
        (
            "example.com\u{a0}",
            ArgumentError::Key(KeyErrorKind::Invisible('\u{a0}')),
        ),
        ("mailto:u@e.example", ArgumentError::LocalPart),
        ("'u@e.example'", ArgumentError::Key(KeyErrorKind::Enclosed)),
        ("john doe@example.com", ArgumentError::LocalPart),
        ("#a@example.com", ArgumentError::LocalPart),
        ("\"open@example.com", ArgumentError::LocalPart),
        ("\"a\"b\"@example.com", ArgumentError::LocalPart),
        ("[relay.test]:25", ArgumentError::NextHopForSender),
        ("relay.test:25", ArgumentError::Key(KeyErrorKind::Separator(':'))),
    ] {
        assert_eq!(text(sender_key(argument.as_bytes())), Err(error), "{argument}");
    }
}

#[test]
fn credentials_belong_to_senders_and_to_next_hops() {
    for (argument, is_next_hop, key) in [
        ("example.com", false, "@example.com"),
        ("relay.test", true, "relay.test"),
        ("[relay.test]:587", false, "[relay.test]:587"),
        ("relay.test:587", false, "relay.test:587"),
        ("[2001:db8::1]:25", false, "[2001:db8::1]:25"),
        ("someone@example.com", false, "someone@example.com"),
        ("2001:db8::1", true, "2001:db8::1"),
    ] {
        assert_eq!(
            text(credentials_key(argument.as_bytes(), is_next_hop)),
            Ok(key.to_owned())
        );
    }
    assert_eq!(
        credentials_key(b"<>", false),
        Err(ArgumentError::NullSenderCredentials)
    );
    assert_eq!(credentials_key(b"@*", false), Err(ArgumentError::AnySender));
    assert_eq!(
        credentials_key(b"[a]:25,[b]:25", false),
        Err(ArgumentError::SeveralNextHops)
    );
    assert!(matches!(
        credentials_key(b"[a", false),
        Err(ArgumentError::NextHop(_))
    ));
    assert!(matches!(
        credentials_key(b"a:99999", false),
        Err(ArgumentError::NextHop(_))
    ));
}

#[test]
fn a_host_may_include_brackets_and_one_port() {
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
    assert_eq!(
        joined("relay.test:587", Some("25")),
        Err(ArgumentError::DuplicatePort)
    );
    assert_eq!(joined("dunno", None), Err(ArgumentError::Dunno));
    assert_eq!(joined("https://relay.test", Some("587")), Err(ArgumentError::Url));
    assert_eq!(joined("https://relay.test", None), Err(ArgumentError::Url));
    assert_eq!(
        joined("smtp:[relay.test]:587", None),
        Err(ArgumentError::Transport)
    );
    assert_eq!(
        joined("smtp:[relay.test]", Some("587")),
        Err(ArgumentError::Transport)
    );
    for (host, port) in [
        ("", None),
        ("a", Some("")),
        ("a", Some("0")),
        ("a", Some("text")),
        ("a b", None),
    ] {
        assert!(
            matches!(joined(host, port), Err(ArgumentError::Host(_))),
            "{host}"
        );
    }
}

#[test]
fn an_invalid_entry_can_be_removed() {
    for (argument, is_next_hop, key) in [
        ("example.com", false, "@example.com"),
        ("john doe@example.com", false, "john doe@example.com"),
        ("<>", false, "<>"),
        ("user@", false, "user@"),
        ("[broken", false, "[broken"),
        ("relay.test", true, "relay.test"),
    ] {
        assert_eq!(
            text(key_to_remove(argument.as_bytes(), is_next_hop)),
            Ok(key.to_owned())
        );
    }
    assert_eq!(key_to_remove(b"", true), Err(ArgumentError::EmptyDomain));
    assert_eq!(key_to_remove(b"@", false), Err(ArgumentError::EmptyDomain));
}
