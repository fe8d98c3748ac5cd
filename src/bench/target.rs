//! The target of the requests: a server of either protocol, and the name of a map that it serves.
//!
//! The map may have any name that Postfix can send, because other servers have other maps. A request is encoded as
//! Postfix encodes it. Connecting never blocks, because the generator drives other connections meanwhile.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, connect, sockopt::set_tcp_nodelay};

use crate::lookup::map::{Map, Maps};
use crate::net::address::Address;
use crate::net::stream_socket;
use crate::protocol::Protocol;
use crate::protocol::endpoint::{Endpoint, EndpointError};

/// A map of a server.
pub(crate) struct Target {
    label: String,
    /// The name of the map.
    pub(super) map: String,
    pub(super) protocol: Protocol,
    address: Address,
}

/// The resolved address of a target.
pub(super) enum ConnectAddress {
    Inet(SocketAddr),
    Unix(SocketAddrUnix),
}

/// A socket whose connect was started.
pub(super) enum StartedConnect {
    /// Connected.
    Open(OwnedFd),
    /// Connected, or failed, once the socket is writable.
    Pending(OwnedFd),
}

impl Target {
    /// Returns the target for the map `map` at this endpoint, which may end with `:` and the name of the map, as in main.cf.
    pub(crate) fn new(endpoint: &str, map: &str) -> Result<Self, EndpointError> {
        // The map may be one of another server. The parser takes only postmapd's own, and the address is the same for each.
        let own_map = Map::named(map).unwrap_or(Map::RELAYHOST);
        let address = endpoint
            .strip_suffix(map)
            .and_then(|address| address.strip_suffix(':'))
            .unwrap_or(endpoint);
        let parsed = Endpoint::parse_server(address, own_map.name, &Maps::SERVED.names())?;
        Ok(Self {
            label: endpoint.to_owned(),
            map: map.to_owned(),
            protocol: parsed.protocol,
            address: parsed.address,
        })
    }

    /// Appends the request for `key`.
    pub(super) fn encode(&self, key: &[u8], request: &mut BytesMut) {
        self.protocol.encode_request(&self.map, key, request);
    }

    /// Resolves the address. If a name has several, returns the first that accepts a connection within its share of
    /// `timeout`.
    pub(super) fn resolve(&self, timeout: Duration) -> io::Result<ConnectAddress> {
        match &self.address {
            Address::Unix(path) => Ok(ConnectAddress::Unix(SocketAddrUnix::new(path)?)),
            Address::Inet(host, port) => {
                let addresses: Vec<_> = (host.as_str(), *port).to_socket_addrs()?.collect();
                if let [only] = addresses[..] {
                    return Ok(ConnectAddress::Inet(only));
                }
                let mut last_error = io::Error::from(io::ErrorKind::NotFound);
                // Together, all addresses get the time of one.
                let share = timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
                for address in addresses {
                    match TcpStream::connect_timeout(&address, share.max(Duration::from_millis(1))) {
                        Ok(_) => return Ok(ConnectAddress::Inet(address)),
                        Err(error) => last_error = error,
                    }
                }
                Err(last_error)
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl ConnectAddress {
    /// Starts to connect, without blocking. Fails with [`Errno::AGAIN`] while the server's queue is full.
    pub(super) fn start_connect(&self) -> Result<StartedConnect, Errno> {
        let family = match self {
            Self::Inet(SocketAddr::V4(_)) => AddressFamily::INET,
            Self::Inet(SocketAddr::V6(_)) => AddressFamily::INET6,
            Self::Unix(_) => AddressFamily::UNIX,
        };
        let socket = stream_socket(family)?;
        let result = match self {
            Self::Inet(address) => {
                set_tcp_nodelay(&socket, true)?;
                connect(&socket, address)
            }
            Self::Unix(path) => connect(&socket, path),
        };
        match result {
            Ok(()) => Ok(StartedConnect::Open(socket)),
            Err(Errno::INPROGRESS) => Ok(StartedConnect::Pending(socket)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Protocol, Target};

    fn request_for(endpoint: &str, map: &str) -> (Protocol, String) {
        let target = Target::new(endpoint, map).unwrap();
        let mut request = BytesMut::new();
        target.encode(b"a b@c", &mut request);
        (target.protocol, String::from_utf8(request.to_vec()).unwrap())
    }

    #[test]
    fn a_map_of_another_server_may_have_any_name() {
        let request = (Protocol::Socketmap, "13:forward a b@c,".to_owned());
        assert_eq!(request_for("socketmap:inet:h:1", "forward"), request);
        assert_eq!(request_for("socketmap:inet:h:1:forward", "forward"), request);
        assert_eq!(request_for("socketmap:unix:/a:forward", "forward"), request);
        let line = (Protocol::TcpTable("relayhost"), "get a%20b@c\n".to_owned());
        assert_eq!(request_for("tcp:h:1", "forward"), line);
        assert_eq!(request_for("tcp:[::1]:1:relayhost", "relayhost"), line);
        assert!(Target::new("tcp:h:1:relayhost", "sasl").is_err());
        assert!(Target::new("h:1", "sasl").is_err());
    }
}
