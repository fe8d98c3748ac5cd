//! With the main.cf of before, which uses neither `transport` nor `tls`, nothing changes.
//!
//! Its level `may` verifies no certificate. These tests are also the control of the others: a password that reaches a
//! server whose certificate does not match is found.

use super::relay;
use super::servers::{RECIPIENT_DOMAIN, Shows};
use super::site::{Files, Form, Options, Site};
use crate::harness::client::Socketmap;
use crate::harness::daemon::{Daemon, RELAYMAP, Setup};
use crate::harness::postfix::Release;
use crate::harness::starttls::Offer;

/// Senders, their next hops, and the server that accepts their mail.
const SENDERS: [(&str, &str, &str); 4] = [
    ("a1.test", "[starttls.test]:587", "starttls.test"),
    ("a2.test", "[other-ca.test]:587", "other-ca.test"),
    // A list for which `transport` has no answer: its servers need different services.
    (
        "a3.test",
        "[starttls.test]:587, [implicit.test]:465",
        "starttls.test",
    ),
    ("a4.test", "", "mx.recipient.test"),
];

/// TLS files: none, one with a policy that `may` is weaker than and a line that is invalid, and one that is no text.
const TLS_FILES: [&str; 3] = [
    "",
    "[other-ca.test]:587 secure\n[starttls.test]:587 none match=nexthop\n",
    "\u{0}\n",
];

fn files(senders: &[(&str, &str, &str)], relay_tls: &str) -> Files {
    let mut files = Files {
        relay_tls: relay_tls.to_owned(),
        ..Files::default()
    };
    for (domain, next_hop, _) in senders {
        files.add_next_hop(&format!("@{domain}"), next_hop);
        files.add_login(&format!("@{domain}"), &format!("user:password-of-{domain}"));
    }
    files
}

/// Compares the deliveries of the senders, and returns the logins. `round` makes each recipient a new one.
#[track_caller]
fn assert_delivered(
    site: &Site,
    senders: &[(&str, &str, &'static str)],
    round: &str,
) -> Vec<(&'static str, String)> {
    let mut recipients = Vec::new();
    let mut expected = Vec::new();
    let mut logins = Vec::new();
    for (domain, next_hop, host) in senders {
        let recipient = format!("{round}-of-{domain}@{RECIPIENT_DOMAIN}");
        site.postfix.send(&format!("ann@{domain}"), &recipient).unwrap();
        recipients.push(recipient);
        if next_hop.is_empty() {
            expected.push((*host).to_owned());
        } else {
            let login = format!("user:password-of-{domain}");
            expected.push(format!("{host} as {login}"));
            logins.push((*host, login));
        }
    }
    assert_eq!(site.outcomes(&recipients), expected);
    logins
}

/// Whatever the TLS file has.
fn answers_and_deliveries_are_as_before(release: Release) {
    let relays = [
        relay("starttls.test", 587, Offer::Starttls, Shows::Own),
        relay("implicit.test", 465, Offer::Implicit, Shows::Own),
        relay("other-ca.test", 587, Offer::Starttls, Shows::OfOtherAuthority),
    ];
    let options = Options::new(release, Form::Relayhost, &relays);
    for relay_tls in TLS_FILES {
        let site = Site::start(&options, &files(&SENDERS, relay_tls));
        for (domain, next_hop, _) in SENDERS {
            let answers = ["relayhost", "sasl"].map(|map| site.lookup(map, &format!("ann@{domain}")));
            let before = [next_hop.to_owned(), format!("user:password-of-{domain}")];
            let before = before.map(|answer| (!next_hop.is_empty()).then_some(answer));
            assert_eq!(answers, before, "{domain} with {relay_tls:?}");
        }
        let mut logins = assert_delivered(&site, &SENDERS, "first");
        if relay_tls.is_empty() {
            // Edits take effect, and take the list with them.
            let mut moved = SENDERS;
            (moved[1].1, moved[1].2) = ("[starttls.test]:587", "starttls.test");
            site.move_to(&files(&moved, ""), "ann@a2.test", "[starttls.test]:587");
            logins.extend(assert_delivered(&site, &moved, "second"));
        }
        site.assert_no_login_but(&logins);
    }
}

/// `transport` has no answer for such a list; a Postfix with this main.cf does not ask it.
#[test]
fn an_edit_with_a_list_of_both_modes_takes_effect() {
    let daemon = Daemon::start(Setup::new().relaymap("@a1.test [x.test]:587\n"));
    let mut client = Socketmap::to(&daemon, 0);
    daemon.replace(
        RELAYMAP,
        "@a1.test [x.test]:587, [y.test]:465\n@a2.test [z.test]:587\n",
    );
    client.eventually_finds("relayhost", "ann@a2.test", "[z.test]:587");
    client.finds("relayhost", "ann@a1.test", "[x.test]:587, [y.test]:465");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn answers_and_deliveries_are_as_before_with_postfix_3_7() {
    answers_and_deliveries_are_as_before(Release::Installed);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn answers_and_deliveries_are_as_before_with_postfix_3_10() {
    answers_and_deliveries_are_as_before(Release::Debian13);
}
