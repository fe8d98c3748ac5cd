//! Address extensions: the delimiters that start one, and the addresses that never have one.

use std::fmt;

/// The characters that start an address extension: each character of Postfix's `recipient_delimiter`.
#[derive(Clone, Debug)]
pub struct Delimiters {
    set: Vec<u8>,
}

/// Compares the sets of characters, without their order.
impl PartialEq for Delimiters {
    fn eq(&self, other: &Self) -> bool {
        let has_all = |one: &Self, other: &Self| one.set.iter().all(|c| other.set.contains(c));
        has_all(self, other) && has_all(other, self)
    }
}

impl Eq for Delimiters {}

impl Default for Delimiters {
    fn default() -> Self {
        Self { set: vec![b'+'] }
    }
}

/// In the notation of main.cf.
impl fmt::Display for Delimiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.set))
    }
}

impl Delimiters {
    /// Creates the set of the characters of `text`; if it is empty, no address has an extension. `None` if a character
    /// is not printable ASCII, or part of the syntax of addresses (`@` and `"`).
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let usable = |c: u8| c.is_ascii_graphic() && c != b'@' && c != b'"';
        text.bytes().all(usable).then(|| Self {
            set: text.as_bytes().to_vec(),
        })
    }

    /// Returns the length of `local` without its extension, if it has one (`split_addr(3)`). The extension starts at
    /// the first delimiter, never at the start of `local`, and never in a name that Postfix does not split.
    pub(super) fn before_extension(&self, local: &[u8]) -> Option<usize> {
        const NEVER_SPLIT: [&[u8]; 3] = [b"postmaster", b"mailer-daemon", b"double-bounce"];
        let at = match self.set.as_slice() {
            [one] => local.iter().position(|c| c == one),
            several => local.iter().position(|c| several.contains(c)),
        }?;
        let is_never_split = NEVER_SPLIT.iter().any(|name| local.eq_ignore_ascii_case(name))
            || (self.set.contains(&b'-') && is_list_address(local));
        (at > 0 && !is_never_split).then_some(at)
    }
}

/// Whether the local part has the form `owner-LIST` or `LIST-request`, which is not split even if `-` is a delimiter
/// (`owner_request_special` in postconf(5)).
fn is_list_address(local: &[u8]) -> bool {
    const OWNER: &[u8] = b"owner-";
    const REQUEST: &[u8] = b"-request";
    let is_owner = local
        .get(..OWNER.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(OWNER));
    let is_request = local.len() > REQUEST.len()
        && local
            .get(local.len() - REQUEST.len()..)
            .is_some_and(|tail| tail.eq_ignore_ascii_case(REQUEST));
    is_owner || is_request
}
