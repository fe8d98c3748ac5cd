//! The servers of a next hop, in the order in which Postfix tries them.
//!
//! An address is itself; a name in brackets is a host; a name without brackets has MX records, or else is a host. A host
//! has the addresses of /etc/hosts, with a warning, because Postfix reads DNS alone by default (`smtp_host_lookup`), or else
//! those of DNS, IPv6 first. Postfix mixes both families (`smtp_address_preference`).
//!
//! Limits: [`MAX_EXCHANGERS`] mail exchangers. Those of one preference are tried in the order of the answer.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use super::ClientSettings;
use super::hosts::Hosts;
use super::name_servers::{DnsError, Kind, NameServers, Record};
use super::outcome::Failure;
use super::shown;
use crate::lookup::nexthop::{self, HostKind};

/// The maximum number of mail exchangers that are tried, as `smtp_mx_address_limit` of Postfix.
const MAX_EXCHANGERS: usize = 5;

/// The port of a next hop without one.
const DEFAULT_PORT: u16 = 25;

/// A server and its addresses, of which there is at least one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// The name, or the address of a next hop that is one.
    pub(super) host: String,
    pub(super) addresses: Vec<SocketAddr>,
    /// Whether the addresses come from /etc/hosts.
    pub(super) is_from_hosts_file: bool,
}

/// Resolves the names of next hops.
pub(crate) struct Resolver {
    name_servers: NameServers,
    hosts: Hosts,
}

impl Resolver {
    /// Returns that of this machine.
    pub(crate) fn of_system() -> Self {
        Self {
            name_servers: NameServers::read(Path::new("/etc/resolv.conf")),
            hosts: Hosts::read(Path::new("/etc/hosts")),
        }
    }

    /// Returns the servers of a next hop.
    pub(super) fn servers(
        &self,
        next_hop: &[u8],
        client: &ClientSettings,
        deadline: Instant,
    ) -> Result<Vec<Server>, Failure> {
        let (host, port) = nexthop::host_and_port(next_hop);
        let port = port_number(port);
        let server_name = nexthop::server_name(next_hop).unwrap_or(host);
        let host = String::from_utf8_lossy(server_name).into_owned();
        if nexthop::host_kind(next_hop) != HostKind::Name
            && let Ok(address) = host.parse()
        {
            return Ok(vec![Server {
                host,
                addresses: vec![SocketAddr::new(address, port)],
                is_from_hosts_file: false,
            }]);
        }
        let hosts = if nexthop::server_name(next_hop).is_some() {
            vec![host]
        } else {
            self.exchangers(&host, deadline)?
        };
        let mut servers = Vec::new();
        let mut failure = None;
        for host in hosts {
            match self.server(host, port, client, deadline) {
                Ok(server) => servers.push(server),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(failure) if servers.is_empty() => Err(failure),
            _ => Ok(servers),
        }
    }

    /// Returns the mail exchangers of a domain, the preferred ones first, or the domain if it has none.
    fn exchangers(&self, domain: &str, deadline: Instant) -> Result<Vec<String>, Failure> {
        let records = self
            .name_servers
            .query(domain, Kind::Mx, deadline)
            .map_err(|error| failure(domain, error))?;
        let exchangers = records.into_iter().filter_map(|record| match record {
            Record::Exchanger(preference, name) => Some((preference, name)),
            Record::Address(_) => None,
        });
        let mut exchangers: Vec<(u16, String)> = exchangers.collect();
        if exchangers.is_empty() {
            return Ok(vec![domain.to_owned()]);
        }
        exchangers.sort_by_key(|(preference, _)| *preference);
        let names = exchangers.into_iter().map(|(_, name)| name);
        let names: Vec<String> = names
            .filter(|name| nexthop::is_host_name(name.as_bytes()))
            .take(MAX_EXCHANGERS)
            .collect();
        if names.is_empty() {
            return Err(Failure::Failed(format!(
                "the MX records of {} name no host: it accepts no mail",
                shown(domain.as_bytes())
            )));
        }
        Ok(names)
    }

    fn server(
        &self,
        host: String,
        port: u16,
        client: &ClientSettings,
        deadline: Instant,
    ) -> Result<Server, Failure> {
        let with_port = |addresses: Vec<std::net::IpAddr>| {
            let addresses = addresses.into_iter();
            addresses.map(|address| SocketAddr::new(address, port)).collect()
        };
        let mut addresses = self.hosts.addresses(&host);
        addresses.retain(|address| {
            if address.is_ipv6() {
                client.uses_ipv6
            } else {
                client.uses_ipv4
            }
        });
        if !addresses.is_empty() {
            return Ok(Server {
                host,
                addresses: with_port(addresses),
                is_from_hosts_file: true,
            });
        }
        let mut addresses = Vec::new();
        let mut errors = Vec::new();
        let kinds = [(Kind::Aaaa, client.uses_ipv6), (Kind::A, client.uses_ipv4)];
        for (kind, _) in kinds.into_iter().filter(|(_, is_used)| *is_used) {
            match self.name_servers.query(&host, kind, deadline) {
                Ok(records) => addresses.extend(records.into_iter().filter_map(|record| match record {
                    Record::Address(address) => Some(address),
                    Record::Exchanger(..) => None,
                })),
                Err(error) => errors.push(error),
            }
        }
        if addresses.is_empty() {
            return Err(match errors.pop() {
                Some(error) => failure(&host, error),
                None => Failure::Failed(format!("{} has no address in DNS", shown(host.as_bytes()))),
            });
        }
        Ok(Server {
            host,
            addresses: with_port(addresses),
            is_from_hosts_file: false,
        })
    }
}

fn failure(name: &str, error: DnsError) -> Failure {
    let name = shown(name.as_bytes());
    match error {
        DnsError::NoSuchName => Failure::Failed(format!("{name} does not exist in DNS")),
        DnsError::NoReply => {
            Failure::NotTried(format!("no name server has answered a query for {name} in time"))
        }
        DnsError::Failed => Failure::NotTried(format!("the name servers cannot resolve {name}")),
    }
}

/// Returns the number of a port that is valid in a next hop.
fn port_number(port: Option<&[u8]>) -> u16 {
    match port {
        None | Some(b"smtp") => DEFAULT_PORT,
        Some(b"submission") => 587,
        Some(b"smtps" | b"submissions") => 465,
        Some(number) => {
            let number = std::str::from_utf8(number).ok();
            number
                .and_then(|number| number.parse().ok())
                .unwrap_or(DEFAULT_PORT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::port_number;

    #[test]
    fn a_port_is_a_number_or_one_of_four_names() {
        for (port, number) in [
            (None, 25),
            (Some("smtp"), 25),
            (Some("submission"), 587),
            (Some("submissions"), 465),
            (Some("smtps"), 465),
            (Some("2525"), 2525),
        ] {
            assert_eq!(port_number(port.map(str::as_bytes)), number);
        }
    }
}
