//! Queries to the name servers of /etc/resolv.conf: UDP, and TCP for an answer that is cut.
//!
//! A reply is used if it has the number, the name and the type of the query, which has a random number and comes from a
//! random port.
//!
//! Limits: no search domains, as in Postfix, no EDNS, no options of resolv.conf, [`MAX_SERVERS`] servers, [`ROUNDS`] queries
//! to each, [`MAX_RECORDS`] records. A server that follows no CNAME is not supported.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::timed_stream::TimedStream;

/// The maximum number of servers, as in resolv.conf(5).
const MAX_SERVERS: usize = 3;

/// How often all servers are queried, as `attempts` in resolv.conf(5).
const ROUNDS: usize = 2;

/// How long a server has to reply. The C library waits 5 s.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum number of records of an answer that are used.
const MAX_RECORDS: usize = 64;

/// The maximum number of bytes of resolv.conf that are read.
const MAX_CONFIGURATION: u64 = 64 << 10;

/// The port of DNS.
const PORT: u16 = 53;

/// What is queried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Aaaa,
    Mx,
}

impl Kind {
    fn record_type(self) -> TYPE {
        match self {
            Self::A => TYPE::A,
            Self::Aaaa => TYPE::AAAA,
            Self::Mx => TYPE::MX,
        }
    }
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    /// Preference and name, which is empty for the root (RFC 7505: no mail).
    Exchanger(u16, String),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DnsError {
    /// The name does not exist.
    NoSuchName,
    /// No server has answered in time.
    NoReply,
    /// The servers cannot tell.
    Failed,
}

/// The name servers.
#[derive(Clone, Debug)]
pub(super) struct NameServers(Vec<SocketAddr>);

impl NameServers {
    /// Reads a file in the format of resolv.conf(5). Without a server in it, there is one on this machine.
    pub(super) fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_CONFIGURATION).read_to_end(&mut bytes));
        let text = read.map_or_else(
            |_| String::new(),
            |_| String::from_utf8_lossy(&bytes).into_owned(),
        );
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let servers = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words
                .next()
                .filter(|word| *word == "nameserver")
                .and(words.next());
            Some(SocketAddr::new(address?.parse().ok()?, PORT))
        });
        let mut servers: Vec<SocketAddr> = servers.take(MAX_SERVERS).collect();
        if servers.is_empty() {
            servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        Self(servers)
    }

    /// Returns the records of this kind for a name, without those of others; empty if the name has none.
    pub(super) fn query(&self, name: &str, kind: Kind, deadline: Instant) -> Result<Vec<Record>, DnsError> {
        let mut error = DnsError::NoReply;
        for server in (0..ROUNDS).flat_map(|_| &self.0) {
            let until = deadline.min(Instant::now() + REPLY_TIMEOUT);
            match query_server(*server, name, kind, until) {
                Ok(Ok(records)) => return Ok(records),
                Ok(Err(DnsError::NoSuchName)) => return Err(DnsError::NoSuchName),
                Ok(Err(other)) => error = other,
                Err(_) => {}
            }
        }
        Err(error)
    }
}

type Answer = Result<Vec<Record>, DnsError>;

fn query_server(server: SocketAddr, name: &str, kind: Kind, until: Instant) -> io::Result<Answer> {
    let mut number = [0; 2];
    rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())?;
    let number = u16::from_ne_bytes(number);
    let query = encoded(number, name, kind).ok_or(ErrorKind::InvalidInput)?;
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect(server)?;
    socket.send(&query)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let size = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        match parse(buffer.get(..size).unwrap_or_default(), number, name, kind) {
            Some(Parsed::Answer(answer)) => return Ok(answer),
            Some(Parsed::Truncated) => return query_by_tcp(server, &query, number, name, kind, until),
            // The reply to another query, or no DNS message.
            None => {}
        }
    }
}

fn query_by_tcp(
    server: SocketAddr,
    query: &[u8],
    number: u16,
    name: &str,
    kind: Kind,
    until: Instant,
) -> io::Result<Answer> {
    let mut stream = TimedStream::connect(server, until)?;
    let length = u16::try_from(query.len()).map_err(|_| ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    match parse(&reply, number, name, kind) {
        Some(Parsed::Answer(answer)) => Ok(answer),
        Some(Parsed::Truncated) | None => Err(ErrorKind::InvalidData.into()),
    }
}

fn encoded(number: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(number);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).ok()?;
    let (qtype, qclass) = (QTYPE::TYPE(kind.record_type()), QCLASS::CLASS(CLASS::IN));
    packet.questions.push(Question::new(name, qtype, qclass, false));
    packet.build_bytes_vec().ok()
}

/// A reply to the query.
enum Parsed {
    Answer(Answer),
    Truncated,
}

/// Parses a message. `None` if it is not the reply to this query.
fn parse(message: &[u8], number: u16, name: &str, kind: Kind) -> Option<Parsed> {
    let packet = Packet::parse(message).ok()?;
    let [question] = packet.questions.as_slice() else {
        return None;
    };
    let is_reply = packet.has_flags(PacketFlag::RESPONSE)
        && packet.id() == number
        && question.qtype == QTYPE::TYPE(kind.record_type())
        && question.qname.to_string().eq_ignore_ascii_case(name);
    if !is_reply {
        return None;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Some(Parsed::Truncated);
    }
    Some(Parsed::Answer(match packet.rcode() {
        RCODE::NoError => {
            let records = packet.answers.iter().filter_map(|record| match &record.rdata {
                RData::A(a) if kind == Kind::A => Some(Record::Address(Ipv4Addr::from(a.address).into())),
                RData::AAAA(aaaa) if kind == Kind::Aaaa => {
                    Some(Record::Address(Ipv6Addr::from(aaaa.address).into()))
                }
                RData::MX(mx) if kind == Kind::Mx => {
                    Some(Record::Exchanger(mx.preference, mx.exchange.to_string()))
                }
                _ => None,
            });
            Ok(records.take(MAX_RECORDS).collect())
        }
        RCODE::NameError => Err(DnsError::NoSuchName),
        _ => Err(DnsError::Failed),
    }))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
    use std::thread;
    use std::time::{Duration, Instant};

    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};
    use simple_dns::rdata::{A, MX, RData};
    use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};

    use super::{DnsError, Kind, NameServers, Record, encoded, parse};

    proptest! {
        #[test]
        fn no_message_causes_a_panic(
            message in vec(any::<u8>(), 0..300),
            changes in vec((any::<usize>(), any::<u8>()), 0..8),
        ) {
            let mut reply = encoded(7, "relay.test", Kind::Mx).unwrap();
            reply.extend_from_slice(&message);
            for (at, byte) in changes {
                let at = at % reply.len();
                reply[at] = byte;
            }
            // With answers announced, the random bytes are parsed as records.
            reply[2] |= 0x80;
            reply[7] |= 3;
            for bytes in [&message, &reply] {
                let _ = parse(bytes, 7, "relay.test", Kind::Mx);
            }
        }
    }

    #[test]
    fn the_servers_are_those_of_resolv_conf() {
        let text =
            "# nameserver 192.0.2.9\nsearch a.test\nnameserver 192.0.2.1\nnameserver ::1\nnameserver x\n";
        let servers = NameServers::parse(text).0;
        assert_eq!(
            servers,
            ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]
        );
        assert_eq!(NameServers::parse("").0, ["127.0.0.1:53".parse().unwrap()]);
    }

    /// A server that answers one query with these messages, made from the query.
    fn server(replies: impl Fn(Packet<'_>) -> Vec<Vec<u8>> + Send + 'static) -> NameServers {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut query = [0; 512];
            let (size, peer) = socket.recv_from(&mut query).unwrap();
            for reply in replies(Packet::parse(&query[..size]).unwrap()) {
                socket.send_to(&reply, peer).unwrap();
            }
        });
        NameServers(vec![address])
    }

    fn query(servers: &NameServers, kind: Kind) -> Result<Vec<Record>, DnsError> {
        servers.query("relay.test", kind, Instant::now() + Duration::from_secs(20))
    }

    fn record(data: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new("relay.test").unwrap(), CLASS::IN, 60, data)
    }

    #[test]
    fn an_answer_has_its_records_and_no_others() {
        let servers = server(|query| {
            let mut reply = query.into_reply();
            for (preference, name) in [(20, "b.test"), (10, "A.test")] {
                let exchange = Name::new(name).unwrap();
                reply.answers.push(record(RData::MX(MX { preference, exchange })));
            }
            reply.answers.push(record(RData::A(A { address: 1 })));
            vec![reply.build_bytes_vec().unwrap()]
        });
        let exchangers = [
            Record::Exchanger(20, "b.test".into()),
            Record::Exchanger(10, "A.test".into()),
        ];
        assert_eq!(query(&servers, Kind::Mx).unwrap(), exchangers);
    }

    #[test]
    fn replies_to_other_queries_are_ignored() {
        let servers = server(|query| {
            let mut other_number = query.clone().into_reply();
            other_number.set_id(query.id().wrapping_add(1));
            let mut other_name = query.clone().into_reply();
            other_name.questions[0].qname = Name::new("other.test").unwrap();
            let mut right = query.clone().into_reply();
            right.answers.push(record(RData::A(A { address: 0x7f00_0001 })));
            let no_reply = query.build_bytes_vec().unwrap();
            let mut replies = vec![b"garbage".to_vec(), Vec::new(), no_reply];
            for packet in [other_number, other_name, right] {
                replies.push(packet.build_bytes_vec().unwrap());
            }
            replies
        });
        let address = Record::Address(Ipv4Addr::LOCALHOST.into());
        assert_eq!(query(&servers, Kind::A).unwrap(), [address]);
    }

    #[test]
    fn a_name_that_does_not_exist_is_an_answer_and_a_failure_is_none() {
        let with_code = |code: RCODE| {
            server(move |query| {
                let mut reply = query.into_reply();
                *reply.rcode_mut() = code;
                vec![reply.build_bytes_vec().unwrap()]
            })
        };
        let no_such_name = query(&with_code(RCODE::NameError), Kind::A);
        assert_eq!(no_such_name, Err(DnsError::NoSuchName));
        let mut failing = with_code(RCODE::ServerFailure);
        // The second one ends the query: the first one answers once.
        failing.0.extend(with_code(RCODE::NoError).0);
        assert_eq!(query(&failing, Kind::A), Ok(Vec::new()));
    }

    #[test]
    fn a_silent_server_ends_at_the_deadline() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address: SocketAddr = silent.local_addr().unwrap();
        let servers = NameServers(vec![address]);
        let answer = servers.query("relay.test", Kind::A, Instant::now() + Duration::from_millis(50));
        assert_eq!(answer, Err(DnsError::NoReply));
    }

    #[test]
    fn a_cut_answer_is_read_again_by_tcp() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).unwrap();
        thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let mut buffer = [0; 512];
            let (size, peer) = socket.recv_from(&mut buffer).unwrap();
            let mut cut = Packet::parse(&buffer[..size]).unwrap().into_reply();
            cut.set_flags(PacketFlag::TRUNCATION);
            socket.send_to(&cut.build_bytes_vec().unwrap(), peer).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut query = vec![0; size + 2];
            stream.read_exact(&mut query).unwrap();
            let mut whole = Packet::parse(&query[2..]).unwrap().into_reply();
            whole.answers.push(record(RData::A(A { address: 0x7f00_0001 })));
            let reply = whole.build_bytes_vec().unwrap();
            let length = u16::try_from(reply.len()).unwrap();
            stream
                .write_all(&[&length.to_be_bytes(), &reply[..]].concat())
                .unwrap();
        });
        let address_record = Record::Address(Ipv4Addr::LOCALHOST.into());
        assert_eq!(
            query(&NameServers(vec![address]), Kind::A).unwrap(),
            [address_record]
        );
    }
}
