//! Text from a file, for a terminal to show and not to obey.

/// The text with a blank for each tab, and the replacement character for what a terminal would act upon, or would not
/// show at all: control characters, the byte order mark, bytes that are not UTF-8.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        '\u{feff}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    String::from_utf8_lossy(bytes).chars().map(shown).collect()
}
