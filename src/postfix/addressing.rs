//! How Postfix addresses the server: the names of the maps in main.cf, and whether a table named there belongs to the
//! server.
//!
//! Of several listeners, main.cf names the one that most services of Postfix can reach: a UNIX socket inside the queue
//! directory, by its relative path, which is valid with and without chroot; else TCP; else a UNIX socket elsewhere,
//! through proxymap(8), which sees the whole file system; else `tcp:`.
//!
//! Limits: names are not resolved. `localhost` is treated as loopback, and any other host name as an address of the
//! server if the port matches.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::lookup::map::Map;
use crate::net::address::Address;
use crate::protocol::Protocol;
use crate::protocol::endpoint::Endpoint;

/// The default name of the server's container.
pub(crate) const DEFAULT_CONTAINER: &str = "postmapd";

/// Why main.cf cannot name the server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Unaddressable {
    /// No listener serves the map.
    #[error("no listener serves the map {0}")]
    NoListener(Map),
    /// The only listeners have port 0, so the system chooses another port at each start.
    #[error("the listener of the map {0} has port 0, so its port changes at each start")]
    EphemeralPort(Map),
    /// The path has whitespace, a comma, a brace or a `$`.
    #[error(
        "main.cf cannot contain the socket path of the map {0}: it has whitespace, a comma, a brace or a $"
    )]
    UnsupportedPath(Map),
}

/// The server's endpoints, as one Postfix sees them.
#[derive(Clone, Debug)]
pub(crate) struct Addressing {
    endpoints: Vec<Endpoint>,
    queue_directory: PathBuf,
    /// Whether Postfix runs in docker-mailserver's container, where nothing is chrooted, and the server in another one.
    pub(super) is_in_container: bool,
}

/// The server that a table in main.cf belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableOwner {
    /// It queries this map of this server.
    ThisServer(Map),
    /// It queries this map of this server, but the chrooted service cannot see the socket.
    Unreachable(Map),
    /// It queries this server for a map that the server does not have.
    NoSuchMap,
    /// It names this map, but at an endpoint at which the server does not listen.
    OtherEndpoint(Map),
    /// It has nothing to do with postmapd.
    Unrelated,
}

impl Addressing {
    /// Creates the addressing of a server with these endpoints, for a Postfix with this queue directory.
    pub(crate) fn new(endpoints: Vec<Endpoint>, queue_directory: PathBuf) -> Self {
        Self {
            endpoints,
            queue_directory,
            is_in_container: false,
        }
    }

    /// Creates the addressing of a server with these endpoints, for the Postfix in docker-mailserver's container.
    pub(crate) fn for_container(endpoints: Vec<Endpoint>) -> Self {
        Self {
            is_in_container: true,
            ..Self::new(endpoints, PathBuf::new())
        }
    }

    /// Returns the name of a map in main.cf.
    pub(crate) fn table(&self, map: Map) -> Result<String, Unaddressable> {
        let endpoint = self.preferred_listener(map)?;
        let address = match &endpoint.address {
            Address::Inet(host, port) if self.is_in_container => {
                Address::Inet(host_for_container(host).into(), *port)
            }
            inet @ Address::Inet(..) => inet.seen_from_here(),
            Address::Unix(path) if self.is_in_container => Address::Unix(path.clone()),
            Address::Unix(path) => match self.relative_to_queue(path) {
                Some(relative) => Address::Unix(relative.into()),
                None => return Ok(format!("proxy:{}", endpoint.lookup_table(map.name))),
            },
        };
        Ok(endpoint.with_address(address).lookup_table(map.name))
    }

    /// Returns the listener that most services of this Postfix can reach.
    fn preferred_listener(&self, map: Map) -> Result<&Endpoint, Unaddressable> {
        let rank = |endpoint: &Endpoint| match (&endpoint.protocol, &endpoint.address) {
            (_, Address::Unix(path)) if self.is_in_container || self.relative_to_queue(path).is_some() => 0,
            (Protocol::Socketmap, Address::Inet(..)) => 1,
            (Protocol::Socketmap, Address::Unix(_)) => 2,
            (Protocol::TcpTable(_), _) => 3,
        };
        let serves = |endpoint: &&Endpoint| match endpoint.protocol {
            Protocol::Socketmap => true,
            Protocol::TcpTable(own) => own == map.name,
        };
        let mut reason = Unaddressable::NoListener(map);
        let mut best: Option<(u8, &Endpoint)> = None;
        for endpoint in self.endpoints.iter().filter(serves) {
            match &endpoint.address {
                Address::Inet(_, 0) => reason = Unaddressable::EphemeralPort(map),
                Address::Unix(path) if !is_representable(path) => {
                    reason = Unaddressable::UnsupportedPath(map);
                }
                _ => {
                    let rank = rank(endpoint);
                    if best.is_none_or(|(lowest, _)| rank < lowest) {
                        best = Some((rank, endpoint));
                    }
                }
            }
        }
        best.map(|(_, endpoint)| endpoint).ok_or(reason)
    }

    /// Returns the path relative to the queue directory, if it is inside.
    fn relative_to_queue<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        if path.is_relative() {
            return Some(path);
        }
        path.strip_prefix(&self.queue_directory).ok()
    }

    /// Returns the owner of a table, given without `proxy:`, as a chrooted or an unchrooted service sees it.
    pub(crate) fn table_owner(&self, table: &str, chrooted: bool) -> TableOwner {
        if table.starts_with("tcp:") {
            return self.tcp_table_owner(table);
        }
        let Some((_, name)) = table
            .strip_prefix("socketmap:")
            .and_then(|rest| rest.rsplit_once(':'))
        else {
            return TableOwner::Unrelated;
        };
        let map = Map::named(name);
        let other_endpoint = map.map_or(TableOwner::Unrelated, TableOwner::OtherEndpoint);
        let Some(queried) = parse_address(table) else {
            return other_endpoint;
        };
        let socketmaps = || {
            let all = self.endpoints.iter();
            all.filter(|endpoint| endpoint.protocol == Protocol::Socketmap)
        };
        let is_this_server = match &queried {
            Address::Inet(host, port) => socketmaps().any(|own| reaches(&own.address, host, *port)),
            Address::Unix(path) => {
                let listens_at = |place: &Path| {
                    socketmaps().any(
                        |own| matches!(&own.address, Address::Unix(own) if self.is_same_socket(own, place)),
                    )
                };
                let seen = match (path.strip_prefix("/"), chrooted) {
                    (Ok(inside), true) => self.queue_directory.join(inside),
                    _ => self.queue_directory.join(path),
                };
                if !listens_at(&seen) && listens_at(path) {
                    return map.map_or(TableOwner::NoSuchMap, TableOwner::Unreachable);
                }
                listens_at(&seen)
            }
        };
        match (is_this_server, map) {
            (true, Some(map)) => TableOwner::ThisServer(map),
            (true, None) => TableOwner::NoSuchMap,
            (false, _) => other_endpoint,
        }
    }

    fn tcp_table_owner(&self, table: &str) -> TableOwner {
        let Some(Address::Inet(host, port)) = parse_address(table) else {
            return TableOwner::Unrelated;
        };
        let at_that_port = self
            .endpoints
            .iter()
            .filter(|own| reaches(&own.address, &host, port));
        let mut owner = TableOwner::Unrelated;
        for own in at_that_port {
            match own.protocol {
                Protocol::TcpTable(name) => {
                    return Map::named(name).map_or(TableOwner::NoSuchMap, TableOwner::ThisServer);
                }
                Protocol::Socketmap => owner = TableOwner::NoSuchMap,
            }
        }
        owner
    }

    /// Whether two paths name the same socket, also through links such as /var/run.
    fn is_same_socket(&self, own: &Path, other: &Path) -> bool {
        let own = self.queue_directory.join(own);
        own == other
            || resolve_directory(&own)
                .is_some_and(|own| resolve_directory(other).is_some_and(|other| own == other))
    }

    /// Returns remarks on the chosen listener, for comments above the lines.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let Ok(chosen) = self.preferred_listener(Map::RELAYHOST) else {
            return remarks;
        };
        if self.endpoints.len() > 1 {
            remarks.push(format!(
                "Of the {} listeners, these lines use the one that most Postfix services can reach.",
                self.endpoints.len()
            ));
        }
        match &chosen.address {
            Address::Unix(_) if self.is_in_container => remarks.push(
                "Mount the directory of the socket at the same path in both containers. The user postfix must be able \
                 to connect (--socket-mode 0666, directory 0755)."
                    .to_owned(),
            ),
            Address::Inet(host, _) if self.is_in_container && is_loopback(host) => remarks.push(
                "A loopback address works only if postmapd's container has network_mode: \"service:mailserver\". \
                 Otherwise, give --server socketmap:inet:CONTAINER:PORT."
                    .to_owned(),
            ),
            Address::Inet(host, _) if self.is_in_container && host_for_container(host) == DEFAULT_CONTAINER => {
                remarks.push(format!(
                    "{DEFAULT_CONTAINER} is the name of its container, in a network that only these two containers \
                     share. For another name, give --server socketmap:inet:NAME:PORT."
                ));
            }
            Address::Inet(..) => {}
            Address::Unix(path) if self.relative_to_queue(path).is_none() => remarks.push(
                "The socket is outside the queue directory, where chrooted services cannot see it, so these lines use \
                 proxymap(8). Through proxymap(8), mail of a sender whose relay has just changed is delayed. A socket \
                 in the queue directory avoids this."
                    .to_owned(),
            ),
            Address::Unix(_) => remarks.push(format!(
                "The socket path is relative to queue_directory ({}), so it works with and without chroot.",
                self.queue_directory.to_string_lossy()
            )),
        }
        remarks
    }
}

impl fmt::Display for Addressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, endpoint) in self.endpoints.iter().enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            write!(f, "{separator}{endpoint}")?;
        }
        Ok(())
    }
}

/// Returns the address that a table of socketmap_table(5) or tcp_table(5) queries.
pub(crate) fn parse_address(table: &str) -> Option<Address> {
    let endpoint = if table.starts_with("tcp:") {
        // The name of the table does not include the map.
        Endpoint::parse_server(table, "", &[])
    } else {
        let (endpoint, _) = table.rsplit_once(':')?;
        Endpoint::parse_listener(endpoint, &[])
    };
    Some(endpoint.ok()?.address)
}

/// Resolves links in the directory of a path. The socket itself need not exist.
fn resolve_directory(path: &Path) -> Option<PathBuf> {
    let directory = path.parent()?.canonicalize().ok()?;
    Some(directory.join(path.file_name()?))
}

/// Whether a list of tables in main.cf can contain the path.
fn is_representable(path: &Path) -> bool {
    path.to_str().is_some_and(|path| {
        !path.contains(|c: char| c.is_whitespace() || c.is_control() || ",{}$".contains(c))
    })
}

/// Returns the host that a Postfix in another container connects to.
fn host_for_container(host: &str) -> &str {
    let is_wildcard = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    if is_wildcard { DEFAULT_CONTAINER } else { host }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a connection to `host` and `port` reaches the listener at `own`.
fn reaches(own: &Address, host: &str, port: u16) -> bool {
    let Address::Inet(own_host, own_port) = own else {
        return false;
    };
    if *own_port != port {
        return false;
    }
    let ip = |host: &str| host.parse::<IpAddr>().ok();
    let is_local = |host: &str| host.eq_ignore_ascii_case("localhost");
    match (ip(own_host), ip(host)) {
        (Some(own), Some(queried)) => own == queried || own.is_unspecified(),
        (Some(own), None) => own.is_loopback() == is_local(host) || own.is_unspecified(),
        (None, Some(queried)) => !is_local(own_host) || queried.is_loopback(),
        (None, None) => own_host.eq_ignore_ascii_case(host),
    }
}
