//! Relays with TLS, by openssl(1), and certificates of the test's own authorities.

use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;

use serde_json::{Value, json};

use super::relay::HOST;
use super::{PASSWORD, USER, error, good, object, sender};
use crate::harness::certificates::{Authority, Certificate, self_signed};
use crate::harness::smtp_server::SmtpServer;
use crate::harness::starttls::{Identity, Offer, TlsProxy};

/// A name in a certificate, which the policy demands of a relay at an address.
const NAME: &str = "relay.test";

/// A relay with TLS, and the server behind that accepts the login.
struct TlsRelay {
    front: TlsProxy,
    behind: SmtpServer,
}

impl TlsRelay {
    fn start(offer: Offer, identity: impl Into<Identity>) -> Self {
        let behind = good();
        let address = SocketAddr::V4(SocketAddrV4::new(HOST, behind.port()));
        let front = TlsProxy::start_with(SocketAddrV4::new(HOST, 0), address, offer, identity);
        Self { front, behind }
    }

    /// What `probe` reports with this policy, and this authority.
    #[track_caller]
    fn probe(&self, policy: &str, authority: &Path, code: i32) -> Value {
        let ca = format!("@a.test --ca {}", authority.display());
        object(&sender(&self.front.next_hop(), policy), &ca, code)
    }

    /// Checks that no password was sent, with TLS or without.
    #[track_caller]
    fn got_no_password(&self) {
        assert_eq!(self.behind.attempts(), []);
        assert_eq!(self.front.auth_in_clear_text(), Vec::<String>::new());
    }
}

fn secure() -> String {
    format!("secure match={NAME} servername={NAME}")
}

/// A certificate that is valid for three months.
fn certificate(authority: &Authority) -> Certificate {
    authority.certificate_for(NAME, 90)
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_relay_whose_certificate_meets_the_policy_gets_the_login_in_both_modes() {
    let authority = Authority::new("known");
    for (offer, policy, before) in [
        (Offer::Starttls, secure(), json!(["PLAIN", "LOGIN"])),
        (Offer::Implicit, format!("implicit {}", secure()), json!([])),
    ] {
        let relay = TlsRelay::start(offer, certificate(&authority));
        let object = relay.probe(&policy, &authority.file(), 0);
        assert_eq!(object["tls"], json!("TLSv1.3"));
        assert_eq!(
            (&object["verified"], &object["login"]),
            (&json!(true), &json!("accepted"))
        );
        assert_eq!(
            (&object["auth_before_tls"], &object["warnings"]),
            (&before, &json!([]))
        );
        let days = object["days_left"].as_i64().unwrap();
        assert!((88..=90).contains(&days), "{object}");
        assert_eq!(relay.behind.attempts()[0].login.password, PASSWORD);
        assert_eq!(relay.behind.attempts()[0].login.user, USER);
        assert_eq!(relay.front.auth_in_clear_text(), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_certificate_that_does_not_meet_the_policy_gets_no_login() {
    let (known, other) = (Authority::new("known"), Authority::new("other"));
    let own = tempfile::tempdir().unwrap();
    for (certificate, policy, reason) in [
        (
            known.certificate_for("another.test", 90),
            secure(),
            "for another name: another.test",
        ),
        (
            known.certificate_for(NAME, 90),
            "secure".to_owned(),
            "for another name: relay.test",
        ),
        (
            known.certificate_for(NAME, 90),
            "secure match=.relay.test".to_owned(),
            "for another name: relay.test",
        ),
        (
            other.certificate_for(NAME, 90),
            secure(),
            "no trusted authority has issued",
        ),
        (self_signed(own.path(), NAME), secure(), "self-signed"),
        (known.expired_certificate(NAME), secure(), "has expired"),
        (
            known.certificate_for(NAME, 90),
            format!("fingerprint match={}", ["00"; 32].join(":")),
            "another key",
        ),
    ] {
        let relay = TlsRelay::start(Offer::Starttls, certificate);
        let object = relay.probe(&policy, &known.file(), 1);
        assert!(error(&object).contains(reason), "{object}");
        assert_eq!(
            (&object["verified"], &object["login"]),
            (&json!(false), &json!("not_tried"))
        );
        relay.got_no_password();
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn levels_that_verify_nothing_get_the_login_with_any_certificate() {
    let (known, other) = (Authority::new("known"), Authority::new("other"));
    for policy in ["may", "encrypt"] {
        let relay = TlsRelay::start(Offer::Starttls, other.expired_certificate("another.test"));
        let object = relay.probe(policy, &known.file(), 0);
        assert_eq!(
            (&object["verified"], &object["login"]),
            (&Value::Null, &json!("accepted"))
        );
        assert!(object["warnings"].to_string().contains("has expired"), "{object}");
        assert_eq!(relay.front.auth_in_clear_text(), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_certificate_that_expires_in_fewer_than_21_days_causes_a_warning() {
    let authority = Authority::new("known");
    for (valid_for, is_warning) in [(10, true), (20, true), (30, false)] {
        let relay = TlsRelay::start(Offer::Starttls, authority.certificate_for(NAME, valid_for));
        let object = relay.probe(&secure(), &authority.file(), 0);
        let is_warned = object["warnings"].to_string().contains("expires in");
        assert_eq!(is_warned, is_warning, "{object}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn names_and_keys_are_matched_as_the_policy_says() {
    let authority = Authority::new("known");
    let certificate = certificate(&authority);
    let wildcard = authority.certificate_for("*.provider.test", 90);
    let other = TlsRelay::start(Offer::Starttls, certificate.clone());
    let shown = other.probe(
        &format!("fingerprint match={}", ["00"; 32].join(":")),
        &authority.file(),
        1,
    );
    // The message has the digest that the entry needs.
    let digest = error(&shown).split_whitespace().last().unwrap().to_owned();
    for (certificate, policy) in [
        (&certificate, format!("fingerprint match={digest}")),
        (
            &certificate,
            format!("verify match=.test:x.test servername={NAME}"),
        ),
        (&wildcard, "secure match=smtp.provider.test".to_owned()),
        (&wildcard, "secure match=.provider.test".to_owned()),
    ] {
        let relay = TlsRelay::start(Offer::Starttls, certificate.clone());
        let object = relay.probe(&policy, &authority.file(), 0);
        assert_eq!(
            (&object["verified"], &object["login"]),
            (&json!(true), &json!("accepted")),
            "{policy}"
        );
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn authorities_are_those_of_the_policy_or_of_the_flag_or_of_the_system() {
    let (known, other) = (Authority::new("known"), Authority::new("other"));
    let relay = TlsRelay::start(Offer::Starttls, certificate(&known));
    let with_file = format!("{} tafile={}", secure(), known.file().display());
    assert_eq!(relay.probe(&with_file, &other.file(), 0)["verified"], json!(true));
    let system = sender(&relay.front.next_hop(), &secure()).env("SSL_CERT_FILE", known.file());
    assert_eq!(object(&system, "@a.test", 0)["verified"], json!(true));
    let missing = format!("{} tafile=/nonexistent.pem", secure());
    let missing = relay.probe(&missing, &known.file(), 75);
    assert!(error(&missing).contains("/nonexistent.pem"), "{missing}");
    // A certificate in the file is trusted itself, with an authority or without.
    let own = tempfile::tempdir().unwrap();
    let certificate = self_signed(own.path(), NAME);
    let relay = TlsRelay::start(Offer::Starttls, certificate.clone());
    assert_eq!(
        relay.probe(&secure(), &certificate.chain, 0)["verified"],
        json!(true)
    );
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_name_that_the_policy_sends_chooses_the_certificate() {
    let authority = Authority::new("known");
    let relay = TlsRelay::start(
        Offer::Starttls,
        Identity {
            shown: authority.certificate_for("default.test", 90),
            by_name: Some((NAME.to_owned(), certificate(&authority))),
            client_authority: None,
        },
    );
    relay.probe(&secure(), &authority.file(), 0);
    relay.probe(&format!("secure match={NAME}"), &authority.file(), 1);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_stripped_or_rejected_starttls_gets_no_login() {
    let authority = Authority::new("known");
    for (offer, reason) in [
        (Offer::Stripped, "does not offer STARTTLS"),
        (Offer::Rejected, "454 4.7.0 TLS not available"),
    ] {
        let relay = TlsRelay::start(offer, certificate(&authority));
        let object = relay.probe(&secure(), &authority.file(), 1);
        assert!(error(&object).contains(reason), "{object}");
        relay.got_no_password();
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_wrong_mode_is_named() {
    let authority = Authority::new("known");
    let starttls = TlsRelay::start(Offer::Starttls, certificate(&authority));
    let object = starttls.probe(&format!("implicit {}", secure()), &authority.file(), 1);
    assert!(error(&object).contains("needs the word starttls"), "{object}");
    starttls.got_no_password();
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn dane_cannot_be_tried_and_gets_no_login() {
    let authority = Authority::new("known");
    for policy in ["dane", "dane-only"] {
        let relay = TlsRelay::start(Offer::Starttls, certificate(&authority));
        let object = relay.probe(policy, &authority.file(), 75);
        assert!(error(&object).contains("DANE cannot be tried"), "{object}");
        assert_eq!(
            (&object["tls"], &object["verified"]),
            (&json!("TLSv1.3"), &Value::Null)
        );
        relay.got_no_password();
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_file_that_is_no_certificate_is_a_usage_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    fs::write(
        &file,
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    super::probe(
        &sender("[127.0.0.1]:1", ""),
        &format!("--all --ca {}", file.display()),
    )
    .exits(2);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_postfix_that_does_not_apply_the_policy_is_named() {
    let authority = Authority::new("known");
    let relay = TlsRelay::start(Offer::Starttls, certificate(&authority));
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("master.cf"), "smtp unix - - n - - smtp\n").unwrap();
    let setup = sender(&relay.front.next_hop(), &secure()).env("MAIL_CONFIG", directory.path());
    let maps = "smtp_tls_policy_maps = socketmap:inet:127.0.0.1:1:tls\n";
    let authorities = format!("smtp_tls_CAfile = {}\n", authority.file().display());
    for (main_cf, note) in [
        (authorities.clone(), Some("smtp_tls_policy_maps is empty")),
        (
            maps.to_owned(),
            Some("smtp_tls_CAfile and smtp_tls_CApath are empty"),
        ),
        (format!("{maps}{authorities}"), None),
    ] {
        let logs_in = "smtp_sasl_auth_enable = yes\nsmtp_sasl_tls_security_options = noanonymous\n";
        let main_cf = format!("compatibility_level = 3.6\n{logs_in}{main_cf}");
        fs::write(directory.path().join("main.cf"), &main_cf).unwrap();
        let line = format!("@a.test --ca {}", authority.file().display());
        let done = super::probe(&setup, &line).exits(0);
        assert_eq!(
            done.stderr.lines().count(),
            usize::from(note.is_some()),
            "{main_cf}{done:?}"
        );
        assert!(
            note.is_none_or(|note| done.stderr.contains(note)),
            "{main_cf}{done:?}"
        );
    }
}
