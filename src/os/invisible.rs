//! Characters that are invisible, or that look like a space and are not one, named by their code point.
//!
//! They come with text copied from web pages, documents and chats, and remain unnoticed: in a host name that does not
//! resolve, or in a password that the relay rejects. The names are those of the Unicode character database.
//!
//! Non-ASCII punctuation is recognized too: a dash, a quotation mark or an `@` from a word processor looks like the
//! ASCII character and is another one.
//!
//! Limits: letters that look like other letters are not recognized, and an ordinary space is not invisible.

/// An invisible character and its position in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invisible {
    /// Its offset from the beginning of the text, in bytes.
    pub offset: usize,
    /// The character.
    pub character: char,
}

impl Invisible {
    /// Returns the first invisible character of `text`. Ignores tabs and bytes that are not UTF-8.
    #[must_use]
    pub fn first(text: &[u8]) -> Option<Self> {
        let mut offset = 0;
        for chunk in text.utf8_chunks() {
            let mut characters = chunk.valid().char_indices();
            if let Some((at, character)) = characters.find(|(_, c)| *c != '\t' && is_invisible(*c)) {
                return Some(Self {
                    offset: offset + at,
                    character,
                });
            }
            offset += chunk.valid().len() + chunk.invalid().len();
        }
        None
    }

    /// Returns its code point and name: `U+00A0 (no-break space)`.
    pub(crate) fn name(self) -> String {
        name(self.character)
    }
}

/// Returns whether a character shows nothing, or shows a gap other than an ordinary space.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control() || c.is_whitespace() || (description(c).is_some() && !is_non_ascii_punctuation(c))
}

/// Returns whether `c` is non-ASCII punctuation, which may look like a dot, a dash, a colon, a quotation mark or an
/// `@`, and which no domain name contains (RFC 5892 section 2.9). Not included: the middle dots of Catalan and Katakana
/// and the marks of Hebrew, which domain names may contain.
#[must_use]
pub fn is_non_ascii_punctuation(c: char) -> bool {
    matches!(c,
        '\u{a1}'..='\u{a9}' | '\u{ab}'..='\u{b4}' | '\u{b6}' | '\u{b8}' | '\u{b9}' | '\u{bb}'..='\u{bf}'
        | '\u{37e}' | '\u{589}' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{2212}' | '\u{2236}'
        | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{a789}' | '\u{e000}'..='\u{f8ff}'
        | '\u{fe10}'..='\u{fe19}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}'
        | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}' | '\u{fffc}'..='\u{ffff}')
}

/// Returns the code point of a character, and its name where that is known: `U+00A0 (no-break space)`.
pub(crate) fn name(c: char) -> String {
    let code = u32::from(c);
    match description(c) {
        Some(description) => format!("U+{code:04X} ({description})"),
        None => format!("U+{code:04X}"),
    }
}

/// Returns the name of an invisible character, or of non-ASCII punctuation that is often used for an ASCII character.
fn description(c: char) -> Option<&'static str> {
    Some(match c {
        '\0' => "NUL",
        '\t' => "tab",
        '\n' => "line feed",
        '\r' => "carriage return",
        '\u{1b}' => "escape",
        '\u{7f}' => "delete",
        '\u{a0}' => "no-break space",
        '\u{ad}' => "soft hyphen",
        '\u{34f}' => "combining grapheme joiner",
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => "Hangul filler",
        '\u{1680}' => "Ogham space mark",
        '\u{180e}' => "Mongolian vowel separator",
        '\u{2000}'..='\u{2006}' | '\u{2008}'..='\u{200a}' => "a space of typography",
        '\u{2007}' => "figure space",
        '\u{200b}' => "zero width space",
        '\u{200c}' => "zero width non-joiner",
        '\u{200d}' => "zero width joiner",
        '\u{200e}' => "left-to-right mark",
        '\u{200f}' => "right-to-left mark",
        '\u{2010}' => "hyphen",
        '\u{2011}' => "non-breaking hyphen",
        '\u{2013}' => "en dash",
        '\u{2014}' => "em dash",
        '\u{2018}' => "left single quotation mark",
        '\u{2019}' => "right single quotation mark",
        '\u{201c}' => "left double quotation mark",
        '\u{201d}' => "right double quotation mark",
        '\u{2212}' => "minus sign",
        '\u{3002}' => "ideographic full stop",
        '\u{ff0e}' => "fullwidth full stop",
        '\u{ff1a}' => "fullwidth colon",
        '\u{ff20}' => "fullwidth commercial at",
        '\u{2028}' => "line separator",
        '\u{2029}' => "paragraph separator",
        '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => "a control of the writing direction",
        '\u{202f}' => "narrow no-break space",
        '\u{205f}' => "medium mathematical space",
        '\u{2060}' => "word joiner",
        '\u{2061}'..='\u{2064}' => "an invisible operator",
        '\u{2065}' | '\u{206a}'..='\u{206f}' => "a deprecated format character",
        '\u{2800}' => "blank Braille pattern",
        '\u{3000}' => "ideographic space",
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => "variation selector",
        '\u{feff}' => "byte order mark, or zero width no-break space",
        '\u{fff9}'..='\u{fffb}' => "an annotation mark",
        '\u{e0000}'..='\u{e007f}' => "a tag character",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Invisible, is_invisible, is_non_ascii_punctuation, name};

    #[test]
    fn the_first_invisible_character_is_found_and_named_by_its_code_point() {
        for (text, offset, named) in [
            ("relay\u{a0}.test", 5, "U+00A0 (no-break space)"),
            (
                "\u{feff}x",
                0,
                "U+FEFF (byte order mark, or zero width no-break space)",
            ),
            ("é\u{200b}", 2, "U+200B (zero width space)"),
            ("x\r", 1, "U+000D (carriage return)"),
            ("x\u{1}", 1, "U+0001"),
            ("x\u{85}", 1, "U+0085"),
            ("a \u{202e}b", 2, "U+202E (a control of the writing direction)"),
        ] {
            let found = Invisible::first(text.as_bytes()).unwrap();
            assert_eq!((found.offset, found.name().as_str()), (offset, named));
        }
        assert_eq!(Invisible::first(b"a\xff\xc2\xa0").unwrap().offset, 2);
        for text in [
            "",
            "relay.test",
            "two words",
            "a\tb",
            "pässwörd",
            "日本",
            "\u{1f600}",
        ] {
            assert_eq!(Invisible::first(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Invisible::first(b"\xa0"), None);
    }

    #[test]
    fn letters_and_marks_of_all_scripts_are_neither_invisible_nor_punctuation() {
        for c in "aß中क\u{94d}あ・·ل\u{64e}א\u{5f3}ªº".chars() {
            assert!(!is_invisible(c) && !is_non_ascii_punctuation(c), "{c:?}");
        }
        for c in "“’–．：＠。…".chars() {
            assert!(is_non_ascii_punctuation(c) && !is_invisible(c), "{c:?}");
        }
        assert_eq!(name('’'), "U+2019 (right single quotation mark)");
    }

    #[test]
    fn every_character_that_the_contract_lists_is_invisible() {
        for c in ['\u{a0}', '\u{feff}'].into_iter().chain('\u{200b}'..='\u{200f}') {
            assert!(is_invisible(c) && name(c).contains('('), "{}", name(c));
        }
    }
}
