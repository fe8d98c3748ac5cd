//! The grammar of the `.cf` files: text to records, each with its place.
//!
//! It is docker-mailserver's format made strict. Where it differs from Postfix's own `postmap` source, the
//! difference is on purpose: no line continues another, a key alone is an entry, and after a
//! next hop a `#` behind a blank begins a comment (postmapd's README lists them).
//!
//! A line is a comment, an entry, or an error. An entry whose value is wrong is still a record ([`Content::Fault`]),
//! because its key must answer *cannot tell* rather than *not found*; a line whose key cannot be read, or is none that
//! Postfix can ask for ([`key`]), makes every miss of the table uncertain ([`Reading::keys_unreadable`]).
//!
//! Limits: a line has at most [`MAX_LINE`] bytes. Text that is not UTF-8 is served as it is, with a warning.

use std::path::Path;

use super::key;
use super::spec::{Format, ValueKind};
use crate::diagnostics::{Code, Finding, Findings, Position};
use crate::lookup::address::Key;
use crate::lookup::nexthop;
use crate::os::invisible::Invisible;

/// The most bytes that a line may have: a reply of socketmap holds 100 000 (Postfix's `socketmap_max_reply_size`), and
/// the offset of a key in its block must not need more bits than a location has.
pub const MAX_LINE: usize = 65_535;

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What stands after a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// A next hop or a credential that is right.
    Value(&'a [u8]),
    /// Nothing: no destination, or no credentials, on purpose.
    Nothing,
    /// Something that is wrong; a finding says what.
    Fault,
}

/// An entry.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Where its key begins.
    pub position: Position,
    /// Likewise, in bytes from the beginning of what was read.
    pub offset: usize,
    /// The key as written.
    pub key: &'a [u8],
    /// What it stands for.
    pub content: Content<'a>,
}

/// What reading a text said beside its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// A line was there whose key could not be read: it may have been any key.
    pub keys_unreadable: bool,
}

/// Reads `text`, hands each entry to `take`, and says what is wrong in `findings`.
pub fn read<'a>(
    format: Format,
    path: &Path,
    text: &'a [u8],
    findings: &mut Findings,
    take: impl FnMut(Record<'a>, &mut Findings),
) -> Reading {
    let mut reader = Reader::new(format, path);
    reader.read(text, |value| value, findings, take);
    reader.reading
}

/// Cuts `text` into its entries: hands the offset and the key of each to `take`, also where Postfix can ask for no such
/// key. Values are not judged.
pub fn each_key<'a>(format: Format, text: &'a [u8], mut take: impl FnMut(usize, &'a [u8])) {
    let mut offset = text.len() - without_byte_order_mark(text).len();
    for line in without_byte_order_mark(text).split_inclusive(|c| *c == b'\n') {
        let without_end = line.strip_suffix(b"\n").unwrap_or(line);
        if let Cut::Entry(entry) = cut(format, without_end)
            && without_end.len() <= MAX_LINE
            && !entry.key.iter().any(u8::is_ascii_control)
        {
            take(offset + entry.indent, entry.key);
        }
        offset += line.len();
    }
}

/// The entry with which `text` begins, which [`Reader::read`] reported there as [`Record::offset`]: its key, and its
/// value as it would be if it is right.
#[must_use]
pub fn entry_at(format: Format, text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    match cut(format, text.get(..end)?) {
        Cut::Entry(entry) => Some((entry.key, entry.value)),
        Cut::Nothing | Cut::Unclosed { .. } => None,
    }
}

/// What follows the key of the entry with which `text` begins, where that can be seen to have this folded key without
/// cutting the line into its parts: what a lookup finds nearly always. `None` says nothing; [`entry_at`] knows.
#[inline]
#[must_use]
pub fn behind_key<'t>(text: &'t [u8], key: Key<'_>) -> Option<&'t [u8]> {
    let (written, rest) = text.split_at_checked(key.bytes().len())?;
    // Quotes and backslashes may hide where a key ends, blanks and line ends show that it ended before, and only ASCII
    // is folded by letters. A key that is asked for may have any of them, if it is not plain.
    let is_key = (key.is_plain() && written == key.bytes()) || {
        let mut letters = written.iter().zip(key.bytes());
        letters.all(|(own, asked)| FOLDED.get(usize::from(*own)) == Some(asked))
    };
    (is_key && rest.first().is_some_and(|c| is_blank(*c))).then_some(rest)
}

/// The value in `rest`, which [`behind_key`] gave. `None` says nothing; [`entry_at`] knows.
#[must_use]
pub fn value_behind(format: Format, rest: &[u8]) -> Option<&[u8]> {
    let (value, is_whole) = match format.values {
        // A `#` need not begin a comment, and seldom is there one.
        ValueKind::NextHop => match memchr::memchr2(b'\n', b'#', rest) {
            Some(end) => (rest.get(..end)?, rest.get(end) == Some(&b'\n')),
            None => (rest, true),
        },
        ValueKind::Login => (
            rest.get(..memchr::memchr(b'\n', rest).unwrap_or(rest.len()))?,
            true,
        ),
    };
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    is_whole.then(|| value.trim_start_blanks().trim_end_blanks())
}

/// The folded form of each byte that may stand in a plain key. Of the others one that is in no folded key: the form of
/// `A`.
static FOLDED: [u8; 256] = folded();

#[allow(clippy::indexing_slicing, reason = "the compiler does it, once")]
const fn folded() -> [u8; 256] {
    let mut folded = [b'A'; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        if byte != b'"' && byte != b'\\' {
            folded[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    folded
}

/// Whether a text begins with a byte order mark.
#[must_use]
pub fn begins_with_byte_order_mark(text: &[u8]) -> bool {
    text.starts_with(BYTE_ORDER_MARK)
}

/// The text without the byte order mark that it may begin with: columns are counted from behind it, as editors do.
#[must_use]
pub fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Whether a value says that there is nothing on purpose.
#[must_use]
pub fn is_nothing(format: Format, value: &[u8]) -> bool {
    value.is_empty() || (format.values == ValueKind::NextHop && nexthop::is_dunno(value))
}

/// A line, cut into its parts and not judged yet.
enum Cut<'a> {
    /// Blank, or a comment.
    Nothing,
    /// The key does not end.
    Unclosed { indent: usize },
    /// An entry.
    Entry(Entry<'a>),
}

struct Entry<'a> {
    indent: usize,
    key: &'a [u8],
    /// Without the blanks around it and the comment after it.
    value: &'a [u8],
    /// Where the value begins in the line.
    value_at: usize,
}

/// Cuts a line without its LF; a CR may end it.
fn cut(format: Format, line: &[u8]) -> Cut<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = line.trim_start_blanks();
    let indent = line.len() - text.len();
    if text.is_empty() || text.starts_with(b"#") {
        return Cut::Nothing;
    }
    let Some((key, rest)) = key_end(text).and_then(|end| text.split_at_checked(end)) else {
        return Cut::Unclosed { indent };
    };
    let value = rest.trim_start_blanks();
    Cut::Entry(Entry {
        indent,
        key,
        value_at: line.len() - value.len(),
        value: match format.values {
            ValueKind::NextHop => without_comment(value),
            ValueKind::Login => value.trim_end_blanks(),
        },
    })
}

/// Reads a text, which may come in blocks of whole lines.
pub struct Reader<'a, 'p> {
    format: Format,
    path: &'p Path,
    /// Of the line that was read last.
    number: u32,
    /// What is being read is UTF-8, and no line need be looked at by itself.
    is_utf8: bool,
    /// The next hop that was judged last and is right: most are like the one before.
    right: &'a [u8],
    reading: Reading,
}

impl<'a, 'p> Reader<'a, 'p> {
    /// Begins the text of the file `path`.
    #[must_use]
    pub fn new(format: Format, path: &'p Path) -> Self {
        Self {
            format,
            path,
            number: 0,
            is_utf8: true,
            right: &[],
            reading: Reading::default(),
        }
    }

    /// Reads the lines that come next, hands each entry to `take`, and says what is wrong in `findings`. What is written
    /// for a value in these lines stands for what `value` makes of it, which may have blanks before it.
    pub fn read(
        &mut self,
        lines: &'a [u8],
        value: impl Fn(&'a [u8]) -> &'a [u8],
        findings: &mut Findings,
        mut take: impl FnMut(Record<'a>, &mut Findings),
    ) {
        self.is_utf8 = std::str::from_utf8(lines).is_ok();
        let mut offset = 0;
        let mut rest = lines;
        if self.number == 0
            && let Some(after) = lines.strip_prefix(BYTE_ORDER_MARK)
        {
            (offset, rest) = (BYTE_ORDER_MARK.len(), after);
            findings.push(
                Finding::in_file(Code::ByteOrderMark, self.path, at(1, 0))
                    .says("the file begins with a byte order mark, which is ignored here")
                    .help("save it as UTF-8 without one: Postfix would take it for a part of the first key"),
            );
        }
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
            let Some((line, after)) = rest.split_at_checked(end) else {
                break;
            };
            self.number = self.number.saturating_add(1);
            if let Some(record) = self.line(self.number, offset, line, &value, findings) {
                take(record, findings);
            }
            offset += end;
            rest = after;
        }
    }

    /// What the lines up to now said beside their records.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// The entry of one line, if it is one. `raw` may end in LF or CRLF, and begins at `offset` of the text.
    fn line(
        &mut self,
        number: u32,
        offset: usize,
        raw: &'a [u8],
        value: impl Fn(&'a [u8]) -> &'a [u8],
        findings: &mut Findings,
    ) -> Option<Record<'a>> {
        let line = raw.strip_suffix(b"\n").unwrap_or(raw);
        let entry = match cut(self.format, line) {
            // Comments too: a text ends with such a line, and nothing after it was read (super::text).
            _ if line.len() > MAX_LINE => {
                let message =
                    format!("the line is longer than {MAX_LINE} bytes, and what follows it is not read");
                let help = "shorten it, or remove it if it is a comment; is this a text file?";
                self.unreadable(number, 0, message, help, findings);
                return None;
            }
            Cut::Nothing => return None,
            Cut::Unclosed { indent } => {
                let message = "the key has a quote that is not closed, or ends in a backslash";
                let help = "close the quote, or write the key without it";
                self.unreadable(number, indent, message, help, findings);
                return None;
            }
            Cut::Entry(entry) => entry,
        };
        if let Some(bad) = entry.key.iter().position(u8::is_ascii_control) {
            let help = "remove it; was the file saved by the wrong program, or cut off?";
            let message = "the key has a control byte";
            self.unreadable(number, entry.indent + bad, message, help, findings);
            return None;
        }
        if entry.indent > 0 {
            findings.push(
                Finding::in_file(Code::IndentedEntry, self.path, at(number, 0))
                    .says("the entry is indented; it is an entry of its own here")
                    .help("remove the blanks before it: Postfix would glue it to the line before"),
            );
        }
        if !self.is_utf8 && std::str::from_utf8(line).is_err() {
            findings.push(
                Finding::in_file(Code::NotUtf8, self.path, at(number, 0))
                    .says("the line is not UTF-8; its bytes are served as they are")
                    .help("save the file as UTF-8: with smtputf8_enable=yes Postfix refuses such a value"),
            );
        }
        let record = |content| Record {
            position: at(number, entry.indent),
            offset: offset + entry.indent,
            key: entry.key,
            content,
        };
        let behind_blank = value(entry.value);
        let value = behind_blank.trim_start_blanks();
        let judged = if value.is_empty() {
            key::judge_lonely(self.format, entry.key)
        } else {
            key::judge(self.format, entry.key)
        };
        if let Err(fault) = judged {
            let help = fault.problem.help(self.format);
            let place = entry.indent + fault.offset;
            if fault.problem.concerns_no_other_key() {
                let code = Code::TwoAts;
                self.error(code, number, place, fault.to_string(), help, findings);
                return Some(record(Content::Fault));
            }
            self.unreadable(number, place, fault.to_string(), help, findings);
            return None;
        }
        let value_at = entry.value_at + (behind_blank.len() - value.len());
        Some(record(match self.format.values {
            ValueKind::NextHop => self.next_hop(number, value_at, value, findings),
            ValueKind::Login => self.credential(number, value_at, entry.key, value, findings),
        }))
    }

    fn next_hop(
        &mut self,
        number: u32,
        offset: usize,
        value: &'a [u8],
        findings: &mut Findings,
    ) -> Content<'a> {
        if is_nothing(self.format, value) {
            return Content::Nothing;
        }
        if value == self.right {
            return Content::Value(value);
        }
        match nexthop::judge(value) {
            Ok(()) => {
                self.right = value;
                Content::Value(value)
            }
            Err(fault) => {
                let invisible = Invisible::first(value).filter(|_| !value.is_ascii());
                let (place, message) = match invisible {
                    Some(found) => (
                        found.offset,
                        format!(
                            "the next hop has a character that cannot be seen: {}",
                            found.name()
                        ),
                    ),
                    None => (fault.offset, format!("this is not a next hop: {fault}")),
                };
                let help = match fault.problem {
                    _ if invisible.is_some() => "remove it; where it stands for a blank, type the blank",
                    nexthop::Problem::Transport => {
                        "write the next hop alone, without the transport before it"
                    }
                    nexthop::Problem::Url => "write the host, and a port in place of the scheme: [host]:port",
                    _ => "write [host]:port, [host], host:port or host, or nothing to deliver directly",
                };
                self.error(Code::BadNextHop, number, offset + place, message, help, findings);
                Content::Fault
            }
        }
    }

    fn credential(
        &self,
        number: u32,
        offset: usize,
        key: &[u8],
        value: &'a [u8],
        findings: &mut Findings,
    ) -> Content<'a> {
        if value.is_empty() && key::is_sender(key) {
            findings.push(
                Finding::in_file(Code::NoCredentials, self.path, at(number, offset))
                    .says("the key has no value: it has no credentials, whatever its domain has")
                    .help("add user:password, or leave it if that is meant"),
            );
            return Content::Nothing;
        }
        let control = value.iter().position(|c| c.is_ascii_control() && *c != b'\t');
        let (bad, message) = if value.is_empty() {
            (
                0,
                "the key is a host or a next hop without a value, and only a sender may stand without credentials",
            )
        } else if let Some(bad) = control {
            (bad, "the credentials have a control byte")
        } else {
            match memchr::memchr(b':', value) {
                None => (0, "the credentials have no `:` between user and password"),
                Some(0) => (0, "the credentials have no user before the first `:`"),
                Some(colon) if colon + 1 == value.len() => (colon, "the password is empty"),
                Some(_) => return Content::Value(value),
            }
        };
        let help = "write user:password in one line; the first `:` parts them";
        self.error(
            Code::BadCredentials,
            number,
            offset + bad,
            message,
            help,
            findings,
        );
        Content::Fault
    }

    fn unreadable(
        &mut self,
        number: u32,
        offset: usize,
        message: impl Into<String>,
        help: &str,
        findings: &mut Findings,
    ) {
        self.reading.keys_unreadable = true;
        self.error(Code::BadKey, number, offset, message, help, findings);
    }

    fn error(
        &self,
        code: Code,
        number: u32,
        offset: usize,
        message: impl Into<String>,
        help: &str,
        findings: &mut Findings,
    ) {
        findings.push(
            Finding::in_file(code, self.path, at(number, offset))
                .says(message)
                .help(help),
        );
    }
}

fn at(line: u32, offset: usize) -> Position {
    Position {
        line,
        column: u32::try_from(offset).unwrap_or(u32::MAX).saturating_add(1),
    }
}

/// Where the key ends: at the first blank that stands neither in quotes nor after a backslash
/// (`postmap/postmap.c`). `None` where a quote is not closed, or a backslash has nothing after it.
fn key_end(text: &[u8]) -> Option<usize> {
    let plain_end = memchr::memchr2(b' ', b'\t', text).unwrap_or(text.len());
    if text
        .get(..plain_end)
        .is_some_and(|key| memchr::memchr2(b'"', b'\\', key).is_none())
    {
        return Some(plain_end);
    }
    let mut quoted = false;
    let mut escaped = false;
    for (at, &c) in text.iter().enumerate() {
        match c {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b' ' | b'\t' if !quoted => return Some(at),
            _ => {}
        }
    }
    (!quoted && !escaped).then_some(text.len())
}

/// A next hop without the comment that may follow it: a `#` counts after a blank, and `value` stands after one.
fn without_comment(value: &[u8]) -> &[u8] {
    let comment = memchr::memchr_iter(b'#', value).find(|&hash| {
        let before = hash.checked_sub(1).and_then(|before| value.get(before));
        before.is_none_or(|c| is_blank(*c))
    });
    let end = comment.unwrap_or(value.len());
    value.get(..end).unwrap_or(value).trim_end_blanks()
}

fn is_blank(c: u8) -> bool {
    matches!(c, b' ' | b'\t')
}

trait TrimBlanks {
    fn trim_start_blanks(&self) -> &Self;
    fn trim_end_blanks(&self) -> &Self;
}

impl TrimBlanks for [u8] {
    fn trim_start_blanks(&self) -> &[u8] {
        let blanks = self.iter().take_while(|c| is_blank(**c)).count();
        self.get(blanks..).unwrap_or_default()
    }

    fn trim_end_blanks(&self) -> &[u8] {
        let blanks = self.iter().rev().take_while(|c| is_blank(**c)).count();
        self.get(..self.len() - blanks).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
