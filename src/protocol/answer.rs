//! What may be asked, and the three things that may be said about a key.
//!
//! *Not found* is an assertion with consequences: for the credentials it makes Postfix send without authenticating.
//! So it is a value of its own beside *cannot tell*, and neither can be made from the other by a conversion:
//! there is no `Option` on the way from the table to the wire.

use std::fmt;

/// The maps that are served, by the names under which main.cf asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Map {
    /// `sender_dependent_relayhost_maps`: an envelope sender to its next hop.
    Relayhost,
    /// `smtp_sasl_password_maps`: an envelope sender, a host or a next hop to `user:password`.
    Sasl,
}

impl Map {
    /// Every map.
    pub const ALL: [Self; 2] = [Self::Relayhost, Self::Sasl];

    /// The name in main.cf.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relayhost => "relayhost",
            Self::Sasl => "sasl",
        }
    }

    /// The map of that name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|map| map.name().as_bytes() == name)
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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

/// Why nothing can be said about a key. Postfix logs the text, so it names no key and no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The entry that would answer has an error.
    EntryWithError(Map),
    /// The file has a line whose key cannot be read, and that may have been the key.
    LineWithoutKey(Map),
    /// The file could not be read.
    FileUnreadable(Map),
    /// The default relay could not be read.
    DefaultUnreadable,
    /// The credentials of the default relay could not be read, or are a user without a password or the reverse.
    DefaultCredentialsUnreadable,
    /// There are credentials for the sender, and it is not known where its mail goes.
    NoRouting,
    /// The sender's next hop changed lately, and this is none that it is known to have had.
    NextHopOfAnotherTime,
    /// The next hop had a login until lately, and it is not known whose mail asks for it.
    LoginOfAnotherTime,
    /// The sender's next hop or its login has changed, and the file that has the other is not used yet.
    FileAwaited,
    /// The sender's next hop changed lately, and several SMTP clients share this connection.
    SharedConnection,
}

impl Reason {
    /// The text, whole as it is: a reply is made without allocating.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::EntryWithError(Map::Relayhost) => {
                "the entry for this key in the relay map has an error; see the log of postmapd"
            }
            Self::EntryWithError(Map::Sasl) => {
                "the entry for this key in the credentials file has an error; see the log of postmapd"
            }
            Self::LineWithoutKey(Map::Relayhost) => {
                "the relay map has a line whose key cannot be read; see the log of postmapd"
            }
            Self::LineWithoutKey(Map::Sasl) => {
                "the credentials file has a line whose key cannot be read; see the log of postmapd"
            }
            Self::FileUnreadable(Map::Relayhost) => "the relay map cannot be read; see the log of postmapd",
            Self::FileUnreadable(Map::Sasl) => "the credentials file cannot be read; see the log of postmapd",
            Self::DefaultUnreadable => "the default relay cannot be read; see the log of postmapd",
            Self::DefaultCredentialsUnreadable => {
                "the credentials of the default relay cannot be read or are not whole; see the log of postmapd"
            }
            Self::NoRouting => {
                "there is no relay map and no default relay, so it is not known where this password may go; \
                 see next_hops in postmapd.toml(5)"
            }
            Self::NextHopOfAnotherTime => {
                "the next hop of this sender changed lately, and its login for this one is not known; \
                 the next delivery attempt uses the new next hop"
            }
            Self::LoginOfAnotherTime => {
                "the login of this next hop was removed lately, and mail may have been on its way there; \
                 the next delivery attempt uses the new next hop"
            }
            Self::FileAwaited => {
                "this sender has a new next hop or login, and the file with the other is being changed; \
                 see the log of postmapd"
            }
            Self::SharedConnection => {
                "the next hop of this sender changed lately, and its login cannot be told on a connection that \
                 several SMTP clients share; remove proxy: in front of this map"
            }
        }
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
