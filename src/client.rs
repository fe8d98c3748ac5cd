//! One question to a running server, as `query --server` asks it.
//!
//! Blocking, because a person waits for it, and bounded like the server: a deadline for each question in all
//! ([`connection`]), and no more memory than the longest reply.
//!
//! A connection on which anything went wrong is not asked again: a reply that came late would be taken for the answer to
//! the next question, and could be another sender's password.

pub mod connection;

use std::io;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::answer::Map;
use crate::endpoint::{Endpoint, Protocol};
use crate::protocol::socketmap::{self, MAX_REPLY};
use crate::protocol::{Told, netstring, tcp_table};
use crate::secret::Secret;
use connection::{Connection, ConnectionError};

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
    /// There is no connection, or it ended.
    #[error("{endpoint}: {source}; is postmapd running, and does it listen there?")]
    Io {
        /// The server.
        endpoint: Endpoint,
        /// What happened.
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error(
        "{endpoint}: {source}; Postfix would wait, too: see the server's log, ask postmapd status --alive, and restart the \
         server if it does not answer"
    )]
    TimedOut {
        /// The server.
        endpoint: Endpoint,
        /// What it did not do.
        source: ConnectionError,
    },
    /// What came back is not the protocol.
    #[error("{endpoint}: the reply is not of this protocol; is it another kind of server?")]
    NotTheProtocol {
        /// The server.
        endpoint: Endpoint,
    },
    /// What came back is no value that a relay table can have.
    #[error(
        "{endpoint}: the value has a control character, which no value of postmapd has, and is not printed; is it another \
         kind of server?"
    )]
    ControlCharacter {
        /// The server.
        endpoint: Endpoint,
    },
    /// An earlier question had no reply.
    #[error("{endpoint}: not asked, because an earlier question had no reply")]
    NotAsked {
        /// The server.
        endpoint: Endpoint,
    },
}

/// A connection to a server.
pub struct Client {
    endpoint: Endpoint,
    /// `None` once anything went wrong on it.
    connection: Option<Connection>,
}

impl Client {
    /// Connects.
    pub fn connect(endpoint: Endpoint) -> Result<Self, ClientError> {
        match Connection::open(&endpoint.address) {
            Ok(connection) => Ok(Self {
                endpoint,
                connection: Some(connection),
            }),
            Err(error) => Err(failed(endpoint, error)),
        }
    }

    /// Asks what `map` says of `key`.
    pub fn ask(&mut self, map: Map, key: &[u8]) -> Result<Said, ClientError> {
        let endpoint = self.endpoint.clone();
        let Some(mut connection) = self.connection.take() else {
            return Err(ClientError::NotAsked { endpoint });
        };
        let said = match exchange(&mut connection, endpoint.protocol, map, key) {
            Ok(Some(said)) => said,
            Ok(None) => return Err(ClientError::NotTheProtocol { endpoint }),
            Err(error) => return Err(failed(endpoint, error)),
        };
        self.connection = Some(connection);
        match said {
            // On standard output a line end would be the end of the value, and the rest an answer to another key.
            Said::Found(value) if value.expose().iter().any(|c| c.is_ascii_control() && *c != b'\t') => {
                Err(ClientError::ControlCharacter { endpoint })
            }
            said => Ok(said),
        }
    }
}

fn failed(endpoint: Endpoint, error: ConnectionError) -> ClientError {
    match error {
        ConnectionError::Io(source) => ClientError::Io { endpoint, source },
        source @ ConnectionError::TimedOut(_) => ClientError::TimedOut { endpoint, source },
    }
}

/// One question and its reply. `None` where that is not the protocol.
fn exchange(
    connection: &mut Connection,
    protocol: Protocol,
    map: Map,
    key: &[u8],
) -> Result<Option<Said>, ConnectionError> {
    let mut request = BytesMut::new();
    match protocol {
        Protocol::Socketmap => netstring::encode(&[map.name().as_bytes(), b" ", key], &mut request),
        Protocol::TcpTable(_) => {
            request.put_slice(b"get ");
            tcp_table::percent_encode(key, &mut request);
            request.put_u8(b'\n');
        }
    }
    connection.begin();
    connection.write_all(&request)?;
    let mut reply = BytesMut::new();
    let mut piece = [0; 4096];
    loop {
        let whole = match protocol {
            Protocol::Socketmap => match netstring::decode(&mut reply, MAX_REPLY) {
                Ok(whole) => whole.map(|payload| socketmap::told(&payload).map(said)),
                Err(_) => return Ok(None),
            },
            Protocol::TcpTable(_) => {
                let newline = memchr::memchr(b'\n', &reply);
                newline.map(|at| {
                    let mut line = reply.split_to(at + 1);
                    line.truncate(at);
                    tcp_table::told(&mut line).map(said)
                })
            }
        };
        if let Some(said) = whole {
            // What follows would be taken for the answer to the next question.
            return Ok(said.filter(|_| reply.is_empty()));
        }
        let read = connection.read(&mut piece)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if reply.len() > MAX_REPLY {
            return Ok(None);
        }
        reply.put_slice(piece.get(..read).unwrap_or_default());
    }
}

fn said(told: Told<'_>) -> Said {
    match told {
        Told::Found(value) => Said::Found(Secret::from(value.to_vec())),
        Told::NotFound => Said::NotFound,
        Told::CannotTell(reason) => Said::CannotTell(String::from_utf8_lossy(reason).into_owned()),
    }
}
