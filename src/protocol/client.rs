//! One question to a running server, as `query --server` asks it.
//!
//! Blocking, because a person waits for it, and bounded like the server: a deadline for each question in all
//! ([`connection`]), and no more memory than the longest reply.
//!
//! A connection on which anything went wrong is not asked again: a reply that came late would be taken for the answer to
//! the next question, and could be another sender's password.

pub(crate) mod connection;

use std::io;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::os::secret::Secret;
use crate::protocol::endpoint::Endpoint;
use crate::protocol::{NotAReply, Protocol, Told};
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
#[error("{endpoint}: {problem}")]
pub struct ClientError {
    /// The server.
    pub endpoint: Endpoint,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a server.
#[derive(Debug, Error)]
pub enum Problem {
    /// There is no connection, or it ended.
    #[error("{0}; is postmapd running, and does it listen there?")]
    Io(io::Error),
    /// It did not answer in time.
    #[error(
        "{0}; Postfix would wait, too: see the server's log, ask postmapd status --alive, and restart the server if it does \
         not answer"
    )]
    TimedOut(ConnectionError),
    /// What came back is not the protocol.
    #[error("the reply is not of this protocol; is it another kind of server?")]
    NotTheProtocol,
    /// What came back is no value that a relay table can have.
    #[error(
        "the value has a control character, which no value of postmapd has, and is not printed; is it another kind of \
         server?"
    )]
    ControlCharacter,
    /// An earlier question had no reply.
    #[error("not asked, because an earlier question had no reply")]
    NotAsked,
}

impl From<ConnectionError> for Problem {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Io(error) => Self::Io(error),
            error @ ConnectionError::TimedOut(_) => Self::TimedOut(error),
        }
    }
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
            Err(error) => Err(ClientError {
                endpoint,
                problem: error.into(),
            }),
        }
    }

    /// Asks what the map of this name says of `key`.
    pub fn ask(&mut self, map: &str, key: &[u8]) -> Result<Said, ClientError> {
        self.try_to_ask(map, key).map_err(|problem| ClientError {
            endpoint: self.endpoint.clone(),
            problem,
        })
    }

    fn try_to_ask(&mut self, map: &str, key: &[u8]) -> Result<Said, Problem> {
        let mut connection = self.connection.take().ok_or(Problem::NotAsked)?;
        let said =
            exchange(&mut connection, self.endpoint.protocol, map, key)?.ok_or(Problem::NotTheProtocol)?;
        self.connection = Some(connection);
        match said {
            // On standard output a line end would be the end of the value, and the rest an answer to another key.
            Said::Found(value) if value.expose().iter().any(|c| c.is_ascii_control() && *c != b'\t') => {
                Err(Problem::ControlCharacter)
            }
            said => Ok(said),
        }
    }
}

/// One question and its reply. `None` where that is not the protocol.
fn exchange(
    connection: &mut Connection,
    protocol: Protocol,
    map: &str,
    key: &[u8],
) -> Result<Option<Said>, ConnectionError> {
    let (mut request, mut reply, mut memory) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    protocol.encode_request(map, key, &mut request);
    connection.begin();
    connection.write_all(&request)?;
    let mut piece = [0; 4096];
    loop {
        match protocol.decode_reply(&reply, &mut memory) {
            Err(NotAReply) => return Ok(None),
            // What follows would be taken for the answer to the next question.
            Ok(Some((told, length))) => return Ok((length == reply.len()).then(|| said(told))),
            Ok(None) => {}
        }
        let read = connection.read(&mut piece)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
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
