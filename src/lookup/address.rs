//! Envelope senders, and the keys that Postfix tries for one on an indexed table.
//!
//! Over socketmap and tcp_table Postfix sends the whole address once, not folded, and derives nothing from it. This
//! module does what Postfix does for a `hash:` table (`mail_addr_find(3)`): the address, the address without its
//! extension, then `@domain`, each folded.
//!
//! Postfix looks up an address whose local part needs quoting twice, first as `"john doe"@example.com`, then as `john
//! doe@example.com`, and the null sender as `"<>"`, then `<>`. Both forms of an address are one key here, so that the
//! second lookup cannot undo the answer to the first (an excluded sender would otherwise get the relay of its domain).
//! A local part that is one quoted string means its content (RFC 5321 section 4.1.2); any other is taken literally.
//!
//! Limits: no conversion between the U-label and A-label forms of a domain, no parent domains, and a key that is not
//! UTF-8 is folded in its ASCII letters only. Postfix does none of this either.

mod extension;
mod swar;

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

/// A folded key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'k> {
    bytes: &'k [u8],
    is_plain: bool,
}

impl<'k> Key<'k> {
    /// Returns the bytes of the key.
    #[must_use]
    pub fn bytes(self) -> &'k [u8] {
        self.bytes
    }

    /// Whether the key is known to be visible ASCII without quotes and backslashes. `false` does not mean that it is
    /// not.
    #[must_use]
    pub fn is_plain(self) -> bool {
        self.is_plain
    }

    /// Whether this is the key of a domain, `@domain`.
    #[must_use]
    pub fn is_domain(self) -> bool {
        self.bytes.first() == Some(&b'@')
    }
}

/// For bytes that are folded already.
impl<'k> From<&'k [u8]> for Key<'k> {
    fn from(bytes: &'k [u8]) -> Self {
        Self {
            bytes,
            is_plain: false,
        }
    }
}

/// The keys to look up for a requested key, most specific first. For an address: the whole address, the address without its
/// extension, then `@domain`. For a host or a next hop: the text alone.
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

    /// Returns the keys in the order in which Postfix tries them.
    pub fn in_order(&self) -> impl Iterator<Item = Key<'_>> {
        let domain = self.domain.as_ref().filter(|domain| domain.start > 0);
        [Some(&self.whole), self.without_extension.as_ref(), domain]
            .into_iter()
            .flatten()
            .map(|range| self.key(range))
    }

    /// Returns [`LookupKeys::whole`] as a key.
    #[must_use]
    pub fn whole_key(&self) -> Key<'_> {
        self.key(&self.whole)
    }

    fn key(&self, range: &Range<usize>) -> Key<'_> {
        Key {
            bytes: self.part(range),
            is_plain: self.is_plain,
        }
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
mod tests {
    use proptest::prelude::*;

    use super::{Delimiters, LookupKeys};

    fn keys_with(delimiters: &str, address: &str) -> Vec<String> {
        let mut keys = LookupKeys::default();
        keys.parse(b"Someone+else@before.example", &Delimiters::default());
        keys.parse(address.as_bytes(), &Delimiters::new(delimiters).unwrap());
        keys.in_order()
            .map(|key| String::from_utf8(key.bytes().to_vec()).unwrap())
            .collect()
    }

    fn keys(address: &str) -> Vec<String> {
        keys_with("+", address)
    }

    #[test]
    fn an_address_is_tried_whole_then_without_extension_then_by_domain() {
        assert_eq!(
            keys("User+Ext@One.Test"),
            ["user+ext@one.test", "user@one.test", "@one.test"]
        );
        assert_eq!(keys("u+a+b@x.org"), ["u+a+b@x.org", "u@x.org", "@x.org"]);
        assert_eq!(keys("@x.org"), ["@x.org"]);
    }

    #[test]
    fn names_that_postfix_never_splits_have_no_extension() {
        assert_eq!(keys("+u@x.org"), ["+u@x.org", "@x.org"]);
        assert_eq!(keys("postmaster+u@x.org").len(), 3);
        assert_eq!(
            keys_with("-", "Mailer-Daemon@x.org"),
            ["mailer-daemon@x.org", "@x.org"]
        );
        assert_eq!(keys_with("-", "owner-list@x.org").len(), 2);
        assert_eq!(keys_with("-", "list-Request@x.org").len(), 2);
        assert_eq!(keys_with("-", "-request@x.org").len(), 2);
        assert_eq!(
            keys_with("-+", "a+b-c@x.org"),
            ["a+b-c@x.org", "a@x.org", "@x.org"]
        );
        assert_eq!(keys_with("", "a+b@x.org").len(), 2);
    }

    #[test]
    fn quoted_and_unquoted_forms_have_the_same_keys() {
        for (quoted, plain) in [
            (r#""John Doe+x"@x.org"#, "john doe+x@x.org"),
            (r#""a@b"@x.org"#, "a@b@x.org"),
            (r#""a\"b"@x.org"#, r#"a"b@x.org"#),
            (r#""a..b"@x.org"#, "a..b@x.org"),
            (r#""<>""#, "<>"),
        ] {
            assert_eq!(keys(quoted), keys(plain), "{quoted}");
        }
    }

    #[test]
    fn an_address_without_a_whole_quoted_local_part_is_taken_literally() {
        assert_eq!(keys(r#"a"b"c@x.org"#), [r#"a"b"c@x.org"#, "@x.org"]);
        assert_eq!(keys(r#""open@x.org"#), [r#""open@x.org"#, "@x.org"]);
        assert_eq!(keys("user@"), ["user@"]);
        assert_eq!(keys("[Relay1.org]:587"), ["[relay1.org]:587"]);
    }

    #[test]
    fn unicode_is_case_folded_and_other_bytes_as_ascii() {
        assert_eq!(keys("STRASSE@x.org"), keys("straße@X.ORG"));
        assert_eq!(keys("ΣΑΣ@x.org"), keys("σας@x.org"));
        assert_eq!(keys("İ@x.org"), ["i\u{307}@x.org", "@x.org"]);
        let mut bytes = LookupKeys::default();
        bytes.parse(b"M\xFCLLER@x.org", &Delimiters::default());
        assert_eq!(bytes.whole(), b"m\xFCller@x.org");
    }

    proptest! {
        /// The plain form takes the fast path, the quoted one is split into its parts.
        #[test]
        fn the_fast_path_gives_the_same_keys_as_parsing_the_parts(
            local in "[a-zA-Z@.+=-]{0,6}|postmaster|owner-X|X-request",
            domain in "[a-zA-Z.]{1,6}",
            delimiters in prop::sample::select(vec!["+", "+-", "-", ""]),
        ) {
            let (plain, quoted) = (format!("{local}@{domain}"), format!("\"{local}\"@{domain}"));
            prop_assert_eq!(keys_with(delimiters, &plain), keys_with(delimiters, &quoted));
        }
    }
}
