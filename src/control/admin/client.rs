//! One request to an admin listener, for `postmapd status`.
//!
//! Blocks, because a person or a health check waits for it. Limits: one deadline for connecting and one for the whole
//! response ([`connection`](crate::protocol::client::connection)), and no more memory than [`MAX_REPLY`].

use std::io;

use thiserror::Error;

use crate::net::address::Address;
use crate::protocol::client::connection::{Connection, ConnectionError};

/// The longest response in bytes. A status with all findings that are kept takes less than a tenth.
const MAX_REPLY: usize = 4 * 1024 * 1024;

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
    let address = address.seen_from_here();
    let kind = match exchange(&address, path) {
        Ok(Some(reply)) => return Ok(reply),
        Ok(None) => AdminErrorKind::NotAdmin,
        Err(ConnectionError::Io(error)) => AdminErrorKind::Io(error, address.clone()),
        Err(error @ ConnectionError::TimedOut(_)) => AdminErrorKind::TimedOut(error),
    };
    Err(AdminError { address, kind })
}

/// Sends the request and reads the response, and nothing beyond. `None` if it is not a response.
fn exchange(address: &Address, path: &str) -> Result<Option<Reply>, ConnectionError> {
    let mut connection = Connection::open(address)?;
    let host = match address {
        Address::Inet(..) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
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
