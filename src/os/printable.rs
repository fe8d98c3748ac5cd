//! Untrusted text, escaped so that terminals and logs show it and do not act on it.
//!
//! Names of files and directories, lines of tables, replies of servers, and values of settings and of main.cf may
//! contain control characters, which move the cursor, repaint the screen or begin a new line; characters that reverse
//! the direction of the following text; and invisible ones. All text that is shown passes through here: [`printable`]
//! for text, [`printable_path`] for paths (clippy rejects [`Path::display`], clippy.toml), and [`json`] for JSON, whose
//! values stay the same.
//!
//! Limits: letters that look like those of another script are shown as they are. A backslash is not doubled, so
//! `\u{1b}` may also be the original text; JSON tells the two apart.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::os::invisible::is_invisible;

/// Returns the text on one line, with a space for each tab and an escape for each character that a terminal would act
/// on or not show: `\n`, `\u{1b}`, `\u{202e}`, and `\xff` for a byte that is not UTF-8.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => text.push(' '),
                c if is_shown(c) => text.push(c),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                c => text.extend(c.escape_unicode()),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Returns a text as [`printable`] text. Text of printable ASCII alone is returned without a copy.
pub(crate) fn printable_text(text: String) -> String {
    if text.bytes().all(|c| matches!(c, b' '..=b'~')) {
        text
    } else {
        printable(text.as_bytes())
    }
}

/// Returns a path as [`printable`] text.
#[must_use]
pub fn printable_path(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// Returns whether a terminal shows this character as it is, without any other effect.
fn is_shown(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c if is_invisible(c) => false,
        // `escape_debug` escapes control and format characters, spaces other than this one, and private and unassigned code
        // points. The letter is there because a combining mark at the start of a text is escaped as well.
        c => String::from_iter(['a', c]).escape_debug().count() == 2,
    }
}

/// JSON in which every such character is escaped: the same value, and harmless on a terminal.
pub(crate) mod json {
    use super::{Cow, Escaped, Serialize, Serializer, io, is_shown, write_escaped};

    /// Writes a value as JSON, without a line end.
    pub(crate) fn write(value: &impl Serialize, out: impl io::Write) -> io::Result<()> {
        Ok(value.serialize(&mut Serializer::with_formatter(out, Escaped))?)
    }

    /// Returns JSON of another program, escaped. Between values, a character that is not shown can only be whitespace.
    pub(crate) fn escaped(text: &[u8]) -> String {
        let text: Cow<'_, str> = String::from_utf8_lossy(text);
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\n' => escaped.push('\n'),
                c if is_shown(c) => escaped.push(c),
                c if c.is_ascii_whitespace() => escaped.push(' '),
                c => write_escaped(c, &mut escaped),
            }
        }
        escaped
    }
}

struct Escaped;

impl Formatter for Escaped {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.chars().all(is_shown) {
            return CompactFormatter.write_string_fragment(out, fragment);
        }
        let mut escaped = String::with_capacity(fragment.len());
        for c in fragment.chars() {
            if is_shown(c) {
                escaped.push(c);
            } else {
                write_escaped(c, &mut escaped);
            }
        }
        out.write_all(escaped.as_bytes())
    }
}

/// Appends a character as an escape of a JSON string (RFC 8259, section 7).
fn write_escaped(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a String does not fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

/// Joins names for a sentence: `a, b and c`.
#[must_use]
pub(crate) fn enumeration(names: &[impl AsRef<str>], conjunction: &str) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [others @ .., last] => format!("{} {conjunction} {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::{json, printable, printable_path};

    #[test]
    fn printable_characters_stay_and_others_are_escaped() {
        for (text, shown) in [
            (
                "@one.test [relay]:587 \"a\\b\" 'c'",
                "@one.test [relay]:587 \"a\\b\" 'c'",
            ),
            ("grün.example 例え.test", "grün.example 例え.test"),
            // Marks follow letters: decomposed Latin, and Devanagari.
            ("e\u{301} हिन्दी", "e\u{301} हिन्दी"),
            ("a\tb", "a b"),
            ("a\nb\r", "a\\nb\\r"),
            ("\u{1b}[31m\u{7f}\u{9b}", "\\u{1b}[31m\\u{7f}\\u{9b}"),
            ("\u{202e}\u{2066}\u{200f}", "\\u{202e}\\u{2066}\\u{200f}"),
            ("\u{a0}\u{ad}\u{200b}\u{feff}", "\\u{a0}\\u{ad}\\u{200b}\\u{feff}"),
            ("\u{2028}\u{2029}\u{85}", "\\u{2028}\\u{2029}\\u{85}"),
            ("\u{fe0f}\u{3164}\u{e0041}", "\\u{fe0f}\\u{3164}\\u{e0041}"),
        ] {
            assert_eq!(printable(text.as_bytes()), shown);
        }
        assert_eq!(printable(b"\xffa\xc3"), "\\xffa\\xc3");
        assert_eq!(printable_path(Path::new("/a\nb")), "/a\\nb");
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_line_without_control_characters(bytes: Vec<u8>, text: String) {
            for text in [printable(&bytes), printable(text.as_bytes())] {
                prop_assert!(!text.chars().any(char::is_control));
                prop_assert_eq!(printable(text.as_bytes()), text);
            }
        }

        #[test]
        fn json_keeps_its_value_and_shows_every_character(text: String) {
            let mut written = Vec::new();
            json::write(&text, &mut written).unwrap();
            let plain = serde_json::to_string(&text).unwrap();
            for json in [String::from_utf8(written).unwrap(), json::escaped(plain.as_bytes())] {
                prop_assert_eq!(&printable(json.as_bytes()), &json);
                prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text.clone());
            }
        }
    }
}
