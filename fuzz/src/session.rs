//! A whole session over an in-memory stream.

use postmapd::lookup::map::Maps;
use postmapd::lookup::routing::Routing;
use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP, TableSpec};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use postmapd::diagnostics::Findings;
use postmapd::lookup::address::Delimiters;
use postmapd::lookup::default_relay::{Configured, DefaultRelay};
use postmapd::lookup::peer::{self, Allowed};
use postmapd::lookup::snapshot::{ActiveSnapshot, Snapshot};
use postmapd::lookup::table::Table;
use postmapd::os::secret::Secret;
use postmapd::protocol::socketmap::{MAX_REPLY, MAX_REQUEST};
use postmapd::protocol::{Codec, Protocol, tcp_table};
use postmapd::server::access::Client;
use postmapd::server::counters::Counters;
use postmapd::server::limits::WRITE_AT;
use postmapd::server::session::{IoBuffers, Session, SessionEnd, Stream, WaitFor};

use super::input;
use super::plain::address;
use super::plain::framing::{self, Frame, percent_decoded};
use super::plain::table::{self, Meaning};

/// The user that may query everything, and is the client's.
const ALLOWED: u32 = 0;

fn client() -> Client {
    let peer = peer::Peer::User {
        uid: ALLOWED,
        address: None,
    };
    Client::new(peer, Arc::default())
}

/// The first line has the parameters, and the rest is what the peer sends. The parameters are
///
/// 1. the protocol: `s` socketmap, `r` or `c` tcp_table for the relay map or the credentials
/// 2. the default relay: `-` none, `d` one, `u` one that cannot be read
/// 3. the end: `e` the peer closes, `q` the server stops
/// 4. how many bytes each write accepts, and whether every second write has to wait first
/// 5. after how many pieces the tables are swapped for others, 0 for never
/// 6. the sizes of the pieces, repeated; 0 is the rest.
pub fn session(data: &[u8]) {
    let data = input::expand(data);
    let (how, stream) = input::first_line(&data);
    let byte = |at: usize| how.get(at).copied().unwrap_or_default();
    let plan = Plan {
        protocol: match byte(0) {
            b's' => Protocol::Socketmap,
            b'c' => Protocol::TcpTable("sasl"),
            _ => Protocol::TcpTable("relayhost"),
        },
        default: match byte(1) {
            b'd' => Default::Set,
            b'u' => Default::Unreadable,
            _ => Default::None,
        },
        stops: byte(2) == b'q',
        write: input::number(byte(3)),
        swap: input::number(byte(4)),
        pieces: pieces(stream, how.get(5..).unwrap_or_default()),
    };
    plan.run(stream);
}

fn pieces(stream: &[u8], lengths: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = stream;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let length = match lengths.next().map_or(0, |length| input::number(*length)) {
            // A long stream is not sent byte by byte.
            0 => rest.len(),
            length if pieces.len() < 500 => length.min(rest.len()),
            _ => rest.len(),
        };
        let (piece, after) = rest.split_at(length);
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Default {
    None,
    Set,
    Unreadable,
}

struct Plan {
    protocol: Protocol,
    default: Default,
    stops: bool,
    write: usize,
    swap: usize,
    pieces: Vec<Vec<u8>>,
}

/// A reply without the text of its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Found(Vec<u8>),
    NotFound,
    CannotTell,
    Refused,
}

impl Plan {
    fn run(&self, stream: &[u8]) {
        let active_snapshot = ActiveSnapshot::new(self.snapshot(0));
        let (end, got) = self.serve(self.protocol.codec(), &active_snapshot);
        let (expected, is_broken) = self.expected(stream);
        match end {
            SessionEnd::Broken(_) => assert!(is_broken),
            SessionEnd::Stopped => assert!(self.stops && !is_broken),
            SessionEnd::Closed => assert!(!self.stops && !is_broken),
            SessionEnd::TooSlow => panic!("no peer was slow"),
        }
        assert_eq!(self.replies(&got), expected);
    }

    /// A session as in the server. Returns how it ended, and what the peer received.
    fn serve(&self, codec: impl Codec, active_snapshot: &ActiveSnapshot) -> (SessionEnd, Vec<u8>) {
        let peer = Peer {
            plan: self,
            active_snapshot,
            sends: self.pieces.iter().cloned().collect(),
            given: 0,
            got: Vec::new(),
            writes: 0,
            waits: false,
            is_owed: false,
        };
        let (mut buffers, counters) = (IoBuffers::default(), Counters::new(Maps::SERVED, true));
        let mut session = Session::new(peer, codec, client());
        let end = loop {
            match session.run(&mut buffers, active_snapshot, &counters, Instant::now) {
                Ok(WaitFor::Readable) if self.stops && session.stream().sends.is_empty() => {
                    // No more input comes: the server ends an idle session, and the deadline any other.
                    break if session.is_idle() {
                        SessionEnd::Stopped
                    } else {
                        session.expire()
                    };
                }
                Ok(WaitFor::Writable) => {
                    assert!(session.deadline().is_some(), "a pending reply without a deadline")
                }
                Ok(WaitFor::Readable | WaitFor::Nothing) => {}
                Err(end) => break end,
            }
        };
        session.count(&end, &counters);
        (end, session.stream().got.clone())
    }

    /// The expected replies in order.
    fn expected(&self, stream: &[u8]) -> (Vec<Reply>, bool) {
        let mut replies = Vec::new();
        let (mut arrived, mut taken) = (0, 0);
        let pieces = if self.pieces.is_empty() {
            &[Vec::new()][..]
        } else {
            &self.pieces
        };
        for (number, piece) in pieces.iter().enumerate() {
            arrived += piece.len();
            loop {
                let rest = &stream[taken..arrived];
                let frame = match self.protocol {
                    Protocol::Socketmap => framing::netstring(rest, MAX_REQUEST),
                    Protocol::TcpTable(_) => framing::line(rest, tcp_table::MAX_REQUEST),
                };
                match frame {
                    Frame::Part => break,
                    Frame::Whole(request, length) => {
                        taken += length;
                        replies.push(self.reply(&request, self.tables_at(number)));
                    }
                    Frame::BadLength | Frame::TooLong | Frame::NoComma => {
                        replies.push(Reply::Refused);
                        return (replies, true);
                    }
                }
            }
        }
        (replies, false)
    }

    /// The tables that are active once this piece has arrived.
    fn tables_at(&self, piece: usize) -> usize {
        piece.checked_div(self.swap).unwrap_or_default() % Tables::all().len()
    }

    fn reply(&self, request: &[u8], tables: usize) -> Reply {
        let (map, key) = match self.protocol {
            Protocol::Socketmap => {
                let mut words = request.splitn(2, |c| *c == b' ');
                match (words.next(), words.next()) {
                    (Some(b"relayhost"), Some(key)) => ("relayhost", key.to_vec()),
                    (Some(b"sasl"), Some(key)) => ("sasl", key.to_vec()),
                    _ => return Reply::Refused,
                }
            }
            Protocol::TcpTable(map) => match request.strip_prefix(b"get ").and_then(percent_decoded) {
                Some(key) => (map, key),
                None => return Reply::Refused,
            },
        };
        let answer = self.answer(map, &key, &Tables::all()[tables]);
        match (&answer, self.protocol) {
            (Reply::Found(value), Protocol::TcpTable(_)) => {
                let length: usize = value.iter().map(|c| if b"% ".contains(c) { 3 } else { 1 }).sum();
                if "200 \n".len() + length > tcp_table::MAX_REPLY {
                    Reply::CannotTell
                } else {
                    answer
                }
            }
            _ => answer,
        }
    }

    /// The contract's answer for a key.
    fn answer(&self, map: &str, key: &[u8], tables: &Tables) -> Reply {
        let (keys, has_domain) = address::keys(key, "+-");
        let is_sender = keys[0] == b"<>" || keys[0].contains(&b'@');
        let relay = tables
            .relay_map
            .answer_for(&keys)
            .unwrap_or_else(|| match self.default {
                Default::None => Reply::NotFound,
                Default::Set => Reply::Found(if has_domain { FOR_DOMAINS } else { FOR_EVERYONE }.to_vec()),
                Default::Unreadable if has_domain => Reply::CannotTell,
                Default::Unreadable => Reply::Found(FOR_EVERYONE.to_vec()),
            });
        if map == "relayhost" {
            return relay;
        }
        if !is_sender {
            return tables
                .credentials
                .answer_for(&keys[..1])
                .unwrap_or_else(|| match self.default {
                    Default::None => Reply::NotFound,
                    _ if [&b"[e.test]:26"[..], b"f.test"].contains(&keys[0].as_slice()) => {
                        Reply::Found(OF_DEFAULT.to_vec())
                    }
                    Default::Set if keys[0] == b"[d.test]:25" => Reply::Found(OF_DEFAULT.to_vec()),
                    Default::Set => Reply::NotFound,
                    Default::Unreadable => Reply::CannotTell,
                });
        }
        let credentials = tables.credentials.answer_for(&keys).unwrap_or(Reply::NotFound);
        if relay == Reply::CannotTell || credentials == Reply::CannotTell {
            return Reply::CannotTell;
        }
        // Every relay map here has an entry.
        if relay == Reply::NotFound {
            Reply::NotFound
        } else {
            credentials
        }
    }

    fn replies(&self, got: &[u8]) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut rest = got;
        while !rest.is_empty() {
            let frame = match self.protocol {
                Protocol::Socketmap => framing::netstring(rest, MAX_REPLY),
                Protocol::TcpTable(_) => framing::line(rest, tcp_table::MAX_REPLY),
            };
            let Frame::Whole(reply, taken) = frame else {
                panic!("a part of a reply: {}", rest.escape_ascii());
            };
            replies.push(self.parse_reply(&reply));
            rest = &rest[taken..];
        }
        replies
    }

    fn parse_reply(&self, reply: &[u8]) -> Reply {
        let (code, text) = reply.split_at(reply.iter().position(|c| *c == b' ').expect("a space") + 1);
        let parsed = match (self.protocol, code) {
            (Protocol::Socketmap, b"OK ") => Reply::Found(text.to_vec()),
            (Protocol::TcpTable(_), b"200 ") => Reply::Found(percent_decoded(text).unwrap()),
            (Protocol::Socketmap, b"NOTFOUND ") if text.is_empty() => Reply::NotFound,
            (Protocol::TcpTable(_), b"500 ") => Reply::NotFound,
            (Protocol::Socketmap, b"TEMP ") => Reply::CannotTell,
            (Protocol::Socketmap, b"PERM ") => Reply::Refused,
            // Postfix's client has one kind of error here; the texts differ.
            (Protocol::TcpTable(_), b"400 ") if is_refusal(text) => Reply::Refused,
            (Protocol::TcpTable(_), b"400 ") => Reply::CannotTell,
            _ => panic!("no reply: {}", reply.escape_ascii()),
        };
        // A reason contains no key and no credential.
        let secret = text.windows(6).any(|text| text == b"secret");
        assert!(!secret || matches!(parsed, Reply::Found(_)));
        parsed
    }

    fn snapshot(&self, tables: usize) -> Snapshot {
        let tables = &Tables::all()[tables];
        let for_domains = match self.default {
            Default::None => Configured::Unset,
            Default::Set => Configured::Value(FOR_DOMAINS.to_vec()),
            Default::Unreadable => Configured::Unreadable,
        };
        let default = match self.default {
            Default::None => DefaultRelay::default(),
            Default::Set | Default::Unreadable => DefaultRelay::new(
                for_domains,
                Configured::Value(FOR_EVERYONE.to_vec()),
                Configured::Value(Secret::from(OF_DEFAULT.to_vec())),
            ),
        };
        Snapshot {
            allowed: Allowed::new([ALLOWED], []),
            // The model answers credentials without a route where there are no routes.
            routing: if default.is_set() || !tables.relay_map.table.is_empty() {
                Routing::Postmapd
            } else {
                Routing::MainCf
            },
            default: default.into(),
            delimiters: Delimiters::new("+-").unwrap(),
            ..Snapshot::new(
                Arc::clone(&tables.relay_map.table),
                Arc::clone(&tables.credentials.table),
            )
        }
    }
}

fn is_refusal(text: &[u8]) -> bool {
    text == b"this is not a lookup request" || text == b"the request is too long"
}

const FOR_DOMAINS: &[u8] = b"[d.test]:25";
const FOR_EVERYONE: &[u8] = b"[e.test]:26, F.test";
const OF_DEFAULT: &[u8] = b"default:secret";

/// Two files, and their meanings.
struct Tables {
    relay_map: Plain,
    credentials: Plain,
}

struct Plain {
    table: Arc<Table>,
    meanings: std::collections::HashMap<Vec<u8>, Meaning>,
    keys_unreadable: bool,
}

impl Plain {
    fn new(spec: &'static TableSpec, text: String) -> Self {
        let reading = table::read(spec.format, text.as_bytes());
        let table = table::table(&reading);
        Self {
            meanings: table
                .into_iter()
                .map(|(key, entry)| (key, entry.meaning.clone()))
                .collect(),
            keys_unreadable: reading.keys_unreadable,
            table: Table::build(
                spec,
                Path::new("t"),
                text.into_bytes().into(),
                &mut Findings::default(),
            )
            .into(),
        }
    }

    /// The answer for the first of the keys that exists; `None` where certainly none does.
    fn answer_for(&self, keys: &[Vec<u8>]) -> Option<Reply> {
        let is_certain = |key: &&Vec<u8>| !self.keys_unreadable || key.as_slice() != address::ANY_SENDER;
        match keys
            .iter()
            .filter(is_certain)
            .find_map(|key| self.meanings.get(key))
        {
            Some(Meaning::Value(value)) => Some(Reply::Found(value.clone())),
            Some(Meaning::Nothing) => Some(Reply::NotFound),
            Some(Meaning::Fault) => Some(Reply::CannotTell),
            None => self.keys_unreadable.then_some(Reply::CannotTell),
        }
    }
}

impl Tables {
    /// Tables that are valid except for some entries, others for the same keys, and some with a line whose key cannot
    /// be read.
    fn all() -> &'static [Self; 3] {
        static ALL: OnceLock<[Tables; 3]> = OnceLock::new();
        ALL.get_or_init(|| {
            [
                Self::of(1, ""),
                Self::of(2, ""),
                Self::of(3, "\"open@one.test x:secret\n"),
            ]
        })
    }

    fn of(version: u8, last: &str) -> Self {
        // In the last version, a line that cannot be read hides it.
        let any = if version > 1 { "@* [any.test]\n" } else { "" };
        let relay_map = format!(
            "@one.test [relay{version}.test]:587\nuser@one.test other{version}.test\n@none.test\n@dunno.test dunno\n\
             @wrong.test [secret\n<> [bounce{version}.test]:25\n\"john doe\"@one.test a.test, b.test\n\
             Straße@one.test [ss.test]\nwrong+x@one.test :25\n@two.test [two.test]\n\
             @.one.test [sub{version}.test]\n@.direct.one.test\n@.wrong.test [\n{any}{last}"
        );
        // A value that fits into a reply of tcp_table, and values that do not.
        let (fits, too_long, vast) = ("x".repeat(4085), "x".repeat(4086), "x".repeat(60_000));
        let credentials = format!(
            "@one.test user{version}:secret % x\nuser@one.test u:secret:{version}\nnone@one.test\n\
             bad@one.test secret\n@none.test a:secret\n@wrong.test a:secret\n<> null:secret\n\
             \"john doe\"@one.test john:secret\n[relay{version}.test]:587 hop{version}:secret\nrelay1.test host:secret\nnothing.test\n\
             [e.test]:26 file:secret\nfits@one.test secret:{fits}\nlong@one.test secret:{too_long}\n\
             vast@one.test secret:{vast}\n@.one.test sub{version}:secret\n@.deep.one.test\n{last}"
        );
        Self {
            relay_map: Plain::new(&RELAY_MAP, relay_map),
            credentials: Plain::new(&CREDENTIALS, credentials),
        }
    }
}

/// The other end of the connection.
struct Peer<'p> {
    plan: &'p Plan,
    active_snapshot: &'p ActiveSnapshot,
    sends: VecDeque<Vec<u8>>,
    /// How many pieces were sent, at least in part.
    given: usize,
    got: Vec<u8>,
    writes: usize,
    /// Whether the next call has to wait.
    waits: bool,
    /// Whether a write has to wait: then nothing is read before it is done.
    is_owed: bool,
}

impl Peer<'_> {
    /// Every second call waits.
    fn comes_later(&mut self) -> io::Result<()> {
        self.waits = self.plan.write % 2 == 1 && !self.waits;
        if self.waits {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }
}

impl Read for Peer<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(!self.is_owed, "more is read while a reply waits");
        self.comes_later()?;
        let Some(mut piece) = self.sends.pop_front() else {
            return if self.plan.stops {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(0)
            };
        };
        let number = self.plan.pieces.len() - self.sends.len() - 1;
        if number >= self.given {
            self.given = number + 1;
            if self.plan.swap > 0 && number.is_multiple_of(self.plan.swap) {
                self.active_snapshot
                    .publish(self.plan.snapshot(self.plan.tables_at(number)));
            }
        }
        let rest = piece.split_off(piece.len().min(into.len()));
        into[..piece.len()].copy_from_slice(&piece);
        if !rest.is_empty() {
            self.sends.push_front(rest);
        }
        Ok(piece.len())
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(
            bytes.len() < WRITE_AT + MAX_REPLY,
            "{} bytes are held",
            bytes.len()
        );
        self.is_owed = true;
        self.comes_later()?;
        self.writes += 1;
        // Small writes first, then any size, so that the session ends.
        let most = if self.writes < 500 && self.plan.write > 1 {
            self.plan.write
        } else {
            bytes.len()
        };
        let written = most.min(bytes.len());
        self.is_owed = written < bytes.len();
        self.got.extend_from_slice(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Peer<'_> {
    fn end_writing(&mut self) -> io::Result<()> {
        Ok(())
    }
}
