//! The grammar of the `.cf` files: from text to records with positions.
//!
//! It is a strict form of docker-mailserver's format. It differs from Postfix's `postmap` source on purpose: no
//! continuation lines, a key alone is an entry, and after a next hop a `#` after whitespace starts a comment
//! (postmapd's README lists the differences).
//!
//! A line is a comment, an entry or an error. An entry with an invalid value is still a record ([`Content::Invalid`]),
//! because its key must be answered *cannot tell*, not *not found*. A line whose key is unreadable, or one that Postfix
//! cannot look up ([`key`]), makes every miss of the table uncertain ([`Summary::has_unreadable_keys`]).
//!
//! Limits: a line has at most [`MAX_LINE`] bytes. Text that is not UTF-8 is served as it is, with a warning.

use std::path::Path;

use super::line::{BYTE_ORDER_MARK, MAX_LINE, ParsedLine, TrimWhitespace, parse_line};
use super::spec::{Format, ValueKind};
use super::text::Block;
use super::{key, value};
use crate::diagnostics::{Code, Finding, Findings, Position};

/// The content of an entry, after its key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// A valid next hop or credential.
    Value(&'a [u8]),
    /// No value on purpose: no destination, or no credentials.
    NoValue,
    /// An invalid value. A finding has the details.
    Invalid,
}

/// An entry.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The position of its key.
    pub position: Position,
    /// The position of its key in bytes from the start of the parsed text.
    pub offset: usize,
    /// The key as written.
    pub key: &'a [u8],
    /// The content.
    pub content: Content<'a>,
}

/// The result of parsing a text, apart from its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether a line has an unreadable key, which may be any key.
    pub has_unreadable_keys: bool,
}

/// Parses `text`, calls `handle` with each entry, and adds errors and warnings to `findings`.
pub fn parse<'a>(
    format: Format,
    path: &Path,
    text: &'a [u8],
    findings: &mut Findings,
    handle: impl FnMut(Record<'a>, &mut Findings),
) -> Summary {
    let mut parser = Parser::new(format, path);
    parser.parse(text, |value| value, findings, handle);
    parser.summary
}

/// A parser of a text, which may come in blocks of whole lines.
pub struct Parser<'a, 'p> {
    format: Format,
    path: &'p Path,
    /// The number of the last parsed line.
    number: u32,
    /// Whether the lines being parsed are UTF-8, so that single lines need no check.
    is_utf8: bool,
    /// The last valid value: most values equal the one before.
    valid: &'a [u8],
    summary: Summary,
}

impl<'a, 'p> Parser<'a, 'p> {
    /// Starts the text of the file `path`.
    #[must_use]
    pub fn new(format: Format, path: &'p Path) -> Self {
        Self {
            format,
            path,
            number: 0,
            is_utf8: true,
            valid: &[],
            summary: Summary::default(),
        }
    }

    /// Parses the next lines, calls `handle` with each entry, and adds errors and warnings to `findings`. `value`
    /// expands a value in these lines, possibly to one with leading whitespace.
    pub fn parse(
        &mut self,
        lines: &'a [u8],
        value: impl Fn(&'a [u8]) -> &'a [u8],
        findings: &mut Findings,
        mut handle: impl FnMut(Record<'a>, &mut Findings),
    ) {
        self.is_utf8 = std::str::from_utf8(lines).is_ok();
        let mut offset = 0;
        let mut rest = lines;
        if self.number == 0
            && let Some(after) = lines.strip_prefix(BYTE_ORDER_MARK)
        {
            (offset, rest) = (BYTE_ORDER_MARK.len(), after);
            findings.push(
                Finding::in_file(Code::ByteOrderMark, self.path, position(1, 0))
                    .message("the file starts with a byte order mark, which postmapd ignores")
                    .help("save it as UTF-8 without one: Postfix would make it part of the first key"),
            );
        }
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
            let Some((line, after)) = rest.split_at_checked(end) else {
                break;
            };
            self.number = self.number.saturating_add(1);
            if let Some(record) = self.parse_record(self.number, offset, line, &value, findings) {
                handle(record, findings);
            }
            offset += end;
            rest = after;
        }
    }

    /// Parses the next lines from a block, as [`Parser::parse`] does.
    pub(super) fn parse_block(
        &mut self,
        block: &'a Block,
        findings: &mut Findings,
        handle: impl FnMut(Record<'a>, &mut Findings),
    ) {
        self.parse(block.lines(), |value| block.expand_value(value), findings, handle);
    }

    /// Returns the summary of the lines up to now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Returns the entry of one line, if it has one. `raw` may end in LF or CRLF, and starts at `offset` of the text.
    fn parse_record(
        &mut self,
        number: u32,
        offset: usize,
        raw: &'a [u8],
        value: impl Fn(&'a [u8]) -> &'a [u8],
        findings: &mut Findings,
    ) -> Option<Record<'a>> {
        let line = raw.strip_suffix(b"\n").unwrap_or(raw);
        let entry = match parse_line(self.format, line) {
            // Includes comments: such a line ends the text, and nothing after it was read (super::text).
            _ if line.len() > MAX_LINE => {
                let message =
                    format!("the line is longer than {MAX_LINE} bytes, and the rest of the file is not read");
                let help = "shorten it, or remove it if it is a comment; check that this is a text file";
                self.report_unreadable(number, 0, message, help, findings);
                return None;
            }
            ParsedLine::Ignored => return None,
            ParsedLine::Unclosed { indent } => {
                let message = "the key has an unclosed quote, or ends in a backslash";
                let help = "close the quote, or write the key without quotes";
                self.report_unreadable(number, indent, message, help, findings);
                return None;
            }
            ParsedLine::Entry(entry) => entry,
        };
        if let Some(bad) = entry.key.iter().position(u8::is_ascii_control) {
            let help = "remove it; check that this is a text file and that it is complete";
            let message = "the key contains a control character";
            self.report_unreadable(number, entry.indent + bad, message, help, findings);
            return None;
        }
        if entry.indent > 0 {
            findings.push(
                Finding::in_file(Code::IndentedEntry, self.path, position(number, 0))
                    .message("the entry is indented; postmapd reads it as a separate entry")
                    .help("remove the whitespace before it: Postfix would join it to the line before"),
            );
        }
        if !self.is_utf8 && std::str::from_utf8(line).is_err() {
            findings.push(
                Finding::in_file(Code::NotUtf8, self.path, position(number, 0))
                    .message("the line is not UTF-8; postmapd serves its bytes unchanged")
                    .help("save the file as UTF-8: with smtputf8_enable=yes, Postfix rejects such a value"),
            );
        }
        let record = |content| Record {
            position: position(number, entry.indent),
            offset: offset + entry.indent,
            key: entry.key,
            content,
        };
        let expanded = value(entry.value);
        let value = expanded.trim_start_whitespace();
        let validity = if value.is_empty() {
            key::validate_alone(self.format, entry.key)
        } else {
            key::validate(self.format, entry.key)
        };
        if let Err(error) = validity {
            let help = error.kind.help(self.format);
            let place = entry.indent + error.offset;
            if error.kind.affects_no_other_key() {
                let code = Code::TwoAts;
                self.report(code, number, place, error.to_string(), help, findings);
                return Some(record(Content::Invalid));
            }
            self.report_unreadable(number, place, error.to_string(), help, findings);
            return None;
        }
        let value_at = entry.value_at + (expanded.len() - value.len());
        Some(record(
            self.parse_content(number, value_at, entry.key, value, findings),
        ))
    }

    fn parse_content(
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
                Finding::in_file(Code::NoCredentials, self.path, position(number, offset))
                    .message("the key has no value, so it has no credentials, even if its domain has some")
                    .help("add user:password, or ignore this warning if that is intended"),
            );
            return Content::NoValue;
        }
        if !is_without_login && value::is_no_value(self.format.values, value) {
            return Content::NoValue;
        }
        let is_known_valid =
            !value.is_empty() && value == self.valid && !value::depends_on_key(self.format.values);
        if !is_known_valid && let Err(error) = value::validate(self.format.values, key, value) {
            self.report(
                error.code,
                number,
                offset + error.offset,
                error.message,
                error.help,
                findings,
            );
            return Content::Invalid;
        }
        self.valid = value;
        Content::Value(value)
    }

    fn report_unreadable(
        &mut self,
        number: u32,
        offset: usize,
        message: impl Into<String>,
        help: &str,
        findings: &mut Findings,
    ) {
        self.summary.has_unreadable_keys = true;
        self.report(Code::BadKey, number, offset, message, help, findings);
    }

    fn report(
        &self,
        code: Code,
        number: u32,
        offset: usize,
        message: impl Into<String>,
        help: &str,
        findings: &mut Findings,
    ) {
        findings.push(
            Finding::in_file(code, self.path, position(number, offset))
                .message(message)
                .help(help),
        );
    }
}

fn position(line: u32, offset: usize) -> Position {
    Position {
        line,
        column: u32::try_from(offset).unwrap_or(u32::MAX).saturating_add(1),
    }
}

#[cfg(test)]
mod tests;
