//! What the certificate of a relay is worth: its chain, its names and its expiry, as Postfix evaluates them.
//!
//! Limits: a certificate without a DNS name in its subjectAltName has no name here, while OpenSSL takes the common name.
//! RSA keys below 2048 bits and signatures with SHA-1 are rejected.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::authorities::Authorities;
use super::policy::{Demand, Pattern};
use super::shown;
use crate::os::printable::enumeration;

/// The number of seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// The maximum number of names that a message shows.
const MAX_NAMES_SHOWN: usize = 5;

/// A moment after every validity: the last one that a certificate can name is in the year 9999.
const AFTER_EVERY_VALIDITY: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX >> 1));

/// The names that `match=` refers to.
pub(super) struct Names<'a> {
    pub(super) host: &'a str,
    pub(super) next_hop: &'a str,
}

/// What a certificate is worth.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Evaluation {
    /// The days until it expires; negative if it has expired. `None` if it cannot be parsed.
    pub(super) days_left: Option<i64>,
    /// Why it does not meet the demand, if so.
    pub(super) error: Option<String>,
}

/// Evaluates the certificates that a relay has sent, its own first.
pub(super) fn evaluate(
    chain: &[CertificateDer<'_>],
    demand: &Demand,
    names: &Names<'_>,
    authorities: &Authorities,
    now: UnixTime,
) -> Evaluation {
    let Some((own, issuers)) = chain.split_first() else {
        return Evaluation {
            days_left: None,
            error: (*demand != Demand::Nothing).then(|| "the relay has no certificate".to_owned()),
        };
    };
    let certificate = match EndEntityCert::try_from(own) {
        Ok(certificate) => certificate,
        Err(error) => {
            return Evaluation {
                days_left: None,
                error: (*demand != Demand::Nothing)
                    .then(|| format!("the certificate cannot be parsed: {error}")),
            };
        }
    };
    let days_left = days_left(&certificate, now);
    let error = match demand {
        Demand::Nothing | Demand::Dane => None,
        Demand::Digests(digests) => digest_error(own, &certificate, digests),
        Demand::Names(patterns) => chain_error(own, &certificate, issuers, days_left, authorities, now)
            .or_else(|| name_error(&certificate, patterns, names)),
    };
    Evaluation { days_left, error }
}

/// Returns the days until the certificate expires. The library reports the date only of a certificate that has expired.
fn days_left(certificate: &EndEntityCert<'_>, now: UnixTime) -> Option<i64> {
    let verified = certificate.verify_for_usage(
        &[],
        &[],
        &[],
        AFTER_EVERY_VALIDITY,
        KeyUsage::server_auth(),
        None,
        None,
    );
    match verified {
        Err(Error::CertExpired { not_after, .. }) => {
            let seconds = i64::try_from(not_after.as_secs()).ok()? - i64::try_from(now.as_secs()).ok()?;
            Some(seconds.div_euclid(DAY.cast_signed()))
        }
        _ => None,
    }
}

fn chain_error(
    own: &CertificateDer<'_>,
    certificate: &EndEntityCert<'_>,
    issuers: &[CertificateDer<'_>],
    days_left: Option<i64>,
    authorities: &Authorities,
    now: UnixTime,
) -> Option<String> {
    let anchors = authorities.anchors();
    let algorithms = rustls::crypto::ring::default_provider()
        .signature_verification_algorithms
        .all;
    let error = certificate
        .verify_for_usage(
            algorithms,
            &anchors,
            issuers,
            now,
            KeyUsage::server_auth(),
            None,
            None,
        )
        .err()?;
    let is_trusted_itself = || authorities.contain(own);
    let is_self_signed = certificate.issuer() == certificate.subject();
    Some(match error {
        Error::CertExpired { .. } => match days_left {
            Some(days @ ..0) => format!("the certificate has expired, {}", days_ago(-days)),
            _ => "a certificate of the chain has expired".to_owned(),
        },
        Error::CertNotValidYet { .. } => "the certificate is not valid yet".to_owned(),
        Error::UnknownIssuer | Error::CaUsedAsEndEntity if is_trusted_itself() => return None,
        Error::UnknownIssuer | Error::CaUsedAsEndEntity if is_self_signed => {
            "the certificate is self-signed".to_owned()
        }
        Error::UnknownIssuer if authorities.is_empty() => {
            "this machine has no certificate authorities: use --ca".to_owned()
        }
        Error::UnknownIssuer => "no trusted authority has issued the certificate".to_owned(),
        error => format!("the certificate is not valid: {error}"),
    })
}

fn days_ago(days: i64) -> String {
    match days {
        ..=1 => "within the last day".to_owned(),
        days => format!("{days} days ago"),
    }
}

fn name_error(certificate: &EndEntityCert<'_>, patterns: &[Pattern], names: &Names<'_>) -> Option<String> {
    let presented: Vec<&str> = certificate.valid_dns_names().collect();
    let is_matched = presented
        .iter()
        .any(|presented| patterns.iter().any(|pattern| matches(presented, pattern, names)));
    if is_matched {
        return None;
    }
    if presented.is_empty() {
        return Some("the certificate has no DNS name in its subjectAltName".to_owned());
    }
    let mut listed: Vec<String> = presented
        .iter()
        .take(MAX_NAMES_SHOWN)
        .map(|name| shown(name.as_bytes()))
        .collect();
    if presented.len() > MAX_NAMES_SHOWN {
        listed.push(format!("{} more", presented.len() - MAX_NAMES_SHOWN));
    }
    Some(format!(
        "the certificate is for another name: {}",
        enumeration(&listed, "and")
    ))
}

/// Whether a name of a certificate is as the pattern demands (`match_servername` in tls/tls_client.c). A `*` at the
/// beginning of the name is one label.
fn matches(presented: &str, pattern: &Pattern, names: &Names<'_>) -> bool {
    let (wanted, is_below) = match pattern {
        Pattern::Hostname => (names.host, false),
        Pattern::NextHop => (names.next_hop, false),
        Pattern::BelowNextHop => (names.next_hop, true),
        Pattern::Name(name) => (name.as_str(), false),
        Pattern::Below(name) => (name.as_str(), true),
    };
    let (presented, wanted) = (presented.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    if is_below {
        let before = presented.strip_suffix(&wanted);
        return before.is_some_and(|before| before.len() > 1 && before.ends_with('.'));
    }
    let below = wanted.split_once('.').map(|(_, below)| below);
    presented == wanted
        || presented
            .strip_prefix("*.")
            .is_some_and(|domain| !domain.is_empty() && below == Some(domain))
}

fn digest_error(
    own: &CertificateDer<'_>,
    certificate: &EndEntityCert<'_>,
    digests: &[Vec<u8>],
) -> Option<String> {
    let of_certificate = Sha256::digest(own);
    let of_key = Sha256::digest(certificate.subject_public_key_info());
    let is_matched = digests.iter().any(|digest| {
        digest.as_slice() == of_certificate.as_slice() || digest.as_slice() == of_key.as_slice()
    });
    (!is_matched).then(|| {
        let digits: Vec<String> = of_key.iter().map(|byte| format!("{byte:02X}")).collect();
        format!(
            "the certificate has another key, of fingerprint {}",
            digits.join(":")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{Names, matches};
    use crate::probe::policy::Pattern;

    #[test]
    fn names_match_as_in_postfix() {
        let names = Names {
            host: "mx1.relay.test",
            next_hop: "Relay.test",
        };
        let (name, below) = (
            |name: &str| Pattern::Name(name.into()),
            |name: &str| Pattern::Below(name.into()),
        );
        for (presented, pattern, is_match) in [
            ("MX1.relay.test", Pattern::Hostname, true),
            ("relay.test", Pattern::Hostname, false),
            ("*.relay.test", Pattern::Hostname, true),
            ("*.test", Pattern::Hostname, false),
            ("*.test", Pattern::NextHop, true),
            ("relay.test", Pattern::NextHop, true),
            ("mx1.relay.test", Pattern::NextHop, false),
            ("mx1.relay.test", Pattern::BelowNextHop, true),
            ("a.b.relay.test", Pattern::BelowNextHop, true),
            ("*.relay.test", Pattern::BelowNextHop, true),
            ("relay.test", Pattern::BelowNextHop, false),
            (".relay.test", Pattern::BelowNextHop, false),
            ("evilrelay.test", Pattern::BelowNextHop, false),
            ("other.test", name("other.test"), true),
            ("other.test", below("other.test"), false),
            ("x.other.test", below("other.test"), true),
            ("*.", name("."), false),
        ] {
            assert_eq!(
                matches(presented, &pattern, &names),
                is_match,
                "{presented} {pattern:?}"
            );
        }
    }
}
