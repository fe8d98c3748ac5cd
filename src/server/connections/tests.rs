use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::{Events, Poll};
use rustix::net::{SendFlags, send};

use super::{Connections, TurnContext, leaves_something};
use crate::config::Limits;
use crate::diagnostics::Findings;
use crate::lookup::map::Maps;
use crate::lookup::peer::Peer;
use crate::lookup::snapshot::{ActiveSnapshot, Snapshot};
use crate::lookup::table::Table;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};
use crate::protocol::{Codec, FramingError, Protocol, Reply, Request};
use crate::server::access::Client;
use crate::server::batch::Batch;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::counters::{Counters, ProtocolError};
use crate::server::limits::{BATCH, LINGER, READ_AT_ONCE, REQUEST_DEADLINE, WRITE_DEADLINE};
use crate::server::session::{Session, Stream};
use crate::server::stream::PeerSocket;

/// Panics at an invalid request, as a defect might.
struct Fragile;

impl Codec for Fragile {
    fn decode<'i>(&mut self, input: &'i mut [u8]) -> Result<Option<(Request<'i>, usize)>, FramingError> {
        assert!(!input.starts_with(b"panic"), "as a defect might");
        Protocol::Socketmap.codec().decode(input)
    }

    fn encode(&mut self, reply: &Reply<'_>, output: &mut BytesMut) {
        Protocol::Socketmap.codec().encode(reply, output);
    }
}

/// A socket that panics in a phase of its turn, as a defect might.
struct FragileSocket {
    socket: PeerSocket,
    panics: Option<Phase>,
}

/// A phase of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Read,
    Answer,
    Write,
}

impl Read for FragileSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(self.panics != Some(Phase::Read), "as a defect might");
        self.socket.read(buffer)
    }
}

impl Write for FragileSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.panics != Some(Phase::Write), "as a defect might");
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Stream for FragileSocket {
    fn end_writing(&mut self) -> io::Result<()> {
        self.socket.end_writing()
    }
}

impl AsRawFd for FragileSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The event loop of the server, without listeners.
struct Rounds {
    poll: Poll,
    connections: Connections<FragileSocket, Fragile>,
    connection_limiter: ConnectionLimiter,
    active_snapshot: ActiveSnapshot,
    counters: Arc<Counters>,
    batch: Batch,
    stops: bool,
}

const REQUEST: &[u8] = b"20:relayhost a@one.test,";
const REPLY: &[u8] = b"14:OK [relay]:587,";

impl Rounds {
    fn new() -> Self {
        let text = b"@one.test [relay]:587\n".to_vec().into();
        let table = Table::build(&RELAY_MAP, Path::new("t"), text, &mut Findings::default());
        Self {
            poll: Poll::new().unwrap(),
            connections: Connections::default(),
            connection_limiter: ConnectionLimiter::new(Limits::default()),
            active_snapshot: ActiveSnapshot::new(Snapshot::new(
                table.into(),
                Table::empty(&CREDENTIALS).into(),
            )),
            counters: Counters::new(Maps::SERVED, false).into(),
            batch: Batch::default(),
            stops: false,
        }
    }

    fn connect(&mut self) -> UnixStream {
        self.connect_to_panic(None)
    }

    /// A connection that panics in this phase (for [`Phase::Answer`], at the request `panic`).
    fn connect_to_panic(&mut self, panics: Option<Phase>) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.add(ours.into(), panics);
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        theirs.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        theirs
    }

    fn connect_over_tcp(&mut self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        self.add(listener.accept().unwrap().0.into(), None);
        theirs
    }

    fn add(&mut self, ours: OwnedFd, panics: Option<Phase>) {
        let peer = Peer::User {
            uid: 1,
            address: None,
        };
        let socket = ours.into();
        let stream = FragileSocket { socket, panics };
        let session = Session::new(stream, Fragile, Client::new(peer, Arc::default()));
        let permit = self.connection_limiter.acquire(peer, false).unwrap();
        let connected = self.counters.connected();
        let registry = self.poll.registry();
        self.connections
            .add(session, permit, connected, registry)
            .unwrap();
    }

    /// Runs the connections that are ready.
    fn round(&mut self) {
        let mut events = Events::with_capacity(100);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        let context = TurnContext {
            registry: self.poll.registry(),
            active_snapshot: &self.active_snapshot,
            counters: &self.counters,
            stops: self.stops,
        };
        let events = events
            .iter()
            .map(|event| (event.token().0, leaves_something(event)));
        self.connections.run_ready(events, &mut self.batch, context);
        let queued = self.connections.queue.len();
        let marked = self.connections.all.iter().filter(|(_, it)| it.is_queued);
        assert_eq!(
            queued,
            marked.count(),
            "each is queued once, and only those that there are"
        );
        let timed = self
            .connections
            .all
            .iter()
            .filter(|(_, it)| it.deadline.is_some());
        assert_eq!(self.connections.deadlines.len(), timed.count());
    }

    /// Runs until all requests are answered.
    fn rounds(&mut self) {
        self.round();
        while self.connections.has_runnable() {
            self.round();
        }
    }
}

fn ask(rounds: &mut Rounds, mut client: &UnixStream) {
    client.write_all(REQUEST).unwrap();
    rounds.rounds();
    let mut reply = [0; REPLY.len()];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply, REPLY);
}

fn is_gone(mut client: &UnixStream) -> bool {
    match client.read(&mut [0]) {
        Ok(length) => length == 0,
        // Its request was never read.
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// A connection panics in each phase, at each position of its batch, and, if queued, outside of a batch.
#[test]
fn a_panic_in_any_phase_ends_its_own_connection_and_the_rest_of_the_batch_is_answered() {
    for phase in [Phase::Read, Phase::Answer, Phase::Write] {
        for (count, permit) in [(3, 0), (3, 1), (3, 2), (1, 0), (2 * BATCH + 1, BATCH - 1)] {
            for is_queued in [false, true] {
                let mut rounds = Rounds::new();
                let mut clients: Vec<UnixStream> = (0..count)
                    .map(|number| rounds.connect_to_panic((number == permit).then_some(phase)))
                    .collect();
                let fragile = clients.remove(permit);
                // All in one round.
                for mut client in &clients {
                    client.write_all(REQUEST).unwrap();
                }
                let asks = if phase == Phase::Answer { b"panic" } else { REQUEST };
                (&fragile).write_all(asks).unwrap();
                if is_queued {
                    rounds.connections.schedule_all();
                }
                rounds.rounds();
                let what = format!("{phase:?}, {permit} of {count}, {is_queued}");
                assert!(is_gone(&fragile), "{what}");
                assert_eq!(rounds.connections.len(), clients.len(), "{what}");
                assert_eq!(rounds.counters.connections(), clients.len() as u64, "{what}");
                for mut client in &clients {
                    let mut reply = [0; REPLY.len()];
                    client.read_exact(&mut reply).unwrap();
                    assert_eq!(reply, REPLY, "{what}");
                    ask(&mut rounds, client);
                }
                // The next connection gets its number.
                let next = rounds.connect();
                ask(&mut rounds, &next);
            }
        }
    }
}

#[test]
fn a_client_that_sends_without_pause_gets_one_turn_a_round() {
    let mut rounds = Rounds::new();
    let (mut greedy, polite) = (rounds.connect(), rounds.connect());
    let requests = REQUEST.repeat(5 * READ_AT_ONCE / REQUEST.len());
    greedy.set_nonblocking(true).unwrap();
    let sent = greedy.write(&requests).unwrap();
    assert!(sent > 2 * READ_AT_ONCE, "{sent}");
    rounds.round();
    assert!(rounds.connections.has_runnable());
    (&polite).write_all(REQUEST).unwrap();
    // More from the greedy client, so that it has both an event and a place in the queue.
    let _ = greedy.write(REQUEST);
    rounds.round();
    let mut reply = [0; REPLY.len()];
    (&polite).read_exact(&mut reply).unwrap();
    assert!(
        rounds.connections.has_runnable(),
        "the other one has not finished"
    );
}

#[test]
fn a_deadline_closes_only_its_connection_and_is_removed_with_it() {
    let mut rounds = Rounds::new();
    let (mut slow, mut quick, mut broken) = (rounds.connect(), rounds.connect(), rounds.connect());
    for client in [&mut slow, &mut quick] {
        client.write_all(&REQUEST[..5]).unwrap();
    }
    broken.write_all(b"x").unwrap();
    rounds.rounds();
    assert_eq!(rounds.connections.deadlines.len(), 3);
    quick.write_all(&REQUEST[5..]).unwrap();
    rounds.rounds();
    assert_eq!(rounds.connections.deadlines.len(), 2);
    let first = rounds.connections.next_deadline().unwrap();
    assert!(first <= Instant::now() + LINGER);
    rounds.connections.expire(Instant::now(), &rounds.counters);
    assert_eq!(rounds.connections.len(), 3, "no deadline has passed");
    rounds
        .connections
        .expire(Instant::now() + LINGER, &rounds.counters);
    assert_eq!(rounds.connections.len(), 2);
    let later = Instant::now() + REQUEST_DEADLINE;
    rounds.connections.expire(later, &rounds.counters);
    assert!(is_gone(&slow));
    assert_eq!(rounds.connections.next_deadline(), None);
    assert_eq!(rounds.counters.protocol_errors(ProtocolError::Timeout), 1);
    let mut reply = [0; REPLY.len()];
    quick.read_exact(&mut reply).unwrap();
    ask(&mut rounds, &quick);
    // When a peer closes in the middle of a request, its deadline is removed.
    quick.write_all(&REQUEST[..5]).unwrap();
    rounds.rounds();
    drop(quick);
    rounds.rounds();
    assert!(rounds.connections.is_empty() && rounds.connections.deadlines.is_empty());
    assert_eq!(rounds.counters.protocol_errors(ProtocolError::Truncated), 1);
}

#[test]
fn a_client_that_does_not_read_gets_all_replies_once_it_reads_and_then_causes_no_events() {
    let mut rounds = Rounds::new();
    let mut client = rounds.connect();
    client.set_nonblocking(true).unwrap();
    let requests = REQUEST.repeat(100);
    let mut asked = 0;
    // Until the server stops reading, because its replies are not read.
    while let Ok(more) = client.write(&requests[asked % REQUEST.len()..]) {
        asked += more;
        rounds.rounds();
    }
    let wants_write = |rounds: &Rounds| rounds.connections.all.iter().any(|(_, it)| it.wants_write);
    assert!(wants_write(&rounds));
    assert!(rounds.connections.next_deadline().unwrap() <= Instant::now() + WRITE_DEADLINE);
    let mut told = Vec::new();
    while told.len() < asked / REQUEST.len() * REPLY.len() {
        let mut some = [0; 4096];
        if let Ok(length) = client.read(&mut some) {
            told.extend_from_slice(&some[..length]);
        }
        rounds.rounds();
    }
    assert_eq!(told, REPLY.repeat(asked / REQUEST.len()));
    assert!(!wants_write(&rounds));
}

#[test]
fn a_stopping_server_answers_received_requests_and_closes_idle_connections() {
    let mut rounds = Rounds::new();
    let (idle, mut asks, mut begins, mut broken) = (
        rounds.connect(),
        rounds.connect(),
        rounds.connect(),
        rounds.connect(),
    );
    begins.write_all(&REQUEST[..5]).unwrap();
    broken.write_all(b"x").unwrap();
    rounds.rounds();
    asks.write_all(REQUEST).unwrap();
    rounds.stops = true;
    rounds.connections.schedule_all();
    rounds.rounds();
    assert!(is_gone(&idle) && is_gone(&begins));
    let mut reply = Vec::new();
    asks.read_to_end(&mut reply).unwrap();
    assert_eq!(reply, REPLY);
    // The client can still read the reason.
    assert_eq!(rounds.connections.len(), 1);
}

#[test]
fn requests_after_urgent_data_are_answered() {
    let mut rounds = Rounds::new();
    let mut client = rounds.connect_over_tcp();
    client.write_all(REQUEST).unwrap();
    send(&client, b"!", SendFlags::OOB).unwrap();
    // A read ends here, whatever the size of its buffer.
    client.write_all(REQUEST).unwrap();
    rounds.rounds();
    let mut replies = [0; 2 * REPLY.len()];
    client.read_exact(&mut replies).unwrap();
    assert_eq!(replies, REPLY.repeat(2).as_slice());
    // It causes no further event.
    assert!(!rounds.connections.has_runnable());
}
