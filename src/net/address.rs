//! Socket addresses: `HOST:PORT`, with an IPv6 address in brackets, or the path of a UNIX socket.
//!
//! Limits: a host name is kept as a name, and resolved when binding or connecting.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use thiserror::Error;

/// The longest path of a UNIX socket: `sun_path` of unix(7) with its terminating NUL.
const MAX_UNIX_PATH: usize = 107;

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Host and port are missing.
    #[error("host and port are missing; write HOST:PORT, with an IPv6 address in brackets")]
    HostAndPort,
    /// The port is invalid.
    #[error("the port is not a number from 0 to 65535")]
    Port,
    /// The path is empty, or longer than the kernel allows.
    #[error("the socket path is empty or longer than {MAX_UNIX_PATH} bytes")]
    Path,
    /// It has a line end or another control character, which no parameter of main.cf can contain.
    #[error("it contains a control character")]
    ControlCharacter,
}

/// The address of a listener or a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host (a name or an address, without brackets) and a port.
    Inet(String, u16),
    /// The path of a UNIX socket.
    Unix(PathBuf),
}

impl Address {
    /// Parses the address of a listener without a protocol: `HOST:PORT`, or `unix:PATH`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        refuse_control_characters(text)?;
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path);
        }
        let (host, port) = host_and_port(text)?;
        Ok(Self::Inet(host.into(), self::port(port)?))
    }

    /// Returns the address as [`Address::parse`] takes it: a UNIX socket begins with `unix:`.
    #[must_use]
    pub fn setting_value(&self) -> String {
        match self {
            Self::Inet(..) => self.to_string(),
            Self::Unix(_) => format!("unix:{self}"),
        }
    }

    /// Returns where a process on the same machine reaches a listener at this address: a wildcard address is reached over
    /// loopback.
    pub(crate) fn seen_from_here(&self) -> Self {
        let Self::Inet(host, port) = self else {
            return self.clone();
        };
        let host = match host.parse() {
            Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            Ok(IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            _ => host.clone(),
        };
        Self::Inet(host, *port)
    }

    /// Checks the path of a UNIX socket.
    pub(crate) fn unix(path: &str) -> Result<Self, AddressError> {
        if path.is_empty() || path.len() > MAX_UNIX_PATH {
            return Err(AddressError::Path);
        }
        Ok(Self::Unix(path.into()))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address.ip().to_string(), address.port())
    }
}

pub(crate) fn refuse_control_characters(text: &str) -> Result<(), AddressError> {
    if text.chars().any(char::is_control) {
        return Err(AddressError::ControlCharacter);
    }
    Ok(())
}

/// Splits `host:port` or `[v6]:port`. The port is not checked.
pub(crate) fn host_and_port(text: &str) -> Result<(&str, &str), AddressError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    }
    .ok_or(AddressError::HostAndPort)?;
    if host.is_empty() || port.is_empty() {
        return Err(AddressError::HostAndPort);
    }
    Ok((host, port))
}

pub(crate) fn port(text: &str) -> Result<u16, AddressError> {
    if text.bytes().all(|c| c.is_ascii_digit()) {
        text.parse().map_err(|_| AddressError::Port)
    } else {
        Err(AddressError::Port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Inet(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.to_string_lossy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, AddressError};

    #[test]
    fn an_address_is_a_host_and_a_port_or_a_socket_path() {
        for text in ["127.0.0.1:9451", "[::1]:0", "localhost:9451"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("unix:/run/a"), Ok(Address::Unix("/run/a".into())));
        for text in ["127.0.0.1:9451", "[::1]:0", "unix:/run/a"] {
            assert_eq!(Address::parse(text).unwrap().setting_value(), text);
        }
        for (text, error) in [
            ("9451", AddressError::HostAndPort),
            (":9451", AddressError::HostAndPort),
            ("h:70000", AddressError::Port),
            ("h:1:2", AddressError::Port),
            ("unix:", AddressError::Path),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn every_address_is_reached_by_way_of_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("name:1", "name:1"),
        ] {
            let listens = Address::parse(listens).unwrap();
            assert_eq!(listens.seen_from_here().to_string(), asked);
        }
    }
}
