//! socketmap_table(5): a request `relayhost user@example.com` in a netstring, and one netstring as the reply.
//!
//! Replies are exact to the byte, because Postfix keeps every byte after the first space: `OK value`, `NOTFOUND ` with
//! its space, `TEMP reason`, `PERM reason`.

use bytes::BytesMut;

use super::{FramingError, InvalidReply, MAX_KEY, ParsedReply, Reply, Request, netstring};
use crate::protocol::answer::Answer;

/// The maximum length of a request in bytes: a key at its limit, and far more than the longest map name.
pub const MAX_REQUEST: usize = MAX_KEY + 100;

/// The maximum length in bytes of a reply that Postfix reads (`socketmap_max_reply_size`; a constant before 3.10).
pub const MAX_REPLY: usize = 100_000;

#[inline]
pub(super) fn decode(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, FramingError> {
    let Some(payload) = netstring::find(input, MAX_REQUEST)? else {
        return Ok(None);
    };
    let consumed = payload.end + 1;
    let request = input.get(payload).unwrap_or_default();
    let name = request.iter().position(|c| *c == b' ');
    let request = match name.and_then(|end| request.split_at_checked(end)) {
        Some((map, key)) => Request::Lookup {
            map,
            key: key.get(1..).unwrap_or_default(),
        },
        None => Request::Invalid,
    };
    Ok(Some((request, consumed)))
}

#[inline]
pub(super) fn encode(reply: &Reply<'_>, output: &mut BytesMut) {
    match reply {
        Reply::Answer(Answer::Found(value)) if value.expose().len() + "OK ".len() > MAX_REPLY => {
            let text = "the value is too long for socketmap; shorten it";
            encode_words("TEMP ", text.as_bytes(), output);
        }
        Reply::Answer(Answer::Found(value)) => encode_found(value.expose(), output),
        // On most servers the most frequent reply. Written whole, it saves a tenth of the instructions of its lookup.
        Reply::Answer(Answer::NotFound) => output.extend_from_slice(b"9:NOTFOUND ,"),
        Reply::Answer(Answer::CannotTell(reason)) => encode_words("TEMP ", reason.text().as_bytes(), output),
        Reply::Refused(reason) => encode_words("PERM ", reason.as_bytes(), output),
        Reply::FramingError(error) => encode_words("PERM ", error.to_string().as_bytes(), output),
    }
}

fn encode_words(word: &str, text: &[u8], output: &mut BytesMut) {
    netstring::encode(&[word.as_bytes(), text], output);
}

pub(super) fn encode_request(map: &str, key: &[u8], request: &mut BytesMut) {
    netstring::encode(&[map.as_bytes(), b" ", key], request);
}

#[inline]
pub(super) fn encode_found(value: &[u8], reply: &mut BytesMut) {
    netstring::encode(&[b"OK ", value], reply);
}

pub(super) fn decode_reply(input: &[u8]) -> Result<Option<(ParsedReply<'_>, usize)>, InvalidReply> {
    let Some(payload) = netstring::find(input, MAX_REPLY).map_err(|_| InvalidReply)? else {
        return Ok(None);
    };
    let length = payload.end + 1;
    let reply = input.get(payload).and_then(parse_reply).ok_or(InvalidReply)?;
    Ok(Some((reply, length)))
}

/// Parses the payload of a reply as Postfix does. `None` if it is not of the protocol; an empty value is an error to
/// Postfix, too.
#[must_use]
pub fn parse_reply(payload: &[u8]) -> Option<ParsedReply<'_>> {
    let (word, text) = match memchr::memchr(b' ', payload).and_then(|at| payload.split_at_checked(at)) {
        Some((word, text)) => (word, text.strip_prefix(b" ").unwrap_or_default()),
        None => (payload, &[][..]),
    };
    match word {
        b"OK" if !text.is_empty() => Some(ParsedReply::Found(text)),
        b"NOTFOUND" => Some(ParsedReply::NotFound),
        b"TEMP" | b"TIMEOUT" | b"PERM" => Some(ParsedReply::CannotTell(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{MAX_REPLY, MAX_REQUEST, decode, encode};
    use crate::protocol::answer::{Answer, Reason, Value};
    use crate::protocol::{FramingError, Reply, Request};

    /// Parses the payload with the start of another request after it.
    fn parse(payload: &str) -> Request<'static> {
        let frame = format!("{}:{payload},", payload.len());
        let input = Box::leak((frame.clone() + "7:").into_boxed_str().into_boxed_bytes());
        let (request, consumed) = decode(input).unwrap().unwrap();
        assert_eq!(consumed, frame.len());
        request
    }

    fn encoded(reply: &Reply<'_>) -> String {
        let mut output = BytesMut::new();
        encode(reply, &mut output);
        String::from_utf8(output.to_vec()).unwrap()
    }

    #[test]
    fn the_key_is_everything_after_the_first_space() {
        for key in ["User+x@Example.COM", "", " a b:,\"", "<>"] {
            let Request::Lookup { map, key: got } = parse(&format!("sasl {key}")) else {
                panic!("{key}")
            };
            assert_eq!((map, got), (&b"sasl"[..], key.as_bytes()));
        }
    }

    #[test]
    fn a_request_without_a_space_is_not_a_lookup() {
        assert!(matches!(parse("relayhost"), Request::Invalid));
        assert!(matches!(parse(""), Request::Invalid));
        assert!(matches!(parse(" x"), Request::Lookup { map: b"", key: b"x" }));
    }

    #[test]
    fn a_request_over_the_limit_is_a_framing_error() {
        for length in [MAX_REQUEST - 1, MAX_REQUEST] {
            let key = "x".repeat(length - "sasl ".len());
            assert!(matches!(parse(&format!("sasl {key}")), Request::Lookup { .. }));
        }
        let input = format!("{}:", MAX_REQUEST + 1).into_bytes();
        assert!(matches!(decode(&input), Err(FramingError::TooLong)));
    }

    #[test]
    fn replies_match_socketmap_table_to_the_byte() {
        let found = |value: &'static [u8]| Reply::Answer(Answer::Found(Value::new(value)));
        assert_eq!(encoded(&found(b"[relay1.org]:587")), "19:OK [relay1.org]:587,");
        assert_eq!(encoded(&Reply::Answer(Answer::NotFound)), "9:NOTFOUND ,");
        let reply = encoded(&Reply::Answer(Answer::CannotTell(Reason::new(
            "the default relay cannot be read",
        ))));
        assert!(
            reply.contains(":TEMP the default relay cannot be read"),
            "{reply}"
        );
        assert!(encoded(&Reply::Refused("there is no such map")).contains(":PERM there is no such map"));
        assert!(
            encoded(&Reply::FramingError(&FramingError::TooLong)).contains(":PERM the request is too long")
        );
    }

    #[test]
    fn a_value_over_the_reply_limit_is_a_temporary_error() {
        let long = vec![b'x'; MAX_REPLY - 2];
        let reply = |value| encoded(&Reply::Answer(Answer::Found(Value::new(value))));
        assert!(reply(&long).contains(":TEMP "));
        let at = long.split_last().unwrap().1;
        assert!(reply(at).starts_with("100000:OK x"));
        assert!(reply(at.split_last().unwrap().1).starts_with("99999:OK x"));
    }
}
