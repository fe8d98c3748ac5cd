//! Endpoints, as main.cf writes them: where a server listens, and whom a client asks.
//!
//! ```text
//! socketmap:inet:127.0.0.1:10451         socketmap:inet:[::1]:10451       socketmap:unix:/path/socket
//! tcp:127.0.0.1:10452:relayhost          (tcp_table serves one map a port)
//! ```
//!
//! A client may also paste what stands in main.cf, with the map behind a socketmap endpoint, or leave the map of a
//! tcp_table endpoint out.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::answer::Map;

/// The longest path of a UNIX socket: `sun_path` of unix(7) with its terminating NUL.
const MAX_UNIX_PATH: usize = 107;

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// Neither `socketmap:` nor `tcp:`.
    #[error("it begins with neither socketmap:inet:, socketmap:unix: nor tcp:")]
    Protocol,
    /// No `host:port`.
    #[error("host and port are missing; write HOST:PORT, with an IPv6 address in brackets")]
    HostAndPort,
    /// The port is not one.
    #[error("the port is not a number from 0 to 65535")]
    Port,
    /// `tcp:host:port` without a map.
    #[error("tcp serves one map on a port; add :relayhost or :sasl")]
    NoMap,
    /// `tcp:host:port:something`
    #[error("there is no such map; the maps are relayhost and sasl")]
    UnknownMap,
    /// A listener for `socketmap:…:relayhost`.
    #[error("a socketmap listener serves every map by name; leave the map out")]
    MapNotWanted,
    /// A line end or another control character, which no parameter of main.cf can hold.
    #[error("it has a control character")]
    ControlCharacter,
    /// An empty path, or one that the kernel would cut.
    #[error("the path of the socket is empty, or longer than {MAX_UNIX_PATH} bytes")]
    Path,
}

/// How one asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// socketmap_table(5): every map, by its name.
    Socketmap,
    /// tcp_table(5): one map.
    TcpTable(Map),
}

/// Where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host (a name or an address, without brackets) and a port.
    Inet(String, u16),
    /// The path of a UNIX socket.
    Unix(PathBuf),
}

impl Address {
    /// The address of a listener that has no protocol to name: `HOST:PORT`, or `unix:PATH`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        has_no_control_character(text)?;
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        let (host, port) = host_and_port(text)?;
        Ok(Self::Inet(host.into(), self::port(port)?))
    }
}

/// A place at which maps are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// How one asks there.
    pub protocol: Protocol,
    /// Where it is.
    pub address: Address,
}

impl Endpoint {
    /// An endpoint to listen at.
    pub fn to_listen(text: &str) -> Result<Self, Problem> {
        match Self::split(text)? {
            (Transport::Tcp, address, Some(map)) => Ok(Self::new(Protocol::TcpTable(map), address)),
            (Transport::Tcp, ..) => Err(Problem::NoMap),
            (Transport::Socketmap, _, Some(_)) => Err(Problem::MapNotWanted),
            (Transport::Socketmap, address, None) => Ok(Self::new(Protocol::Socketmap, address)),
        }
    }

    /// An endpoint to ask about `map`.
    pub fn to_ask(text: &str, map: Map) -> Result<Self, Problem> {
        match Self::split(text)? {
            (_, _, Some(other)) if other != map => Err(Problem::UnknownMap),
            (Transport::Tcp, address, _) => Ok(Self::new(Protocol::TcpTable(map), address)),
            (Transport::Socketmap, address, _) => Ok(Self::new(Protocol::Socketmap, address)),
        }
    }

    fn new(protocol: Protocol, address: Address) -> Self {
        Self { protocol, address }
    }

    fn split(text: &str) -> Result<(Transport, Address, Option<Map>), Problem> {
        has_no_control_character(text)?;
        let strip_map = |rest: &'_ str| -> (String, Option<Map>) {
            let map = rest.rsplit_once(':').and_then(|(rest, name)| {
                let map = Map::named(name.as_bytes())?;
                Some((rest.to_owned(), Some(map)))
            });
            map.unwrap_or_else(|| (rest.to_owned(), None))
        };
        if let Some(rest) = text.strip_prefix("socketmap:unix:") {
            let (path, map) = strip_map(rest);
            return Ok((Transport::Socketmap, unix(&path)?, map));
        }
        let (transport, rest) = if let Some(rest) = text.strip_prefix("socketmap:inet:") {
            (Transport::Socketmap, rest)
        } else if let Some(rest) = text.strip_prefix("tcp:") {
            (Transport::Tcp, rest)
        } else {
            return Err(Problem::Protocol);
        };
        let (rest, map) = strip_map(rest);
        let (host, port) = host_and_port(&rest)?;
        let Some((port, name)) = port.split_once(':') else {
            return Ok((transport, Address::Inet(host.into(), self::port(port)?), map));
        };
        self::port(port)?;
        Err(if name.is_empty() {
            Problem::NoMap
        } else {
            Problem::UnknownMap
        })
    }
}

enum Transport {
    Socketmap,
    Tcp,
}

fn has_no_control_character(text: &str) -> Result<(), Problem> {
    if text.chars().any(char::is_control) {
        return Err(Problem::ControlCharacter);
    }
    Ok(())
}

fn unix(path: &str) -> Result<Address, Problem> {
    if path.is_empty() || path.len() > MAX_UNIX_PATH {
        return Err(Problem::Path);
    }
    Ok(Address::Unix(path.into()))
}

/// `host:rest` or `[v6]:rest`, in its two parts.
fn host_and_port(text: &str) -> Result<(&str, &str), Problem> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    }
    .ok_or(Problem::HostAndPort)?;
    if host.is_empty() || port.is_empty() {
        return Err(Problem::HostAndPort);
    }
    Ok((host, port))
}

fn port(text: &str) -> Result<u16, Problem> {
    if text.bytes().all(|c| c.is_ascii_digit()) {
        text.parse().map_err(|_| Problem::Port)
    } else {
        Err(Problem::Port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol, &self.address) {
            (Protocol::Socketmap, Address::Inet(..)) => write!(f, "socketmap:inet:{}", self.address),
            (Protocol::Socketmap, Address::Unix(_)) => write!(f, "socketmap:unix:{}", self.address),
            (Protocol::TcpTable(map), _) => write!(f, "tcp:{}:{map}", self.address),
        }
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
    use super::{Address, Endpoint, Problem};
    use crate::answer::Map;

    #[test]
    fn a_listener_is_written_as_in_main_cf() {
        for text in [
            "socketmap:inet:127.0.0.1:10451",
            "socketmap:inet:[::1]:0",
            "socketmap:inet:localhost:10451",
            "socketmap:unix:/var/spool/postfix/postmapd/socketmap",
            "tcp:127.0.0.1:10452:relayhost",
            "tcp:[::1]:10453:sasl",
        ] {
            assert_eq!(Endpoint::to_listen(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_address_by_itself_has_a_port_or_a_path() {
        for text in ["127.0.0.1:9451", "[::1]:0", "localhost:9451"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("unix:/run/a"), Ok(Address::Unix("/run/a".into())));
        for (text, problem) in [
            ("9451", Problem::HostAndPort),
            (":9451", Problem::HostAndPort),
            ("h:70000", Problem::Port),
            ("h:1:2", Problem::Port),
            ("unix:", Problem::Path),
        ] {
            assert_eq!(Address::parse(text), Err(problem), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_listener_is_said() {
        for (text, problem) in [
            ("", Problem::Protocol),
            ("127.0.0.1:10451", Problem::Protocol),
            ("socketmap:127.0.0.1:10451", Problem::Protocol),
            ("socketmap:inet:127.0.0.1", Problem::HostAndPort),
            ("socketmap:inet::25", Problem::HostAndPort),
            ("socketmap:inet:[::1]", Problem::HostAndPort),
            ("socketmap:inet:::1:25", Problem::HostAndPort),
            ("socketmap:inet:h:70000", Problem::Port),
            ("socketmap:inet:h:smtp", Problem::Port),
            ("socketmap:inet:h:1:relayhost", Problem::MapNotWanted),
            ("socketmap:inet:h:1:other", Problem::UnknownMap),
            ("socketmap:unix:", Problem::Path),
            ("socketmap:unix:/a\nb", Problem::ControlCharacter),
            ("tcp:h\u{9b}:1:sasl", Problem::ControlCharacter),
            ("tcp:h:1", Problem::NoMap),
            ("tcp:h:1:", Problem::NoMap),
            ("tcp:h:1:other", Problem::UnknownMap),
        ] {
            assert_eq!(Endpoint::to_listen(text), Err(problem), "{text}");
        }
        let long = format!("socketmap:unix:/{}", "x".repeat(107));
        assert_eq!(Endpoint::to_listen(&long), Err(Problem::Path));
    }

    #[test]
    fn a_client_may_paste_what_stands_in_main_cf() {
        let ask = |text| Endpoint::to_ask(text, Map::Sasl).map(|endpoint| endpoint.to_string());
        assert_eq!(ask("socketmap:inet:h:1:sasl").unwrap(), "socketmap:inet:h:1");
        assert_eq!(ask("socketmap:unix:/a:b:sasl").unwrap(), "socketmap:unix:/a:b");
        assert_eq!(ask("tcp:h:1").unwrap(), "tcp:h:1:sasl");
        assert_eq!(ask("tcp:h:1:relayhost"), Err(Problem::UnknownMap));
    }
}
