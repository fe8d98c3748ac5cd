use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::prelude::*;

use super::{IoBuffers, Session, SessionEnd, Stream, WaitFor};
use crate::diagnostics::Findings;
use crate::lookup::map::Maps;
use crate::lookup::peer::{Allowed, Peer as Who};
use crate::lookup::snapshot::{ActiveSnapshot, Snapshot};
use crate::lookup::table::Table;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};
use crate::protocol::{Codec, FramingError, Protocol, ProtocolCodec, Reply, Request, netstring};
use crate::server::access::Client;
use crate::server::counters::{Counters, ProtocolError};
use crate::server::limits::{LINGER, LINGER_BYTES, READ_AT_ONCE, REQUEST_DEADLINE, WRITE_AT, WRITE_DEADLINE};

/// A peer whose pieces arrive one by one, and that records each write separately.
struct Peer {
    sends: VecDeque<Vec<u8>>,
    /// The number of bytes that it still accepts.
    room: usize,
    got: Vec<Vec<u8>>,
    /// Whether the server has shut down its writing side.
    is_shut_down: bool,
    has_closed: bool,
}

impl Peer {
    fn new(sends: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            sends: sends.into_iter().filter(|piece| !piece.is_empty()).collect(),
            room: usize::MAX,
            got: Vec::new(),
            is_shut_down: false,
            has_closed: false,
        }
    }
}

impl Read for Peer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(mut piece) = self.sends.pop_front() else {
            return if self.has_closed {
                Ok(0)
            } else {
                Err(ErrorKind::WouldBlock.into())
            };
        };
        let rest = piece.split_off(piece.len().min(into.len()));
        into[..piece.len()].copy_from_slice(&piece);
        if !rest.is_empty() {
            self.sends.push_front(rest);
        }
        Ok(piece.len())
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.is_shut_down, "written after the shutdown");
        let taken = bytes.len().min(self.room);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= taken;
        self.got.push(bytes[..taken].to_vec());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Peer {
    fn end_writing(&mut self) -> io::Result<()> {
        self.is_shut_down = true;
        Ok(())
    }
}

/// The user that can query everything.
const ALLOWED: u32 = 1;

fn client(uid: u32) -> Client {
    Client::new(Who::User { uid, address: None }, Arc::default())
}

fn active_snapshot() -> ActiveSnapshot {
    let text = b"@one.test [relay]:587\n@none.test\n@wrong.test [\n"
        .to_vec()
        .into();
    ActiveSnapshot::new(Snapshot {
        allowed: Allowed::new([ALLOWED], []),
        ..Snapshot::new(
            Table::build(&RELAY_MAP, Path::new("t"), text, &mut Findings::default()).into(),
            Table::empty(&CREDENTIALS).into(),
        )
    })
}

/// A session, its environment, and a clock that a test sets.
struct Served<C> {
    session: Session<Peer, C>,
    buffers: IoBuffers,
    active_snapshot: ActiveSnapshot,
    counters: Counters,
    now: Instant,
}

impl<C: Codec> Served<C> {
    fn new(codec: C, peer: Peer) -> Self {
        Self {
            session: Session::new(peer, codec, client(ALLOWED)),
            buffers: IoBuffers::default(),
            active_snapshot: active_snapshot(),
            counters: Counters::new(Maps::SERVED, false),
            now: Instant::now(),
        }
    }

    fn run(&mut self) -> Result<WaitFor, SessionEnd> {
        let now = self.now;
        self.session
            .run(&mut self.buffers, &self.active_snapshot, &self.counters, || now)
    }

    /// Steps until it waits for an event.
    fn steps(&mut self) -> Result<WaitFor, SessionEnd> {
        loop {
            match self.run()? {
                WaitFor::Nothing => {}
                next => return Ok(next),
            }
        }
    }

    fn peer(&mut self) -> &mut Peer {
        &mut self.session.channel.stream
    }

    fn sends(&mut self, bytes: &[u8]) -> Result<WaitFor, SessionEnd> {
        self.peer().sends.push_back(bytes.to_vec());
        self.steps()
    }

    /// Advances the clock. A session past its deadline is ended, as by the server.
    fn advance(&mut self, time: Duration) -> Result<(), SessionEnd> {
        self.now += time;
        match self.session.deadline() {
            Some(at) if at <= self.now => Err(self.session.expire()),
            _ => Ok(()),
        }
    }
}

/// The writes in reply to these pieces, until the peer closes.
fn exchange(codec: impl Codec, pieces: impl IntoIterator<Item = Vec<u8>>) -> (Vec<Vec<u8>>, SessionEnd) {
    let mut served = Served::new(codec, Peer::new(pieces));
    let end = loop {
        match served.run() {
            // This is the arrival of the next piece.
            Ok(_) if !served.peer().sends.is_empty() => {}
            Ok(WaitFor::Nothing) => {}
            Ok(_) => served.peer().has_closed = true,
            Err(end) => break end,
        }
    };
    let got = std::mem::take(&mut served.peer().got);
    (got, end)
}

fn count(byte: u8, bytes: &[u8]) -> usize {
    memchr::memchr_iter(byte, bytes).count()
}

/// A stream of requests, cut into pieces of these lengths.
fn cut(stream: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = stream;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = later;
    }
    pieces
}

fn requests() -> impl Strategy<Value = Vec<String>> {
    let request = prop::sample::select(vec![
        "relayhost a@one.test",
        "relayhost a@none.test",
        "relayhost a@wrong.test",
        "sasl [relay]:587",
        "nosuchmap a@one.test",
        "",
        "relayhost ",
        "relayhost \"a, b:3\"@one.test",
    ]);
    prop::collection::vec(request.prop_map(ToOwned::to_owned), 1..12)
}

fn socketmap() -> ProtocolCodec {
    Protocol::Socketmap.codec()
}

/// The number of netstrings, if all are complete.
fn replies_in(mut bytes: &[u8]) -> Option<usize> {
    let mut replies = 0;
    while !bytes.is_empty() {
        let payload = netstring::find(bytes, 1000).unwrap()?;
        bytes = &bytes[payload.end + 1..];
        replies += 1;
    }
    Some(replies)
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same_replies_and_no_write_ends_within_one(
        requests in requests(),
        cuts in prop::collection::vec(1_usize..40, 1..20),
        broken in prop::sample::select(vec!["", "x", "07:", "3:abc;", "99999:"]),
    ) {
        let mut stream = BytesMut::new();
        for request in &requests {
            netstring::encode(&[request.as_bytes()], &mut stream);
        }
        stream.extend_from_slice(broken.as_bytes());
        let (whole, _) = exchange(socketmap(), [stream.to_vec()]);
        // The whole stream has arrived.
        prop_assert_eq!(whole.len(), 1);
        let (pieces, _) = exchange(socketmap(), cut(&stream, &cuts));
        for write in &pieces {
            prop_assert!(replies_in(write).is_some(), "a part of a reply: {:?}", write);
        }
        prop_assert_eq!(pieces.concat(), whole.concat());
        let replies = requests.len() + usize::from(!broken.is_empty());
        prop_assert_eq!(replies_in(&whole.concat()), Some(replies));
    }

    #[test]
    fn any_split_of_lines_gives_the_same_replies_and_no_write_ends_within_one(
        requests in prop::collection::vec("(get |put )?(a@one.test|%41@ONE.test|%zz|x)\r?\n", 1..12),
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let stream = requests.concat();
        let (whole, _) = exchange(Protocol::TcpTable("relayhost").codec(), [stream.clone().into_bytes()]);
        prop_assert_eq!(whole.len(), 1);
        let (pieces, _) = exchange(Protocol::TcpTable("relayhost").codec(), cut(stream.as_bytes(), &cuts));
        prop_assert!(pieces.iter().all(|write| write.ends_with(b"\n")));
        prop_assert_eq!(pieces.concat(), whole.concat());
        prop_assert_eq!(count(b'\n', &whole.concat()), requests.len());
    }

    /// Whatever a peer sends, the session neither panics nor sends more replies than there are requests.
    #[test]
    fn arbitrary_bytes_cause_no_panic_and_no_extra_reply(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(1_usize..40, 1..9)) {
        let (netstrings, _) = exchange(socketmap(), cut(&bytes, &cuts));
        prop_assert!(netstrings.len() <= 1 + count(b':', &bytes));
        let (lines, _) = exchange(Protocol::TcpTable("sasl").codec(), cut(&bytes, &cuts));
        prop_assert!(count(b'\n', &lines.concat()) <= count(b'\n', &bytes));
    }
}

#[test]
fn a_peer_that_sends_many_requests_makes_the_server_hold_only_one_write() {
    let stream = "13:relayhost a@x,".repeat(3 * WRITE_AT / 10);
    let (writes, end) = exchange(socketmap(), [stream.clone().into_bytes()]);
    assert!(matches!(end, SessionEnd::Closed));
    assert!(writes.iter().all(|write| write.len() < WRITE_AT + 100));
    let replies = count(b',', &writes.concat());
    assert_eq!(replies, stream.matches(',').count());
}

#[test]
fn broken_framing_is_answered_once_and_ends_the_session() {
    let (writes, end) = exchange(
        socketmap(),
        [b"20:relayhost a@one.test,x 20:relayhost a@one.test,".to_vec()],
    );
    assert!(matches!(end, SessionEnd::Broken(_)));
    let text = String::from_utf8(writes.concat()).unwrap();
    assert!(
        text.starts_with("14:OK [relay]:587,") && text.contains(":PERM "),
        "{text}"
    );
    assert_eq!(text.matches(":OK").count(), 1);
}

const REQUEST: &[u8] = b"20:relayhost a@one.test,";
const REPLY: &[u8] = b"14:OK [relay]:587,";
const MOMENT: Duration = Duration::from_millis(2);

fn connected() -> Served<ProtocolCodec> {
    Served::new(socketmap(), Peer::new([]))
}

#[test]
fn a_deadline_applies_to_one_request_and_not_to_a_busy_connection() {
    let mut served = connected();
    let (head, tail) = REQUEST.split_at(9);
    served.sends(head).unwrap();
    // A request is always in progress, and each is complete in time.
    for round in 1..20 {
        served.advance(REQUEST_DEADLINE / 10).unwrap();
        assert_eq!(served.sends(&[tail, head].concat()).unwrap(), WaitFor::Readable);
        assert_eq!(served.peer().got.concat(), REPLY.repeat(round));
    }
}

#[test]
fn an_incomplete_request_ends_the_session_at_its_deadline_and_an_idle_session_never_ends() {
    let mut served = connected();
    served.advance(REQUEST_DEADLINE * 1000).unwrap();
    served.sends(REQUEST).unwrap();
    served.advance(REQUEST_DEADLINE * 1000).unwrap();
    let begun = served.now;
    let end = REQUEST.iter().find_map(|c| {
        // Occasional bytes do not extend the deadline.
        served.sends(&[*c]).unwrap();
        served.advance(REQUEST_DEADLINE / 5).err()
    });
    assert!(matches!(end, Some(SessionEnd::TooSlow)), "{end:?}");
    assert_eq!(served.now - begun, REQUEST_DEADLINE);
}

#[test]
fn an_event_without_anything_to_read_changes_nothing() {
    let mut served = connected();
    assert_eq!(served.run().unwrap(), WaitFor::Readable);
    served.sends(&REQUEST[..5]).unwrap();
    let deadline = served.session.deadline();
    served.advance(MOMENT).unwrap();
    assert_eq!(served.run().unwrap(), WaitFor::Readable);
    assert_eq!(served.session.deadline(), deadline);
    assert_eq!(served.sends(&REQUEST[5..]).unwrap(), WaitFor::Readable);
    assert_eq!(served.peer().got.concat(), REPLY);
}

#[test]
fn a_request_complete_before_its_deadline_is_answered_and_a_later_one_is_not() {
    let mut served = connected();
    let (head, tail) = REQUEST.split_at(1);
    served.sends(head).unwrap();
    served.advance(REQUEST_DEADLINE.saturating_sub(MOMENT)).unwrap();
    served.sends(tail).unwrap();
    assert_eq!(served.session.deadline(), None);
    served.sends(head).unwrap();
    assert!(matches!(
        served.advance(REQUEST_DEADLINE),
        Err(SessionEnd::TooSlow)
    ));
}

#[test]
fn a_peer_that_does_not_read_its_replies_is_not_read_from_and_is_closed_at_its_deadline() {
    let mut served = connected();
    served.peer().room = 5;
    assert_eq!(served.sends(REQUEST).unwrap(), WaitFor::Writable);
    // However often it runs, it reads nothing, and a few accepted bytes do not extend the deadline.
    served.advance(WRITE_DEADLINE.saturating_sub(MOMENT)).unwrap();
    served.peer().room = 1;
    assert_eq!(served.sends(REQUEST).unwrap(), WaitFor::Writable);
    assert_eq!(served.peer().sends.len(), 1);
    assert!(!served.session.is_idle());
    assert!(matches!(served.advance(MOMENT), Err(SessionEnd::TooSlow)));
}

#[test]
fn replies_read_before_their_deadline_are_in_time_and_requests_received_meanwhile_are_answered() {
    let mut served = connected();
    served.peer().room = 5;
    let (head, tail) = REQUEST.split_at(9);
    assert_eq!(
        served.sends(&[REQUEST, head].concat()).unwrap(),
        WaitFor::Writable
    );
    served.advance(WRITE_DEADLINE.saturating_sub(MOMENT)).unwrap();
    served.peer().room = usize::MAX;
    assert_eq!(served.steps().unwrap(), WaitFor::Readable);
    assert_eq!(served.peer().got.concat(), REPLY);
    // The full deadline of the request in progress starts now.
    served.advance(REQUEST_DEADLINE.saturating_sub(MOMENT)).unwrap();
    assert_eq!(served.sends(tail).unwrap(), WaitFor::Readable);
    assert_eq!(served.peer().got.concat(), REPLY.repeat(2));
    assert!(served.session.is_idle());
    assert!(
        served.session.pending.is_none(),
        "an idle session holds no memory"
    );
}

#[test]
fn a_peer_that_sends_without_pause_gets_one_read_a_turn_and_all_its_replies() {
    // With the second, the replies to one read exceed one write.
    for request in [REQUEST, b"0:,"] {
        let mut served = connected();
        let stream = request.repeat(3 * READ_AT_ONCE / request.len());
        served.peer().sends.push_back(stream.clone());
        assert_eq!(served.run().unwrap(), WaitFor::Nothing);
        let left: usize = served.peer().sends.iter().map(Vec::len).sum();
        assert_eq!(stream.len() - left, READ_AT_ONCE);
        assert_eq!(served.steps().unwrap(), WaitFor::Readable);
        assert_eq!(count(b',', &served.peer().got.concat()), count(b',', &stream));
    }
}

#[test]
fn the_end_of_input_is_read_in_the_same_turn_as_the_data_before_it() {
    // The kernel reports both in one event.
    for piece in [REQUEST, &REQUEST[..9], b"x"] {
        let mut served = connected();
        served.session.require_drain();
        served.peer().has_closed = true;
        assert!(served.sends(piece).is_err(), "{}", piece.escape_ascii());
    }
}

#[test]
fn each_kind_of_end_is_counted() {
    for (sent, error) in [(REQUEST, None), (&REQUEST[..9], Some(ProtocolError::Truncated))] {
        let mut served = connected();
        served.sends(sent).unwrap();
        served.peer().has_closed = true;
        let end = served.steps().unwrap_err();
        assert!(matches!(end, SessionEnd::Closed));
        served.session.count(&end, &served.counters);
        let truncated = served.counters.protocol_errors(ProtocolError::Truncated);
        assert_eq!(truncated, u64::from(error.is_some()));
    }
    let served = connected();
    served.session.count(&SessionEnd::TooSlow, &served.counters);
    assert_eq!(served.counters.protocol_errors(ProtocolError::Timeout), 1);
}

#[test]
fn after_a_framing_error_the_peer_can_send_for_a_limited_time() {
    let lingering = || {
        let mut served = connected();
        assert_eq!(served.sends(b"x").unwrap(), WaitFor::Readable);
        assert!(served.peer().is_shut_down && !served.session.is_idle());
        served
    };
    let mut served = lingering();
    served.advance(LINGER.saturating_sub(MOMENT)).unwrap();
    assert_eq!(served.sends(REQUEST).unwrap(), WaitFor::Readable);
    assert_eq!(served.peer().got.len(), 1, "it is not answered");
    assert!(
        matches!(served.advance(MOMENT), Err(SessionEnd::Broken(_))),
        "the time is over"
    );

    let mut served = lingering();
    let end = served.sends(&vec![0; LINGER_BYTES]);
    assert!(matches!(end, Err(SessionEnd::Broken(_))));

    // The shutdown comes only after the reply is written.
    let mut served = connected();
    served.peer().room = 5;
    assert_eq!(served.sends(b"x").unwrap(), WaitFor::Writable);
    assert!(!served.peer().is_shut_down);
    served.peer().room = usize::MAX;
    assert_eq!(served.steps().unwrap(), WaitFor::Readable);
    assert!(served.peer().is_shut_down);
}

/// Panics at an invalid request.
struct Fragile(ProtocolCodec);

impl Codec for Fragile {
    fn decode<'i>(&mut self, input: &'i mut [u8]) -> Result<Option<(Request<'i>, usize)>, FramingError> {
        assert!(!input.starts_with(b"x"), "as a defect might");
        self.0.decode(input)
    }

    fn encode(&mut self, reply: &Reply<'_>, output: &mut BytesMut) {
        self.0.encode(reply, output);
    }
}

#[test]
fn the_replies_of_a_session_that_panicked_are_sent_to_no_other_peer() {
    let mut buffers = IoBuffers::default();
    let mut replies_to = |bytes: &[u8]| {
        let mut served = Served::new(Fragile(socketmap()), Peer::new([bytes.to_vec()]));
        std::mem::swap(&mut served.buffers, &mut buffers);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| served.run()));
        std::mem::swap(&mut served.buffers, &mut buffers);
        run.map(|_| served.peer().got.concat())
    };
    assert!(replies_to(&[REQUEST, b"x"].concat()).is_err());
    assert_eq!(
        replies_to(b"22:relayhost a@none.tests,").unwrap(),
        b"9:NOTFOUND ,"
    );
}
