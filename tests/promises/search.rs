//! Promise: for a whole address, the server finds what Postfix would have found in a `hash:` table with the keys: the
//! address, the address without its extension, and the domain, each case-folded, quoted and unquoted.

use crate::harness::client::{Both, Reply};
use crate::harness::daemon::{Daemon, Setup};

/// A daemon whose relay map has, for each of these keys, a next hop with the key's index: `[hop0]`, `[hop1]`, …
fn with_keys(keys: &[&str]) -> (Daemon, Both) {
    Both::start(setup_with_keys(keys))
}

fn setup_with_keys(keys: &[&str]) -> Setup {
    let line = |(place, key)| format!("{key}\t[hop{place}]\n");
    let lines: Vec<String> = keys.iter().enumerate().map(line).collect();
    Setup::new().relaymap(lines.concat())
}

#[track_caller]
fn expect_hop(clients: &mut Both, sender: &str, place: usize) {
    assert_eq!(
        clients.relayhost(sender),
        Reply::Found(format!("[hop{place}]")),
        "{sender:?}"
    );
}

#[track_caller]
fn expect_not_found(clients: &mut Both, sender: &str) {
    assert_eq!(clients.relayhost(sender), Reply::NotFound, "{sender:?}");
}

#[test]
fn the_address_wins_over_the_one_without_extension_and_that_over_the_domain() {
    let (_daemon, mut clients) = with_keys(&["@one.test", "ann@one.test", "ann+news@one.test"]);
    expect_hop(&mut clients, "ann+news@one.test", 2);
    expect_hop(&mut clients, "ann+other@one.test", 1);
    expect_hop(&mut clients, "ann@one.test", 1);
    expect_hop(&mut clients, "bob+news@one.test", 0);
    expect_hop(&mut clients, "@one.test", 0);
    expect_not_found(&mut clients, "ann@two.test");
}

#[test]
fn an_extension_begins_at_the_first_delimiter() {
    let (_daemon, mut clients) = with_keys(&["@one.test", "ann@one.test", "ann+a@one.test"]);
    expect_hop(&mut clients, "ann+a+b@one.test", 1);
    expect_hop(&mut clients, "ann+a@one.test", 2);
    expect_hop(&mut clients, "ann+@one.test", 1);
    // The delimiter is only recognised in the local part.
    let (_daemon, mut clients) = with_keys(&["ann@a.test", "@a"]);
    expect_not_found(&mut clients, "ann@a+b.test");
    expect_not_found(&mut clients, "ann@a.test+c");
}

#[test]
fn no_key_shorter_than_the_domain_is_tried() {
    let (_daemon, mut clients) = with_keys(&["@one.test", "@test", "bob@two.test"]);
    expect_not_found(&mut clients, "ann@sub.one.test");
    expect_not_found(&mut clients, "ann@one.test.example");
    expect_not_found(&mut clients, "ann@two.test");
    expect_not_found(&mut clients, "bob");
    expect_not_found(&mut clients, "one.test");
}

#[test]
fn an_extension_is_not_removed_where_the_local_part_would_become_empty() {
    let (_daemon, mut clients) = with_keys(&["@one.test", "+u@one.test"]);
    expect_hop(&mut clients, "+u@one.test", 1);
    expect_hop(&mut clients, "+u+x@one.test", 0);
    expect_hop(&mut clients, "+x@one.test", 0);
    expect_hop(&mut clients, "+@one.test", 0);
}

#[test]
fn keys_are_case_folded_as_unicode_specifies() {
    let (_daemon, mut clients) = with_keys(&[
        "@straße.test",
        "@ΣΊΣΥΦΟΣ.test",
        "@İ.test",
        "ÜNI@one.test",
        "@ǅ.test",
        "@k.test",
        "@ﬁ.test",
        "@ŉ.test",
        "@МОСКВА.test",
    ]);
    for sender in [
        "a@straße.test",
        "a@STRASSE.TEST",
        "a@STRAẞE.test",
        "a@strasse.test",
        "a@ſtrasse.test",
    ] {
        expect_hop(&mut clients, sender, 0);
    }
    for sender in ["a@σίσυφος.test", "a@σίσυφοσ.test", "a@Σίσυφος.TEST"] {
        expect_hop(&mut clients, sender, 1);
    }
    for sender in ["a@İ.test", "a@i\u{307}.test", "a@I\u{307}.test"] {
        expect_hop(&mut clients, sender, 2);
    }
    expect_not_found(&mut clients, "a@i.test");
    expect_not_found(&mut clients, "a@ı.test");
    for sender in ["üni@one.test", "Üni@ONE.test", "ÜNI+x@one.test"] {
        expect_hop(&mut clients, sender, 3);
    }
    expect_not_found(&mut clients, "uni@one.test");
    for sender in ["a@Ǆ.test", "a@ǆ.test"] {
        expect_hop(&mut clients, sender, 4);
    }
    // The Kelvin sign.
    expect_hop(&mut clients, "a@\u{212a}.test", 5);
    expect_hop(&mut clients, "a@FI.test", 6);
    expect_hop(&mut clients, "a@\u{2bc}n.test", 7);
    expect_hop(&mut clients, "a@москва.test", 8);
    // Case folding is not normalization: a letter and a combining accent do not match the accented letter.
    expect_not_found(&mut clients, "u\u{308}ni@one.test");
}

#[test]
fn values_keep_their_case() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("@One.Test [Relay1.TEST]:587\n")
            .credentials("@One.Test User:PassWord\n"),
    );
    clients.finds("relayhost", "ANN@ONE.TEST", "[Relay1.TEST]:587");
    assert_eq!(clients.sasl("ANN@ONE.TEST"), Reply::found("User:PassWord"));
}

#[test]
fn a_quoted_address_and_the_same_address_unquoted_get_one_answer() {
    let keys = [
        "@one.test",
        "\"john doe\"@one.test",
        "\"a@b\"@one.test",
        "\"back\\\\slash\"@one.test",
        "\"quo\\\"te\"@one.test",
        "\"dots..dots\"@one.test",
    ];
    let (_daemon, mut clients) = with_keys(&keys);
    for (quoted, unquoted, place) in [
        ("\"john doe\"@one.test", "john doe@one.test", 1),
        ("\"John Doe+x\"@one.test", "John Doe+x@one.test", 1),
        ("\"a@b\"@one.test", "a@b@one.test", 2),
        ("\"back\\\\slash\"@one.test", "back\\slash@one.test", 3),
        ("\"quo\\\"te\"@one.test", "quo\"te@one.test", 4),
        ("\"dots..dots\"@one.test", "dots..dots@one.test", 5),
        ("\"some one\"@one.test", "some one@one.test", 0),
    ] {
        expect_hop(&mut clients, quoted, place);
        expect_hop(&mut clients, unquoted, place);
    }
    expect_not_found(&mut clients, "\"john doe\"@two.test");
    expect_not_found(&mut clients, "john doe@two.test");
}

#[test]
fn an_exclusion_applies_to_both_forms_of_an_address() {
    // Postfix requests the quoted form first and, after "not found", the other, which must not get the default.
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("\"john doe\"@one.test\n@one.test [relay1.test]\n\"a b\"@two.test\n")
            .credentials("@one.test user1:secret1\n@two.test user2:secret2\n")
            .env("RELAY_HOST", "default.test"),
    );
    for sender in [
        "\"john doe\"@one.test",
        "john doe@one.test",
        "\"john doe+x\"@one.test",
        "john doe+x@one.test",
        "\"a b\"@two.test",
        "a b@two.test",
        "\"A B+x\"@two.test",
        "A B+x@two.test",
    ] {
        expect_not_found(&mut clients, sender);
        assert_eq!(clients.sasl(sender), Reply::NotFound, "{sender}");
    }
    clients.finds("relayhost", "\"jane doe\"@one.test", "[relay1.test]");
    clients.finds("relayhost", "jane doe@one.test", "[relay1.test]");
}

#[test]
fn unneeded_quotes_make_no_difference() {
    let (_daemon, mut clients) = with_keys(&["@one.test", "\"ann\"@one.test"]);
    for sender in [
        "ann@one.test",
        "\"ann\"@one.test",
        "ann+x@one.test",
        "\"ann+x\"@one.test",
    ] {
        expect_hop(&mut clients, sender, 1);
    }
}

#[test]
fn the_null_sender_is_one_sender_in_both_forms() {
    for key in ["<>", "\"<>\""] {
        let (_daemon, mut clients) = with_keys(&["@one.test", key]);
        expect_hop(&mut clients, "<>", 1);
        expect_hop(&mut clients, "\"<>\"", 1);
    }
    let (_daemon, mut clients) = with_keys(&["@one.test"]);
    expect_not_found(&mut clients, "<>");
    expect_not_found(&mut clients, "\"<>\"");
}

#[test]
fn an_address_literal_is_a_domain() {
    let (_daemon, mut clients) = with_keys(&["@[192.0.2.1]", "ann@[192.0.2.1]", "@[IPv6:2001:DB8::1]"]);
    expect_hop(&mut clients, "bob@[192.0.2.1]", 0);
    expect_hop(&mut clients, "ann+x@[192.0.2.1]", 1);
    expect_hop(&mut clients, "ann@[ipv6:2001:db8::1]", 2);
    expect_not_found(&mut clients, "ann@192.0.2.1");
}

#[test]
fn the_last_at_sign_separates_local_part_and_domain() {
    let (_daemon, mut clients) = with_keys(&["@one.test", "@two.test", "ann@one.test"]);
    expect_hop(&mut clients, "ann@one.test@two.test", 1);
    expect_hop(&mut clients, "x@y@one.test", 0);
    expect_not_found(&mut clients, "ann@one.test@three.test");
}

#[test]
fn postmaster_and_mailer_daemon_are_not_split_but_lose_their_extension() {
    let (_daemon, mut clients) = with_keys(&["@one.test", "postmaster@one.test"]);
    expect_hop(&mut clients, "Postmaster@one.test", 1);
    expect_hop(&mut clients, "postmaster+x@one.test", 1);
    // Even with a delimiter that is in the name, the name is not split.
    let keys = ["@one.test", "mailer@one.test", "double@one.test"];
    let (_daemon, mut clients) = Both::start(setup_with_keys(&keys).arg("--recipient-delimiter=-"));
    for whole in [
        "mailer-daemon@one.test",
        "MAILER-DAEMON@one.test",
        "Double-Bounce@one.test",
    ] {
        expect_hop(&mut clients, whole, 0);
    }
    expect_hop(&mut clients, "mailer-daemons@one.test", 1);
    expect_hop(&mut clients, "double-bounces@one.test", 2);
}

#[test]
fn the_delimiter_can_be_set_in_three_places() {
    let keys = ["@one.test", "ann@one.test"];
    for setup in [
        setup_with_keys(&keys).arg("--recipient-delimiter").arg("="),
        setup_with_keys(&keys).env("POSTMAPD_RECIPIENT_DELIMITER", "="),
        setup_with_keys(&keys).settings("recipient_delimiter = \"=\"\n"),
    ] {
        let (_daemon, mut clients) = Both::start(setup);
        expect_hop(&mut clients, "ann=x@one.test", 1);
        expect_hop(&mut clients, "ann+x@one.test", 0);
    }
}

#[test]
fn with_a_dash_as_delimiter_owner_and_request_addresses_are_not_split() {
    let keys = ["@one.test", "owner@one.test", "list@one.test", "ann@one.test"];
    let (_daemon, mut clients) = Both::start(setup_with_keys(&keys).env("POSTMAPD_RECIPIENT_DELIMITER", "-"));
    for whole in [
        "owner-list@one.test",
        "Owner-list@one.test",
        "list-request@one.test",
        "list-REQUEST@one.test",
    ] {
        expect_hop(&mut clients, whole, 0);
    }
    expect_hop(&mut clients, "list-requests@one.test", 2);
    expect_hop(&mut clients, "ann-x@one.test", 3);
    expect_hop(&mut clients, "ann+x@one.test", 0);
}

#[test]
fn without_a_dash_as_delimiter_owner_and_request_addresses_are_ordinary() {
    let (_daemon, mut clients) = with_keys(&["@one.test", "owner-list@one.test", "list@one.test"]);
    expect_hop(&mut clients, "owner-list+x@one.test", 1);
    expect_hop(&mut clients, "list+x-request@one.test", 2);
}

#[test]
fn several_delimiters_form_a_set() {
    let keys = ["@one.test", "ann@one.test", "ann-a@one.test"];
    let (_daemon, mut clients) = Both::start(setup_with_keys(&keys).arg("--recipient-delimiter").arg("+="));
    expect_hop(&mut clients, "ann+x@one.test", 1);
    expect_hop(&mut clients, "ann=x@one.test", 1);
    expect_hop(&mut clients, "ann=a+b@one.test", 1);
    expect_hop(&mut clients, "ann-a+b@one.test", 2);
    expect_hop(&mut clients, "ann-b@one.test", 0);
}

#[test]
fn credentials_are_searched_in_the_same_way() {
    let (_daemon, mut clients) = Both::start(Setup::new().settings("next_hops = \"main.cf\"\n").credentials(
        "@one.test domain:secret\nann@one.test ann:secret\n\"john doe\"@one.test john:secret\n@STRASSE.test sz:secret\n",
    ));
    for (sender, credential) in [
        ("bob@one.test", "domain:secret"),
        ("ANN+x@One.test", "ann:secret"),
        ("\"john doe+x\"@one.test", "john:secret"),
        ("john doe@one.test", "john:secret"),
        ("x@straße.test", "sz:secret"),
    ] {
        assert_eq!(clients.sasl(sender), Reply::found(credential), "{sender}");
    }
}

#[test]
fn next_hops_and_hosts_are_looked_up_only_whole() {
    let (_daemon, mut clients) = Both::start(Setup::new().credentials(
        "[relay1.test]:587 hop:secret\nrelay2.test host:secret\nann one:secret\n[::1]:25 six:secret\n",
    ));
    assert_eq!(clients.sasl("[RELAY1.test]:587"), Reply::found("hop:secret"));
    assert_eq!(clients.sasl("Relay2.test"), Reply::found("host:secret"));
    assert_eq!(clients.sasl("[::1]:25"), Reply::found("six:secret"));
    for other in [
        "relay1.test",
        "[relay1.test]",
        "relay1.test:587",
        "mx.relay2.test",
        "ann+x",
        "relay2.test:25",
    ] {
        assert_eq!(clients.sasl(other), Reply::NotFound, "{other}");
    }
}
