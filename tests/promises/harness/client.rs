//! Clients of both protocols that share no code with the server.
//!
//! The socketmap client uses the `netstring` crate, an independent implementation of the format. Tests that violate the
//! protocol write the bytes below it. Every read and write has a deadline, so a missing reply is a failure, not a hang.

use super::daemon::{DEADLINE, Daemon, Setup};
use super::eventually;
use netstring::{ReadNetstring as _, WriteNetstring as _};
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A reply of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Found(String),
    NotFound,
    /// `TEMP reason`, or `400 reason` of `tcp_table`, which has only this error.
    CannotTell(String),
    /// `PERM reason`.
    Refused(String),
}

impl Reply {
    /// A value that was found.
    pub(crate) fn found(value: &str) -> Self {
        Self::Found(value.to_owned())
    }

    /// A value that was found, or *not found* for an empty one.
    fn of(value: &str) -> Self {
        if value.is_empty() {
            return Self::NotFound;
        }
        Self::found(value)
    }

    pub(crate) fn is_cannot_tell(&self) -> bool {
        matches!(self, Self::CannotTell(_))
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// The reason, or nothing for an answer without one.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::CannotTell(reason) | Self::Refused(reason) => reason,
            Self::Found(_) | Self::NotFound => "",
        }
    }

    /// The exit code of `postmapd query` for this answer.
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::Found(_) => 0,
            Self::NotFound => 1,
            Self::CannotTell(_) | Self::Refused(_) => 75,
        }
    }

    /// Parses the payload of a socketmap reply as strictly as the newest Postfix does.
    pub(crate) fn from_socketmap(payload: &str) -> Self {
        match payload.split_once(' ') {
            Some(("OK", value)) if !value.is_empty() => Self::found(value),
            Some(("NOTFOUND", "")) => Self::NotFound,
            Some(("TEMP", reason)) if !reason.is_empty() => Self::CannotTell(reason.to_owned()),
            Some(("PERM", reason)) if !reason.is_empty() => Self::Refused(reason.to_owned()),
            _ => panic!("not a socketmap reply: {payload:?}"),
        }
    }

    /// Parses a `tcp_table` reply without its line feed.
    pub(crate) fn from_tcp_table(line: &[u8]) -> Self {
        assert!(
            line.len() < 4096,
            "Postfix refuses a line of {} bytes",
            line.len() + 1
        );
        let line = std::str::from_utf8(line).expect("an encoded reply is ASCII");
        assert!(
            line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()),
            "spaces and control characters must be encoded: {line:?}"
        );
        let text = |text: &str| String::from_utf8(decoded(text)).expect("a UTF-8 value");
        match line.split_once(' ') {
            Some(("200", value)) if !value.is_empty() => Self::Found(text(value)),
            Some(("500", _)) => Self::NotFound,
            Some(("400", reason)) if !reason.is_empty() => Self::CannotTell(text(reason)),
            _ => panic!("not a tcp_table reply: {line:?}"),
        }
    }
}

/// A connection over either kind of socket.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to `host:port` or the path of a socket.
    pub(crate) fn connect(address: &str) -> Self {
        if address.starts_with('/') {
            let stream = UnixStream::connect(address).expect("a connection");
            stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
            stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
            return Self::Unix(stream);
        }
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
        // Bytes written one at a time arrive one at a time.
        stream.set_nodelay(true).expect("no delay");
        Self::Tcp(stream)
    }

    /// Connects to a daemon's n-th endpoint.
    pub(crate) fn to(daemon: &Daemon, n: usize) -> Self {
        Self::connect(daemon.address(n))
    }

    /// Shuts down the writing side. Replies are still read.
    pub(crate) fn finish_sending(&self) {
        netstring::Shutdown::shutdown(self, Shutdown::Write).expect("half closed");
    }

    /// Reads until the server closes the connection. A reset is a close: the server may leave bytes unread.
    pub(crate) fn read_until_closed(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut some = [0; 4096];
        loop {
            match self.read(&mut some) {
                Ok(0) => return all,
                Ok(read) => all.extend_from_slice(&some[..read]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return all,
                Err(error) => panic!(
                    "the server does not close: {error}; it wrote {}",
                    all.escape_ascii()
                ),
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => stream.read(buffer),
                Self::Unix(stream) => stream.read(buffer),
            };
            // With a deadline on the socket, a pause of the whole machine interrupts the call. No caller retries it.
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl netstring::Shutdown for Stream {
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }
}

/// A socketmap client.
pub(crate) struct Socketmap {
    pub(crate) stream: Stream,
}

impl Socketmap {
    /// Connects to a daemon's n-th endpoint.
    pub(crate) fn to(daemon: &Daemon, n: usize) -> Self {
        Self {
            stream: Stream::to(daemon, n),
        }
    }

    /// Sends a request, and reads the reply.
    pub(crate) fn query(&mut self, map: &str, key: &str) -> Reply {
        self.request(map, key);
        self.reply()
    }

    /// Sends a request, and fails the test where the answer is not this value; an empty value means *not found*.
    #[track_caller]
    pub(crate) fn finds(&mut self, map: &str, key: &str, value: &str) {
        assert_eq!(self.query(map, key), Reply::of(value), "{map} {key}");
    }

    /// Waits until the answer is this value; an empty value means *not found*.
    #[track_caller]
    pub(crate) fn eventually_finds(&mut self, map: &str, key: &str, value: &str) -> Duration {
        eventually(|| self.query(map, key), |reply| *reply == Reply::of(value))
    }

    /// Requests the login of a sender at its next hop, as Postfix does: by sender, by host, by next hop.
    pub(crate) fn login(&mut self, sender: &str) -> Reply {
        let next_hop = self.query("relayhost", sender);
        let of_sender = self.query("sasl", sender);
        let (Reply::Found(next_hop), Reply::NotFound) = (next_hop, &of_sender) else {
            return of_sender;
        };
        let host = next_hop.trim_start_matches('[').split([']', ':']).next();
        match self.query("sasl", host.expect("a host")) {
            Reply::NotFound => self.query("sasl", &next_hop),
            of_host => of_host,
        }
    }

    /// Sends a request.
    pub(crate) fn request(&mut self, map: &str, key: &str) {
        self.stream
            .write_netstring(format!("{map} {key}"))
            .expect("a request is sent");
    }

    /// Reads a reply.
    pub(crate) fn reply(&mut self) -> Reply {
        Reply::from_socketmap(&self.payload())
    }

    /// Reads the payload of a reply.
    pub(crate) fn payload(&mut self) -> String {
        self.stream.read_netstring().expect("a reply")
    }

    /// Sends all requests, then reads the replies.
    pub(crate) fn query_all(&mut self, requests: &[(&str, &str)]) -> Vec<Reply> {
        let mut bytes = Vec::new();
        for (map, key) in requests {
            bytes.extend(framed(&format!("{map} {key}")));
        }
        self.stream.write_all(&bytes).expect("the requests are sent");
        requests.iter().map(|_| self.reply()).collect()
    }
}

/// A payload as a netstring, encoded by the independent crate.
pub(crate) fn framed(payload: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.write_netstring(payload).expect("a vector takes everything");
    bytes
}

/// Reads a series of netstrings to its end, by the independent crate.
pub(crate) fn payloads(mut bytes: &[u8]) -> Vec<String> {
    let mut payloads = Vec::new();
    while !bytes.is_empty() {
        payloads.push(bytes.read_netstring().expect("a netstring"));
    }
    payloads
}

/// A `tcp_table` client.
pub(crate) struct TcpTable {
    pub(crate) stream: BufReader<Stream>,
}

impl TcpTable {
    /// Connects to a daemon's n-th endpoint.
    pub(crate) fn to(daemon: &Daemon, n: usize) -> Self {
        Self {
            stream: BufReader::new(Stream::to(daemon, n)),
        }
    }

    /// Requests a key, encoded as Postfix encodes it, and reads the reply.
    pub(crate) fn query(&mut self, key: &str) -> Reply {
        self.send(format!("get {}\n", encoded(key.as_bytes())).as_bytes());
        self.reply()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("a request is sent");
    }

    /// Reads a reply.
    pub(crate) fn reply(&mut self) -> Reply {
        Reply::from_tcp_table(&self.line())
    }

    /// Reads a line without its line feed.
    pub(crate) fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("a reply");
        assert_eq!(line.pop(), Some(b'\n'), "a reply ends in a line feed");
        line
    }
}

/// A client of each protocol. Both must get the same answers.
pub(crate) struct Both {
    pub(crate) socketmap: Socketmap,
    /// The maps, each with its tcp_table.
    tables: [(&'static str, TcpTable); 4],
}

impl Both {
    /// The endpoints that [`Both::to`] connects to.
    pub(crate) const ENDPOINTS: [&str; 5] = [
        "socketmap:inet:127.0.0.1:0",
        "tcp:127.0.0.1:0:relayhost",
        "tcp:127.0.0.1:0:sasl",
        "tcp:127.0.0.1:0:transport",
        "tcp:127.0.0.1:0:tls",
    ];

    /// Starts a daemon that speaks both protocols.
    pub(crate) fn start(setup: Setup) -> (Daemon, Self) {
        let daemon = Daemon::start(Self::ENDPOINTS.into_iter().fold(setup, Setup::listen));
        let clients = Self::to(&daemon);
        (daemon, clients)
    }

    /// Connects to a daemon with those endpoints.
    pub(crate) fn to(daemon: &Daemon) -> Self {
        Self {
            socketmap: Socketmap::to(daemon, 0),
            tables: [
                ("relayhost", TcpTable::to(daemon, 1)),
                ("sasl", TcpTable::to(daemon, 2)),
                ("transport", TcpTable::to(daemon, 3)),
                ("tls", TcpTable::to(daemon, 4)),
            ],
        }
    }

    /// Requests a key over both, and returns the answer. Fails the test where the two differ.
    pub(crate) fn query(&mut self, map: &str, key: &str) -> Reply {
        let reply = self.socketmap.query(map, key);
        let mut tables = self.tables.iter_mut();
        let (_, table) = tables.find(|(name, _)| *name == map).expect("a map");
        let other = table.query(key);
        let agree = match (&reply, &other) {
            (Reply::CannotTell(_) | Reply::Refused(_), Reply::CannotTell(_)) => true,
            (one, other) => one == other,
        };
        assert!(
            agree,
            "{map} {key:?}: socketmap says {reply:?}, tcp_table {other:?}"
        );
        reply
    }

    /// Requests a key over both, and fails the test where the answer is not this value; an empty value means *not
    /// found*.
    #[track_caller]
    pub(crate) fn finds(&mut self, map: &str, key: &str, value: &str) {
        assert_eq!(self.query(map, key), Reply::of(value), "{map} {key}");
    }

    /// Requests a sender's next hop.
    pub(crate) fn relayhost(&mut self, key: &str) -> Reply {
        self.query("relayhost", key)
    }

    /// Requests credentials.
    pub(crate) fn sasl(&mut self, key: &str) -> Reply {
        self.query("sasl", key)
    }
}

/// Encodes a key as Postfix does (`hex_quote.c`): percent, whitespace, controls and all that is not ASCII.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a string takes everything");
        }
    }
    text
}

/// Decodes a text as Postfix does: hexadecimal digits of either case, and nothing else after a percent sign.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let (digits, after) = after.split_at_checked(2).expect("two digits after %");
            let digits = std::str::from_utf8(digits).expect("ASCII digits");
            bytes.push(u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("bad escape in {text:?}")));
            rest = after;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}
