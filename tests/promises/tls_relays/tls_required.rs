//! The header `TLS-Required: no` (RFC 8689), by which a sender asks Postfix 3.10 to verify no certificate.
//!
//! It takes precedence over the policy, so main.cf has `tls_required_enable = no`.

use super::relay;
use super::servers::{RECIPIENT_DOMAIN, Shows};
use super::site::{Files, Form, Options, Site};
use crate::harness::postfix::{Release, SmtpClient};
use crate::harness::starttls::Offer;

/// Senders and their relays, each with STARTTLS and with implicit TLS. The first two relays show a certificate of an
/// unknown CA.
const SENDERS: [(&str, &str, &str); 4] = [
    ("a1.test", "other-ca.test", "[other-ca.test]:587"),
    (
        "a2.test",
        "implicit-other-ca.test",
        "[implicit-other-ca.test]:465",
    ),
    ("a3.test", "starttls.test", "[starttls.test]:587"),
    ("a4.test", "implicit.test", "[implicit.test]:465"),
];

/// Sends a mail with the header from each sender.
fn send(form: Form, parameters: &[(&str, &str)]) -> (Site, Vec<String>) {
    let relays = [
        relay("other-ca.test", 587, Offer::Starttls, Shows::OfOtherAuthority),
        relay(
            "implicit-other-ca.test",
            465,
            Offer::Implicit,
            Shows::OfOtherAuthority,
        ),
        relay("starttls.test", 587, Offer::Starttls, Shows::Own),
        relay("implicit.test", 465, Offer::Implicit, Shows::Own),
    ];
    let mut files = Files::default();
    for (domain, _, next_hop) in SENDERS {
        files.add_next_hop(&format!("@{domain}"), next_hop);
        files.add_login(&format!("@{domain}"), &format!("user:password-of-{domain}"));
    }
    let options = Options {
        parameters,
        ..Options::new(Release::Debian13, form, &relays)
    };
    let site = Site::start(&options, &files);
    let mut client = SmtpClient::connect(site.postfix.port()).unwrap();
    let recipients = SENDERS.map(|(domain, ..)| {
        let recipient = format!("of-{domain}@{RECIPIENT_DOMAIN}");
        for command in [
            &*format!("MAIL FROM:<ann@{domain}>"),
            &*format!("RCPT TO:<{recipient}>"),
            "DATA",
            "From: <ann@client.test>\r\nTLS-Required: no\r\nSubject: a test\r\n\r\nHello.\r\n.",
        ] {
            client.command(command).unwrap();
        }
        recipient
    });
    let outcomes = site.outcomes(&recipients);
    (site, outcomes)
}

/// The server and the login of each of these senders.
fn logins(senders: &[(&'static str, &'static str, &str)]) -> Vec<(&'static str, String)> {
    let login =
        |(domain, host, _): &(&str, &'static str, &str)| (*host, format!("user:password-of-{domain}"));
    senders.iter().map(login).collect()
}

fn arrivals(senders: &[(&'static str, &'static str, &str)]) -> Vec<String> {
    logins(senders)
        .iter()
        .map(|(host, login)| format!("{host} as {login}"))
        .collect()
}

fn the_header_does_not_lower_the_policy(form: Form) {
    let (site, outcomes) = send(form, &[]);
    let refused = "deferred: Server certificate not verified";
    assert_eq!(outcomes[..2], [refused, refused]);
    assert_eq!(outcomes[2..], arrivals(&SENDERS[2..]));
    site.assert_no_login_but(&logins(&SENDERS[2..]));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_header_does_not_lower_the_policy_with_two_services() {
    the_header_does_not_lower_the_policy(Form::TwoServices);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_header_does_not_lower_the_policy_with_one_service() {
    the_header_does_not_lower_the_policy(Form::OneService);
}

/// The control: without `tls_required_enable = no`, a password reaches a server whose certificate does not match.
#[test]
#[ignore = "needs root: tests/run-all"]
fn with_the_default_of_tls_required_enable_the_header_lowers_the_policy() {
    for form in [Form::TwoServices, Form::OneService] {
        let (site, outcomes) = send(form, &[("tls_required_enable", "yes")]);
        assert_eq!(outcomes, arrivals(&SENDERS), "{form:?}");
        site.assert_no_login_but(&logins(&SENDERS));
    }
}

/// Where PLAIN needs a certificate that matches, no password is sent, whatever lowers the policy.
#[test]
#[ignore = "needs root: tests/run-all"]
fn with_plain_mechanisms_only_after_verification_the_header_sends_no_password() {
    for form in [Form::TwoServices, Form::OneService] {
        let parameters = [
            ("tls_required_enable", "yes"),
            ("smtp_sasl_tls_security_options", "noanonymous, noplaintext"),
            ("smtp_sasl_tls_verified_security_options", "noanonymous"),
        ];
        let (site, outcomes) = send(form, &parameters);
        for outcome in &outcomes[..2] {
            assert!(
                outcome.starts_with("deferred: SASL authentication failed"),
                "{form:?}: {outcome}"
            );
        }
        site.assert_no_login_but(&logins(&SENDERS[2..]));
    }
}
