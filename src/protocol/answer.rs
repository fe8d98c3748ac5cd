//! The three things that may be said about a key.
//!
//! *Not found* is an assertion with consequences: for the credentials it makes Postfix send without authenticating.
//! So it is a value of its own beside *cannot tell*, and neither can be made from the other by a conversion:
//! there is no `Option` on the way from the table to the wire.

use std::fmt;

/// A value that was found: a next hop, or a credential. It cannot be formatted, because it may be a credential.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// A value of these bytes, which must not be empty: Postfix takes an empty value for an error.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes, for whoever asked.
    #[must_use]
    pub fn expose(self) -> &'a [u8] {
        self.bytes
    }
}

/// Why nothing can be said about a key. A constant, so that a reply is made without allocating. Postfix logs the text, so
/// it names no key and no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(&'static str);

impl Reason {
    /// A reason with this text.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// The text.
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

/// What is said about a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// This is it.
    Found(Value<'a>),
    /// There is none, for certain.
    NotFound,
    /// It is not known whether there is one.
    CannotTell(Reason),
}

impl Answer<'_> {
    /// The outcome alone, for logs.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::NotFound => "not_found",
            Self::CannotTell(_) => "cannot_tell",
        }
    }
}
