//! A real Postfix sends mail to each relay with the TLS that belongs to it, and no password to a server whose
//! certificate does not match.
//!
//! Each row of [`SENDERS`] is a sender and its relay: what the server in that place does, and what becomes of the mail.
//! All are tried with each [`Release`] of Postfix and in each [`Form`] of main.cf and master.cf. The relays have names
//! in a private DNS, the ports of real ones, and certificates of a CA of the test's own.
//!
//! Every test checks two things: where each mail is, with the reason in Postfix's queue if it is deferred, and that no
//! server received a login but its own.

mod moves;
mod servers;
mod site;
mod tls_required;
mod without_tls_maps;

use crate::harness::postfix::Release;
use crate::harness::starttls::Offer;
use servers::{INNER_DOMAIN, RECIPIENT_DOMAIN, Relay, Shows};
use site::{Files, Form, LOCAL_DOMAIN, Options, Outcome, Site};

const fn relay(host: &'static str, port: u16, offer: Offer, shows: Shows) -> Relay {
    Relay {
        host,
        port,
        offer,
        shows,
    }
}

const RELAYS: [Relay; 18] = [
    relay("starttls.test", 587, Offer::Starttls, Shows::Own),
    relay("implicit.test", 465, Offer::Implicit, Shows::Own),
    relay("implicit-2465.test", 2465, Offer::Implicit, Shows::Own),
    relay("mx.exchanged.test", 587, Offer::Starttls, Shows::Own),
    relay("mx.implicit-exchanged.test", 465, Offer::Implicit, Shows::Own),
    relay("sni.test", 587, Offer::Starttls, Shows::OwnByName),
    relay("implicit-sni.test", 465, Offer::Implicit, Shows::OwnByName),
    relay("other-name.test", 587, Offer::Starttls, Shows::OtherName),
    relay("implicit-other-name.test", 465, Offer::Implicit, Shows::OtherName),
    relay("other-ca.test", 587, Offer::Starttls, Shows::OfOtherAuthority),
    relay(
        "implicit-other-ca.test",
        465,
        Offer::Implicit,
        Shows::OfOtherAuthority,
    ),
    relay("expired.test", 587, Offer::Starttls, Shows::Expired),
    relay("implicit-expired.test", 465, Offer::Implicit, Shows::Expired),
    relay("implicit-default.test", 2526, Offer::Implicit, Shows::Own),
    relay("no-tls.test", 587, Offer::Starttls, Shows::NoTls),
    relay("stripped.test", 587, Offer::Stripped, Shows::Own),
    relay("rejected.test", 587, Offer::Rejected, Shows::Own),
    relay("starttls-2587.test", 2587, Offer::Starttls, Shows::Own),
];

/// Domains without an address. The last one is answered by a DNS server in the middle, which names a server of its own.
const EXCHANGERS: [(&str, &str); 3] = [
    ("exchanged.test", "mx.exchanged.test"),
    ("implicit-exchanged.test", "mx.implicit-exchanged.test"),
    ("forged.test", "starttls.test"),
];

/// What becomes of a mail.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// The server of this name accepts it with the sender's login.
    At(&'static str),
    /// The recipient's own server accepts it without a login.
    Direct,
    /// It stays in the queue, with a reason that contains this text.
    Deferred(&'static str),
}

use Expected::{At, Deferred, Direct};

/// A sender with its own login.
struct Sender {
    /// Empty: the null sender.
    domain: &'static str,
    /// Empty: excluded from relays.
    next_hop: &'static str,
    /// The value for the next hop in `postfix-relay-tls.cf`, if any.
    tls: &'static str,
    expected: Expected,
    /// What becomes of its mail where Postfix has no service for implicit TLS, if that differs.
    without_service: Option<Expected>,
}

const fn sender(
    domain: &'static str,
    next_hop: &'static str,
    tls: &'static str,
    expected: Expected,
    without_service: Option<Expected>,
) -> Sender {
    Sender {
        domain,
        next_hop,
        tls,
        expected,
        without_service,
    }
}

const UNMATCHED: Expected = Deferred("Server certificate not verified");
const NOT_OFFERED: Expected = Deferred("TLS is required, but was not offered by host");
const REJECTED: Expected = Deferred("TLS not available due to temporary reason");
const NO_TLS_YET: Expected = Deferred("Cannot start TLS: handshake failure");
const UNRESOLVED: Expected = Deferred("address resolver failure");

const UNKNOWN_POLICY: Option<Expected> = Some(Deferred("client TLS configuration problem"));

/// The server waits for TLS, and the SMTP client for its greeting.
const SILENCE: Option<Expected> = Some(Deferred("timed out while receiving the initial server greeting"));

/// The sender without entries in the files, whose relay is the default one.
const UNLISTED: &str = "f1.test";
const ENVIRONMENT: [(&str, &str); 5] = [
    ("RELAY_HOST", "implicit-default.test"),
    ("RELAY_PORT", "2526"),
    ("RELAY_USER", "user-of-f1.test"),
    ("RELAY_PASSWORD", "password-of-f1.test"),
    ("RELAY_TLS", "implicit"),
];

#[rustfmt::skip]
const SENDERS: [Sender; 27] = [
    // A certificate that matches.
    sender("a1.test", "[starttls.test]:587", "", At("starttls.test"), None),
    sender("a2.test", "[implicit.test]:465", "", At("implicit.test"), SILENCE),
    sender("a3.test", "[implicit-2465.test]:2465", "implicit", At("implicit-2465.test"), SILENCE),
    sender("a4.test", "exchanged.test:587", "", At("mx.exchanged.test"), None),
    sender("a5.test", "implicit-exchanged.test:465", "", At("mx.implicit-exchanged.test"), SILENCE),
    sender("a6.test", "[sni.test]:587", "", At("sni.test"), None),
    sender("a7.test", "[implicit-sni.test]:465", "", At("implicit-sni.test"), SILENCE),
    sender("a8.test", "[STARTTLS.test]:submission", "", At("starttls.test"), None),
    sender("a9.test", "[implicit.test]:submissions", "secure via=relay-implicit", At("implicit.test"), SILENCE),
    // Of a list, the first server whose certificate matches. An answer has one service, so it cannot be of both modes.
    sender("b1.test", "[no-tls.test]:587, [other-ca.test]:587 [starttls.test]:587", "", At("starttls.test"), None),
    sender("b2.test", "[implicit-other-name.test]:465, [implicit.test]:465", "", At("implicit.test"), SILENCE),
    sender("b3.test", "[starttls.test]:587, [implicit.test]:465", "", UNRESOLVED, Some(At("starttls.test"))),
    // A certificate that does not match.
    sender("c1.test", "[other-name.test]:587", "", UNMATCHED, None),
    sender("c2.test", "[implicit-other-name.test]:465", "", UNMATCHED, SILENCE),
    sender("c3.test", "[other-ca.test]:587", "", UNMATCHED, None),
    sender("c4.test", "[implicit-other-ca.test]:465", "", UNMATCHED, SILENCE),
    sender("c5.test", "[expired.test]:587", "", UNMATCHED, None),
    sender("c6.test", "[implicit-expired.test]:465", "", UNMATCHED, SILENCE),
    sender("c7.test", "forged.test:587", "", UNMATCHED, None),
    // No TLS, or TLS of the wrong kind.
    sender("d1.test", "[no-tls.test]:587", "", NOT_OFFERED, None),
    sender("d2.test", "[stripped.test]:587", "", NOT_OFFERED, None),
    sender("d3.test", "[rejected.test]:587", "", REJECTED, None),
    sender("d4.test", "[starttls-2587.test]:2587", "implicit", NO_TLS_YET, Some(At("starttls-2587.test"))),
    // An invalid line of the TLS file.
    sender("e1.test", "[starttls.test]", "none match=nexthop", UNRESOLVED, UNKNOWN_POLICY),
    // The default relay, the null sender, and a sender that is excluded from relays.
    sender(UNLISTED, "", "", At("implicit-default.test"), SILENCE),
    sender("", "[implicit.test]:smtps", "", At("implicit.test"), SILENCE),
    sender("g1.test", "", "", Direct, None),
];

/// Why a certificate does not match. Postfix's queue has one reason for all of them; its log has the cause.
const CAUSES: [(&str, &str); 7] = [
    ("other-name.test", "hostname mismatch"),
    ("implicit-other-name.test", "hostname mismatch"),
    ("other-ca.test", "untrusted issuer /CN=other-ca"),
    ("implicit-other-ca.test", "untrusted issuer /CN=other-ca"),
    ("expired.test", "certificate has expired"),
    ("implicit-expired.test", "certificate has expired"),
    // Of forged.test.
    ("starttls.test", "hostname mismatch"),
];

impl Sender {
    fn address(&self) -> String {
        if self.domain.is_empty() {
            String::new()
        } else {
            format!("ann@{}", self.domain)
        }
    }

    fn login(&self) -> String {
        format!("user-of-{0}:password-of-{0}", self.domain)
    }

    /// What becomes of its mail in this form.
    fn expected(&self, form: Form) -> Expected {
        match self.without_service {
            Some(expected) if form == Form::RelayhostAndPolicies => expected,
            _ => self.expected,
        }
    }

    /// Adds this sender to the files.
    fn add_to(&self, files: &mut Files) {
        if self.domain == UNLISTED {
            return;
        }
        let (key, login_key) = match self.domain {
            "" => ("<>".to_owned(), self.next_hop.to_owned()),
            domain => (format!("@{domain}"), format!("@{domain}")),
        };
        files.add_next_hop(&key, self.next_hop);
        files.add_login(&login_key, &self.login());
        if !self.tls.is_empty() {
            files.add_tls(self.next_hop, self.tls);
        }
    }
}

/// Compares the outcome of a mail. Returns what is wrong.
fn surprise(form: Form, sender: &Sender, outcome: &Outcome) -> Option<String> {
    let expected = sender.expected(form);
    let is_expected = match expected {
        At(server) => *outcome == format!("{server} as {}", sender.login()),
        Direct => outcome == "mx.recipient.test",
        Deferred(reason) => outcome.starts_with("deferred: ") && outcome.contains(reason),
    };
    (!is_expected).then(|| format!("{}: {outcome}, not {expected:?}", sender.domain))
}

/// The server and the login of each mail that a relay accepts.
fn expected_logins(form: Form) -> Vec<(&'static str, String)> {
    let logins = SENDERS.iter().filter_map(|sender| match sender.expected(form) {
        At(server) => Some((server, sender.login())),
        Direct | Deferred(_) => None,
    });
    logins.collect()
}

fn each_mail_is_sent_only_to_a_server_whose_certificate_matches(options: &Options<'_>) {
    let mut files = Files::default();
    for sender in &SENDERS {
        sender.add_to(&mut files);
    }
    let site = Site::start(options, &files);
    let recipients: Vec<_> = (0..SENDERS.len())
        .map(|number| format!("to-{number}@{RECIPIENT_DOMAIN}"))
        .collect();
    for (sender, recipient) in SENDERS.iter().zip(&recipients) {
        let sender = sender.address();
        if let Err(rejection) = site.postfix.send(&sender, recipient) {
            // smtpd(8) asks for the next hop too. sendmail(1) does not.
            assert!(rejection.to_string().contains("451 4.3.0"), "{rejection}");
            site.postfix.submit(&sender, recipient).unwrap();
        }
    }
    // Mail to these domains leaves by no relay, whether its sender has STARTTLS or implicit TLS.
    let inner: Vec<_> = ["a1.test", "a2.test"]
        .iter()
        .map(|domain| {
            let sender = format!("ann@{domain}");
            let recipient = format!("of-{domain}@{INNER_DOMAIN}");
            site.postfix.send(&sender, &recipient).unwrap();
            site.postfix
                .send(&sender, &format!("daemon@{LOCAL_DOMAIN}"))
                .unwrap();
            recipient
        })
        .collect();

    let outcomes = site.outcomes(&recipients);
    let surprises: Vec<_> = SENDERS
        .iter()
        .zip(&outcomes)
        .filter_map(|(sender, outcome)| surprise(options.form, sender, outcome))
        .collect();
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    let inner = site.outcomes(&inner);
    if options.form == Form::RelayhostAndPolicies {
        // Except that `relayhost` is asked for `relay_domains` too.
        assert_eq!(inner[0], "starttls.test as user-of-a1.test:password-of-a1.test");
        assert!(
            inner[1].contains("timed out while receiving the initial"),
            "{inner:?}"
        );
    } else {
        assert_eq!(inner, ["mx.inner.test", "mx.inner.test"]);
    }
    site.postfix.wait_for_log("(delivered to mailbox)", 2).unwrap();
    let log = site.postfix.log();
    for (host, cause) in CAUSES {
        if options.form == Form::RelayhostAndPolicies && host.contains("implicit") {
            continue;
        }
        let is =
            |line: &str| line.contains(&format!("verification failed for {host}[")) && line.contains(cause);
        assert!(log.lines().any(is), "{host}: {cause}");
    }
    site.assert_no_login_but(&expected_logins(options.form));
}

/// Each promise, with each release, in each form.
macro_rules! with {
    ($($of:ident: $release:expr => {$($module:ident: $form:expr, $chrooted:expr, $parameters:expr;)*})*) => {$(
        mod $of {
            $(mod $module {
                use super::super::{ENVIRONMENT, EXCHANGERS, Form, Options, RELAYS, Release};

                const OPTIONS: Options<'_> = Options {
                    chrooted: $chrooted,
                    parameters: $parameters,
                    exchangers: &EXCHANGERS,
                    environment: &ENVIRONMENT,
                    ..Options::new($release, $form, &RELAYS)
                };

                #[test]
                #[ignore = "needs root: tests/run-all"]
                fn each_mail_is_sent_only_to_a_server_whose_certificate_matches() {
                    super::super::each_mail_is_sent_only_to_a_server_whose_certificate_matches(&OPTIONS);
                }
            })*
        }
    )*};
}

with! {
    postfix_3_7: Release::Installed => {
        two_services: Form::TwoServices, false, &[];
        two_services_chrooted: Form::TwoServices, true, &[];
        two_services_with_shared_connections: Form::TwoServices, true, &[("smtp_tls_connection_reuse", "yes")];
        one_service: Form::OneService, false, &[];
        no_service: Form::RelayhostAndPolicies, true, &[];
    }
    postfix_3_10: Release::Debian13 => {
        two_services: Form::TwoServices, false, &[];
        two_services_chrooted: Form::TwoServices, true, &[];
        two_services_with_shared_connections: Form::TwoServices, true, &[("smtp_tls_connection_reuse", "yes")];
        one_service: Form::OneService, false, &[];
        no_service: Form::RelayhostAndPolicies, true, &[];
    }
}

/// A service that authenticates shows the sender's login to every server, also to that of a domain in `relay_domains`.
/// `postconf --check` reports it, and its commands end it.
#[test]
#[ignore = "needs root: tests/run-all"]
fn with_one_service_mail_to_relay_domains_needs_a_service_that_does_not_authenticate() {
    for release in Release::ALL {
        let sender = &SENDERS[0];
        let mut files = Files::default();
        sender.add_to(&mut files);
        let options = Options {
            parameters: &[("relay_transport", "smtp")],
            ..Options::new(release, Form::OneService, &RELAYS[..1])
        };
        let site = Site::start(&options, &files);
        let send = |user: &str| {
            let recipients = [format!("{user}@{INNER_DOMAIN}")];
            site.postfix.send(&sender.address(), &recipients[0]).unwrap();
            site.outcomes(&recipients)
        };
        let leak = [format!("mx.inner.test as {}", sender.login())];
        assert_eq!(send("first"), leak);
        // First the service, then its login.
        for parameter in ["relay_transport", "smtp_sasl_auth_enable"] {
            let commands = site.commands_for(release, "login-for-relay-domains");
            assert_eq!(commands.len(), 1, "{commands:?}");
            assert!(commands[0].contains(parameter), "{commands:?}");
            site.reconfigure(release, &commands[0]);
        }
        assert_eq!(send("second"), ["mx.inner.test"]);
        assert_eq!(site.commands_for(release, "login-for-relay-domains"), [""; 0]);
    }
}
