//! Edits while mail is queued, and connections that several mails share.

use super::relay;
use super::servers::{OTHER_NAME, RECIPIENT_DOMAIN, Relay, Shows};
use super::site::{Files, Form, Options, Site};
use crate::harness::addresses::unused_loopback_address;
use crate::harness::postfix::{DEADLINE, Release, SmtpClient};
use crate::harness::starttls::Offer;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const OLD_LOGIN: &str = "old-user:old-password";
const NEW_LOGIN: &str = "new-user:new-password";

const NEW_HOP: &str = "[new.test]:2587";

const SENDER: &str = "ann@moving.test";

fn files(next_hop: &str, login: &str) -> Files {
    let mut files = Files::default();
    files.add_next_hop("@moving.test", next_hop);
    files.add_login("@moving.test", login);
    files
}

/// A sender moves from port 587 to port 465 of another relay, and back, while its mail is queued.
fn mail_in_flight_gets_the_login_of_its_relay(release: Release, form: Form, connection_reuse: &str) {
    const MAILS: usize = 40;
    let relays = [
        relay("old.test", 587, Offer::Starttls, Shows::Own),
        relay("new.test", 465, Offer::Implicit, Shows::Own),
    ];
    let old = ("old.test", "[old.test]:587", OLD_LOGIN);
    let new = ("new.test", "[new.test]:465", NEW_LOGIN);
    let options = Options {
        parameters: &[
            ("default_destination_concurrency_limit", "2"),
            ("initial_destination_concurrency", "2"),
            ("smtp_tls_connection_reuse", connection_reuse),
        ],
        delay: Duration::from_millis(200),
        ..Options::new(release, form, &relays)
    };
    let site = Site::start(&options, &files(old.1, old.2));
    let mut recipients = Vec::new();
    for (_, next_hop, login) in [new, old] {
        let so_far = site.journal.mails().len();
        // However slowly the mails are submitted, most are queued when the edit comes.
        site.journal.hold_after(MAILS / 2);
        let mut client = SmtpClient::connect(site.postfix.port()).unwrap();
        for _ in 0..MAILS {
            let recipient = format!("to-{}@{RECIPIENT_DOMAIN}", recipients.len());
            client.send(SENDER, &recipient).unwrap();
            recipients.push(recipient);
        }
        let begun = site
            .journal
            .wait(DEADLINE, |seen| (seen.mails.len() > so_far).then_some(()));
        assert!(begun.is_some(), "no mail arrives");
        site.move_to(&files(next_hop, login), SENDER, next_hop);
        let in_flight = recipients.len() - site.journal.mails().len();
        assert!(in_flight >= MAILS / 4, "only {in_flight} mails were in flight");
        site.journal.release();
    }
    let outcomes = site.outcomes(&recipients);
    let arrivals = [old, new].map(|(host, _, login)| format!("{host} as {login}"));
    for (recipient, outcome) in recipients.iter().zip(&outcomes) {
        assert!(arrivals.contains(outcome), "{recipient}: {outcome}");
    }
    for arrival in &arrivals {
        assert!(outcomes.contains(arrival), "no mail arrives at {arrival}");
    }
    site.assert_no_login_but(&[old, new].map(|(host, _, login)| (host, login.to_owned())));
}

/// What happens while Postfix waits for the first relay of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    SenderMoves,
    ServerEnds,
}

/// Accepts one connection at port 587 of this address. Later ones are refused.
fn accept_once(address: Ipv4Addr) -> mpsc::Receiver<TcpStream> {
    let listener = TcpListener::bind((address, 587)).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (connection, _) = listener.accept()?;
        drop(listener);
        drop(sender.send(connection));
        Ok::<_, io::Error>(())
    });
    receiver
}

/// The second relay of the list shows a certificate of an unknown CA. Postfix asks for its policy only when it comes to
/// it.
fn a_relay_is_verified_whatever_happened_since_its_mail_became_active(
    release: Release,
    form: Form,
    meanwhile: Meanwhile,
) {
    let relays = [
        relay("left.test", 587, Offer::Starttls, Shows::OfOtherAuthority),
        relay("new.test", 2587, Offer::Starttls, Shows::Own),
    ];
    let address = unused_loopback_address();
    let silent = accept_once(address);
    let options = Options {
        hosts: &[("silent.test", address)],
        ..Options::new(release, form, &relays)
    };
    let mut site = Site::start(&options, &files("[silent.test]:587, [left.test]:587", OLD_LOGIN));
    let recipients = ["first", "second"].map(|name| format!("{name}@{RECIPIENT_DOMAIN}"));
    site.postfix.send(SENDER, &recipients[0]).unwrap();
    let connection = silent.recv_timeout(DEADLINE).expect("Postfix connects");
    match meanwhile {
        Meanwhile::SenderMoves => site.move_to(&files(NEW_HOP, NEW_LOGIN), SENDER, NEW_HOP),
        Meanwhile::ServerEnds => site.daemon.kill(),
    }
    drop(connection);
    let reason = match meanwhile {
        Meanwhile::SenderMoves => "deferred: Server certificate not verified",
        Meanwhile::ServerEnds => "deferred: client TLS configuration problem",
    };
    assert_eq!(site.outcomes(&recipients[..1]), [reason]);
    site.assert_no_login_but(&[]);
    if meanwhile == Meanwhile::ServerEnds {
        return;
    }

    // qmgr(8) caches the next hop of the last pair of sender and recipient for 30 s, so another mail comes first.
    let arrival = format!("new.test as {NEW_LOGIN}");
    site.postfix.send(SENDER, &recipients[1]).unwrap();
    assert_eq!(site.outcomes(&recipients[1..]), [&*arrival]);
    site.postfix.flush().unwrap();
    site.postfix.wait_for_queue(<[_]>::is_empty).unwrap();
    assert_eq!(site.outcomes(&recipients), [&*arrival, &*arrival]);
    site.assert_no_login_but(&[("new.test", NEW_LOGIN.to_owned())]);
}

/// The relay shows the certificate of another name. Postfix asks for the policy of each mail.
fn an_edit_of_the_tls_file_applies_to_the_next_delivery(release: Release, form: Form) {
    const HOP: &str = "[other-name.test]:587";
    let relays = [relay("other-name.test", 587, Offer::Starttls, Shows::OtherName)];
    let site = Site::start(&Options::new(release, form, &relays), &files(HOP, OLD_LOGIN));
    let recipients = ["first", "second"].map(|name| format!("{name}@{RECIPIENT_DOMAIN}"));
    let refused = "deferred: Server certificate not verified";
    site.postfix.send(SENDER, &recipients[0]).unwrap();
    assert_eq!(site.outcomes(&recipients[..1]), [refused]);
    site.assert_no_login_but(&[]);

    let policy = format!("secure match={OTHER_NAME}");
    site.edit_tls(&format!("{HOP} {policy}\n"), HOP, &policy);
    site.postfix.flush().unwrap();
    let arrived = site.journal.mail_to(&recipients[0], DEADLINE);
    assert!(arrived.is_some(), "the mail is not delivered");
    site.postfix.wait_for_queue(<[_]>::is_empty).unwrap();

    let policy = "secure match=nexthop";
    site.edit_tls(&format!("* {policy}\n"), HOP, policy);
    site.postfix.send(SENDER, &recipients[1]).unwrap();
    assert_eq!(site.outcomes(&recipients[1..]), [refused]);
    let attempts = site.journal.attempts();
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    site.assert_no_login_but(&[("other-name.test", OLD_LOGIN.to_owned())]);
}

/// Four senders at two relays send at the same time. `smtp_tls_connection_reuse` lets a connection carry several mails.
fn mails_that_share_a_connection_have_one_login(release: Release, form: Form) {
    const MAILS: usize = 20;
    let relays: [Relay; 2] = [
        relay("starttls.test", 587, Offer::Starttls, Shows::Own),
        relay("implicit.test", 465, Offer::Implicit, Shows::Own),
    ];
    let senders = [
        ("a1.test", "starttls.test", "[starttls.test]:587"),
        ("a2.test", "implicit.test", "[implicit.test]:465"),
        ("a3.test", "starttls.test", "[starttls.test]:587"),
        ("a4.test", "implicit.test", "[implicit.test]:465"),
    ];
    let mut files = Files::default();
    for (domain, _, next_hop) in senders {
        files.add_next_hop(&format!("@{domain}"), next_hop);
        files.add_login(&format!("@{domain}"), &format!("user:password-of-{domain}"));
    }
    let options = Options {
        parameters: &[
            ("smtp_tls_connection_reuse", "yes"),
            ("default_destination_concurrency_limit", "2"),
        ],
        delay: Duration::from_millis(20),
        ..Options::new(release, form, &relays)
    };
    let site = Site::start(&options, &files);
    let mut recipients = Vec::new();
    let mut expected = Vec::new();
    for number in 0..MAILS {
        for (domain, host, _) in senders {
            let recipient = format!("of-{domain}-{number}@{RECIPIENT_DOMAIN}");
            site.postfix.send(&format!("ann@{domain}"), &recipient).unwrap();
            recipients.push(recipient);
            expected.push(format!("{host} as user:password-of-{domain}"));
        }
    }
    assert_eq!(site.outcomes(&recipients), expected);
    for host in ["starttls.test", "implicit.test"] {
        let connections = site.connections(host);
        assert!(
            connections < MAILS,
            "{} mails at {host} needed {connections} connections",
            2 * MAILS
        );
    }
    let logins = senders.map(|(domain, host, _)| (host, format!("user:password-of-{domain}")));
    site.assert_no_login_but(&logins);
}

macro_rules! with {
    ($($of:ident: $release:expr, $form:expr;)*) => {$(
        mod $of {
            use super::super::{Form, Release};
            use super::Meanwhile;

            #[test]
            #[ignore = "needs root: tests/run-all"]
            fn a_relay_that_its_sender_has_left_is_verified() {
                super::a_relay_is_verified_whatever_happened_since_its_mail_became_active(
                    $release, $form, Meanwhile::SenderMoves,
                );
            }

            #[test]
            #[ignore = "needs root: tests/run-all"]
            fn mail_waits_while_the_policy_of_its_relay_is_unknown() {
                super::a_relay_is_verified_whatever_happened_since_its_mail_became_active(
                    $release, $form, Meanwhile::ServerEnds,
                );
            }

            #[test]
            #[ignore = "needs root: tests/run-all"]
            fn an_edit_of_the_tls_file_applies_to_the_next_delivery() {
                super::an_edit_of_the_tls_file_applies_to_the_next_delivery($release, $form);
            }
        }
    )*};
}

/// These need a service for implicit TLS.
macro_rules! with_implicit_tls {
    ($($of:ident: $release:expr, $form:expr;)*) => {
        mod implicit {
            $(mod $of {
                use super::super::super::{Form, Release};

                #[test]
                #[ignore = "needs root: tests/run-all"]
                fn mail_in_flight_gets_the_login_of_its_relay() {
                    super::super::mail_in_flight_gets_the_login_of_its_relay($release, $form, "no");
                }

                #[test]
                #[ignore = "needs root: tests/run-all"]
                fn mail_in_flight_gets_the_login_of_its_relay_over_shared_connections() {
                    super::super::mail_in_flight_gets_the_login_of_its_relay($release, $form, "yes");
                }

                #[test]
                #[ignore = "needs root: tests/run-all"]
                fn mails_that_share_a_connection_have_one_login() {
                    super::super::mails_that_share_a_connection_have_one_login($release, $form);
                }
            })*
        }
    };
}

with! {
    postfix_3_7_with_two_services: Release::Installed, Form::TwoServices;
    postfix_3_7_with_one_service: Release::Installed, Form::OneService;
    postfix_3_7_with_no_service: Release::Installed, Form::RelayhostAndPolicies;
    postfix_3_10_with_two_services: Release::Debian13, Form::TwoServices;
    postfix_3_10_with_one_service: Release::Debian13, Form::OneService;
    postfix_3_10_with_no_service: Release::Debian13, Form::RelayhostAndPolicies;
}

with_implicit_tls! {
    postfix_3_7_with_two_services: Release::Installed, Form::TwoServices;
    postfix_3_7_with_one_service: Release::Installed, Form::OneService;
    postfix_3_10_with_two_services: Release::Debian13, Form::TwoServices;
    postfix_3_10_with_one_service: Release::Debian13, Form::OneService;
}
