use proptest::prelude::*;

use super::{Delimiters, LookupKeys};

fn keys_with(delimiters: &str, address: &str) -> Vec<String> {
    let mut keys = LookupKeys::default();
    keys.parse(b"Someone+else@before.example", &Delimiters::default());
    keys.parse(address.as_bytes(), &Delimiters::new(delimiters).unwrap());
    keys.of_postfix()
        .map(|key| String::from_utf8(key.to_vec()).unwrap())
        .collect()
}

fn keys(address: &str) -> Vec<String> {
    keys_with("+", address)
}

/// Returns the keys after those that Postfix tries.
fn wildcards(address: &str) -> Vec<String> {
    let keys = LookupKeys::of(address.as_bytes(), &Delimiters::default());
    let others = keys.in_order().skip(keys.of_postfix().count());
    others
        .map(|key| String::from_utf8(key.to_vec()).unwrap())
        .collect()
}

#[test]
fn parents_are_tried_from_the_longest_to_the_shortest_then_any_sender() {
    for address in [
        "User+x@a.B.Example.com",
        "\"john doe\"@a.b.example.COM",
        "@a.b.example.com",
    ] {
        let expected = ["@.b.example.com", "@.example.com", "@.com", "@*"];
        assert_eq!(wildcards(address), expected, "{address}");
    }
    assert_eq!(wildcards("u@example"), ["@*"]);
    assert_eq!(wildcards("u@a.Straße.test"), ["@.strasse.test", "@.test", "@*"]);
    // Only a dot after a label starts a parent, and a key is not tried twice.
    assert_eq!(wildcards("u@.example.com"), ["@.com", "@*"]);
    assert_eq!(wildcards("@.example.com"), ["@.com", "@*"]);
    assert_eq!(wildcards("u@a..b"), ["@..b", "@.b", "@*"]);
    assert_eq!(wildcards("u@a.b."), ["@.b.", "@.", "@*"]);
    for only_itself in ["u@*", "@*"] {
        assert_eq!(wildcards(only_itself).len(), 0, "{only_itself}");
    }
    for literal in ["u@[192.0.2.1]", "u@[IPv6:2001:db8::1]"] {
        assert_eq!(wildcards(literal), ["@*"], "{literal}");
    }
    for without_domain in [
        "<>",
        "user",
        "user@",
        "[relay.example.com]:587",
        "relay.example.com",
    ] {
        assert_eq!(wildcards(without_domain).len(), 0, "{without_domain}");
    }
}

#[test]
fn of_a_domain_with_very_many_labels_only_the_last_parents_are_tried() {
    let tried = wildcards(&format!("u@{}example.com", "a.".repeat(30_000)));
    assert_eq!(tried.len(), super::MAX_PARENTS + 1);
    assert_eq!(tried[super::MAX_PARENTS - 1], "@.com");
    assert_eq!(tried[super::MAX_PARENTS - 2], "@.example.com");
    let tried = wildcards(&format!("u@{}", vec!["x".repeat(1000); 60].join(".")));
    assert_eq!(tried.len(), 2);
    // A name of 255 characters has no more.
    let longest = ["a"; 128].join(".");
    assert_eq!(wildcards(&format!("u@x.{longest}"))[0], format!("@.{longest}"));
}

#[test]
fn an_address_is_tried_whole_then_without_extension_then_by_domain() {
    assert_eq!(
        keys("User+Ext@One.Test"),
        ["user+ext@one.test", "user@one.test", "@one.test"]
    );
    assert_eq!(keys("u+a+b@x.org"), ["u+a+b@x.org", "u@x.org", "@x.org"]);
    assert_eq!(keys("@x.org"), ["@x.org"]);
}

#[test]
fn names_that_postfix_never_splits_have_no_extension() {
    assert_eq!(keys("+u@x.org"), ["+u@x.org", "@x.org"]);
    assert_eq!(keys("postmaster+u@x.org").len(), 3);
    assert_eq!(
        keys_with("-", "Mailer-Daemon@x.org"),
        ["mailer-daemon@x.org", "@x.org"]
    );
    assert_eq!(keys_with("-", "owner-list@x.org").len(), 2);
    assert_eq!(keys_with("-", "list-Request@x.org").len(), 2);
    assert_eq!(keys_with("-", "-request@x.org").len(), 2);
    assert_eq!(
        keys_with("-+", "a+b-c@x.org"),
        ["a+b-c@x.org", "a@x.org", "@x.org"]
    );
    assert_eq!(keys_with("", "a+b@x.org").len(), 2);
}

#[test]
fn quoted_and_unquoted_forms_have_the_same_keys() {
    for (quoted, plain) in [
        (r#""John Doe+x"@x.org"#, "john doe+x@x.org"),
        (r#""a@b"@x.org"#, "a@b@x.org"),
        (r#""a\"b"@x.org"#, r#"a"b@x.org"#),
        (r#""a..b"@x.org"#, "a..b@x.org"),
        (r#""<>""#, "<>"),
    ] {
        assert_eq!(keys(quoted), keys(plain), "{quoted}");
    }
}

#[test]
fn an_address_without_a_whole_quoted_local_part_is_taken_literally() {
    assert_eq!(keys(r#"a"b"c@x.org"#), [r#"a"b"c@x.org"#, "@x.org"]);
    assert_eq!(keys(r#""open@x.org"#), [r#""open@x.org"#, "@x.org"]);
    assert_eq!(keys("user@"), ["user@"]);
    assert_eq!(keys("[Relay1.org]:587"), ["[relay1.org]:587"]);
}

#[test]
fn unicode_is_case_folded_and_other_bytes_as_ascii() {
    assert_eq!(keys("STRASSE@x.org"), keys("straße@X.ORG"));
    assert_eq!(keys("ΣΑΣ@x.org"), keys("σας@x.org"));
    assert_eq!(keys("İ@x.org"), ["i\u{307}@x.org", "@x.org"]);
    let mut bytes = LookupKeys::default();
    bytes.parse(b"M\xFCLLER@x.org", &Delimiters::default());
    assert_eq!(bytes.whole(), b"m\xFCller@x.org");
}

proptest! {
    /// The plain form takes the fast path, the quoted one is split into its parts.
    #[test]
    fn the_fast_path_gives_the_same_keys_as_parsing_the_parts(
        local in "[a-zA-Z@.+=-]{0,6}|postmaster|owner-X|X-request",
        domain in "[a-zA-Z.]{1,6}",
        delimiters in prop::sample::select(vec!["+", "+-", "-", ""]),
    ) {
        let (plain, quoted) = (format!("{local}@{domain}"), format!("\"{local}\"@{domain}"));
        prop_assert_eq!(keys_with(delimiters, &plain), keys_with(delimiters, &quoted));
    }
}
