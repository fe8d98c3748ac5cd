//! Who asks, and who may.
//!
//! A map is public among those who may connect at all, unless it is secret. The credentials are for peers that are allowed: local
//! users by their number, other hosts by their address. Nothing is allowed by default here; the defaults are those of
//! the settings ([`crate::config`]), and how a peer is recognised is the server's business
//! ([`crate::server::access`]).
//!
//! Limits: a peer is a user, not a program. Whoever runs as an allowed user, or was handed an open connection by one,
//! is that user. A proxy is known by its own user, whoever speaks through it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::lookup::map::Map;

/// 127.0.0.0/8.
const LOOPBACK: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));

/// Who is on the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A local user, over a UNIX socket, or over loopback TCP from this address.
    User {
        /// The number of the user.
        uid: u32,
        /// Where TCP says that it comes from, an IPv4 address never in its IPv6 form.
        address: Option<IpAddr>,
    },
    /// A local user of whom the system does not say which one it is, the overflow user of a user namespace among them.
    Unknown {
        /// As above.
        address: Option<IpAddr>,
    },
    /// Whoever comes from an address that is not a loopback one.
    Host(IpAddr),
}

impl Peer {
    /// The peer that this one counts as wherever peers are counted: a user is one, from whichever address it comes, and
    /// so is a whole /64 of IPv6, which any host has to itself.
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

/// Who may ask: a part of each snapshot, so that an edit of the list counts for the next request of every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Sorted.
    users: Box<[u32]>,
    networks: Box<[IpNet]>,
    /// Whether every local user may ask everything.
    all_local_users: bool,
}

impl Allowed {
    /// These local users, and these networks. A network that contains_address all of 127.0.0.0/8 admits every local user,
    /// however it connects.
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

    /// Whether a connection of this peer is kept.
    #[must_use]
    pub fn may_connect(&self, peer: Peer) -> bool {
        match peer {
            Peer::User { .. } | Peer::Unknown { .. } => true,
            Peer::Host(address) => self.contains_address(address),
        }
    }

    /// Whether this peer gets answers from `map`.
    #[inline]
    #[must_use]
    pub fn may_query(&self, map: Map, peer: Peer) -> bool {
        match peer {
            Peer::User { .. } | Peer::Unknown { .. } if !map.is_secret => true,
            _ => self.may_query_secrets(peer),
        }
    }

    /// Whether this peer gets answers from maps that are secret.
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

    /// Whether there is a network beyond this host.
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
    use crate::lookup::map::{Map, Maps};

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
                assert!(allowed.may_connect(peer) && allowed.may_query(Map::RELAYHOST, peer));
                assert_eq!(allowed.may_query(Map::SASL, peer), expected, "{peer:?}");
            }
        }
        assert!(!Allowed::default().may_query(Map::SASL, user(0, None)));
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
            for map in Maps::SERVED.iter() {
                assert_eq!(allowed.may_query(map, peer), expected, "{address}");
            }
        }
        assert!(!allowed.may_query(Map::SASL, user(1, Some(ip("127.0.0.1")))));
    }

    #[test]
    fn the_loopback_network_allows_all_local_users_and_a_part_of_it_those_that_connect_from_it() {
        for network in ["127.0.0.0/8", "0.0.0.0/0", "126.0.0.0/7"] {
            let allowed = allowed(&[], &[network]);
            for address in [None, Some(ip("127.0.0.1")), Some(ip("::1"))] {
                assert!(allowed.may_query(Map::SASL, user(1, address)), "{network}");
                assert!(
                    allowed.may_query(Map::SASL, Peer::Unknown { address }),
                    "{network}"
                );
            }
        }
        for (network, inside, outside) in [
            ("127.0.0.1/32", ip("127.0.0.1"), ip("127.0.0.2")),
            ("::1/128", ip("::1"), ip("127.0.0.1")),
            ("::/0", ip("::1"), ip("127.0.0.1")),
        ] {
            let allowed = allowed(&[], &[network]);
            assert!(allowed.may_query(Map::SASL, user(1, Some(inside))), "{network}");
            assert!(!allowed.may_query(Map::SASL, user(1, Some(outside))), "{network}");
            assert!(!allowed.may_query(Map::SASL, user(1, None)), "{network}");
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
