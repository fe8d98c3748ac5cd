//! Address extensions: what is_owner one, and which addresses have none whatever they look like.

use std::fmt;

/// The characters that begin an address extension: Postfix's `recipient_delimiter`, each character by itself.
#[derive(Clone, Debug)]
pub struct Delimiters {
    set: Vec<u8>,
}

/// Their order does not matter.
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

/// As main.cf has them.
impl fmt::Display for Delimiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.set))
    }
}

impl Delimiters {
    /// The characters of `text`; none means that no address has an extension. `None` where a character is not
    /// printable ASCII, or is one that an address needs for itself (`@` and `"`).
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let usable = |c: u8| c.is_ascii_graphic() && c != b'@' && c != b'"';
        text.bytes().all(usable).then(|| Self {
            set: text.as_bytes().to_vec(),
        })
    }

    /// How much of `local` comes before its extension, if it has one (`split_addr(3)`): the first delimiter
    /// counts, never at the beginning, and never in the names that Postfix keeps whole.
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

/// `owner-list` and `list-request`, which a `-` does not split (Postfix's `owner_request_special`).
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
