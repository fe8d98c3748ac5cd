//! Netstrings, and socketmap's requests and replies in them.

use ::netstring::{ReadNetstring, WriteNetstring};
use bytes::BytesMut;
use postmapd::protocol::socketmap::{self, MAX_REQUEST};
use postmapd::protocol::{Codec, FramingError, ParsedReply, Protocol, Request, netstring};

use super::input;
use super::plain::framing::{self, Frame};

/// A stream of netstrings is parsed as by the plain reader and the `netstring` crate, in one piece and byte by byte.
pub fn netstring(data: &[u8]) {
    let stream = input::expand(data);
    for limit in [0, 10, 300, MAX_REQUEST] {
        every_beginning(&stream, limit);
        the_whole_stream(&stream, limit);
    }
    what_is_written_is_read(&stream);
    requests(&stream);
    assert_read_back(&stream);
}

fn frame(input: &[u8], limit: usize) -> Frame {
    match netstring::find(input, limit) {
        Ok(Some(payload)) => Frame::Whole(input[payload.clone()].to_vec(), payload.end + 1),
        Ok(None) => Frame::Part,
        Err(violation) => broken(&violation),
    }
}

fn broken(violation: &FramingError) -> Frame {
    match violation {
        FramingError::Length => Frame::BadLength,
        FramingError::Terminator => Frame::NoComma,
        FramingError::TooLong => Frame::TooLong,
    }
}

/// An error is detected at the first byte that shows it.
fn every_beginning(stream: &[u8], limit: usize) {
    for end in 0..=stream.len().min(64) {
        let beginning = &stream[..end];
        assert_eq!(frame(beginning, limit), framing::netstring(beginning, limit));
    }
}

fn the_whole_stream(stream: &[u8], limit: usize) {
    let mut rest = stream;
    loop {
        let expected = framing::netstring(rest, limit);
        assert_eq!(frame(rest, limit), expected);
        let Frame::Whole(payload, taken) = expected else {
            break;
        };
        if let Ok(text) = String::from_utf8(payload) {
            assert_eq!((&rest[..taken]).read_netstring().unwrap(), text);
        }
        rest = &rest[taken..];
    }
}

fn what_is_written_is_read(payload: &[u8]) {
    let mut written = BytesMut::new();
    netstring::encode(
        &[&payload[..payload.len() / 2], &payload[payload.len() / 2..]],
        &mut written,
    );
    if let Ok(text) = std::str::from_utf8(payload) {
        let mut oracle = Vec::new();
        oracle.write_netstring(text).unwrap();
        assert_eq!(written, oracle);
    }
    assert_eq!(
        frame(&written, payload.len()),
        Frame::Whole(payload.to_vec(), written_len(payload))
    );
}

fn written_len(payload: &[u8]) -> usize {
    format!("{}:,", payload.len()).len() + payload.len()
}

fn requests(stream: &[u8]) {
    let mut rest = stream;
    loop {
        let expected = framing::netstring(rest, MAX_REQUEST);
        // In one piece, and byte by byte, so that nothing that follows has arrived.
        let whole = match &expected {
            Frame::Whole(_, taken) => *taken,
            _ => rest.len(),
        };
        for arrived in (0..whole.min(64)).chain([whole.saturating_sub(1), whole, rest.len()]) {
            let arrived = &rest[..arrived.min(rest.len())];
            match (
                Protocol::Socketmap.codec().decode(&mut arrived.to_vec()),
                framing::netstring(arrived, MAX_REQUEST),
            ) {
                (Ok(Some((asked, taken))), Frame::Whole(payload, length)) => {
                    assert_eq!(taken, length);
                    assert_queried(&asked, &payload);
                }
                (Ok(None), Frame::Part) => {}
                (Err(violation), expected) => assert_eq!(broken(&violation), expected),
                (Ok(_), expected) => panic!("not {expected:?}"),
            }
        }
        let Frame::Whole(_, taken) = expected else { return };
        rest = &rest[taken..];
    }
}

fn assert_queried(asked: &Request<'_>, payload: &[u8]) {
    let mut words = payload.splitn(2, |c| *c == b' ');
    match (words.next(), words.next(), asked) {
        (Some(name), Some(own), Request::Lookup { map, key }) => assert_eq!((*map, *key), (name, own)),
        (_, None, Request::Invalid) => {}
        _ => panic!("another request than {payload:?}"),
    }
}

/// Checks a reply as a client parses it.
fn assert_read_back(payload: &[u8]) {
    let rest = |word: &[u8]| payload.strip_prefix(word);
    let error = rest(b"TEMP ").or(rest(b"PERM ")).or(rest(b"TIMEOUT "));
    let bare = [&b"TEMP"[..], b"PERM", b"TIMEOUT"].contains(&payload);
    match socketmap::parse_reply(payload) {
        Some(ParsedReply::Found(value)) => assert!(!value.is_empty() && rest(b"OK ") == Some(value)),
        Some(ParsedReply::NotFound) => assert!(payload == b"NOTFOUND" || rest(b"NOTFOUND ").is_some()),
        Some(ParsedReply::CannotTell(text)) => assert!(error == Some(text) || (bare && text.is_empty())),
        None => assert!(
            rest(b"OK ").is_none_or(<[u8]>::is_empty)
                && rest(b"NOTFOUND ").is_none()
                && error.is_none()
                && !bare
        ),
    }
}
