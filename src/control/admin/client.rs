//! One request to an admin listener, for `postmapd status` and `postmapd query --explain --admin`.
//!
//! Blocks, because a person or a health check waits for it. Limits: one deadline for connecting and one for the whole
//! response ([`connection`](crate::protocol::client::connection)), and no more memory than [`MAX_REPLY`].

use std::io;

use thiserror::Error;

use super::explain::ServerExplanation;
use super::query::encode;
use crate::net::address::Address;
use crate::os::printable::printable;
use crate::protocol::client::connection::{Connection, ConnectionError};

/// The longest response in bytes. A status with all findings that are kept takes less than a tenth.
const MAX_REPLY: usize = 4 * 1024 * 1024;

/// How much is shown of the text of a refusal, in bytes.
const MAX_REFUSAL: usize = 500;

/// Why there is no response.
#[derive(Debug, Error)]
#[error("{address}: {kind}")]
pub struct AdminError {
    /// The address of the admin listener.
    pub address: Address,
    /// What is wrong with it.
    pub kind: AdminErrorKind,
}

/// What is wrong with an admin listener.
#[derive(Debug, Error)]
pub enum AdminErrorKind {
    /// Connecting failed, or the connection ended.
    #[error("{0}; is postmapd running, and was it started with --admin {address}?", address = .1.setting_value())]
    Io(io::Error, Address),
    /// It did not respond in time.
    #[error("{0}; if postmapd listens there, restart it; otherwise set --admin to its admin listener")]
    TimedOut(ConnectionError),
    /// The response is not that of an admin listener.
    #[error("not the admin listener of postmapd")]
    NotAdmin,
    /// It refused the request.
    #[error("{0}")]
    Refused(String),
    /// The server runs, and does not answer lookups.
    #[error("postmapd is running, but its event loop does not respond; restart it")]
    NotAlive,
}

/// A response.
pub(crate) struct Reply {
    /// The HTTP status code.
    pub code: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends a GET request for `path`.
pub(crate) fn get(address: &Address, path: &str) -> Result<Reply, AdminError> {
    let host = match address {
        Address::Inet(..) => address.to_string(),
        Address::Unix(_) => LOCALHOST.to_owned(),
    };
    send(address, &host, path)
}

/// Requests the explanation of the answer of `map` for `key`. Also returns it as it was received.
pub(crate) fn explain(
    address: &Address,
    map: &str,
    key: &[u8],
) -> Result<(ServerExplanation, Vec<u8>), AdminError> {
    let path = format!("/explain?map={map}&key={}", encode(key));
    // The server cannot know every name by which it is reached, and refuses those that may be of another site.
    let reply = send(address, LOCALHOST, &path)?;
    let kind = match reply.code {
        200 => match serde_json::from_slice(&reply.body) {
            Ok(explanation) => return Ok((explanation, reply.body)),
            Err(_) => AdminErrorKind::NotAdmin,
        },
        400..500 => AdminErrorKind::Refused(refusal(&reply)),
        _ => AdminErrorKind::NotAdmin,
    };
    Err(AdminError {
        address: address.clone(),
        kind,
    })
}

const LOCALHOST: &str = "localhost";

/// Returns the first line of the body, or the code where there is none.
fn refusal(reply: &Reply) -> String {
    let mut lines = reply.body.split(|byte| *byte == b'\n');
    match lines.next() {
        Some(line) if !line.is_empty() => printable(line.get(..MAX_REFUSAL).unwrap_or(line)),
        _ => format!("the server refused the request (HTTP {})", reply.code),
    }
}

/// Sends a GET request for `path` with this host.
fn send(address: &Address, host: &str, path: &str) -> Result<Reply, AdminError> {
    let address = address.seen_from_here();
    let kind = match exchange(&address, host, path) {
        Ok(Some(reply)) => return Ok(reply),
        Ok(None) => AdminErrorKind::NotAdmin,
        Err(ConnectionError::Io(error)) => AdminErrorKind::Io(error, address.clone()),
        Err(error @ ConnectionError::TimedOut(_)) => AdminErrorKind::TimedOut(error),
    };
    Err(AdminError { address, kind })
}

/// Sends the request and reads the response, and nothing beyond. `None` if it is not a response.
fn exchange(address: &Address, host: &str, path: &str) -> Result<Option<Reply>, ConnectionError> {
    let mut connection = Connection::open(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    while bytes.len() < MAX_REPLY {
        let read = connection.read(&mut piece)?;
        bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
        let reply = parse(&bytes);
        if reply.is_some() || read == 0 {
            return Ok(reply);
        }
    }
    Ok(None)
}

/// Parses a complete response. It must have a Content-Length, as those of the admin listener have.
fn parse(bytes: &[u8]) -> Option<Reply> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body) = head.parse(bytes).ok()? else {
        return None;
    };
    let length = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    Some(Reply {
        code: head.code?,
        body: bytes.get(body..body.checked_add(length)?)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_incomplete_reply_is_no_reply() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\nX: y\r\n\r\nab\n";
        let reply = parse(whole).unwrap();
        assert_eq!((reply.code, reply.body.as_slice()), (503, &b"ab\n"[..]));
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_none(), "{end}");
        }
        for other in [
            "",
            "OK relay\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(parse(other.as_bytes()).is_none(), "{other}");
        }
    }
}
