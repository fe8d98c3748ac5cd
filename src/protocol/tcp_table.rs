//! tcp_table(5): a request `get user@example.com` on a line, and one line as the reply.
//!
//! Keys and values are percent-encoded. A reply has at most [`MAX_REPLY`] bytes with its newline; a value that does not
//! fit is *cannot tell*, never *not found*. Postfix treats every 4xx as an error and closes the connection, so what
//! socketmap calls permanent has no code of its own here.

use bytes::{Buf, BufMut, BytesMut};

use super::{FramingError, InvalidReply, MAX_KEY, ParsedReply, Reply, Request};
use crate::protocol::answer::Answer;

/// The maximum length in bytes of a request line without its newline: `get ` and a key at its limit with every byte
/// encoded. The manual page limits replies only.
pub const MAX_REQUEST: usize = "get ".len() + 3 * MAX_KEY;

/// The maximum length of a reply in bytes, with its newline (`DICT_TCP_MAXLEN`).
pub const MAX_REPLY: usize = 4096;

/// Whether a reply can hold this value.
#[must_use]
pub fn fits_in_reply(value: &[u8]) -> bool {
    let mut encoded = BytesMut::new();
    percent_encode(value, &mut encoded);
    "200 ".len() + encoded.len() + "\n".len() <= MAX_REPLY
}

/// Decodes the first request, and returns it with the number of bytes that it had. `None` if it is incomplete. `scanned` is
/// the length of the prefix of the input that is known to contain no newline; the key is percent-decoded in place.
#[inline]
pub(super) fn decode<'i>(
    map: &'static str,
    scanned: &mut usize,
    input: &'i mut [u8],
) -> Result<Option<(Request<'i>, usize)>, FramingError> {
    let unread = input.get(*scanned..).unwrap_or_default();
    let Some(newline) = memchr::memchr(b'\n', unread).map(|at| *scanned + at) else {
        *scanned = input.len();
        // Allows one byte more for the CR that an interactive client (telnet) sends.
        return if input.len() > MAX_REQUEST + 1 {
            Err(FramingError::TooLong)
        } else {
            Ok(None)
        };
    };
    *scanned = 0;
    let end = match newline.checked_sub(1) {
        Some(before) if input.get(before) == Some(&b'\r') => before,
        _ => newline,
    };
    if end > MAX_REQUEST {
        return Err(FramingError::TooLong);
    }
    let line = input.get_mut(..end).unwrap_or_default();
    let key = match line.split_at_mut_checked("get ".len()) {
        Some((verb, key)) if verb == b"get " => percent_decode(key),
        _ => None,
    };
    let request = key.map_or(Request::Invalid, |key| Request::Lookup {
        map: map.as_bytes(),
        key,
    });
    Ok(Some((request, newline + 1)))
}

#[inline]
pub(super) fn encode(reply: &Reply<'_>, output: &mut BytesMut) {
    let before = output.len();
    match reply {
        Reply::Answer(Answer::Found(value)) => {
            encode_found(value.expose(), output);
            if output.len() - before > MAX_REPLY {
                output.truncate(before);
                output.put_slice(b"400 the value is too long for tcp_table; use socketmap\n");
            }
        }
        Reply::Answer(Answer::NotFound) => output.put_slice(b"500 not found\n"),
        Reply::Answer(Answer::CannotTell(reason)) => error_reply(reason.text(), output),
        Reply::Refused(reason) => error_reply(reason, output),
        Reply::FramingError(error) => error_reply(&error.to_string(), output),
    }
}

/// Appends a 4xx reply. The server's own texts need encoding for `%` only, and their spaces may stay.
fn error_reply(text: &str, output: &mut BytesMut) {
    output.put_slice(b"400 ");
    for (number, part) in text.split('%').enumerate() {
        if number > 0 {
            output.put_slice(b"%25");
        }
        output.put_slice(part.as_bytes());
    }
    output.put_u8(b'\n');
}

pub(super) fn encode_request(key: &[u8], request: &mut BytesMut) {
    request.put_slice(b"get ");
    percent_encode(key, request);
    request.put_u8(b'\n');
}

#[inline]
pub(super) fn encode_found(value: &[u8], reply: &mut BytesMut) {
    reply.put_slice(b"200 ");
    percent_encode(value, reply);
    reply.put_u8(b'\n');
}

pub(super) fn decode_reply<'a>(
    input: &[u8],
    buffer: &'a mut BytesMut,
) -> Result<Option<(ParsedReply<'a>, usize)>, InvalidReply> {
    let length = match memchr::memchr(b'\n', input) {
        Some(at) if at < MAX_REPLY => at,
        None if input.len() < MAX_REPLY => return Ok(None),
        _ => return Err(InvalidReply),
    };
    buffer.clear();
    buffer.extend_from_slice(input.get(..length).unwrap_or_default());
    let reply = parse_reply(buffer).ok_or(InvalidReply)?;
    Ok(Some((reply, length + 1)))
}

/// Parses a reply line without its newline, and decodes it in place. `None` if it is not of the protocol; an empty
/// value is an error to Postfix, too.
pub fn parse_reply(line: &mut BytesMut) -> Option<ParsedReply<'_>> {
    let code = *line.first()?;
    if !matches!(line.get(3)?, b' ' | b'\t') {
        return None;
    }
    line.advance(4);
    let text = percent_decode(line)?;
    match code {
        b'2' if !text.is_empty() => Some(ParsedReply::Found(text)),
        b'5' => Some(ParsedReply::NotFound),
        b'4' => Some(ParsedReply::CannotTell(text)),
        _ => None,
    }
}

/// Decodes in place. `None` if a `%` is not followed by two hexadecimal digits.
pub(crate) fn percent_decode(text: &mut [u8]) -> Option<&[u8]> {
    // Most texts have nothing to decode.
    let mut from = memchr::memchr(b'%', text).unwrap_or(text.len());
    let mut to = from;
    while let Some(&c) = text.get(from) {
        let byte = if c == b'%' {
            let digits = text
                .get(from + 1..from + 3)
                .and_then(|digits| std::str::from_utf8(digits).ok());
            // `from_str_radix` alone would accept a sign.
            let digits = digits.filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()));
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())?;
            from += 3;
            byte
        } else {
            from += 1;
            c
        };
        if let Some(place) = text.get_mut(to) {
            *place = byte;
        }
        to += 1;
    }
    text.get(..to)
}

/// Encodes `%`, spaces and everything but printable ASCII, as Postfix does (`util/hex_quote.c`).
pub(crate) fn percent_encode(text: &[u8], output: &mut BytesMut) {
    let digit = |nibble: u8| {
        if nibble < 10 {
            b'0' + nibble
        } else {
            b'A' + nibble - 10
        }
    };
    for &c in text {
        if c.is_ascii_graphic() && c != b'%' {
            output.put_u8(c);
        } else {
            output.put_slice(&[b'%', digit(c >> 4), digit(c & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, BytesMut};
    use proptest::prelude::*;

    use super::{MAX_REPLY, MAX_REQUEST, decode_reply, fits_in_reply, percent_decode, percent_encode};
    use crate::protocol::answer::{Answer, Value};
    use crate::protocol::{
        Codec, FramingError, InvalidReply, ParsedReply, Protocol, ProtocolCodec, Reply, Request,
    };

    fn codec() -> ProtocolCodec {
        Protocol::TcpTable("sasl").codec()
    }

    /// Parses the line with the start of another request after it.
    fn parse(line: &str) -> Request<'static> {
        let input = Box::leak((line.to_owned() + "get").into_boxed_str().into_boxed_bytes());
        let (request, consumed) = codec().decode(input).unwrap().unwrap();
        assert_eq!(consumed, line.len());
        request
    }

    fn key(line: &str) -> Vec<u8> {
        match parse(line) {
            Request::Lookup { map: b"sasl", key } => key.to_vec(),
            _ => panic!("{line}"),
        }
    }

    fn encoded(value: &[u8]) -> String {
        let mut output = BytesMut::from("before\n");
        let reply = Reply::Answer(Answer::Found(Value::new(value)));
        codec().encode(&reply, &mut output);
        String::from_utf8(output.to_vec())
            .unwrap()
            .strip_prefix("before\n")
            .unwrap()
            .to_owned()
    }

    #[test]
    fn keys_that_postfix_sends_are_decoded() {
        assert_eq!(key("get two%20words\n"), b"two words");
        assert_eq!(key("get pct%25a%09b%0ac\n"), b"pct%a\tb\nc");
        assert_eq!(key("get %C3%9Cn%c3%AF@x.org\n"), "Ünï@x.org".as_bytes());
        assert_eq!(key("get \"a%20b\"@x.org\r\n"), b"\"a b\"@x.org");
        assert_eq!(key("get \n"), b"");
    }

    #[test]
    fn a_malformed_request_is_not_a_lookup() {
        for line in [
            "put a b\n",
            "\n",
            "get\n",
            "GET a\n",
            "get %zz\n",
            "get %4\n",
            "get %+1\n",
        ] {
            assert!(matches!(parse(line), Request::Invalid), "{line}");
        }
    }

    #[test]
    fn a_request_over_the_limit_is_a_framing_error() {
        for length in [MAX_REQUEST - 1, MAX_REQUEST] {
            for end in ["\n", "\r\n"] {
                let line = format!("get {}{end}", "x".repeat(length - 4));
                assert_eq!(key(&line).len(), length - 4);
            }
        }
        for over in [
            format!("get {}\n", "x".repeat(MAX_REQUEST - 3)),
            "x".repeat(MAX_REQUEST + 2),
        ] {
            let mut input = over.into_bytes();
            assert!(matches!(codec().decode(&mut input), Err(FramingError::TooLong)));
        }
    }

    #[test]
    fn a_reply_is_read_up_to_the_limit_of_postfix() {
        let mut buffer = BytesMut::new();
        let mut line = format!("200 {}\n", "x".repeat(MAX_REPLY - 5)).into_bytes();
        let reply = decode_reply(&line, &mut buffer).ok().flatten();
        assert!(matches!(reply, Some((ParsedReply::Found(_), MAX_REPLY))));
        line.insert(4, b'x');
        for length in [MAX_REPLY, MAX_REPLY + 1] {
            assert!(matches!(
                decode_reply(&line[..length], &mut buffer),
                Err(InvalidReply)
            ));
        }
        assert!(matches!(
            decode_reply(&line[..MAX_REPLY - 1], &mut buffer),
            Ok(None)
        ));
    }

    #[test]
    fn a_value_over_the_reply_limit_is_a_temporary_error() {
        assert_eq!(encoded(b"[relay1.org]:587"), "200 [relay1.org]:587\n");
        assert_eq!(encoded("u:p% \tü".as_bytes()), "200 u:p%25%20%09%C3%BC\n");
        assert_eq!(encoded(&[b'x'; MAX_REPLY - 6]).len(), MAX_REPLY - 1);
        assert_eq!(encoded(&[b'x'; MAX_REPLY - 5]).len(), MAX_REPLY);
        assert!(encoded(&[b'x'; MAX_REPLY - 4]).starts_with("400 "));
        assert!(fits_in_reply(&[b'x'; MAX_REPLY - 5]) && !fits_in_reply(&[b'x'; MAX_REPLY - 4]));
        assert!(encoded(&[b'%'; MAX_REPLY / 2]).starts_with("400 "));
    }

    proptest! {
        #[test]
        fn percent_decoding_inverts_percent_encoding(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = BytesMut::new();
            percent_encode(&text, &mut bytes);
            prop_assert!(bytes.iter().all(u8::is_ascii_graphic));
            prop_assert_eq!(percent_decode(&mut bytes), Some(text.as_slice()));
        }

        /// Compares any cuts of a stream with the whole stream.
        #[test]
        fn a_stream_decodes_to_the_same_requests_however_it_is_split(
            lines in prop::collection::vec("(get )?[a-z%0-9 ]{0,9}\r?\n", 0..9),
            cuts in prop::collection::vec(1_usize..9, 1..30),
        ) {
            let stream = lines.concat();
            let all = |pieces: &mut dyn Iterator<Item = usize>| {
                let (mut codec, mut input, mut rest) = (codec(), BytesMut::new(), stream.as_bytes());
                let mut requests = Vec::new();
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at(pieces.next().unwrap().min(rest.len()));
                    input.extend_from_slice(piece);
                    rest = later;
                    while let Some((request, consumed)) = codec.decode(&mut input).unwrap() {
                        requests.push(match request {
                            Request::Lookup { key, .. } => Some(key.to_vec()),
                            Request::Invalid => None,
                        });
                        input.advance(consumed);
                    }
                }
                requests
            };
            prop_assert_eq!(all(&mut cuts.iter().copied().cycle()), all(&mut std::iter::repeat(usize::MAX)));
        }
    }
}
