//! A client of a running server, for `query --server`.
//!
//! It blocks, because a person waits for it. Like the server it is bounded: a deadline for each lookup in all
//! ([`connection`]), and no more memory than the longest reply.
//!
//! A connection is not used again after any error: a late reply would be taken as the answer to the next lookup, and
//! could be another sender's password.

pub(crate) mod connection;

use std::io::{self, ErrorKind};

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::os::secret::Secret;
use crate::protocol::endpoint::Endpoint;
use crate::protocol::{InvalidReply, ParsedReply, Protocol};
use connection::{Connection, ConnectionError};

/// The response of a server to a lookup.
pub enum Response {
    /// The value.
    Found(Secret),
    /// The key has no value.
    NotFound,
    /// A temporary error or a refusal, with its reason.
    CannotTell(String),
}

/// A lookup without a response.
#[derive(Debug, Error)]
#[error("{endpoint}: {kind}")]
pub struct ClientError {
    /// The server.
    pub endpoint: Endpoint,
    /// What went wrong.
    pub kind: ClientErrorKind,
}

/// What went wrong in a lookup.
#[derive(Debug, Error)]
pub enum ClientErrorKind {
    /// The connection could not be opened, or it failed.
    #[error("{0}; check that postmapd is running and listens there")]
    Io(io::Error),
    /// The server closed the connection before its reply.
    #[error(
        "{0}: the server closed the connection without a reply; its log has the reason, for example that \
         allow_networks does not include this host"
    )]
    Closed(io::Error),
    /// The deadline passed.
    #[error(
        "{0}; Postfix would wait too; see the server's log, run postmapd status --alive, and restart the server \
         if that fails"
    )]
    TimedOut(ConnectionError),
    /// The reply is not of the protocol.
    #[error("the reply is not valid in this protocol; check that the server is postmapd")]
    InvalidReply,
    /// The value cannot be that of a relay table.
    #[error(
        "the value contains a control character, which no value of postmapd does, and is not printed; check that the \
         server is postmapd"
    )]
    ControlCharacter,
    /// An earlier lookup on this connection had no reply.
    #[error("skipped, because an earlier lookup got no reply")]
    EarlierRequestFailed,
}

impl From<ConnectionError> for ClientErrorKind {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Io(error) => match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    Self::Closed(error)
                }
                _ => Self::Io(error),
            },
            error @ ConnectionError::TimedOut(_) => Self::TimedOut(error),
        }
    }
}

/// A connection to a server.
pub struct Client {
    endpoint: Endpoint,
    /// `None` after an error.
    connection: Option<Connection>,
}

impl Client {
    /// Connects to a server.
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

    /// Looks up `key` in the map of this name.
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
            // On standard output a line end would end the value, and the rest would read as the answer to another key.
            Response::Found(value) if value.expose().iter().any(|c| c.is_ascii_control() && *c != b'\t') => {
                Err(ClientErrorKind::ControlCharacter)
            }
            response => Ok(response),
        }
    }
}

/// Sends one request and reads its reply. `None` if that is not of the protocol.
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
            // Bytes after it would be taken as the answer to the next lookup.
            Ok(Some((parsed, length))) => return Ok((length == reply.len()).then(|| parsed.into())),
            Ok(None) => {}
        }
        let read = connection.read(&mut piece)?;
        if read == 0 {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
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
