//! Netstrings: `5:hello,`.
//!
//! Stricter than Postfix's reader (`util/netstring.c`), which accepts leading zeros and an empty length. Postfix's
//! writer produces neither, so a peer that does is not Postfix.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::FramingError;

/// Returns where in `input` the payload of the first netstring is; its comma follows. `None` if the netstring is
/// incomplete.
pub fn find(input: &[u8], limit: usize) -> Result<Option<Range<usize>>, FramingError> {
    let Some((length, header)) = length(input, limit)? else {
        return Ok(None);
    };
    let whole = header + length;
    match input.get(whole) {
        None => Ok(None),
        Some(b',') => Ok(Some(header..whole)),
        Some(_) => Err(FramingError::Terminator),
    }
}

/// Returns the announced length and the length of the header with its colon. `None` if the header is incomplete.
fn length(input: &[u8], limit: usize) -> Result<Option<(usize, usize)>, FramingError> {
    let mut length = 0;
    for (at, c) in input.iter().enumerate() {
        match c {
            b'0'..=b'9' if at > 0 && length == 0 => return Err(FramingError::Length),
            b'0'..=b'9' => {
                // No overflow: the length was within the limit before this digit.
                length = length * 10 + usize::from(c - b'0');
                if length > limit {
                    return Err(FramingError::TooLong);
                }
            }
            b':' if at > 0 => return Ok(Some((length, at + 1))),
            _ => return Err(FramingError::Length),
        }
    }
    Ok(None)
}

/// Appends the netstring of the concatenated `parts`.
pub fn encode(parts: &[&[u8]], output: &mut BytesMut) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    output.reserve(MAX_DIGITS + length + 2);
    put_header(length, output);
    for part in parts {
        output.put_slice(part);
    }
    output.put_u8(b',');
}

/// The number of decimal digits of the largest `usize`.
const MAX_DIGITS: usize = 20;

/// Appends a decimal length and its colon. Formatting with `fmt` would cost a tenth more instructions for a whole
/// lookup.
fn put_header(mut length: usize, output: &mut BytesMut) {
    let mut header = [b':'; MAX_DIGITS + 1];
    let mut start = MAX_DIGITS;
    for digit in header.iter_mut().rev().skip(1) {
        *digit = b'0' + u8::try_from(length % 10).unwrap_or_default();
        length /= 10;
        start -= 1;
        if length == 0 {
            break;
        }
    }
    output.put_slice(header.get(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use netstring::{ReadNetstring, WriteNetstring};
    use proptest::prelude::*;

    use super::{encode, find};
    use crate::protocol::FramingError;

    fn frame(text: &str) -> Result<Option<&str>, FramingError> {
        find(text.as_bytes(), 10).map(|frame| frame.map(|payload| &text[payload]))
    }

    #[test]
    fn lengths_are_encoded_in_decimal() {
        for length in [0, 1, 9, 10, 99, 100, 12_345, 100_000] {
            let mut output = BytesMut::new();
            encode(&[&vec![b'x'; length]], &mut output);
            assert!(output.starts_with(format!("{length}:").as_bytes()));
        }
        let mut output = BytesMut::new();
        super::put_header(usize::MAX, &mut output);
        assert_eq!(output, format!("{}:", usize::MAX).as_bytes());
    }

    #[test]
    fn a_partial_netstring_waits_for_the_rest() {
        assert_eq!(frame("5:hello,").unwrap(), Some("hello"));
        assert_eq!(frame("0:,").unwrap(), Some(""));
        assert_eq!(frame("10:0123456789,").unwrap(), Some("0123456789"));
        for part in ["", "5", "5:", "5:hell", "5:hello"] {
            assert!(frame(part).unwrap().is_none(), "{part}");
        }
    }

    #[test]
    fn an_invalid_netstring_is_a_framing_error_at_its_first_wrong_byte() {
        for text in [
            ":,",
            "x",
            " 5:hello,",
            "05",
            "00:,",
            "+5:hello,",
            "5 :hello,",
            "-1:",
        ] {
            assert!(matches!(frame(text), Err(FramingError::Length)), "{text}");
        }
        for text in ["11", "99999999999999999999999", "18446744073709551616:x"] {
            assert!(matches!(frame(text), Err(FramingError::TooLong)), "{text}");
        }
        assert!(matches!(frame("5:hello;"), Err(FramingError::Terminator)));
        assert!(matches!(frame("5:helloo,"), Err(FramingError::Terminator)));
    }

    proptest! {
        /// Covers the strings that the `netstring` crate can represent.
        #[test]
        fn the_netstring_crate_reads_and_writes_the_same_bytes(payload in ".{0,100}", cut in 0_usize..100) {
            let (head, tail) = payload.as_bytes().split_at(cut.min(payload.len()));
            let mut ours = BytesMut::new();
            encode(&[head, tail], &mut ours);
            let mut oracle = Vec::new();
            oracle.write_netstring(&payload).unwrap();
            prop_assert_eq!(&ours[..], oracle.as_slice());
            prop_assert_eq!((&ours[..]).read_netstring().unwrap(), payload);
        }

        #[test]
        fn decoding_inverts_encoding(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = BytesMut::new();
            encode(&[&payload], &mut bytes);
            let found = find(&bytes, 300).unwrap().unwrap();
            prop_assert_eq!(found.end + 1, bytes.len());
            prop_assert_eq!(&bytes[found], payload);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            if let Ok(Some(payload)) = find(&bytes, 10) {
                prop_assert!(payload.len() <= 10 && bytes[payload.end] == b',');
            }
        }
    }
}
