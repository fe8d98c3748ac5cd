//! One question to a running server, as `query --server` asks it.
//!
//! Blocking, because a person waits for it, and bounded like the server: a deadline for each step, and no more
//! memory than the longest reply.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::answer::Map;
use crate::endpoint::{Address, Endpoint, Protocol};
use crate::protocol::socketmap::{self, MAX_REPLY};
use crate::protocol::{Told, netstring, tcp_table};
use crate::secret::Secret;

/// How long connecting, reading and writing may take each. A lookup that takes seconds is a broken server, and the
/// person should learn it before Postfix does.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a server said.
pub enum Said {
    /// The value.
    Found(Secret),
    /// There is none.
    NotFound,
    /// It cannot tell, or does not want to, with its reason.
    CannotTell(String),
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers there, or not in time.
    #[error("{endpoint}: {source}; is postmapd running, and does it listen there?")]
    Io {
        /// Whom we asked.
        endpoint: Endpoint,
        /// What happened.
        source: io::Error,
    },
    /// What came back is not the protocol.
    #[error("{endpoint}: the reply is not of this protocol; is it another kind of server?")]
    NotTheProtocol {
        /// Whom we asked.
        endpoint: Endpoint,
    },
}

/// What can be read from and written to.
pub(crate) trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Connects to an address, with a deadline for that and for each reading and writing.
pub(crate) fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    match address {
        Address::Inet(host, port) => connect_tcp(host, *port),
        Address::Unix(path) => connect_unix(path),
    }
}

/// A connection to a server.
pub struct Client {
    endpoint: Endpoint,
    stream: Box<dyn Stream>,
}

impl Client {
    /// Connects.
    pub fn connect(endpoint: Endpoint) -> Result<Self, ClientError> {
        match connect(&endpoint.address) {
            Ok(stream) => Ok(Self { endpoint, stream }),
            Err(source) => Err(ClientError::Io { endpoint, source }),
        }
    }

    /// Asks what `map` says of `key`.
    pub fn ask(&mut self, map: Map, key: &[u8]) -> Result<Said, ClientError> {
        match self.exchange(map, key) {
            Ok(Some(said)) => Ok(said),
            Ok(None) => Err(ClientError::NotTheProtocol {
                endpoint: self.endpoint.clone(),
            }),
            Err(source) => Err(ClientError::Io {
                endpoint: self.endpoint.clone(),
                source,
            }),
        }
    }

    /// `None` where the reply is not the protocol.
    fn exchange(&mut self, map: Map, key: &[u8]) -> io::Result<Option<Said>> {
        let mut request = BytesMut::new();
        match self.endpoint.protocol {
            Protocol::Socketmap => netstring::encode(&[map.name().as_bytes(), b" ", key], &mut request),
            Protocol::TcpTable(_) => {
                request.put_slice(b"get ");
                tcp_table::percent_encode(key, &mut request);
                request.put_u8(b'\n');
            }
        }
        self.stream.write_all(&request)?;
        let mut reply = BytesMut::new();
        let mut piece = [0; 4096];
        loop {
            let whole = match self.endpoint.protocol {
                Protocol::Socketmap => match netstring::decode(&mut reply, MAX_REPLY) {
                    Ok(whole) => whole.map(|payload| socketmap::told(&payload).map(said)),
                    Err(_) => return Ok(None),
                },
                Protocol::TcpTable(_) => {
                    let newline = memchr::memchr(b'\n', &reply);
                    newline.map(|at| tcp_table::told(&mut reply.split_to(at)).map(said))
                }
            };
            if let Some(said) = whole {
                return Ok(said);
            }
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if reply.len() > MAX_REPLY {
                return Ok(None);
            }
            reply.put_slice(piece.get(..read).unwrap_or_default());
        }
    }
}

fn connect_tcp(host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
    use std::net::ToSocketAddrs;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                stream.set_write_timeout(Some(DEADLINE))?;
                return Ok(Box::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_unix(path: &std::path::Path) -> io::Result<Box<dyn Stream>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(Box::new(stream))
}

fn said(told: Told<'_>) -> Said {
    match told {
        Told::Found(value) => Said::Found(Secret::from(value.to_vec())),
        Told::NotFound => Said::NotFound,
        Told::CannotTell(reason) => Said::CannotTell(String::from_utf8_lossy(reason).into_owned()),
    }
}
