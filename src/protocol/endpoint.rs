//! Endpoints in the notation of main.cf: where a server listens, and which server a client queries.
//!
//! ```text
//! socketmap:inet:127.0.0.1:10451         socketmap:inet:[::1]:10451       socketmap:unix:/path/socket
//! tcp:127.0.0.1:10452:relayhost          (tcp_table serves one map a port)
//! ```
//!
//! A client also accepts an endpoint copied from main.cf: with the map after a socketmap endpoint, or without the map
//! after a tcp_table endpoint.

use std::fmt;

use thiserror::Error;

use crate::net::address::{Address, AddressError, host_and_port, port, refuse_control_characters};
use crate::os::printable::enumeration;
use crate::protocol::Protocol;

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Neither `socketmap:` nor `tcp:`.
    #[error("it does not start with socketmap:inet:, socketmap:unix: or tcp:")]
    Protocol,
    /// The address is invalid.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// `tcp:host:port` without a map.
    #[error("a tcp endpoint serves one map; add {0}")]
    MissingMap(String),
    /// `tcp:host:port:something`
    #[error("there is no such map; the maps are {0}")]
    UnknownMap(String),
    /// A listener for `socketmap:…:relayhost`.
    #[error("a socketmap listener serves every map by name; omit the map")]
    UnexpectedMap,
}

/// The address of a server, and the protocol that it speaks there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The protocol.
    pub protocol: Protocol,
    /// The address.
    pub address: Address,
}

/// The names of the maps that an endpoint can have.
pub type MapNames<'n> = &'n [&'static str];

impl Endpoint {
    /// Parses an endpoint to listen on.
    pub fn parse_listener(text: &str, maps: MapNames<'_>) -> Result<Self, EndpointError> {
        match Self::parse(text, None, maps)? {
            (
                Self {
                    protocol: Protocol::Socketmap,
                    ..
                },
                Some(_),
            ) => Err(EndpointError::UnexpectedMap),
            (endpoint, _) => Ok(endpoint),
        }
    }

    /// Parses an endpoint for lookups in `map`.
    pub fn parse_server(text: &str, map: &'static str, maps: MapNames<'_>) -> Result<Self, EndpointError> {
        match Self::parse(text, Some(map), maps)? {
            (_, Some(other)) if other != map => Err(unknown_map(maps)),
            (endpoint, _) => Ok(endpoint),
        }
    }

    /// Parses an endpoint and the map that it names. A tcp_table endpoint without a name serves `map`.
    fn parse(
        text: &str,
        map: Option<&'static str>,
        maps: MapNames<'_>,
    ) -> Result<(Self, Option<&'static str>), EndpointError> {
        refuse_control_characters(text)?;
        let (protocol, address, map_name) = if let Some(rest) = text.strip_prefix("socketmap:unix:") {
            let (path, map_name) = strip_map(rest, maps);
            (Protocol::Socketmap, Address::unix(path)?, map_name)
        } else if let Some(rest) = text.strip_prefix("socketmap:inet:") {
            let (address, map_name) = inet(rest, maps)?;
            (Protocol::Socketmap, address, map_name)
        } else if let Some(rest) = text.strip_prefix("tcp:") {
            let (address, map_name) = inet(rest, maps)?;
            let map = map_name.or(map).ok_or_else(|| missing_map(maps))?;
            (Protocol::TcpTable(map), address, map_name)
        } else {
            return Err(EndpointError::Protocol);
        };
        Ok((Self { protocol, address }, map_name))
    }

    /// Returns the same endpoint at another address.
    #[must_use]
    pub fn with_address(&self, address: Address) -> Self {
        let protocol = self.protocol;
        Self { protocol, address }
    }

    /// Returns the lookup table `type:name` of a map, as main.cf has it.
    #[must_use]
    pub fn lookup_table(&self, map: &str) -> String {
        match self.protocol {
            Protocol::Socketmap => format!("{self}:{map}"),
            Protocol::TcpTable(_) => format!("tcp:{}", self.address),
        }
    }
}

/// Splits off the name of a map, if `text` ends in one.
fn strip_map<'t>(text: &'t str, maps: MapNames<'_>) -> (&'t str, Option<&'static str>) {
    let map_name = text
        .rsplit_once(':')
        .and_then(|(rest, name)| Some((rest, maps.iter().find(|map| **map == name)?)));
    map_name.map_or((text, None), |(rest, map)| (rest, Some(*map)))
}

/// Parses `host:port` or `host:port:map`.
fn inet(text: &str, maps: MapNames<'_>) -> Result<(Address, Option<&'static str>), EndpointError> {
    let (text, map) = strip_map(text, maps);
    let (host, rest) = host_and_port(text)?;
    let (number, name) = match rest.split_once(':') {
        Some((number, name)) => (number, Some(name)),
        None => (rest, None),
    };
    let address = Address::Inet(host.into(), port(number)?);
    match name {
        None => Ok((address, map)),
        Some("") => Err(missing_map(maps)),
        Some(_) => Err(unknown_map(maps)),
    }
}

fn missing_map(maps: MapNames<'_>) -> EndpointError {
    let maps: Vec<String> = maps.iter().map(|map| format!(":{map}")).collect();
    EndpointError::MissingMap(enumeration(&maps, "or"))
}

fn unknown_map(maps: MapNames<'_>) -> EndpointError {
    EndpointError::UnknownMap(enumeration(maps, "and"))
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

#[cfg(test)]
mod tests {
    use super::{Endpoint, EndpointError};
    use crate::net::address::AddressError;

    const MAPS: [&str; 2] = ["relayhost", "sasl"];

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
            assert_eq!(Endpoint::parse_listener(text, &MAPS).unwrap().to_string(), text);
        }
    }

    fn missing_map() -> EndpointError {
        EndpointError::MissingMap(":relayhost or :sasl".to_owned())
    }

    fn unknown_map() -> EndpointError {
        EndpointError::UnknownMap("relayhost and sasl".to_owned())
    }

    #[test]
    fn each_invalid_listener_has_its_error() {
        for (text, error) in [
            ("", EndpointError::Protocol),
            ("127.0.0.1:10451", EndpointError::Protocol),
            ("socketmap:127.0.0.1:10451", EndpointError::Protocol),
            ("socketmap:inet:127.0.0.1", AddressError::HostAndPort.into()),
            ("socketmap:inet::25", AddressError::HostAndPort.into()),
            ("socketmap:inet:[::1]", AddressError::HostAndPort.into()),
            ("socketmap:inet:::1:25", AddressError::HostAndPort.into()),
            ("socketmap:inet:h:70000", AddressError::Port.into()),
            ("socketmap:inet:h:smtp", AddressError::Port.into()),
            ("socketmap:inet:h:1:relayhost", EndpointError::UnexpectedMap),
            ("socketmap:inet:h:1:other", unknown_map()),
            ("socketmap:unix:", AddressError::Path.into()),
            ("socketmap:unix:/a\nb", AddressError::ControlCharacter.into()),
            ("tcp:h\u{9b}:1:sasl", AddressError::ControlCharacter.into()),
            ("tcp:h:1", missing_map()),
            ("tcp:h:1:", missing_map()),
            ("tcp:h:1:other", unknown_map()),
        ] {
            assert_eq!(Endpoint::parse_listener(text, &MAPS), Err(error), "{text}");
        }
        let long = format!("socketmap:unix:/{}", "x".repeat(107));
        assert_eq!(
            Endpoint::parse_listener(&long, &MAPS),
            Err(AddressError::Path.into())
        );
    }

    #[test]
    fn a_client_accepts_an_endpoint_copied_from_main_cf() {
        let parse = |text| Endpoint::parse_server(text, "sasl", &MAPS).map(|endpoint| endpoint.to_string());
        assert_eq!(parse("socketmap:inet:h:1:sasl").unwrap(), "socketmap:inet:h:1");
        assert_eq!(parse("socketmap:unix:/a:b:sasl").unwrap(), "socketmap:unix:/a:b");
        assert_eq!(parse("tcp:h:1").unwrap(), "tcp:h:1:sasl");
        assert_eq!(parse("tcp:h:1:relayhost"), Err(unknown_map()));
    }
}
