//! A client of `postmapd serve` over socketmap that shares no code with it.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::DEADLINE;

/// A reply of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Found(String),
    NotFound,
    CannotTell(String),
}

pub(crate) struct Client {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Sends all requests in one write, and returns the replies.
    pub(crate) fn ask(&mut self, requests: &[(&str, &str)]) -> Vec<Reply> {
        let mut bytes = Vec::new();
        for (map, key) in requests {
            let length = map.len() + 1 + key.len();
            write!(bytes, "{length}:{map} {key},").unwrap();
        }
        self.stream.write_all(&bytes).unwrap();
        requests.iter().map(|_| self.reply()).collect()
    }

    /// Asks for one key.
    pub(crate) fn ask_one(&mut self, map: &str, key: &str) -> Reply {
        self.ask(&[(map, key)]).remove(0)
    }

    /// Asks for the relay and the login of a sender, in one write.
    pub(crate) fn pair(&mut self, sender: &str) -> [Reply; 2] {
        let replies = self.ask(&[("relayhost", sender), ("sasl", sender)]);
        replies.try_into().unwrap()
    }

    fn reply(&mut self) -> Reply {
        let mut buffer = [0; 16384];
        loop {
            if let Some((payload, length)) = netstring(&self.received) {
                let reply = Reply::parse(payload);
                self.received.drain(..length);
                return reply;
            }
            let read = match self.stream.read(&mut buffer) {
                // With a deadline on the socket, a pause of the whole machine interrupts the call.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.unwrap(),
            };
            assert_ne!(read, 0, "the server closed the connection");
            self.received.extend_from_slice(&buffer[..read]);
        }
    }
}

/// The payload and the length of the netstring that the bytes begin with, if it is complete.
fn netstring(bytes: &[u8]) -> Option<(&str, usize)> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).unwrap().parse().unwrap();
    let end = colon + 1 + length;
    let comma = bytes.get(end)?;
    assert_eq!(*comma, b',', "not a netstring: {}", bytes.escape_ascii());
    Some((std::str::from_utf8(&bytes[colon + 1..end]).unwrap(), end + 1))
}

impl Reply {
    fn parse(payload: &str) -> Self {
        match payload.split_once(' ') {
            Some(("OK", value)) => Self::Found(value.to_owned()),
            Some(("NOTFOUND", "")) => Self::NotFound,
            Some(("TEMP", reason)) => Self::CannotTell(reason.to_owned()),
            _ => panic!("not a reply to a request for this map: {payload}"),
        }
    }

    pub(crate) fn found(value: &str) -> Self {
        Self::Found(value.to_owned())
    }

    pub(crate) fn is_cannot_tell(&self) -> bool {
        matches!(self, Self::CannotTell(_))
    }
}
