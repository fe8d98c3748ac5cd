//! What may be shown of a line that a finding is about: its shape, and no credential.
//!
//! In the credentials file a password may stand anywhere, and a line of it may have been pasted into the relay map. So
//! only what is a sender, a host or a next hop for certain is shown, and the rest is a mask that is always the same,
//! which does not even tell a length.

use std::ops::Range;

use crate::config::file;
use crate::lookup::address::NULL_SENDER;
use crate::lookup::nexthop;
use crate::lookup::table::spec::{Format, KeyKind, ValueKind};
use crate::lookup::table::{key, line};
use crate::os::invisible::{Invisible, is_invisible};
use crate::os::printable::printable;

/// What stands for whatever is not shown.
const MASK: &str = "********";

/// A line that can be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line, printable.
    pub text: String,
    /// The character of `text` that the finding points at, or its escape, in bytes; nothing at the end.
    pub at: Range<usize>,
}

impl Excerpt {
    /// The first `shown` bytes of a line and a mask for the rest, pointing at a column of the line, from 1. An invisible
    /// character there is shown by its code point, wherever it stands.
    fn new(line: &[u8], shown: usize, column: u32) -> Self {
        let shown = shown.min(line.len());
        let column = usize::try_from(column)
            .unwrap_or(1)
            .saturating_sub(1)
            .min(line.len());
        let invisible = character_at(line, column).filter(|c| !c.is_ascii() && is_invisible(*c));
        if let Some(c) = invisible.filter(|_| column >= shown) {
            let mut text = printable(line.get(..shown).unwrap_or_default());
            if column > shown {
                text += MASK;
            }
            let at = text.len();
            text += &printable(c.to_string().as_bytes());
            let end = text.len();
            text += MASK;
            return Self { text, at: at..end };
        }
        let column = column.min(shown);
        let mut text = printable(line.get(..column).unwrap_or_default());
        let at = text.len();
        let rest = line.get(column..shown).unwrap_or_default();
        text += &printable(rest);
        if shown < line.len() {
            text += MASK;
        }
        // A character that is shown as an escape is pointed at with all of that.
        let first = match rest.utf8_chunks().next() {
            Some(chunk) => chunk.valid().chars().next().map_or_else(
                || printable(chunk.invalid()).len(),
                |first| printable(first.to_string().as_bytes()).len(),
            ),
            None => usize::from(shown < line.len()),
        };
        Self {
            text,
            at: at..at + first,
        }
    }
}

/// The character that begins at a byte of a line.
fn character_at(line: &[u8], at: usize) -> Option<char> {
    let rest = line.get(at..)?.utf8_chunks().next()?;
    rest.valid().chars().next()
}

/// An excerpt of a line of a table.
pub(crate) fn of_table(format: Format, line: &[u8], column: u32) -> Excerpt {
    Excerpt::new(line, shown_of_table(format, line), column)
}

/// How many bytes of a line may be shown.
fn shown_of_table(format: Format, line: &[u8]) -> usize {
    let Some((key, value)) = line::entry_at(format, line) else {
        return 0;
    };
    let indent = line.iter().take_while(|c| c.is_ascii_whitespace()).count();
    if let Some(end) = domain_before_invisible(key) {
        return indent + end;
    }
    let is_lonely_word = value.is_empty() && (format.keys == KeyKind::SenderOrHost || !key.contains(&b'.'));
    if is_lonely_word && !key.starts_with(b"@") || !is_name(key) {
        return 0;
    }
    let key_end = indent + key.len();
    let after_key = line.get(key_end..).unwrap_or_default();
    let end = if format.values == ValueKind::NextHop && nexthop::elements(value).all(is_name_or_port) {
        let blanks = after_key.iter().take_while(|c| c.is_ascii_whitespace()).count();
        key_end + blanks + value.len()
    } else {
        key_end
    };
    // What comes after that is blank, a comment in which anything may stand, or the value.
    let rest = line.get(end..).unwrap_or_default();
    if rest.iter().all(u8::is_ascii_whitespace) {
        line.len()
    } else {
        end + rest.iter().take(1).filter(|c| c.is_ascii_whitespace()).count()
    }
}

/// Where the `@domain` ends with which a key begins that an invisible character holds together with its value. A word
/// without a dot may be a password.
fn domain_before_invisible(key: &[u8]) -> Option<usize> {
    let end = Invisible::first(key)?.offset;
    let domain = key.get(..end)?.strip_prefix(b"@")?;
    (domain.contains(&b'.') && key::validate_domain(domain).is_ok()).then_some(end)
}

/// Whether this is a sender, a host or a next hop, and not a user with a password.
pub(super) fn is_name(key: &[u8]) -> bool {
    if key == NULL_SENDER {
        return true;
    }
    let Some(at) = memchr::memrchr(b'@', key) else {
        return is_name_or_port(key);
    };
    let is_of_domain = |c: &u8| c.is_ascii_alphanumeric() || !c.is_ascii() || b".-_*[]".contains(c);
    let is_domain = key.iter().skip(at + 1).all(is_of_domain);
    // A backslash may join a password to the word after it.
    is_domain && !key.iter().any(|c| b":\\".contains(c))
}

/// Whether a word, right or wrong, is a host and perhaps a port: the only colons in it are those of an IPv6 address and
/// one before some digits. A plain word may be a password.
pub(super) fn is_name_or_port(word: &[u8]) -> bool {
    let is_address = |text: &[u8]| text.iter().all(|c| c.is_ascii_hexdigit() || *c == b':');
    let is_of_host = |c: &u8| c.is_ascii_alphanumeric() || !c.is_ascii() || b".-_".contains(c);
    let is_in_brackets = word.starts_with(b"[") && word.contains(&b']');
    // A bracket that is not closed says nothing.
    let word = word
        .strip_prefix(b"[")
        .filter(|_| !is_in_brackets)
        .unwrap_or(word);
    let (host, port) = nexthop::host_and_port(word);
    if !is_in_brackets && !word.contains(&b'.') && port.is_none_or(<[u8]>::is_empty) {
        return false;
    }
    let is_host = host.iter().all(is_of_host) || is_address(host);
    let is_port = port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit));
    let is_all =
        !word.starts_with(b"[") || word.len() <= host.len() + 2 + port.map_or(0, |port| port.len() + 1);
    !word.iter().any(|c| b"@,".contains(c))
        && (is_host && is_port && is_all || nexthop::validate(word).is_ok())
}

/// An excerpt of a line of the settings file.
pub(crate) fn of_settings(line: &[u8], column: u32) -> Excerpt {
    let is_name = |name: &[u8]| {
        let name = std::str::from_utf8(name).map(str::trim);
        name.is_ok_and(file::is_like_a_setting)
    };
    let heading = line.trim_ascii().strip_prefix(b"[");
    let heading = heading.and_then(|rest| rest.strip_suffix(b"]"));
    let shown = match memchr::memchr(b'=', line).and_then(|equals| line.split_at_checked(equals)) {
        None if heading.is_some_and(is_name) => line.len(),
        Some((name, value)) if is_name(name) && is_no_password(value) => line.len(),
        Some((name, _)) if is_name(name) => name.len() + 1,
        _ => 0,
    };
    Excerpt::new(line, shown, column)
}

/// Whether the value of a setting, with the `=` before it, is certain to be no password.
fn is_no_password(value: &[u8]) -> bool {
    let of_number = |c: &u8| c.is_ascii_digit() || c.is_ascii_whitespace() || b"=\"'-+.,_[]".contains(c);
    let of_endpoint = |c: &u8| c.is_ascii_alphanumeric() || of_number(c) || b":/".contains(c);
    let start = value
        .iter()
        .position(|c| !b"= [\"'".contains(c))
        .unwrap_or(value.len());
    let start = value.get(start..).unwrap_or_default();
    let is_endpoint = start.starts_with(b"socketmap:") || start.starts_with(b"tcp:");
    // Of `next_hops`.
    let is_known_word = matches!(start, b"main.cf\"" | b"postmapd\"");
    is_known_word || value.iter().all(of_number) || is_endpoint && value.iter().all(of_endpoint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Excerpt, of_settings, of_table};
    use crate::lookup::table::spec::{CREDENTIALS, Format, RELAY_MAP};

    fn shown(format: Format, line: &str) -> String {
        of_table(format, line.as_bytes(), 1).text
    }

    #[test]
    fn a_line_of_the_relay_map_is_shown_unless_it_may_hold_a_password() {
        for line in [
            "@a  [r]:99999",
            "@a [r.t",
            "@a [r.example:25",
            "u@a h:25, g:0",
            "@a. [r] ",
            "@a [h]:",
            "@a r.example",
        ] {
            assert_eq!(shown(RELAY_MAP.format, line), line);
        }
        assert_eq!(
            shown(RELAY_MAP.format, "u@a h:25, g:0 # why"),
            "u@a h:25, g:0 ********"
        );
        assert_eq!(shown(RELAY_MAP.format, "@a # u:password"), "@a ********");
        assert_eq!(shown(RELAY_MAP.format, "@a password"), "@a ********");
        assert_eq!(shown(RELAY_MAP.format, "a.example r:25x"), "a.example ********");
        assert_eq!(shown(RELAY_MAP.format, "@a user:password"), "@a ********");
        assert_eq!(shown(RELAY_MAP.format, "@a me@a:password"), "@a ********");
        for line in [
            "password",
            "user:password",
            "\"pass word",
            "# @a u:password",
            "u@a:password r",
            "@a.example=password",
            "a.example,password",
            "password\\ @a.example",
        ] {
            assert_eq!(shown(RELAY_MAP.format, line), "********", "{line}");
        }
    }

    #[test]
    fn of_a_credentials_line_the_key_alone_is_shown() {
        assert_eq!(
            shown(CREDENTIALS.format, "@a.example   user:password"),
            "@a.example ********"
        );
        assert_eq!(
            shown(CREDENTIALS.format, " [r.example]:587 password"),
            " [r.example]:587 ********"
        );
        assert_eq!(shown(CREDENTIALS.format, "@a.example"), "@a.example");
        for line in ["password", "user:password", "u:p@ss x", "p@ssword"] {
            assert_eq!(shown(CREDENTIALS.format, line), "********", "{line}");
        }
    }

    #[test]
    fn it_points_at_the_column_or_at_the_mask() {
        let excerpt = |text: &str, at| Excerpt {
            text: text.into(),
            at,
        };
        assert_eq!(
            of_table(RELAY_MAP.format, b"@a  [r.t", 5),
            excerpt("@a  [r.t", 4..5)
        );
        assert_eq!(
            of_table(RELAY_MAP.format, b"@a  [r.t", 9),
            excerpt("@a  [r.t", 8..8)
        );
        assert_eq!(
            of_table(CREDENTIALS.format, b"@a  password", 9),
            excerpt("@a ********", 3..4)
        );
        assert_eq!(
            of_table(RELAY_MAP.format, "\u{1b}\u{fc}@a [r.t".as_bytes(), 2),
            excerpt("\\u{1b}\u{fc}@a [r.t", 6..8)
        );
        assert_eq!(
            of_table(RELAY_MAP.format, "@a\u{200b} [r.t".as_bytes(), 3),
            excerpt("@a\\u{200b} [r.t", 2..10)
        );
        assert_eq!(of_settings(b"listen = 1", 10), excerpt("listen = 1", 9..10));
        assert_eq!(of_settings(b"lisen = \"x\"", 1), excerpt("lisen =********", 0..1));
        for line in [
            "password = 1",
            "user1:password= @a.test",
            "userpassword = 1",
            "[r.example]:587 user:password",
            "@a user:pass=word",
            "password",
        ] {
            assert_eq!(of_settings(line.as_bytes(), 1).text, "********", "{line}");
        }
        for line in ["next_hops = \"main.cf\"", "next_hops = \"postmapd\""] {
            assert_eq!(of_settings(line.as_bytes(), 1).text, line);
        }
        assert_eq!(
            of_settings(b"next_hops = \"main.cf\" # password", 1).text,
            "next_hops =********"
        );
        assert_eq!(of_settings(b"[reload]", 1).text, "[reload]");
        assert_eq!(of_settings(b"poll = 5 # password", 1).text, "poll =********");
    }

    #[test]
    fn an_invisible_character_is_shown_by_its_code_point_and_what_follows_is_not() {
        let shown = |format: Format, line: &str| {
            let at = line.find(|c: char| !c.is_ascii()).unwrap();
            let excerpt = of_table(format, line.as_bytes(), u32::try_from(at + 1).unwrap());
            assert!(
                excerpt.text[excerpt.at.clone()].starts_with("\\u{"),
                "{excerpt:?}"
            );
            excerpt.text
        };
        for (format, line, text) in [
            (
                CREDENTIALS.format,
                "@a.example\u{a0}user:password",
                "@a.example\\u{a0}********",
            ),
            (
                CREDENTIALS.format,
                "@a.example\u{200b} user:password",
                "@a.example\\u{200b}********",
            ),
            (CREDENTIALS.format, "pass\u{a0}word", "********\\u{a0}********"),
            (CREDENTIALS.format, "p@ss\u{a0}word", "********\\u{a0}********"),
            (
                CREDENTIALS.format,
                "\u{feff}@a.example u:password",
                "\\u{feff}@a.example ********",
            ),
            (
                CREDENTIALS.format,
                "@a.example u:pass\u{a0}word",
                "@a.example ********\\u{a0}********",
            ),
            (
                RELAY_MAP.format,
                "@a.example [r.example]:587\u{a0}",
                "@a.example ********\\u{a0}********",
            ),
        ] {
            assert_eq!(shown(format, line), text);
        }
    }

    proptest! {
        /// Whatever is wrong with the line.
        #[test]
        fn no_password_is_ever_shown(
            key in "[@a-z\\[\\]:\" .\u{a0}]{0,9}", blank in "[ \t\u{a0}]{0,2}", user in "[a-z@]{0,5}", rest in "[ :x]{0,4}",
            column in 0_u32..40,
        ) {
            for format in [RELAY_MAP.format, CREDENTIALS.format] {
                for line in [
                    format!("{key}{blank}{user}:s3cr3tPassword{rest}"),
                    format!("{user}:s3cr3tPassword{blank}{key}"),
                ] {
                    let shown = of_table(format, line.as_bytes(), column);
                    prop_assert!(!shown.text.contains("s3cr3t"), "{line}: {}", shown.text);
                    prop_assert!(shown.text.get(shown.at).is_some());
                }
            }
        }
    }
}
