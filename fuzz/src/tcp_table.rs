//! tcp_table's requests and replies.

use bytes::BytesMut;
use postmapd::protocol::answer::{Answer, Value};
use postmapd::protocol::tcp_table::{MAX_REPLY, MAX_REQUEST, parse_reply};
use postmapd::protocol::{Codec, FramingError, ParsedReply, Protocol, Reply, Request};

use super::input;
use super::plain::framing::{self, Frame, percent_decoded};

/// Lines are parsed as by the plain reader, in one piece and in several; encoded replies are decoded again.
pub fn tcp_table(data: &[u8]) {
    let stream = input::expand(data);
    // From byte by byte to all at once.
    for piece in [1, 2 + data.len() % 50, usize::MAX] {
        requests(&stream, piece);
    }
    what_is_written_is_read(&stream);
    for line in stream.split(|c| *c == b'\n') {
        assert_told(line);
    }
}

fn requests(stream: &[u8], piece: usize) {
    let mut codec = Protocol::TcpTable("sasl").codec();
    let mut input: Vec<u8> = Vec::new();
    let mut pieces = stream.chunks(piece);
    let mut rest = stream;
    loop {
        let expected = framing::line(rest, MAX_REQUEST);
        let taken = loop {
            match codec.decode(&mut input) {
                Ok(None) => match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => {
                        assert_eq!((&expected, input.as_slice()), (&Frame::Part, rest));
                        return;
                    }
                },
                Ok(Some((asked, taken))) => {
                    let Frame::Whole(line, length) = &expected else {
                        panic!("not {expected:?}");
                    };
                    assert_eq!(taken, *length);
                    assert_queried(&asked, line);
                    break taken;
                }
                Err(violation) => {
                    assert_eq!((violation, &expected), (FramingError::TooLong, &Frame::TooLong));
                    return;
                }
            }
        };
        input.drain(..taken);
        rest = &rest[taken..];
    }
}

fn assert_queried(asked: &Request<'_>, line: &[u8]) {
    let expected = line.strip_prefix(b"get ").and_then(percent_decoded);
    match (asked, expected) {
        (Request::Lookup { map: b"sasl", key }, Some(expected)) => assert_eq!(*key, expected),
        (Request::Invalid, None) => {}
        _ => panic!("another request than {line:?}"),
    }
}

fn what_is_written_is_read(value: &[u8]) {
    if value.is_empty() {
        return;
    }
    let mut line = BytesMut::new();
    let reply = Reply::Answer(Answer::Found(Value::new(value)));
    Protocol::TcpTable("sasl").codec().encode(&reply, &mut line);
    assert!(line.len() <= MAX_REPLY);
    assert_eq!(line.split_off(line.len() - 1), &b"\n"[..]);
    // It contains nothing that Postfix would parse differently.
    assert!(line.iter().skip(4).all(|c| *c > 32 && *c < 127) || line.starts_with(b"400 "));
    let plain = |c: &u8| *c > 32 && *c < 127 && *c != b'%';
    let longest = "200 \n".len() + value.iter().map(|c| if plain(c) { 1 } else { 3 }).sum::<usize>();
    match parse_reply(&mut line) {
        Some(ParsedReply::Found(read)) => assert_eq!(read, value),
        Some(ParsedReply::CannotTell(_)) => assert!(longest > MAX_REPLY),
        _ => panic!("a value became something else"),
    }
}

fn assert_told(line: &[u8]) {
    let mut copy = BytesMut::from(line);
    let text = line.get(4..).and_then(percent_decoded);
    let is_parted = line.get(3).is_some_and(|c| *c == b' ' || *c == b'\t');
    let expected = text.filter(|_| is_parted);
    match (parse_reply(&mut copy), line.first(), expected) {
        (Some(ParsedReply::Found(read)), Some(b'2'), Some(text)) => assert!(!text.is_empty() && read == text),
        (Some(ParsedReply::NotFound), Some(b'5'), Some(_)) => {}
        (Some(ParsedReply::CannotTell(read)), Some(b'4'), Some(text)) => assert_eq!(read, text),
        (None, _, None) => {}
        (None, Some(b'2'), Some(text)) => assert!(text.is_empty()),
        (None, Some(code), Some(_)) => assert!(!b"45".contains(code)),
        _ => panic!("read as something else: {line:?}"),
    }
}
