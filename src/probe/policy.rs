//! What a TLS policy demands of a connection (`smtp_tls_policy_maps` in postconf(5)).

use std::path::PathBuf;

use super::authorities::Authorities;
use super::outcome::Failure;
use crate::lookup::tls_policy::{self, Level};
use crate::os::printable::printable;

/// The size of a SHA-256 digest in bytes.
const SHA256_SIZE: usize = 32;

/// A name that a certificate must have (`smtp_tls_secure_cert_match` in postconf(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// The name of the server.
    Hostname,
    /// The next hop without brackets and port.
    NextHop,
    /// A name below the next hop.
    BelowNextHop,
    /// This name.
    Name(String),
    /// A name below this one.
    Below(String),
}

/// What a certificate must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// There may be any certificate, or none.
    Nothing,
    /// A chain to a trusted authority, and one of these names.
    Names(Vec<Pattern>),
    /// One of these SHA-256 digests, of the certificate or of its key.
    Digests(Vec<Vec<u8>>),
    /// TLSA records, which are not looked up here.
    Dane,
}

/// The name that is sent to the relay (`smtp_tls_servername`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerNameToSend {
    Hostname,
    NextHop,
    Name(String),
}

/// A parsed policy.
pub(super) struct Policy {
    pub(super) level: Level,
    pub(super) demand: Demand,
    pub(super) server_name: Option<ServerNameToSend>,
    trust_anchors: Vec<PathBuf>,
    /// The attributes that change nothing here.
    pub(super) ignored: Vec<String>,
}

impl Policy {
    /// Parses a policy as the map `tls` answers it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Failure> {
        let invalid = || Failure::NotTried("the TLS policy is invalid".to_owned());
        let setting = tls_policy::parse(text).map_err(|_| invalid())?;
        let level = setting.policy.ok_or_else(invalid)?.level;
        let mut matches: Vec<&[u8]> = Vec::new();
        let mut policy = Self {
            level,
            demand: Demand::Nothing,
            server_name: None,
            trust_anchors: Vec::new(),
            ignored: Vec::new(),
        };
        for word in text.split(|c| matches!(c, b' ' | b'\t' | b',')) {
            let Some(equals) = memchr::memchr(b'=', word) else {
                continue;
            };
            let (name, value) = word.split_at_checked(equals).unwrap_or_default();
            let value = value.get(1..).unwrap_or_default();
            let value_text = || String::from_utf8_lossy(value).into_owned();
            match name.to_ascii_lowercase().as_slice() {
                b"match" => matches.push(value),
                b"tafile" => policy.trust_anchors.push(value_text().into()),
                b"servername" => policy.server_name = Some(server_name(&value_text())),
                b"connection_reuse" => {}
                _ => policy.ignored.push(printable(name) + "="),
            }
        }
        policy.demand = demand(level, &matches)?;
        Ok(policy)
    }

    /// Returns the authorities that this policy trusts: those of its `tafile=`, else the general ones.
    pub(super) fn authorities(&self, general: &Authorities) -> Result<Authorities, Failure> {
        if self.trust_anchors.is_empty() {
            return Ok(general.clone());
        }
        Authorities::from_files(&self.trust_anchors)
            .map_err(|error| Failure::NotTried(format!("tafile= of the TLS policy: {error}")))
    }

    /// Whether Postfix sends nothing without TLS.
    pub(super) fn requires_tls(&self) -> bool {
        self.level > Level::May && self.level != Level::Dane
    }
}

fn server_name(value: &str) -> ServerNameToSend {
    match value.to_ascii_lowercase().as_str() {
        "hostname" => ServerNameToSend::Hostname,
        "nexthop" => ServerNameToSend::NextHop,
        _ => ServerNameToSend::Name(value.to_owned()),
    }
}

fn demand(level: Level, matches: &[&[u8]]) -> Result<Demand, Failure> {
    Ok(match level {
        Level::None | Level::May | Level::Encrypt => Demand::Nothing,
        Level::Dane | Level::DaneOnly => Demand::Dane,
        Level::Fingerprint => Demand::Digests(digests(matches)?),
        // The defaults of smtp_tls_verify_cert_match and smtp_tls_secure_cert_match.
        Level::Verify if matches.is_empty() => Demand::Names(vec![Pattern::Hostname]),
        Level::Secure if matches.is_empty() => Demand::Names(vec![Pattern::NextHop, Pattern::BelowNextHop]),
        Level::Verify | Level::Secure => Demand::Names(
            matches
                .iter()
                .flat_map(|names| names.split(|c| *c == b':'))
                .filter(|name| !name.is_empty())
                .map(pattern)
                .collect(),
        ),
    })
}

fn pattern(name: &[u8]) -> Pattern {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    match name.as_str() {
        "hostname" => Pattern::Hostname,
        "nexthop" => Pattern::NextHop,
        "dot-nexthop" => Pattern::BelowNextHop,
        _ => match name.strip_prefix('.') {
            Some(domain) if !domain.is_empty() => Pattern::Below(domain.to_owned()),
            _ => Pattern::Name(name),
        },
    }
}

/// Parses digests in hexadecimal digits with colons.
fn digests(matches: &[&[u8]]) -> Result<Vec<Vec<u8>>, Failure> {
    let texts = matches.iter().flat_map(|all| all.split(|c| *c == b'|'));
    let digests: Vec<Vec<u8>> = texts.filter_map(digest).collect();
    if digests.iter().any(|digest| digest.len() == SHA256_SIZE) {
        return Ok(digests);
    }
    Err(Failure::NotTried(
        "the policy has no SHA-256 fingerprint, and no other kind can be tried".to_owned(),
    ))
}

fn digest(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok());
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::{Demand, Pattern, Policy, ServerNameToSend};

    fn demand(policy: &str) -> Demand {
        Policy::parse(policy.as_bytes()).unwrap().demand
    }

    #[test]
    fn a_level_has_the_names_of_postconf_5_by_default() {
        assert_eq!(demand("encrypt"), Demand::Nothing);
        assert_eq!(demand("verify"), Demand::Names(vec![Pattern::Hostname]));
        let below = vec![Pattern::NextHop, Pattern::BelowNextHop];
        assert_eq!(demand("secure servername=hostname"), Demand::Names(below));
        assert_eq!(demand("dane-only"), Demand::Dane);
    }

    #[test]
    fn attributes_replace_the_defaults() {
        let policy =
            Policy::parse(b"secure match=nexthop:.a.test, MATCH=B.test servername=nexthop ciphers=high")
                .unwrap();
        let names = [
            Pattern::NextHop,
            Pattern::Below("a.test".into()),
            Pattern::Name("b.test".into()),
        ];
        assert_eq!(policy.demand, Demand::Names(names.to_vec()));
        assert_eq!(policy.server_name, Some(ServerNameToSend::NextHop));
        assert_eq!(policy.ignored, ["ciphers="]);
        assert!(policy.requires_tls());
    }

    #[test]
    fn only_sha_256_fingerprints_can_be_tried() {
        assert!(Policy::parse(b"fingerprint match=00:11:22:33").is_err());
        let sha256 = ["ab"; 32].join(":");
        let policy = format!("fingerprint match=00:11|{sha256}");
        assert_eq!(
            demand(&policy),
            Demand::Digests(vec![vec![0, 0x11], vec![0xab; 32]])
        );
    }
}
