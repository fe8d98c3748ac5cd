//! How to speak TLS to a next hop: the values of `postfix-relay-tls.cf` and of `RELAY_TLS`.
//!
//! A value is a TLS policy as in Postfix's `smtp_tls_policy_maps` (postconf(5)), with a mode before it and a service of
//! master.cf after it, each optional: `implicit secure match=nexthop via=relay-2`. Words are separated by whitespace or
//! commas, in any case. A policy that is written is answered as written, so everything that Postfix would refuse is an
//! error here (`smtp/smtp_tls_policy.c`): mail to the next hop would be deferred with "client TLS configuration
//! problem", which tells the administrator neither the file nor the line.
//!
//! An error never contains the text, which may be a credential in the wrong file.
//!
//! Limits: a CA file (`tafile=`) is not opened, and names in `exclude=` are not compared with those of OpenSSL. Braces
//! around an attribute, and the attributes of plug-ins for MTA-STS (`policy_type` and the like), are not supported.

mod attribute;
mod error;

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::nexthop;
use attribute::ATTRIBUTES;
pub use error::{TlsError, TlsErrorKind};

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// After the STARTTLS command (RFC 3207).
    Starttls,
    /// With the first byte (RFC 8314, `smtp_tls_wrappermode`).
    Implicit,
}

impl Mode {
    /// Returns the mode of a next hop that has none in a file: implicit for the ports 465, `smtps` and `submissions`.
    #[must_use]
    pub fn of_port(next_hop: &[u8]) -> Self {
        if nexthop::uses_implicit_tls(next_hop) {
            Self::Implicit
        } else {
            Self::Starttls
        }
    }

    /// Returns the word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Implicit => "implicit",
        }
    }
}

/// A security level, in the order of postconf(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No TLS.
    None,
    /// TLS if the server offers it.
    May,
    /// TLS with any certificate.
    Encrypt,
    /// DANE if the server has TLSA records, else [`Level::May`].
    Dane,
    /// DANE.
    DaneOnly,
    /// A certificate or key with a known digest.
    Fingerprint,
    /// A certificate of a trusted CA for the server's name.
    Verify,
    /// A certificate of a trusted CA for the name of the next hop.
    Secure,
}

/// The words for the levels.
const LEVELS: [(&str, Level); 8] = [
    ("none", Level::None),
    ("may", Level::May),
    ("encrypt", Level::Encrypt),
    ("dane", Level::Dane),
    ("dane-only", Level::DaneOnly),
    ("fingerprint", Level::Fingerprint),
    ("verify", Level::Verify),
    ("secure", Level::Secure),
];

impl Level {
    fn named(word: &[u8]) -> Option<Self> {
        let named = LEVELS
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, level)| *level)
    }

    /// Whether Postfix can use it with implicit TLS: it demands TLS whatever DNS says.
    #[must_use]
    pub fn allows_implicit(self) -> bool {
        !matches!(self, Self::None | Self::May | Self::Dane)
    }

    /// Whether it verifies the server's certificate chain and name by trusted CAs.
    fn uses_trusted_cas(self) -> bool {
        matches!(self, Self::Verify | Self::Secure)
    }
}

/// The name of a service of master.cf, which can begin an answer: letters, digits, `-` and `_`, beginning with a letter
/// or a digit.
///
/// An answer of `sender_dependent_default_transport_maps` that begins with `:` or whitespace stops the mail of all
/// senders (qmgr(8) repeats the request forever), so no other type may come before the `:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(Cow<'static, str>);

impl ServiceName {
    /// The service of `postmapd postconf --services` for STARTTLS.
    pub(super) const RELAY_STARTTLS: Self = Self(Cow::Borrowed("relay-starttls"));
    /// The service of `postmapd postconf --services` for implicit TLS.
    pub(super) const RELAY_IMPLICIT: Self = Self(Cow::Borrowed("relay-implicit"));

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&[u8]> for ServiceName {
    type Error = NotAServiceName;

    fn try_from(name: &[u8]) -> Result<Self, NotAServiceName> {
        let is_start = name.first().is_some_and(u8::is_ascii_alphanumeric);
        let is_name = is_start
            && name
                .iter()
                .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(c));
        let text = std::str::from_utf8(name).ok().filter(|_| is_name);
        text.map(|text| Self(text.to_owned().into()))
            .ok_or(NotAServiceName)
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = NotAServiceName;

    fn try_from(name: &str) -> Result<Self, NotAServiceName> {
        name.as_bytes().try_into()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not the name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the name of a service: write letters, digits, `-` and `_`, beginning with a letter or a digit")]
pub struct NotAServiceName;

/// A parsed value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSetting {
    /// When TLS begins, if the value says so.
    pub mode: Option<Mode>,
    /// The policy, if the value has one.
    pub policy: Option<Policy>,
    /// The service that delivers, if the value names one.
    pub service: Option<ServiceName>,
}

/// A level and its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The level.
    pub level: Level,
    /// Level and attributes as written.
    pub text: Box<[u8]>,
}

impl TlsSetting {
    /// Returns the mode for this next hop.
    #[must_use]
    pub fn mode_for(&self, next_hop: &[u8]) -> Mode {
        self.mode.unwrap_or_else(|| Mode::of_port(next_hop))
    }

    /// Whether the policy cannot be used with this mode.
    #[must_use]
    pub fn conflicts_with(&self, mode: Mode) -> bool {
        let level = self.policy.as_ref().map(|policy| policy.level);
        mode == Mode::Implicit && level.is_some_and(|level| !level.allows_implicit())
    }
}

fn error<T>(kind: TlsErrorKind, offset: usize) -> Result<T, TlsError> {
    Err(TlsError { kind, offset })
}

/// The words of a value, each with its position.
fn words(value: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut offset = 0;
    value
        .split(|c| matches!(c, b' ' | b'\t' | b','))
        .filter_map(move |word| {
            let at = offset;
            offset += word.len() + 1;
            (!word.is_empty()).then_some((at, word))
        })
}

/// Returns the length of the words at the start of a value that certainly belong to a TLS setting, though they may be
/// misspelled: the others may be a credential in the wrong file.
#[must_use]
pub(crate) fn recognized_len(value: &[u8]) -> usize {
    let known: Vec<&str> = LEVELS
        .iter()
        .map(|(name, _)| *name)
        .chain(ATTRIBUTES.iter().map(|attribute| attribute.name))
        .chain(["starttls", "implicit", "via"])
        .collect();
    let is_known = |word: &[u8]| {
        let name = word.split(|c| *c == b'=').next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        // As long as `match`, two typing errors make another word of it.
        let distance = if name.len() > 4 { 2 } else { 0 };
        known
            .iter()
            .any(|known| strsim::osa_distance(&name, known) <= distance)
    };
    let recognized = words(value).take_while(|(_, word)| is_known(word));
    recognized.last().map_or(0, |(at, word)| at + word.len())
}

/// Parses a value.
pub fn parse(value: &[u8]) -> Result<TlsSetting, TlsError> {
    if let Some(at) = value.iter().position(|c| c.is_ascii_control() && *c != b'\t') {
        return error(TlsErrorKind::Control, at);
    }
    let mut setting = TlsSetting::default();
    let mut parser = PolicyParser::default();
    let mut is_first = true;
    for (at, word) in words(value) {
        let was_first = std::mem::take(&mut is_first);
        if setting.service.is_some() {
            return error(TlsErrorKind::AfterService, at);
        }
        let mode = [Mode::Starttls, Mode::Implicit]
            .into_iter()
            .find(|mode| word.eq_ignore_ascii_case(mode.name().as_bytes()));
        if let Some(mode) = mode {
            if !was_first {
                return error(TlsErrorKind::LateMode, at);
            }
            setting.mode = Some(mode);
        } else if let Some((name, _)) = word.split_at_checked(4)
            && name.eq_ignore_ascii_case(b"via=")
        {
            let name = word.get(4..).unwrap_or_default();
            match ServiceName::try_from(name) {
                Ok(name) => setting.service = Some(name),
                Err(NotAServiceName) => return error(TlsErrorKind::Service, at),
            }
        } else {
            parser.word(at, word)?;
        }
    }
    if is_first {
        return error(TlsErrorKind::Empty, 0);
    }
    setting.policy = parser.finish(value)?;
    if let Some(mode) = setting.mode
        && setting.conflicts_with(mode)
    {
        return error(TlsErrorKind::ImplicitWithoutTls, 0);
    }
    Ok(setting)
}

/// The level and the attributes up to now.
#[derive(Default)]
struct PolicyParser<'a> {
    level: Option<(Level, usize)>,
    attributes: Vec<&'a [u8]>,
    end: usize,
}

impl<'a> PolicyParser<'a> {
    /// Takes the next word, a level or an attribute.
    fn word(&mut self, at: usize, word: &'a [u8]) -> Result<(), TlsError> {
        self.end = at + word.len();
        let equals = memchr::memchr(b'=', word);
        let Some((name, value)) = equals.and_then(|equals| word.split_at_checked(equals)) else {
            return match (Level::named(word), self.level) {
                (Some(_), Some(_)) => error(TlsErrorKind::SecondLevel, at),
                (Some(level), None) => {
                    self.level = Some((level, at));
                    Ok(())
                }
                (None, _) => error(TlsErrorKind::Word, at),
            };
        };
        let value = value.get(1..).unwrap_or_default();
        let Some((level, _)) = self.level else {
            return error(TlsErrorKind::BeforeLevel, at);
        };
        let attribute = ATTRIBUTES
            .iter()
            .find(|attribute| name.eq_ignore_ascii_case(attribute.name.as_bytes()));
        let Some(attribute) = attribute else {
            return error(TlsErrorKind::UnknownAttribute, at);
        };
        if level == Level::None {
            return error(TlsErrorKind::NoAttributes, at);
        }
        if value.is_empty() {
            return error(TlsErrorKind::NoValue, at);
        }
        let name = attribute.name.as_bytes();
        if !attribute.is_repeatable && self.attributes.contains(&name) {
            return error(TlsErrorKind::Repeated, at);
        }
        (attribute.validate)(level, value).map_err(|kind| TlsError { kind, offset: at })?;
        self.attributes.push(name);
        Ok(())
    }

    fn finish(self, value: &[u8]) -> Result<Option<Policy>, TlsError> {
        let Some((level, at)) = self.level else {
            return Ok(None);
        };
        if level == Level::Fingerprint && !self.attributes.contains(&&b"match"[..]) {
            return error(TlsErrorKind::FingerprintWithoutMatch, at);
        }
        Ok(Some(Policy {
            level,
            text: value.get(at..self.end).unwrap_or_default().into(),
        }))
    }
}

/// Returns the policy of a next hop that has none in a file: the strictest that can hold for its host.
///
/// A name in brackets is that of the server. Without brackets Postfix accepts names below it, for MX hosts. An address
/// has no name to verify, because Postfix ignores addresses in certificates. On loopback nothing can be intercepted.
/// `servername` is necessary, because Postfix sends no SNI by default and some relays then show another certificate.
#[must_use]
pub fn computed(next_hop: &[u8], mode: Mode) -> &'static [u8] {
    match nexthop::host_kind(next_hop) {
        nexthop::HostKind::Loopback if mode == Mode::Starttls => b"may",
        nexthop::HostKind::Loopback | nexthop::HostKind::Address => b"encrypt",
        nexthop::HostKind::Name if next_hop.starts_with(b"[") => b"secure match=nexthop servername=hostname",
        nexthop::HostKind::Name => b"secure servername=hostname",
    }
}

#[cfg(test)]
mod tests;
