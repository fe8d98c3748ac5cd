//! The table files as data: name, kinds of keys and values, and the reasons for *cannot tell*.
//!
//! Everything else that handles table files (reading, validation, edits, status, metrics) takes what it needs from
//! here. A further file is a further [`TableSpec`], used by the map that answers from it ([`crate::lookup::map`]).

use std::fmt;

use crate::protocol::answer::Reason;

/// The kind of the keys of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Envelope senders and their domains.
    Sender,
    /// Envelope senders, their domains, hosts and next hops.
    SenderOrHost,
    /// Next hops, hosts, and `*`.
    NextHop,
}

/// The kind of the values of a file or a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A next hop, or a list of them.
    NextHop,
    /// `user:password`.
    Login,
    /// How to speak TLS ([`crate::lookup::tls_policy`]).
    Tls,
}

/// The grammar of a file, which follows from its keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The kind of its keys.
    pub keys: KeyKind,
    /// The kind of its values.
    pub values: ValueKind,
}

impl ValueKind {
    /// Whether a `#` after whitespace starts a comment. Passwords can have one.
    #[must_use]
    pub fn allows_comments(self) -> bool {
        self != Self::Login
    }
}

/// The specification of a table file.
pub struct TableSpec {
    /// The file name in the directory.
    pub file: &'static str,
    /// The name in metrics, status and log: that of the map for which it was made.
    pub label: &'static str,
    /// The grammar.
    pub format: Format,
    /// The reason for a key whose entry is invalid.
    pub invalid_entry: Reason,
    /// The reason for a miss if a line has a key that cannot be parsed, which may be the one that was looked up.
    pub unparsable_key: Reason,
    /// The reason for a miss if the file cannot be read.
    pub unreadable: Reason,
}

impl TableSpec {
    /// Whether its values are credentials, so that its text is never shown and only its owner may read the file.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.format.values == ValueKind::Login
    }
}

/// By file name, which is unique.
impl PartialEq for TableSpec {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Eq for TableSpec {}

impl fmt::Debug for TableSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label)
    }
}

/// From envelope sender to next hop.
pub static RELAY_MAP: TableSpec = TableSpec {
    file: "postfix-relaymap.cf",
    label: "relayhost",
    format: Format {
        keys: KeyKind::Sender,
        values: ValueKind::NextHop,
    },
    invalid_entry: Reason::new("the relay map entry for this key is invalid; see the log of postmapd"),
    unparsable_key: Reason::new("the relay map has a line whose key cannot be read; see the log of postmapd"),
    unreadable: Reason::new("the relay map cannot be read; see the log of postmapd"),
};

/// From envelope sender, host or next hop to login.
pub static CREDENTIALS: TableSpec = TableSpec {
    file: "postfix-sasl-password.cf",
    label: "sasl",
    format: Format {
        keys: KeyKind::SenderOrHost,
        values: ValueKind::Login,
    },
    invalid_entry: Reason::new("the credentials file entry for this key is invalid; see the log of postmapd"),
    unparsable_key: Reason::new(
        "the credentials file has a line whose key cannot be read; see the log of postmapd",
    ),
    unreadable: Reason::new("the credentials file cannot be read; see the log of postmapd"),
};

/// From next hop to TLS mode, policy and service.
pub static RELAY_TLS: TableSpec = TableSpec {
    file: "postfix-relay-tls.cf",
    label: "tls",
    format: Format {
        keys: KeyKind::NextHop,
        values: ValueKind::Tls,
    },
    invalid_entry: Reason::new("the TLS entry for this next hop has an error; see the log of postmapd"),
    unparsable_key: Reason::new("the TLS file has a line whose key cannot be read; see the log of postmapd"),
    unreadable: Reason::new("the TLS file cannot be read; see the log of postmapd"),
};
