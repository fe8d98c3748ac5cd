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

use super::line::{BYTE_ORDER_MARK, Cut, MAX_LINE, TrimBlanks, cut};
use super::spec::{Format, ValueKind};
use super::text::Block;
use super::{key, value};
use crate::diagnostics::{Code, Finding, Findings, Position};

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

/// Reads a text, which may come in blocks of whole lines.
pub struct Reader<'a, 'p> {
    format: Format,
    path: &'p Path,
    /// Of the line that was read last.
    number: u32,
    /// What is being read is UTF-8, and no line need be looked at by itself.
    is_utf8: bool,
    /// The last value that is valid: most are like the one before.
    valid: &'a [u8],
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
            valid: &[],
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

    /// Reads the lines of a block of the text that come next, as [`Reader::read`] does.
    pub(super) fn read_block(
        &mut self,
        block: &'a Block,
        findings: &mut Findings,
        take: impl FnMut(Record<'a>, &mut Findings),
    ) {
        self.read(
            block.lines(),
            |value| block.behind_first_blank(value),
            findings,
            take,
        );
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
        Some(record(self.content(number, value_at, entry.key, value, findings)))
    }

    fn content(
        &mut self,
        number: u32,
        offset: usize,
        key: &[u8],
        value: &'a [u8],
        findings: &mut Findings,
    ) -> Content<'a> {
        let is_without_login = value.is_empty() && self.format.values == ValueKind::Login;
        if is_without_login && key::is_sender(key) {
            findings.push(
                Finding::in_file(Code::NoCredentials, self.path, at(number, offset))
                    .says("the key has no value: it has no credentials, whatever its domain has")
                    .help("add user:password, or leave it if that is meant"),
            );
            return Content::Nothing;
        }
        if !is_without_login && value::is_nothing(self.format.values, value) {
            return Content::Nothing;
        }
        if (value.is_empty() || value != self.valid)
            && let Err(fault) = value::judge(self.format.values, value)
        {
            self.error(
                fault.code,
                number,
                offset + fault.offset,
                fault.message,
                fault.help,
                findings,
            );
            return Content::Fault;
        }
        self.valid = value;
        Content::Value(value)
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

#[cfg(test)]
mod tests;
