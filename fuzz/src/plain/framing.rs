//! The two framings.

/// The beginning of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The payload, and the length of it with its framing.
    Whole(Vec<u8>, usize),
    /// An incomplete frame.
    Part,
    /// The length is no number.
    BadLength,
    /// The length is over the limit.
    TooLong,
    /// The comma is missing.
    NoComma,
}

/// The first netstring of a stream.
pub fn netstring(stream: &[u8], limit: usize) -> Frame {
    let digits: String = stream
        .iter()
        .take_while(|c| c.is_ascii_digit())
        .map(|c| char::from(*c))
        .collect();
    if digits.is_empty() {
        return if stream.is_empty() {
            Frame::Part
        } else {
            Frame::BadLength
        };
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Frame::BadLength;
    }
    // A number that does not fit is over any limit.
    let length = digits.parse().unwrap_or(usize::MAX);
    if length > limit {
        return Frame::TooLong;
    }
    match stream.get(digits.len()) {
        None => Frame::Part,
        Some(b':') => {
            let payload: Vec<u8> = stream
                .iter()
                .skip(digits.len() + 1)
                .take(length)
                .copied()
                .collect();
            let whole = digits.len() + 1 + length;
            match stream.get(whole) {
                None => Frame::Part,
                Some(b',') => Frame::Whole(payload, whole + 1),
                Some(_) => Frame::NoComma,
            }
        }
        Some(_) => Frame::BadLength,
    }
}

/// The first line of a stream, which may have `limit` bytes without its end (LF or CRLF).
pub fn line(stream: &[u8], limit: usize) -> Frame {
    let mut pieces = stream.splitn(2, |c| *c == b'\n');
    let line = pieces.next().unwrap_or_default();
    if pieces.next().is_none() {
        return if line.len() > limit + 1 {
            Frame::TooLong
        } else {
            Frame::Part
        };
    }
    let content = line.strip_suffix(b"\r").unwrap_or(line);
    if content.len() > limit {
        return Frame::TooLong;
    }
    Frame::Whole(content.to_vec(), line.len() + 1)
}

/// Percent-decodes. Returns `None` where a `%` is not followed by two hexadecimal digits.
pub fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(if *byte == b'%' {
            let high = char::from(*bytes.next()?).to_digit(16)?;
            let low = char::from(*bytes.next()?).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()?
        } else {
            *byte
        });
    }
    Some(decoded)
}
