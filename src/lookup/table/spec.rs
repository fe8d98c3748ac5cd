//! What a table file is, as data: its name, what its keys and values are, and what is said where it cannot answer.
//!
//! Everything else that deals with table files (reading, judging, editing, status, metrics) takes what it needs from here.
//! A further file is a further [`TableSpec`], named by the map that answers from it ([`crate::lookup::map`]).

use std::fmt;

use crate::protocol::answer::Reason;

/// What the keys of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Envelope senders and their domains.
    Sender,
    /// Those, and hosts and next hops.
    SenderOrHost,
}

/// What the values of a file or a map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A next hop, or a list of them.
    NextHop,
    /// `user:password`.
    Login,
}

/// The grammar of a file: it follows from what its keys and values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// What its keys are.
    pub keys: KeyKind,
    /// What its values are.
    pub values: ValueKind,
}

/// A table file.
pub struct TableSpec {
    /// Its name in the directory.
    pub file: &'static str,
    /// Its name in metrics, the status and the log: that of the map that it was made for.
    pub label: &'static str,
    /// Its grammar.
    pub format: Format,
    /// The reason of a temporary error where the entry of the key is invalid.
    pub invalid_entry: Reason,
    /// The reason where a line has a key that cannot be parsed, which may be the one that was asked for.
    pub unparsable_key: Reason,
    /// The reason where the file cannot be read.
    pub unreadable: Reason,
}

impl TableSpec {
    /// Whether its values are credentials, so that its text must not be shown and its file is for its owner alone.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.format.values == ValueKind::Login
    }
}

/// By name: two specifications of one file are the same.
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

/// Envelope senders and their next hops.
pub static RELAY_MAP: TableSpec = TableSpec {
    file: "postfix-relaymap.cf",
    label: "relayhost",
    format: Format {
        keys: KeyKind::Sender,
        values: ValueKind::NextHop,
    },
    invalid_entry: Reason::new(
        "the entry for this key in the relay map has an error; see the log of postmapd",
    ),
    unparsable_key: Reason::new("the relay map has a line whose key cannot be read; see the log of postmapd"),
    unreadable: Reason::new("the relay map cannot be read; see the log of postmapd"),
};

/// Envelope senders, hosts and next hops, and their logins.
pub static CREDENTIALS: TableSpec = TableSpec {
    file: "postfix-sasl-password.cf",
    label: "sasl",
    format: Format {
        keys: KeyKind::SenderOrHost,
        values: ValueKind::Login,
    },
    invalid_entry: Reason::new(
        "the entry for this key in the credentials file has an error; see the log of postmapd",
    ),
    unparsable_key: Reason::new(
        "the credentials file has a line whose key cannot be read; see the log of postmapd",
    ),
    unreadable: Reason::new("the credentials file cannot be read; see the log of postmapd"),
};
