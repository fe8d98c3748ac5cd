//! The three answers for a key.
//!
//! *Not found* is an assertion with consequences: for credentials it makes Postfix send without authenticating. So it
//! is a variant of its own beside *cannot tell*, without a conversion from one to the other: there is no `Option`
//! between table and wire.

use std::fmt;

/// A value that was found: a next hop or a credential. Not formattable, because it may be a credential.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// Creates a value of these bytes, which must not be empty: Postfix treats an empty value as an error.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Returns the bytes, for the reply to the client that asked.
    #[must_use]
    pub fn expose(self) -> &'a [u8] {
        self.bytes
    }
}

/// Why a lookup cannot be answered. A constant, so that a reply does not allocate. Postfix logs the text, so it has no
/// key and no value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(&'static str);

impl Reason {
    /// Creates a reason with this text.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// Returns the text.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The answer for a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The key has this value.
    Found(Value<'a>),
    /// The key has no value, for certain.
    NotFound,
    /// It is not known whether the key has a value.
    CannotTell(Reason),
}

impl Answer<'_> {
    /// Returns the outcome without the value, for logs.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::NotFound => "not_found",
            Self::CannotTell(_) => "cannot_tell",
        }
    }

    /// Returns the value, `-` for *not found*, or `? ` and the reason.
    #[cfg(test)]
    pub(crate) fn to_text(self) -> String {
        match self {
            Self::Found(value) => String::from_utf8_lossy(value.expose()).into_owned(),
            Self::NotFound => "-".to_owned(),
            Self::CannotTell(reason) => format!("? {reason:?}"),
        }
    }
}
