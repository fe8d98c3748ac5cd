//! What may be shown of a line that a finding is about: its shape, and no credential.
//!
//! In the credentials file a password may stand anywhere, and a line of it may have been pasted into the relay map. So
//! only what is a sender, a host or a next hop for certain is shown, and the rest is a mask that is always the same,
//! which does not even tell a length.

use std::ops::Range;

use crate::answer::Map;
use crate::config::file;
use crate::nexthop;
use crate::printable::printable;
use crate::table;
use crate::table::grammar;

/// What stands for whatever is not shown.
const MASK: &str = "********";

/// A line that can be shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line, printable.
    pub text: String,
    /// The character of `text` that the finding points at, in bytes; nothing at the end.
    pub at: Range<usize>,
}

impl Excerpt {
    /// The first `shown` bytes of a line and a mask for the rest, pointing at a column of the line, from 1.
    fn of(line: &[u8], shown: usize, column: u32) -> Self {
        let shown = shown.min(line.len());
        let column = usize::try_from(column).unwrap_or(1).saturating_sub(1).min(shown);
        let mut text = printable(line.get(..column).unwrap_or_default());
        let at = text.len();
        text += &printable(line.get(column..shown).unwrap_or_default());
        if shown < line.len() {
            text += MASK;
        }
        let first = text.get(at..).and_then(|rest| rest.chars().next());
        let end = at + first.map_or(0, char::len_utf8);
        Self { text, at: at..end }
    }
}

/// An excerpt of a line of a table.
#[must_use]
pub fn of_table(map: Map, line: &[u8], column: u32) -> Excerpt {
    Excerpt::of(line, shown_of_table(map, line), column)
}

/// How many bytes of a line may be shown.
fn shown_of_table(map: Map, line: &[u8]) -> usize {
    let Some((key, value)) = grammar::entry_at(table::format(map), line) else {
        return 0;
    };
    let indent = line.iter().take_while(|c| c.is_ascii_whitespace()).count();
    let is_lonely_word = value.is_empty() && (map == Map::Sasl || !key.contains(&b'.'));
    if is_lonely_word && !key.starts_with(b"@") || !is_name(key) {
        return 0;
    }
    if map == Map::Sasl || !nexthop::elements(value).all(is_name_or_port) {
        return indent + key.len() + (line.len() - indent - key.len()).min(1);
    }
    line.len()
}

/// Whether this is a sender, a host or a next hop, and not a user with a password.
fn is_name(key: &[u8]) -> bool {
    if key.contains(&b'@') {
        return !key.contains(&b':');
    }
    is_name_or_port(key)
}

/// Whether a word, right or wrong, is a host and perhaps a port: the only colons in it are those of an IPv6 address and
/// one before some digits.
fn is_name_or_port(word: &[u8]) -> bool {
    let is_address = |text: &[u8]| text.iter().all(|c| c.is_ascii_hexdigit() || *c == b':');
    let (host, port) = nexthop::host_and_port(word);
    let is_host = !host.contains(&b':') || is_address(host);
    let is_port = port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit));
    let is_all =
        !word.starts_with(b"[") || word.len() <= host.len() + 2 + port.map_or(0, |port| port.len() + 1);
    !word.contains(&b'@') && (is_host && is_port && is_all || nexthop::judge(word).is_ok())
}

/// An excerpt of a line of the settings file.
#[must_use]
pub fn of_settings(line: &[u8], column: u32) -> Excerpt {
    let name = line.split(|c| *c == b'=').next().unwrap_or_default();
    let is_known = std::str::from_utf8(name).is_ok_and(|name| file::is_setting(name.trim()));
    let is_heading = line.trim_ascii_start().starts_with(b"[");
    let shown = match memchr::memchr(b'=', line) {
        _ if is_known || is_heading => line.len(),
        Some(equals) => equals + 1,
        None => 0,
    };
    Excerpt::of(line, shown, column)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Excerpt, of_settings, of_table};
    use crate::answer::Map;

    fn shown(map: Map, line: &str) -> String {
        of_table(map, line.as_bytes(), 1).text
    }

    #[test]
    fn a_line_of_the_relay_map_is_shown_unless_it_may_hold_a_password() {
        for line in [
            "@a  [r]:99999",
            "@a [r",
            "u@a h:25, g:0 # why",
            "@a. r",
            "@a h:",
            "a.example r:25x",
        ] {
            let expected = if line.contains("25x") {
                "a.example ********"
            } else {
                line
            };
            assert_eq!(shown(Map::Relayhost, line), expected);
        }
        assert_eq!(shown(Map::Relayhost, "@a user:password"), "@a ********");
        assert_eq!(shown(Map::Relayhost, "@a me@a:password"), "@a ********");
        for line in [
            "password",
            "user:password",
            "\"pass word",
            "# @a u:password",
            "u@a:password r",
        ] {
            assert_eq!(shown(Map::Relayhost, line), "********", "{line}");
        }
    }

    #[test]
    fn of_a_credentials_line_the_key_alone_is_shown() {
        assert_eq!(
            shown(Map::Sasl, "@a.example   user:password"),
            "@a.example ********"
        );
        assert_eq!(
            shown(Map::Sasl, " [r.example]:587 password"),
            " [r.example]:587 ********"
        );
        assert_eq!(shown(Map::Sasl, "@a.example"), "@a.example");
        for line in ["password", "user:password", "u:p@ss x", "p@ssword"] {
            assert_eq!(shown(Map::Sasl, line), "********", "{line}");
        }
    }

    #[test]
    fn it_points_at_the_column_or_at_the_mask() {
        let excerpt = |text: &str, at| Excerpt {
            text: text.into(),
            at,
        };
        assert_eq!(of_table(Map::Relayhost, b"@a  [r", 5), excerpt("@a  [r", 4..5));
        assert_eq!(of_table(Map::Relayhost, b"@a  [r", 7), excerpt("@a  [r", 6..6));
        assert_eq!(
            of_table(Map::Sasl, b"@a  password", 9),
            excerpt("@a ********", 3..4)
        );
        let escape = "\u{fc}@a [\u{1b}".as_bytes();
        assert_eq!(
            of_table(Map::Relayhost, escape, 7),
            excerpt("\u{fc}@a [\u{fffd}", 6..9)
        );
        assert_eq!(of_settings(b"listen = 1", 10), excerpt("listen = 1", 9..10));
        assert_eq!(
            of_settings(b"password = \"x\"", 1),
            excerpt("password =********", 0..1)
        );
    }

    proptest! {
        /// Whatever is wrong with the line.
        #[test]
        fn no_password_is_ever_shown(
            key in "[@a-z\\[\\]:\" .]{0,9}", blank in "[ \t]{0,2}", user in "[a-z@]{0,5}", rest in "[ :x]{0,4}",
            column in 0_u32..40,
        ) {
            for map in Map::ALL {
                for line in [
                    format!("{key}{blank}{user}:s3cr3tPassword{rest}"),
                    format!("{user}:s3cr3tPassword{blank}{key}"),
                ] {
                    let shown = of_table(map, line.as_bytes(), column);
                    prop_assert!(!shown.text.contains("s3cr3t"), "{line}: {}", shown.text);
                    prop_assert!(shown.text.get(shown.at).is_some());
                }
            }
        }
    }
}
