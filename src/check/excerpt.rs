//! The part of a line that a finding may show: never a credential.
//!
//! In the credentials file a password may be anywhere, and one of its lines may be pasted into the relay map. So only
//! text that is certain to be a sender, a host or a next hop is shown. A constant mask, which does not even reveal a
//! length, replaces the rest.

use std::ops::Range;

use crate::config::file;
use crate::lookup::address::NULL_SENDER;
use crate::lookup::nexthop;
use crate::lookup::table::spec::{Format, KeyKind, ValueKind};
use crate::lookup::table::{key, line};
use crate::lookup::tls_policy;
use crate::os::invisible::{Invisible, is_invisible};
use crate::os::printable::printable;

/// Replaces what is not shown.
const MASK: &str = "********";

/// A line as it can be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line in printable form.
    pub text: String,
    /// The bytes of `text` that the finding points at: a character or its escape; empty at the end.
    pub at: Range<usize>,
}

impl Excerpt {
    /// Creates an excerpt from the first `shown` bytes of a line and a mask for the rest. It points at a column of the
    /// line, in bytes from 1. An invisible character at that column is shown by its code point, even behind `shown`.
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
        // Points at the whole escape, if the character is shown as one.
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

/// Returns the character that begins at byte `at` of a line.
fn character_at(line: &[u8], at: usize) -> Option<char> {
    let rest = line.get(at..)?.utf8_chunks().next()?;
    rest.valid().chars().next()
}

/// Returns a key in printable form, or a mask if it may be a password.
pub(crate) fn shown_key(key: &[u8]) -> String {
    if is_name(key) {
        printable(key)
    } else {
        MASK.to_owned()
    }
}

/// Returns next hops in printable form, or a mask if they may be a password.
pub(crate) fn shown_next_hops(list: &[u8]) -> String {
    if nexthop::elements(list).all(is_name_or_port) {
        printable(list)
    } else {
        MASK.to_owned()
    }
}

/// Returns an excerpt of a line of a table.
pub(crate) fn table_line(format: Format, line: &[u8], column: u32) -> Excerpt {
    Excerpt::new(line, shown_len(format, line), column)
}

/// Returns how many bytes of a line may be shown.
fn shown_len(format: Format, line: &[u8]) -> usize {
    let Some((key, value)) = line::entry_at(format, line) else {
        return 0;
    };
    let indent = line.iter().take_while(|c| c.is_ascii_whitespace()).count();
    if let Some(end) = domain_before_invisible(key) {
        return indent + end;
    }
    let is_single_word = value.is_empty() && (format.keys == KeyKind::SenderOrHost || !key.contains(&b'.'));
    let is_any = format.keys == KeyKind::NextHop && key == b"*";
    if (is_single_word && !key.starts_with(b"@") || !is_name(key)) && !is_any {
        return 0;
    }
    let key_end = indent + key.len();
    let after_key = line.get(key_end..).unwrap_or_default();
    let shown_of_value = match format.values {
        ValueKind::NextHop if nexthop::elements(value).all(is_name_or_port) => value.len(),
        ValueKind::NextHop | ValueKind::Login => 0,
        ValueKind::Tls => tls_policy::recognized_len(value),
    };
    let end = if shown_of_value > 0 {
        let whitespace = after_key.iter().take_while(|c| c.is_ascii_whitespace()).count();
        key_end + whitespace + shown_of_value
    } else {
        key_end
    };
    // The rest is whitespace, a comment, which may contain anything, or the value.
    let rest = line.get(end..).unwrap_or_default();
    if rest.iter().all(u8::is_ascii_whitespace) {
        line.len()
    } else {
        end + rest.iter().take(1).filter(|c| c.is_ascii_whitespace()).count()
    }
}

/// Returns the end of the `@domain` at the beginning of a key that an invisible character joins to its value. A word
/// without a dot may be a password.
fn domain_before_invisible(key: &[u8]) -> Option<usize> {
    let end = Invisible::first(key)?.offset;
    let domain = key.get(..end)?.strip_prefix(b"@")?;
    (domain.contains(&b'.') && key::validate_domain(domain).is_ok()).then_some(end)
}

/// Whether `key` is a sender, a host or a next hop, and not a user with a password.
pub(super) fn is_name(key: &[u8]) -> bool {
    if key == NULL_SENDER {
        return true;
    }
    let Some(at) = memchr::memrchr(b'@', key) else {
        return is_name_or_port(key);
    };
    let is_domain_char = |c: &u8| c.is_ascii_alphanumeric() || !c.is_ascii() || b".-_*[]".contains(c);
    let is_domain = key.iter().skip(at + 1).all(is_domain_char);
    // A backslash may join a password to the next word.
    is_domain && !key.iter().any(|c| b":\\".contains(c))
}

/// Whether a word, valid or not, is a host with or without a port: its only colons are those of an IPv6 address and one
/// before digits. A plain word may be a password.
pub(super) fn is_name_or_port(word: &[u8]) -> bool {
    let is_address = |text: &[u8]| text.iter().all(|c| c.is_ascii_hexdigit() || *c == b':');
    let is_host_char = |c: &u8| c.is_ascii_alphanumeric() || !c.is_ascii() || b".-_".contains(c);
    let is_in_brackets = word.starts_with(b"[") && word.contains(&b']');
    // An unclosed bracket proves nothing.
    let word = word
        .strip_prefix(b"[")
        .filter(|_| !is_in_brackets)
        .unwrap_or(word);
    let (host, port) = nexthop::host_and_port(word);
    if !is_in_brackets && !word.contains(&b'.') && port.is_none_or(<[u8]>::is_empty) {
        return false;
    }
    let is_host = host.iter().all(is_host_char) || is_address(host);
    let is_port = port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit));
    let is_whole_word =
        !word.starts_with(b"[") || word.len() <= host.len() + 2 + port.map_or(0, |port| port.len() + 1);
    !word.iter().any(|c| b"@,".contains(c))
        && (is_host && is_port && is_whole_word || nexthop::validate(word).is_ok())
}

/// Returns an excerpt of a line of the settings file.
pub(crate) fn settings_line(line: &[u8], column: u32) -> Excerpt {
    let is_setting = |name: &[u8]| {
        let name = std::str::from_utf8(name).map(str::trim);
        name.is_ok_and(file::is_like_a_setting)
    };
    let heading = line.trim_ascii().strip_prefix(b"[");
    let heading = heading.and_then(|rest| rest.strip_suffix(b"]"));
    let shown = match memchr::memchr(b'=', line).and_then(|equals| line.split_at_checked(equals)) {
        None if heading.is_some_and(is_setting) => line.len(),
        Some((name, value)) if is_setting(name) && cannot_be_password(value) => line.len(),
        Some((name, _)) if is_setting(name) => name.len() + 1,
        _ => 0,
    };
    Excerpt::new(line, shown, column)
}

/// Whether the value of a setting, with the `=` before it, is certain to be no password.
fn cannot_be_password(value: &[u8]) -> bool {
    let is_number_char = |c: &u8| c.is_ascii_digit() || c.is_ascii_whitespace() || b"=\"'-+.,_[]".contains(c);
    let is_endpoint_char = |c: &u8| c.is_ascii_alphanumeric() || is_number_char(c) || b":/".contains(c);
    let start = value
        .iter()
        .position(|c| !b"= [\"'".contains(c))
        .unwrap_or(value.len());
    let start = value.get(start..).unwrap_or_default();
    let is_endpoint = start.starts_with(b"socketmap:") || start.starts_with(b"tcp:");
    // The values of `next_hops`.
    let is_known_word = matches!(start, b"main.cf\"" | b"postmapd\"");
    is_known_word || value.iter().all(is_number_char) || is_endpoint && value.iter().all(is_endpoint_char)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Excerpt, settings_line, table_line};
    use crate::lookup::table::spec::{CREDENTIALS, Format, RELAY_MAP, RELAY_TLS};

    fn shown(format: Format, line: &str) -> String {
        table_line(format, line.as_bytes(), 1).text
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
    fn a_line_of_the_tls_file_is_shown_up_to_a_word_that_may_be_a_password() {
        for line in [
            "[r.example]:2465 implicit",
            "r.example  secure match=nexthop servername=r.example via=relay-2",
            "* may",
            " *\tencrypt, ciphers=best ",
            "[r.example]:465 implicit secur",
            "[r.example]:465 sec-ure macth=nexthop",
            "[r.example]:465 starttls:",
        ] {
            assert_eq!(shown(RELAY_TLS.format, line), line.replace('\t', " "), "{line}");
        }
        for (line, text) in [
            ("[r.example]:587 user:password", "[r.example]:587 ********"),
            ("[r.example]:587 password", "[r.example]:587 ********"),
            (
                "[r.example]:587 secure password",
                "[r.example]:587 secure ********",
            ),
            (
                "[r.example]:587 secure user:pass=word",
                "[r.example]:587 secure ********",
            ),
            (
                "[r.example]:587 secure # password",
                "[r.example]:587 secure ********",
            ),
            ("* password", "* ********"),
            ("password", "********"),
            ("user:password secure", "********"),
        ] {
            assert_eq!(shown(RELAY_TLS.format, line), text);
        }
    }

    #[test]
    fn only_the_key_of_a_credentials_line_is_shown() {
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
    fn an_excerpt_points_at_the_column_or_at_the_mask() {
        let excerpt = |text: &str, at| Excerpt {
            text: text.into(),
            at,
        };
        assert_eq!(
            table_line(RELAY_MAP.format, b"@a  [r.t", 5),
            excerpt("@a  [r.t", 4..5)
        );
        assert_eq!(
            table_line(RELAY_MAP.format, b"@a  [r.t", 9),
            excerpt("@a  [r.t", 8..8)
        );
        assert_eq!(
            table_line(CREDENTIALS.format, b"@a  password", 9),
            excerpt("@a ********", 3..4)
        );
        assert_eq!(
            table_line(RELAY_MAP.format, "\u{1b}\u{fc}@a [r.t".as_bytes(), 2),
            excerpt("\\u{1b}\u{fc}@a [r.t", 6..8)
        );
        assert_eq!(
            table_line(RELAY_MAP.format, "@a\u{200b} [r.t".as_bytes(), 3),
            excerpt("@a\\u{200b} [r.t", 2..10)
        );
        assert_eq!(settings_line(b"listen = 1", 10), excerpt("listen = 1", 9..10));
        assert_eq!(
            settings_line(b"lisen = \"x\"", 1),
            excerpt("lisen =********", 0..1)
        );
        for line in [
            "password = 1",
            "user1:password= @a.test",
            "userpassword = 1",
            "[r.example]:587 user:password",
            "@a user:pass=word",
            "password",
        ] {
            assert_eq!(settings_line(line.as_bytes(), 1).text, "********", "{line}");
        }
        for line in ["next_hops = \"main.cf\"", "next_hops = \"postmapd\""] {
            assert_eq!(settings_line(line.as_bytes(), 1).text, line);
        }
        assert_eq!(
            settings_line(b"next_hops = \"main.cf\" # password", 1).text,
            "next_hops =********"
        );
        assert_eq!(settings_line(b"[reload]", 1).text, "[reload]");
        assert_eq!(
            settings_line(b"poll_interval = 5 # password", 1).text,
            "poll_interval =********"
        );
    }

    #[test]
    fn an_invisible_character_is_shown_by_its_code_point_and_the_rest_is_masked() {
        let shown = |format: Format, line: &str| {
            let at = line.find(|c: char| !c.is_ascii()).unwrap();
            let excerpt = table_line(format, line.as_bytes(), u32::try_from(at + 1).unwrap());
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
        /// Whatever errors the line has.
        #[test]
        fn an_excerpt_never_shows_a_password(
            key in "[@a-z\\[\\]:\" .\u{a0}]{0,9}", whitespace in "[ \t\u{a0}]{0,2}", user in "[a-z@]{0,5}", rest in "[ :x]{0,4}",
            column in 0_u32..40,
        ) {
            for format in [RELAY_MAP.format, CREDENTIALS.format, RELAY_TLS.format] {
                for line in [
                    format!("{key}{whitespace}{user}:s3cr3tPassword{rest}"),
                    format!("{user}:s3cr3tPassword{whitespace}{key}"),
                ] {
                    let shown = table_line(format, line.as_bytes(), column);
                    prop_assert!(!shown.text.contains("s3cr3t"), "{line}: {}", shown.text);
                    prop_assert!(shown.text.get(shown.at).is_some());
                }
            }
        }
    }
}
