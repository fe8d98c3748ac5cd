//! What can be wrong with a value, and how to fix it.

use thiserror::Error;

/// Why a text is not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TlsErrorKind {
    /// Only whitespace and commas.
    #[error("the value is empty")]
    Empty,
    /// A CR within the line.
    #[error("the policy contains a control character")]
    Control,
    /// `secur`
    #[error("the word is neither a mode, nor a level, nor an attribute")]
    Word,
    /// `secure implicit`
    #[error("the mode follows another word")]
    LateMode,
    /// `verify secure`
    #[error("the line has two levels")]
    SecondLevel,
    /// `match=nexthop secure`
    #[error("an attribute precedes the level")]
    BeforeLevel,
    /// `secure via=a match=b`
    #[error("a word follows `via=`")]
    AfterService,
    /// `via=:`
    #[error("`via=` does not name a service of master.cf")]
    Service,
    /// `secure verify_depth=3`
    #[error("Postfix has no such attribute")]
    UnknownAttribute,
    /// `secure match=`
    #[error("the attribute has no value")]
    NoValue,
    /// `secure ciphers=high ciphers=medium`
    #[error("the attribute is repeated")]
    Repeated,
    /// `none match=a`
    #[error("the level none has no attributes")]
    NoAttributes,
    /// `encrypt match=a`
    #[error("the attribute `match` needs the level fingerprint, verify or secure")]
    Match,
    /// `fingerprint tafile=/a`
    #[error("the attribute `tafile` needs the level verify or secure")]
    TrustAnchors,
    /// `fingerprint`
    #[error("the level fingerprint needs the attribute `match`")]
    FingerprintWithoutMatch,
    /// `secure protocols=TLSv1.4`
    #[error("the attribute `protocols` has a word that is not a protocol")]
    Protocols,
    /// `secure ciphers=best`
    #[error("the attribute `ciphers` has a grade that does not exist")]
    Ciphers,
    /// `secure servername=a..b`
    #[error("the attribute `servername` has no valid host name")]
    ServerName,
    /// `secure connection_reuse=maybe`
    #[error("the value of the attribute is neither yes nor no")]
    YesOrNo,
    /// `implicit may`
    #[error("implicit TLS needs a level that always demands TLS, and this one does not")]
    ImplicitWithoutTls,
}

impl TlsErrorKind {
    /// Returns how to fix it.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Empty | Self::Word | Self::LateMode | Self::SecondLevel | Self::AfterService => {
                "write [implicit|starttls] [level [attribute=value]...] [via=service]; the levels are none, may, encrypt, \
                 dane, dane-only, fingerprint, verify and secure"
            }
            Self::Control => "remove it; check that this is a text file and that it is complete",
            Self::BeforeLevel => "write the level first: secure match=nexthop",
            Self::Service => {
                "write the first column of its line in master.cf: letters, digits, `-` and `_`, beginning with a letter \
                 or a digit"
            }
            Self::UnknownAttribute => {
                "the attributes are match, servername, protocols, ciphers, exclude, tafile, connection_reuse and \
                 enable_rpk"
            }
            Self::NoValue => "write attribute=value without whitespace, or remove the attribute",
            Self::Repeated => "write it once; only match and tafile can be repeated",
            Self::NoAttributes => "remove the attributes, or write another level",
            Self::Match | Self::TrustAnchors => "remove it, or write verify or secure",
            Self::FingerprintWithoutMatch => "add match= with the digest of the server's certificate or key",
            Self::Protocols => {
                "write names with colons between them and no whitespace: >=TLSv1.2, or !SSLv3:!TLSv1; the names are \
                 SSLv2, SSLv3, TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3"
            }
            Self::Ciphers => "write export, low, medium, high or null",
            Self::ServerName => "write hostname, nexthop or a host name",
            Self::YesOrNo => "write yes or no",
            Self::ImplicitWithoutTls => {
                "write encrypt, dane-only, fingerprint, verify or secure, or starttls if the relay does not begin with \
                 TLS"
            }
        }
    }
}

/// The error in a value, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind}")]
pub struct TlsError {
    /// What is wrong.
    pub kind: TlsErrorKind,
    /// The position in bytes from the start of the value.
    pub offset: usize,
}
