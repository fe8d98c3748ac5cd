//! Which requests may learn about senders: those for explanations (`/explain` and the page).
//!
//! An explanation has what the map `relayhost` has, so the same clients may see it: local users, and hosts in
//! `allow_networks` ([`Allowed`]). The other paths name no sender and are open to all clients, because a monitoring
//! system need not be allowed to query the maps.
//!
//! A browser is a local client, and so is each page that it shows. The page of another site cannot read a response of
//! this listener, unless its name leads to the address of this listener (DNS rebinding): then the browser takes both for
//! the same site. But it still sends that name in the header Host. So a name with a dot, which an attacker can register,
//! is refused, unless the listener was configured with it. That applies to a UNIX socket too, which a browser reaches by a
//! forwarded port (`ssh -L`).

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::HOST;
use thiserror::Error;

use crate::lookup::peer::{Allowed, Peer};

/// Why a request is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum AccessError {
    /// The client is a host that may not query the maps.
    #[error("host {0} is not allowed to query senders: not in allow_networks of postmapd")]
    Network(IpAddr),
    /// A page of another site may have sent it.
    #[error(
        "the host name of this URL is not that of the setting admin, so a page of another site could have sent the \
         request; use an address, localhost, or that name"
    )]
    Host,
}

/// Returns the client of a TCP connection. Which local user it is does not matter.
pub(super) fn peer(client: SocketAddr) -> Peer {
    let address = client.ip().to_canonical();
    if address.is_loopback() {
        Peer::Unknown {
            address: Some(address),
        }
    } else {
        Peer::Host(address)
    }
}

/// The client of a UNIX socket.
pub(super) const LOCAL: Peer = Peer::Unknown { address: None };

/// Checks whether a request with these headers may learn about senders. `configured` is the host of the setting `admin`.
pub(super) fn check(
    peer: Peer,
    headers: &HeaderMap,
    allowed: &Allowed,
    configured: Option<&str>,
) -> Result<(), AccessError> {
    if let (Peer::Host(address), false) = (peer, allowed.may_connect(peer)) {
        return Err(AccessError::Network(address));
    }
    let is_safe = |host: &[u8]| std::str::from_utf8(host).is_ok_and(|host| is_safe(host, configured));
    let mut hosts = headers.get_all(HOST).iter();
    if hosts.all(|host| is_safe(host.as_bytes())) {
        Ok(())
    } else {
        Err(AccessError::Host)
    }
}

/// Whether an attacker cannot own this host of a URL: it is an address, `localhost`, a name without a dot, or the
/// configured one.
fn is_safe(host_and_port: &str, configured: Option<&str>) -> bool {
    if host_and_port.parse::<IpAddr>().is_ok() || host_and_port.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let host = host_and_port
        .rsplit_once(':')
        .map_or(host_and_port, |(host, _)| host);
    if host.starts_with('[') {
        // Only an address has brackets.
        return true;
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    !host.contains('.')
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok()
        || configured.is_some_and(|name| name.eq_ignore_ascii_case(&host))
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::{HOST, HeaderValue};

    use super::{AccessError, LOCAL, check, peer};
    use crate::lookup::peer::{Allowed, Peer};

    fn headers(hosts: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        headers
    }

    #[test]
    fn a_name_that_an_attacker_can_register_is_refused() {
        let local = peer("127.0.0.1:1".parse().unwrap());
        let check = |peer, hosts: &[&str], configured| {
            check(peer, &headers(hosts), &Allowed::default(), configured).is_ok()
        };
        for safe in [
            "127.0.0.1:9451",
            "127.0.0.1",
            "192.0.2.1:80",
            "[::1]:9451",
            "[::1]",
            "localhost:9451",
            "LocalHost",
            "a.localhost.",
            "mailserver:9451",
            "Mail.example:9451",
            "mail.example.",
        ] {
            assert!(check(local, &[safe], Some("mail.Example")), "{safe}");
        }
        for refused in [
            "attacker.example",
            "attacker.example:9451",
            "attacker.example.:9451",
            "mail.example.attacker.example",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "127.0.0.1.attacker.example:9451",
            "127.0.0.1:9451.attacker.example:1",
            "a@attacker.example",
            "",
        ] {
            let is_allowed = check(local, &[refused], Some("mail.example"));
            assert_eq!(is_allowed, refused.is_empty(), "{refused}");
        }
        assert!(!check(local, &["mail.example"], None));
        assert!(!check(local, &["localhost", "attacker.example"], None));
        // Programs need not send the header.
        assert!(check(local, &[], None));
        assert!(check(LOCAL, &["localhost"], None) && !check(LOCAL, &["attacker.example"], None));
    }

    #[test]
    fn other_hosts_see_senders_where_they_may_query_the_maps() {
        let allowed = Allowed::new([], ["192.0.2.0/24".parse().unwrap()]);
        let check = |address: &str| {
            let peer: Peer = peer(address.parse().unwrap());
            check(peer, &headers(&["localhost"]), &allowed, None)
        };
        for address in ["192.0.2.7:1", "[::ffff:192.0.2.7]:1", "127.0.0.1:1", "[::1]:1"] {
            assert_eq!(check(address), Ok(()), "{address}");
        }
        let refused = "198.51.100.1".parse().unwrap();
        assert_eq!(check("198.51.100.1:1"), Err(AccessError::Network(refused)));
    }
}
