//! Envelope senders, and the keys that Postfix tries for one on an indexed table.
//!
//! Over socketmap and tcp_table Postfix sends the whole address once, not folded, and derives nothing from it. This
//! module does what Postfix does for a `hash:` table (`mail_addr_find(3)`): the address, the address without its
//! extension, then `@domain`, each folded. Then come two forms of keys that Postfix does not have: `@.parent` for each
//! parent of the domain, from the longest to the shortest, and `@*`.
//!
//! Postfix looks up an address whose local part needs quoting twice, first as `"john doe"@example.com`, then as `john
//! doe@example.com`, and the null sender as `"<>"`, then `<>`. Both forms of an address are one key here, so that the
//! second lookup cannot undo the answer to the first (an excluded sender would otherwise get the relay of its domain).
//! A local part that is one quoted string means its content (RFC 5321 section 4.1.2); any other is taken literally.
//!
//! An address literal (`user@[192.0.2.1]`) has no parents. A dot at the end of a domain is not removed, because Postfix
//! has done so; such a domain has no entry but `@*`.
//!
//! Limits: no conversion between the U-label and A-label forms of a domain, and a key that is not UTF-8 is folded in its
//! ASCII letters only. Postfix does none of this either. Of a domain that is longer than any key can be, only the last
//! [`MAX_PARENTS`] parents within [`MAX_PARENT_LENGTH`] bytes are tried: no entry can have a longer one.

mod extension;
pub(super) mod swar;

use std::ops::Range;

use caseless::Caseless;

pub use extension::Delimiters;

/// The key of the null sender (RFC 5321 section 4.5.5): Postfix's default for
/// `empty_address_relayhost_maps_lookup_key`.
pub const NULL_SENDER: &[u8] = b"<>";

/// Appends `text`, folded as Postfix folds keys: by Unicode full case folding if it is UTF-8 (`casefold(3)` with ICU:
/// "ß" becomes "ss", both forms of the lower-case sigma become one), otherwise in its ASCII letters only.
pub fn fold_into(text: &[u8], out: &mut Vec<u8>) {
    if !text.is_ascii()
        && let Ok(unicode) = std::str::from_utf8(text)
    {
        let mut utf8 = [0; 4];
        for folded in unicode.chars().default_case_fold() {
            out.extend_from_slice(folded.encode_utf8(&mut utf8).as_bytes());
        }
        return;
    }
    let start = out.len();
    out.extend_from_slice(text);
    if let Some(copy) = out.get_mut(start..) {
        copy.make_ascii_lowercase();
    }
}

/// Whether `folded` is the key of the address `written`. Same as [`LookupKeys::whole`], without the copy for nearly all
/// keys.
#[must_use]
pub fn key_matches(written: &[u8], folded: &[u8]) -> bool {
    if written.is_ascii() && !written.starts_with(b"\"") {
        return written.eq_ignore_ascii_case(folded);
    }
    let mut keys = LookupKeys::default();
    keys.parse(written, &Delimiters::default());
    keys.whole() == folded
}

/// An address split into its parts, which are not folded.
struct AddressParts<'a> {
    local: &'a [u8],
    /// Whether `local` is the content of a quoted string, which may contain backslashes.
    quoted: bool,
    /// `None` if there is no `@`, or nothing after it.
    domain: Option<&'a [u8]>,
}

impl<'a> AddressParts<'a> {
    fn parse(address: &'a [u8]) -> Self {
        if let Some((content, rest)) = quoted_string(address) {
            match rest {
                [] => {
                    return Self {
                        local: content,
                        quoted: true,
                        domain: None,
                    };
                }
                [b'@', domain @ ..] if !domain.is_empty() && !domain.contains(&b'@') => {
                    return Self {
                        local: content,
                        quoted: true,
                        domain: Some(domain),
                    };
                }
                _ => {}
            }
        }
        let split = memchr::memrchr(b'@', address).and_then(|at| address.split_at_checked(at));
        match split {
            Some((local, [b'@', domain @ ..])) if !domain.is_empty() => Self {
                local,
                quoted: false,
                domain: Some(domain),
            },
            _ => Self {
                local: address,
                quoted: false,
                domain: None,
            },
        }
    }
}

/// Splits off the quoted string at the start of `text`. Returns its content, with backslashes, and the rest.
fn quoted_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let mut escaped = false;
    for (at, &c) in inner.iter().enumerate() {
        match c {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((inner.get(..at)?, inner.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

/// The key of all senders that have a domain and no other entry.
pub const ANY_SENDER: &[u8] = b"@*";

/// The maximum number of parents of a domain that are tried, as many as a name of 255 characters has labels.
pub const MAX_PARENTS: usize = 128;

/// The maximum length of a parent that is tried, with its dot, in bytes: 255 characters of at most four bytes.
pub const MAX_PARENT_LENGTH: usize = 1 + 4 * 255;

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An address, a host or a next hop.
    Single,
    /// One domain, `@domain`.
    Domain,
    /// All subdomains of a domain, `@.domain`.
    Subdomains,
    /// All senders without another entry, `@*`.
    AnySender,
}

/// A folded key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'k> {
    /// Without the `@` of a key for subdomains, so that it can be a part of an address.
    bytes: &'k [u8],
    is_plain: bool,
    scope: Scope,
}

impl<'k> Key<'k> {
    #[inline]
    fn new(folded: &'k [u8], is_plain: bool) -> Self {
        let (bytes, scope) = match folded {
            [b'@', name @ ..] => match name {
                [b'.', ..] => (name, Scope::Subdomains),
                b"*" => (folded, Scope::AnySender),
                _ => (folded, Scope::Domain),
            },
            _ => (folded, Scope::Single),
        };
        Self {
            bytes,
            is_plain,
            scope,
        }
    }

    /// Returns the key of all subdomains of a domain, of which `parent` is the name with a dot before it.
    #[inline]
    #[must_use]
    pub(super) fn of_subdomains(parent: &'k [u8], is_plain: bool) -> Self {
        Self {
            bytes: parent,
            is_plain,
            scope: Scope::Subdomains,
        }
    }

    /// Returns what the key stands for.
    #[inline]
    #[must_use]
    pub fn scope(self) -> Scope {
        self.scope
    }

    /// Returns the bytes by which the key is indexed: those of `@.example.com` start at the dot.
    #[must_use]
    pub fn bytes(self) -> &'k [u8] {
        self.bytes
    }

    /// Returns the whole key, as a file has it.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        let at: &[u8] = if self.is_of_subdomains() { b"@" } else { b"" };
        [at, self.bytes].concat()
    }

    /// Whether this is the key of an entry whose key is `written`.
    #[must_use]
    pub fn matches(self, written: &[u8]) -> bool {
        if self.is_of_subdomains() {
            let name = written.strip_prefix(b"@");
            return name.is_some_and(|name| key_matches(name, self.bytes));
        }
        key_matches(written, self.bytes)
    }

    /// Whether this is the key of all subdomains of a domain.
    #[inline]
    #[must_use]
    pub fn is_of_subdomains(self) -> bool {
        self.scope == Scope::Subdomains
    }

    /// Whether the key is known to be visible ASCII without quotes and backslashes. `false` does not mean that it is
    /// not.
    #[must_use]
    pub fn is_plain(self) -> bool {
        self.is_plain
    }
}

/// For bytes that are folded already.
impl<'k> From<&'k [u8]> for Key<'k> {
    fn from(folded: &'k [u8]) -> Self {
        Self::new(folded, false)
    }
}

/// The keys to look up for a requested key, most specific first. For an address: the whole address, the address without its
/// extension, `@domain`, `@.parent` for each parent of the domain, and `@*`. For a host or a next hop: the text alone.
///
/// The value keeps its memory for the next address ([`LookupKeys::parse`]), so that lookups do not allocate after the
/// first few.
#[derive(Default)]
pub struct LookupKeys {
    /// The keys, concatenated.
    text: Vec<u8>,
    /// The local part without quotes, not folded.
    unquoted: Vec<u8>,
    whole: Range<usize>,
    without_extension: Option<Range<usize>>,
    domain: Option<Range<usize>>,
    is_plain: bool,
}

impl LookupKeys {
    /// Returns the keys of one address, host or next hop.
    #[must_use]
    pub fn of(address: &[u8], delimiters: &Delimiters) -> Self {
        let mut keys = Self::default();
        keys.parse(address, delimiters);
        keys
    }

    /// Parses `address` in place of the previous one. `<>` and `"<>"` are the null sender.
    pub fn parse(&mut self, address: &[u8], delimiters: &Delimiters) {
        self.text.clear();
        self.without_extension = None;
        self.domain = None;
        self.is_plain = false;
        if address == NULL_SENDER || address == b"\"<>\"" {
            self.text.extend_from_slice(NULL_SENDER);
            self.whole = 0..self.text.len();
            return;
        }
        if self.parse_plain(address, delimiters) {
            return;
        }
        let parts = AddressParts::parse(address);
        let local = if parts.quoted {
            unescape_into(parts.local, &mut self.unquoted);
            self.unquoted.as_slice()
        } else {
            parts.local
        };
        fold_into(local, &mut self.text);
        let Some(domain) = parts.domain else {
            self.whole = 0..self.text.len();
            return;
        };
        let at = self.text.len();
        self.text.push(b'@');
        fold_into(domain, &mut self.text);
        self.whole = 0..self.text.len();
        self.domain = Some(at..self.text.len());
        if let Some(name) = delimiters
            .before_extension(local)
            .and_then(|end| local.get(..end))
        {
            let start = self.text.len();
            fold_into(name, &mut self.text);
            self.text.extend_from_within(at..start);
            self.without_extension = Some(start..self.text.len());
        }
    }

    /// Parses an address of visible ASCII without quotes and backslashes, as nearly all are. Returns whether it is one.
    fn parse_plain(&mut self, address: &[u8], delimiters: &Delimiters) -> bool {
        // Copied as a whole, because folding keeps the length of each part.
        self.text.extend_from_slice(address);
        self.text
            .resize(address.len().next_multiple_of(swar::LANES), b'.');
        let mut last_at = None;
        for (number, word) in self.text.as_chunks_mut().0.iter_mut().enumerate() {
            let Ok(at) = swar::fold(word) else {
                self.text.clear();
                return false;
            };
            last_at = at.map(|at| number * swar::LANES + at).or(last_at);
        }
        self.text.truncate(address.len());
        self.is_plain = true;
        self.whole = 0..address.len();
        let Some(at) = last_at.filter(|at| at + 1 < address.len()) else {
            return true;
        };
        self.domain = Some(at..address.len());
        let extension = self
            .text
            .get(..at)
            .and_then(|local| delimiters.before_extension(local));
        if let Some(end) = extension {
            let start = self.text.len();
            self.text.extend_from_within(..end);
            self.text.extend_from_within(at..start);
            self.without_extension = Some(start..self.text.len());
        }
        true
    }

    /// Returns the key of the whole address; for a host or a next hop, the folded text.
    #[must_use]
    pub fn whole(&self) -> &[u8] {
        self.part(&self.whole)
    }

    /// Whether this is an envelope sender. Hosts and next hops have no `@`.
    #[must_use]
    pub fn is_sender(&self) -> bool {
        self.domain.is_some() || self.whole() == NULL_SENDER || self.whole().contains(&b'@')
    }

    /// Whether the address has a domain.
    #[must_use]
    pub fn has_domain(&self) -> bool {
        self.domain.is_some()
    }

    /// Returns all keys of a sender in the relay map, in the order in which they are tried.
    pub fn in_order(&self) -> impl Iterator<Item = Key<'_>> {
        self.of_credentials().chain(self.any_sender())
    }

    /// Returns all keys in the credentials, in the order in which they are tried: without `@*`.
    pub fn of_credentials(&self) -> impl Iterator<Item = Key<'_>> {
        self.of_postfix().chain(self.parents())
    }

    /// Returns the keys that Postfix tries on an indexed table, in its order.
    #[inline]
    pub fn of_postfix(&self) -> impl Iterator<Item = Key<'_>> {
        let domain = self.domain.as_ref().filter(|domain| domain.start > 0);
        [Some(&self.whole), self.without_extension.as_ref(), domain]
            .into_iter()
            .flatten()
            .map(|range| self.key(range))
    }

    /// Returns the keys of the domain's parents, from the longest to the shortest.
    pub fn parents(&self) -> impl Iterator<Item = Key<'_>> {
        let labels = self.labels();
        let dots = memchr::memchr_iter(b'.', labels).count();
        memchr::memchr_iter(b'.', labels)
            .skip(dots.saturating_sub(MAX_PARENTS))
            .filter_map(|at| Some(Key::of_subdomains(labels.get(at..)?, self.is_plain)))
    }

    /// Returns the end of the domain in which parents of it start: all but its first character, and not more than a parent
    /// can have; nothing of an address literal.
    #[inline]
    pub(super) fn labels(&self) -> &[u8] {
        let domain = self.domain.as_ref().map_or(&[][..], |domain| self.part(domain));
        match domain {
            [b'@', b'[', ..] => &[],
            // A dot at the start of a domain belongs to its own key.
            [b'@', _, labels @ ..] => labels
                .get(labels.len().saturating_sub(MAX_PARENT_LENGTH)..)
                .unwrap_or_default(),
            _ => &[],
        }
    }

    /// Whether the keys are known to be visible ASCII ([`Key::is_plain`]).
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Returns the key of all senders, if this one has a domain.
    #[inline]
    #[must_use]
    pub fn any_sender(&self) -> Option<Key<'_>> {
        let domain = self.domain.as_ref().map(|domain| self.part(domain))?;
        // An address with this domain has the key already.
        (domain != ANY_SENDER).then(|| Key::new(ANY_SENDER, true))
    }

    /// Returns [`LookupKeys::whole`] as a key.
    #[must_use]
    pub fn whole_key(&self) -> Key<'_> {
        self.key(&self.whole)
    }

    fn key(&self, range: &Range<usize>) -> Key<'_> {
        Key::new(self.part(range), self.is_plain)
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }
}

/// Appends the `content` of a quoted string without the backslashes of its quoted pairs.
fn unescape_into(content: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut escaped = false;
    for &c in content {
        if c == b'\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
}

#[cfg(test)]
mod tests;
