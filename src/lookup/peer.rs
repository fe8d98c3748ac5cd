//! Peers, and which maps they may query.
//!
//! Any peer that may connect may query a map, unless the map is secret. Credentials are for allowed peers only: local
//! users by number, other hosts by address. Nothing is allowed here by default; the defaults are those of the settings
//! ([`crate::config`]), and the server identifies peers ([`crate::server::access`]).
//!
//! Limits: a peer is a user, not a program. A program that runs as an allowed user, or got an open connection from one,
//! is that user. A proxy is identified by its own user, not by those of its clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// 127.0.0.0/8.
const LOOPBACK: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));

/// The peer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A local user, over a UNIX socket, or over loopback TCP from this address.
    User {
        /// The number of the user.
        uid: u32,
        /// The source address of the TCP connection; an IPv4 address is never in its IPv6 form.
        address: Option<IpAddr>,
    },
    /// A local user that the kernel does not tell, including the overflow user of a user namespace.
    Unknown {
        /// The source address of the TCP connection.
        address: Option<IpAddr>,
    },
    /// A host with an address that is not a loopback one.
    Host(IpAddr),
}

impl Peer {
    /// Returns the peer for limits and logs that count peers: a user is one peer at all its addresses, and so is a
    /// whole /64 of IPv6, which a single host may own.
    #[must_use]
    pub fn accounting_peer(self) -> Self {
        match self {
            Self::User { uid, .. } => Self::User { uid, address: None },
            Self::Unknown { .. } => Self::Unknown { address: None },
            Self::Host(IpAddr::V6(address)) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Self::Host(Ipv6Addr::from_bits(network).into())
            }
            Self::Host(IpAddr::V4(_)) => self,
        }
    }
}

/// The peers that may query secret maps. Part of each snapshot, so that an edit of the list applies to the next request
/// of every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Sorted.
    users: Box<[u32]>,
    networks: Box<[IpNet]>,
    /// Whether all local users may query all maps.
    all_local_users: bool,
}

impl Allowed {
    /// Creates the list of these local users and networks. A network that contains all of 127.0.0.0/8 allows all local
    /// users, over UNIX sockets too.
    #[must_use]
    pub fn new(users: impl IntoIterator<Item = u32>, networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut users: Vec<u32> = users.into_iter().collect();
        users.sort_unstable();
        users.dedup();
        let networks: Box<[IpNet]> = networks.into_iter().collect();
        Self {
            users: users.into(),
            all_local_users: networks.iter().any(|network| network.contains(&LOOPBACK)),
            networks,
        }
    }

    /// Whether this peer may connect.
    #[inline]
    #[must_use]
    pub fn may_connect(&self, peer: Peer) -> bool {
        match peer {
            Peer::User { .. } | Peer::Unknown { .. } => true,
            Peer::Host(address) => self.contains_address(address),
        }
    }

    /// Whether this peer may query secret maps.
    #[inline]
    #[must_use]
    pub fn may_query_secrets(&self, peer: Peer) -> bool {
        let (is_named, address) = match peer {
            Peer::Host(address) => return self.contains_address(address),
            Peer::User { uid, address } => (self.users.binary_search(&uid).is_ok(), address),
            Peer::Unknown { address } => (false, address),
        };
        is_named || self.all_local_users || address.is_some_and(|address| self.contains_address(address))
    }

    /// Whether a network contains other hosts than this one.
    #[must_use]
    pub fn allows_other_hosts(&self) -> bool {
        let is_loopback =
            |network: &IpNet| network.network().is_loopback() && network.broadcast().is_loopback();
        !self.networks.iter().all(is_loopback)
    }

    fn contains_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Allowed, Peer};

    fn allowed(users: &[u32], networks: &[&str]) -> Allowed {
        let networks = networks.iter().map(|network| network.parse().unwrap());
        Allowed::new(users.iter().copied(), networks)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn user(uid: u32, address: Option<IpAddr>) -> Peer {
        Peer::User { uid, address }
    }

    #[test]
    fn a_local_user_may_query_the_relay_map_and_if_listed_the_credentials() {
        let allowed = allowed(&[102, 0, 102], &[]);
        for address in [None, Some(ip("127.0.0.1")), Some(ip("::1"))] {
            for (peer, expected) in [
                (user(0, address), true),
                (user(102, address), true),
                (user(1, address), false),
                (user(65534, address), false),
                (Peer::Unknown { address }, false),
            ] {
                assert!(allowed.may_connect(peer));
                assert_eq!(allowed.may_query_secrets(peer), expected, "{peer:?}");
            }
        }
        assert!(!Allowed::default().may_query_secrets(user(0, None)));
    }

    #[test]
    fn another_host_may_query_all_maps_or_none() {
        let allowed = allowed(&[0], &["192.0.2.0/24", "2001:db8::/32"]);
        for (address, expected) in [
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("192.0.1.255", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            let peer = Peer::Host(address.parse().unwrap());
            assert_eq!(allowed.may_connect(peer), expected, "{address}");
            assert_eq!(allowed.may_query_secrets(peer), expected, "{address}");
        }
        assert!(!allowed.may_query_secrets(user(1, Some(ip("127.0.0.1")))));
    }

    #[test]
    fn the_loopback_network_allows_all_local_users_and_a_part_of_it_those_that_connect_from_it() {
        for network in ["127.0.0.0/8", "0.0.0.0/0", "126.0.0.0/7"] {
            let allowed = allowed(&[], &[network]);
            for address in [None, Some(ip("127.0.0.1")), Some(ip("::1"))] {
                assert!(allowed.may_query_secrets(user(1, address)), "{network}");
                assert!(allowed.may_query_secrets(Peer::Unknown { address }), "{network}");
            }
        }
        for (network, inside, outside) in [
            ("127.0.0.1/32", ip("127.0.0.1"), ip("127.0.0.2")),
            ("::1/128", ip("::1"), ip("127.0.0.1")),
            ("::/0", ip("::1"), ip("127.0.0.1")),
        ] {
            let allowed = allowed(&[], &[network]);
            assert!(allowed.may_query_secrets(user(1, Some(inside))), "{network}");
            assert!(!allowed.may_query_secrets(user(1, Some(outside))), "{network}");
            assert!(!allowed.may_query_secrets(user(1, None)), "{network}");
        }
    }

    #[test]
    fn loopback_networks_allow_no_other_host() {
        for (networks, others) in [
            (&[][..], false),
            (&["127.0.0.0/8", "::1/128", "127.0.0.2/32"], false),
            (&["127.0.0.0/8", "192.0.2.7/32"], true),
            (&["0.0.0.0/0"], true),
            (&["::/0"], true),
        ] {
            assert_eq!(
                allowed(&[], networks).allows_other_hosts(),
                others,
                "{networks:?}"
            );
        }
    }
}
