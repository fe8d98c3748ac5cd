//! One question to a running server, as `query --server` asks it.
//!
//! Blocking, because a person waits for it, and bounded like the server: a deadline for each question in all
//! ([`connection`]), and no more buffer than the longest reply.
//!
//! A connection on which anything went wrong is not asked again: a reply that came late would be taken for the answer to
//! the next question, and could be another sender's password.

pub(crate) mod connection;

use std::io;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::os::secret::Secret;
use crate::protocol::endpoint::Endpoint;
use crate::protocol::{InvalidReply, ParsedReply, Protocol};
use connection::{Connection, ConnectionError};

/// What a server response.
pub enum Response {
    /// The value.
    Found(Secret),
    /// There is none.
    NotFound,
    /// It cannot tell, or does not want to, with its reason.
    CannotTell(String),
}

/// Why there is no answer.
#[derive(Debug, Error)]
#[error("{endpoint}: {kind}")]
pub struct ClientError {
    /// The server.
    pub endpoint: Endpoint,
    /// What is wrong with it.
    pub kind: ClientErrorKind,
}

/// What is wrong with a server.
#[derive(Debug, Error)]
pub enum ClientErrorKind {
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
    InvalidReply,
    /// What came back is no value that a relay table can have.
    #[error(
        "the value has a control character, which no value of postmapd has, and is not printed; is it another kind of \
         server?"
    )]
    ControlCharacter,
    /// An earlier question had no reply.
    #[error("not asked, because an earlier question had no reply")]
    EarlierRequestFailed,
}

impl From<ConnectionError> for ClientErrorKind {
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
                kind: error.into(),
            }),
        }
    }

    /// Asks what the map of this name says of `key`.
    pub fn lookup(&mut self, map: &str, key: &[u8]) -> Result<Response, ClientError> {
        self.try_lookup(map, key).map_err(|kind| ClientError {
            endpoint: self.endpoint.clone(),
            kind,
        })
    }

    fn try_lookup(&mut self, map: &str, key: &[u8]) -> Result<Response, ClientErrorKind> {
        let mut connection = self
            .connection
            .take()
            .ok_or(ClientErrorKind::EarlierRequestFailed)?;
        let response = exchange(&mut connection, self.endpoint.protocol, map, key)?
            .ok_or(ClientErrorKind::InvalidReply)?;
        self.connection = Some(connection);
        match response {
            // On standard output a line end would be the end of the value, and the rest an answer to another key.
            Response::Found(value) if value.expose().iter().any(|c| c.is_ascii_control() && *c != b'\t') => {
                Err(ClientErrorKind::ControlCharacter)
            }
            response => Ok(response),
        }
    }
}

/// One question and its reply. `None` where that is not the protocol.
fn exchange(
    connection: &mut Connection,
    protocol: Protocol,
    map: &str,
    key: &[u8],
) -> Result<Option<Response>, ConnectionError> {
    let (mut request, mut reply, mut buffer) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    protocol.encode_request(map, key, &mut request);
    connection.restart_deadline();
    connection.write_all(&request)?;
    let mut piece = [0; 4096];
    loop {
        match protocol.decode_reply(&reply, &mut buffer) {
            Err(InvalidReply) => return Ok(None),
            // What follows would be taken for the answer to the next question.
            Ok(Some((parsed, length))) => return Ok((length == reply.len()).then(|| parsed.into())),
            Ok(None) => {}
        }
        let read = connection.read(&mut piece)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        reply.put_slice(piece.get(..read).unwrap_or_default());
    }
}

impl From<ParsedReply<'_>> for Response {
    fn from(reply: ParsedReply<'_>) -> Self {
        match reply {
            ParsedReply::Found(value) => Self::Found(Secret::from(value.to_vec())),
            ParsedReply::NotFound => Self::NotFound,
            ParsedReply::CannotTell(reason) => Self::CannotTell(String::from_utf8_lossy(reason).into_owned()),
        }
    }
}
