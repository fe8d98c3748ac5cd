//! Messages of the protocol of PostgreSQL, version 3: a byte that says which, a length, and a body.
//!
//! What is received and what is sent may have passwords, so both are wiped when they are dropped. Limits: a message has at
//! most [`MAX_MESSAGE`] bytes, a row at most [`MAX_COLUMNS`] columns.

use std::ops::Range;

use postmapd::os::printable::printable;
use postmapd::os::secret::Secret;

use crate::engine::EngineErrorKind;

/// The longest message in bytes. Everything that must be read at once is far shorter, except for a row, of which one
/// column is too long for a file long before.
const MAX_MESSAGE: usize = 16 << 20;

/// The most columns of a row that is read.
pub(super) const MAX_COLUMNS: usize = 8;

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// The longest text of an error that is shown, in characters.
const MAX_SHOWN: usize = 300;

/// What was received and not used yet.
#[derive(Default)]
pub(super) struct Input {
    bytes: Secret,
    unread: Range<usize>,
}

impl Input {
    /// Takes the next message: its kind, and where its body is until the next call of [`Input::room`].
    pub(super) fn take(&mut self) -> Result<Option<(u8, Range<usize>)>, EngineErrorKind> {
        let Some((header, rest)) = self.unread().split_at_checked(5) else {
            return Ok(None);
        };
        let &[kind, a, b, c, d] = header else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok();
        let body = length
            .and_then(|length| length.checked_sub(4))
            .ok_or_else(unexpected)?;
        if body > MAX_MESSAGE {
            let reason = format!("a row has more than {} MiB", MAX_MESSAGE >> 20);
            return Err(EngineErrorKind::Result {
                query: "a table",
                reason,
            });
        }
        if rest.len() < body {
            return Ok(None);
        }
        let start = self.unread.start + header.len();
        self.unread.start = start + body;
        Ok(Some((kind, start..start + body)))
    }

    /// Returns a body.
    pub(super) fn body(&self, range: Range<usize>) -> &[u8] {
        self.bytes.expose().get(range).unwrap_or_default()
    }

    fn unread(&self) -> &[u8] {
        self.body(self.unread.clone())
    }

    /// Returns where to write what is received next.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
        if self.unread.end == self.bytes.len() && self.unread.start > 0 {
            let length = self.unread.len();
            self.bytes.expose_mut().copy_within(self.unread.clone(), 0);
            self.unread = 0..length;
        }
        if self.unread.end == self.bytes.len() {
            let more = self.bytes.len().max(CHUNK);
            self.bytes.append(&vec![0; more]);
        }
        self.bytes
            .expose_mut()
            .get_mut(self.unread.end..)
            .unwrap_or_default()
    }

    /// Records that so many bytes were written to [`Input::room`].
    pub(super) fn received(&mut self, length: usize) {
        self.unread.end += length;
    }
}

/// Returns the error for an answer that is not of this protocol.
pub(super) fn unexpected() -> EngineErrorKind {
    EngineErrorKind::Lost("the server does not answer as PostgreSQL does".to_owned())
}

/// Returns a message to the server: its kind, and its body in parts.
pub(super) fn message(kind: u8, parts: &[&[u8]]) -> Result<Secret, EngineErrorKind> {
    let mut message = packet(parts)?;
    let mut with_kind = Secret::with_capacity(message.len() + 1);
    with_kind.append(&[kind]);
    with_kind.append(message.expose_mut());
    Ok(with_kind)
}

/// Returns a message without a kind, as the first one of a connection is.
pub(super) fn packet(parts: &[&[u8]]) -> Result<Secret, EngineErrorKind> {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let field = i32::try_from(length).map_err(|_| EngineErrorKind::Result {
        query: "a query",
        reason: "it has more than 2 GiB".to_owned(),
    })?;
    let mut packet = Secret::with_capacity(length);
    packet.append(&field.to_be_bytes());
    for part in parts {
        packet.append(part);
    }
    Ok(packet)
}

/// Splits a number off the start of a body.
pub(super) fn take_i32<'a>(body: &mut &'a [u8]) -> Result<i32, EngineErrorKind> {
    let (number, rest): (&'a [u8; 4], _) = body.split_first_chunk().ok_or_else(unexpected)?;
    *body = rest;
    Ok(i32::from_be_bytes(*number))
}

/// Returns the number of columns at the start of a body, and splits it off.
pub(super) fn take_count<'a>(body: &mut &'a [u8]) -> Result<usize, EngineErrorKind> {
    let (number, rest): (&'a [u8; 2], _) = body.split_first_chunk().ok_or_else(unexpected)?;
    *body = rest;
    Ok(usize::from(u16::from_be_bytes(*number)))
}

/// The columns of a row; `None` for NULL.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    values: [Option<&'a [u8]>; MAX_COLUMNS],
    count: usize,
}

impl<'a> Columns<'a> {
    /// Reads the body of a row.
    pub(super) fn parse(mut body: &'a [u8]) -> Result<Self, EngineErrorKind> {
        let count = take_count(&mut body)?;
        let mut values = [None; MAX_COLUMNS];
        for value in values.iter_mut().take(count) {
            // NULL has the length -1.
            if let Ok(length) = usize::try_from(take_i32(&mut body)?) {
                let (text, rest) = body.split_at_checked(length).ok_or_else(unexpected)?;
                (*value, body) = (Some(text), rest);
            }
        }
        Ok(Self { values, count })
    }

    /// Returns the text of a column, from 0; `None` for NULL and for a column that there is not.
    pub(super) fn get(&self, column: usize) -> Option<&'a [u8]> {
        self.values.get(column).copied().flatten()
    }

    /// Returns the number of columns.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns all columns.
    pub(super) fn all(&self) -> &[Option<&'a [u8]>] {
        self.values.get(..self.count).unwrap_or(&self.values)
    }

    /// Returns a column that is a number or another value of our own queries.
    pub(super) fn parsed<T: std::str::FromStr>(&self, column: usize) -> Option<T> {
        std::str::from_utf8(self.get(column)?).ok()?.parse().ok()
    }
}

/// An error that the server reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerError {
    /// The SQLSTATE: five letters and digits.
    pub(super) code: String,
    /// The message, made printable. The details, which may have values of rows, are not kept.
    pub(super) message: String,
}

impl ServerError {
    /// Reads the body of an error.
    pub(super) fn parse(body: &[u8]) -> Self {
        let field = |kind: u8| {
            let mut fields = body.split(|c| *c == 0);
            let field = fields.find_map(|field| field.strip_prefix(&[kind]));
            let text = printable(field.unwrap_or_default());
            text.chars().take(MAX_SHOWN).collect()
        };
        Self {
            code: field(b'C'),
            message: field(b'M'),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Columns, Input, MAX_MESSAGE, ServerError, message};
    use crate::engine::EngineErrorKind;

    /// Gives the bytes to the input in pieces, and returns the messages.
    fn messages(bytes: &[u8], piece: usize) -> Result<Vec<(u8, Vec<u8>)>, EngineErrorKind> {
        let (mut input, mut found) = (Input::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() {
                let room = input.room();
                let length = room.len().min(rest.len());
                room[..length].copy_from_slice(&rest[..length]);
                input.received(length);
                rest = &rest[length..];
                while let Some((kind, body)) = input.take()? {
                    found.push((kind, input.body(body).to_vec()));
                }
            }
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn messages_are_the_same_however_they_arrive(
            sent in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..200)), 0..20),
            piece in 1_usize..100,
        ) {
            let mut bytes = Vec::new();
            for (kind, body) in &sent {
                bytes.extend(message(*kind, &[body]).unwrap().expose());
            }
            prop_assert_eq!(messages(&bytes, piece).unwrap(), sent);
        }

        #[test]
        fn no_bytes_of_a_server_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..300) {
            let _ = messages(&bytes, piece);
            let _ = ServerError::parse(&bytes);
            if let Ok(columns) = Columns::parse(&bytes) {
                let _ = (columns.all().len(), columns.get(0), columns.get(99));
            }
        }
    }

    #[test]
    fn a_message_longer_than_any_row_is_refused_before_it_arrives() {
        let mut bytes = b"D".to_vec();
        bytes.extend(u32::try_from(MAX_MESSAGE + 5).unwrap().to_be_bytes());
        assert!(matches!(messages(&bytes, 5), Err(EngineErrorKind::Result { .. })));
        assert!(matches!(
            messages(b"D\xff\xff\xff\xff", 5),
            Err(EngineErrorKind::Result { .. })
        ));
        assert!(matches!(
            messages(b"D\0\0\0\x03", 5),
            Err(EngineErrorKind::Lost(_))
        ));
    }

    #[test]
    fn an_error_has_its_code_and_its_message_and_no_detail() {
        let error = ServerError::parse(b"SERROR\0C23505\0Mduplicate\nkey\0DKey (p)=(hunter2)\0\0");
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("23505", "duplicate\\nkey")
        );
    }

    #[test]
    fn a_column_that_does_not_come_is_null() {
        let columns = Columns::parse(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff").unwrap();
        assert_eq!(columns.all(), [Some(&b"a"[..]), None]);
        assert_eq!(
            (columns.get(0), columns.get(1), columns.get(2)),
            (Some(&b"a"[..]), None, None)
        );
    }
}
