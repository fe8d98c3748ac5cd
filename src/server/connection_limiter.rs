//! Limits connections: in all, and by peer.
//!
//! At the limit for all connections nothing is accepted: the kernel's queue waits instead of this process's memory. A peer's
//! own limit can be checked only after accept(2): its connection is closed at once, because waiting would hold up those behind
//! it in the queue.
//!
//! Peers that may not query secret maps (*unprivileged*) are no part of a well-configured mail system, and one person can be
//! many of them (with subordinate user IDs, 65,536 users). So they share half of all connections, and no peer has more than
//! half of what peers of its class share. Whatever unprivileged peers do, half of all connections is left for Postfix.
//!
//! A peer's class is decided when it connects. Editing the list of allowed users neither moves nor closes a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

use super::access::refusals::name;
use super::limits::{CONNECTIONS, REFUSALS_REMEMBERED, SHARE, SPARE_DESCRIPTORS};
use crate::config::Limits;
use crate::lookup::peer::Peer;
use crate::net::accept::LOG_INTERVAL;

/// The connections of one server, against their limits.
pub(super) struct ConnectionLimiter {
    most: Quota,
    taken: Arc<Mutex<Usage>>,
}

/// Connection limits by peer class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota {
    /// All connections.
    all: usize,
    /// A peer that may query secret maps.
    peer: usize,
    /// A peer that may not.
    per_unprivileged_peer: usize,
    /// All peers that may not, together.
    unprivileged: usize,
}

#[derive(Default)]
struct Usage {
    all: usize,
    /// Peers without a connection are not listed.
    by_peer: HashMap<Peer, usize>,
    by_unprivileged: usize,
    /// When each rejected peer was last logged; `None` for unprivileged peers as a whole.
    logged_at: HashMap<Option<Peer>, Instant>,
}

/// Counts one connection until it is dropped.
pub(super) struct Permit {
    peer: Peer,
    is_unprivileged: bool,
    taken: Arc<Mutex<Usage>>,
}

impl ConnectionLimiter {
    /// Creates a limiter from the settings, limited further by the descriptors that the process may have.
    #[must_use]
    pub(super) fn new(limits: Limits) -> Self {
        let wanted = limits.connections.unwrap_or(CONNECTIONS);
        let open_files = descriptors(wanted.saturating_add(SPARE_DESCRIPTORS));
        let connections = wanted.min(open_files.saturating_sub(SPARE_DESCRIPTORS)).max(1);
        if connections < wanted {
            warn!(
                connections,
                configured = wanted,
                open_files_limit = open_files,
                reserved = SPARE_DESCRIPTORS,
                "connection limit lowered: the limit of open files is too low; raise it (LimitNOFILE= in a systemd unit, \
                 --ulimit nofile= in Docker), or lower limits.connections"
            );
        }
        Self::of(connections, limits.connections_per_peer)
    }

    fn of(connections: usize, per_peer: Option<usize>) -> Self {
        Self {
            most: Quota::of(connections, per_peer),
            taken: Arc::default(),
        }
    }

    /// Whether the limit for all connections is reached.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        lock(&self.taken).all >= self.most.all
    }

    /// Counts a connection of this peer. `None`, and a line in the log, if the peer has reached its limit.
    #[must_use]
    pub(super) fn acquire(&self, peer: Peer, is_unprivileged: bool) -> Option<Permit> {
        let peer = peer.accounting_peer();
        let mut taken = lock(&self.taken);
        let own = taken.by_peer.get(&peer).copied().unwrap_or_default();
        let most = if is_unprivileged {
            self.most.per_unprivileged_peer
        } else {
            self.most.peer
        };
        if own >= most {
            if taken.should_log(Some(peer)) {
                warn!(
                    connections = own,
                    client = %name(peer),
                    "client has reached limits.connections_per_peer; closing its new connections"
                );
            }
            debug!(connections = own, client = %name(peer), "connection closed: limit of the client");
            return None;
        }
        if is_unprivileged && taken.by_unprivileged >= self.most.unprivileged {
            if taken.should_log(None) {
                warn!(
                    connections = taken.by_unprivileged,
                    "clients that cannot query sasl have reached half of limits.connections; closing their new \
                     connections"
                );
            }
            debug!(
                client = %name(peer),
                "connection closed: limit of clients that cannot query sasl"
            );
            return None;
        }
        taken.all += 1;
        taken.by_peer.insert(peer, own + 1);
        taken.by_unprivileged += usize::from(is_unprivileged);
        Some(Permit {
            peer,
            is_unprivileged,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Quota {
    fn of(connections: usize, per_peer: Option<usize>) -> Self {
        let share = |of: usize| (of / SHARE).max(1);
        let peer = per_peer.unwrap_or_else(|| share(connections)).min(connections);
        let unprivileged = share(connections);
        Self {
            all: connections,
            peer,
            per_unprivileged_peer: peer.min(share(unprivileged)),
            unprivileged,
        }
    }
}

impl Usage {
    /// Whether a rejected peer is to be logged. Remembers a limited number of peers.
    fn should_log(&mut self, peer: Option<Peer>) -> bool {
        if self
            .logged_at
            .get(&peer)
            .is_some_and(|at| at.elapsed() < LOG_INTERVAL)
        {
            return false;
        }
        if self.logged_at.len() >= REFUSALS_REMEMBERED {
            self.logged_at.retain(|_, at| at.elapsed() < LOG_INTERVAL);
            if self.logged_at.len() >= REFUSALS_REMEMBERED {
                return false;
            }
        }
        self.logged_at.insert(peer, Instant::now());
        true
    }

    fn release(&mut self, peer: Peer, is_unprivileged: bool) {
        self.all = self.all.saturating_sub(1);
        if let Some(own) = self.by_peer.get_mut(&peer) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.by_peer.remove(&peer);
            }
        }
        self.by_unprivileged = self.by_unprivileged.saturating_sub(usize::from(is_unprivileged));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.taken).release(self.peer, self.is_unprivileged);
    }
}

fn lock(taken: &Mutex<Usage>) -> MutexGuard<'_, Usage> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Raises the soft limit of descriptors to `wanted`, which is 1024 on most systems for the sake of select(2), and returns the
/// limit in effect.
fn descriptors(wanted: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return wanted;
    };
    let wanted = u64::try_from(wanted).unwrap_or(hard).clamp(soft, hard.max(soft));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{ConnectionLimiter, Permit, Quota, lock};
    use crate::lookup::peer::Peer;
    use crate::server::limits::REFUSALS_REMEMBERED;

    fn user(uid: u32) -> Peer {
        Peer::User { uid, address: None }
    }

    /// As the server does it: only where there is a place at all.
    fn connect(connection_limiter: &ConnectionLimiter, peer: Peer, is_unprivileged: bool) -> Option<Permit> {
        assert!(!connection_limiter.is_full());
        connection_limiter.acquire(peer, is_unprivileged)
    }

    #[test]
    fn shares_are_halves_and_never_zero() {
        let most = |connections, per_peer| {
            let most = Quota::of(connections, per_peer);
            (most.peer, most.per_unprivileged_peer, most.unprivileged)
        };
        assert_eq!(most(10_000, None), (5000, 2500, 5000));
        assert_eq!(most(10_000, Some(9999)), (9999, 2500, 5000));
        assert_eq!(most(10_000, Some(10_001)), (10_000, 2500, 5000));
        assert_eq!(most(10_000, Some(7)), (7, 7, 5000));
        for few in 1..4 {
            let (peer, per_unprivileged_peer, unprivileged) = most(few, None);
            assert!(peer >= 1 && per_unprivileged_peer >= 1 && unprivileged >= 1);
        }
    }

    #[test]
    fn a_peer_gets_its_share_and_a_released_permit_is_available_again() {
        let connection_limiter = ConnectionLimiter::of(100, Some(3));
        let mut permits: Vec<Permit> = (0..3)
            .map(|_| connect(&connection_limiter, user(7), false).unwrap())
            .collect();
        assert!(connect(&connection_limiter, user(7), false).is_none());
        let elsewhere = Peer::User {
            uid: 7,
            address: Some(Ipv4Addr::LOCALHOST.into()),
        };
        assert!(
            connect(&connection_limiter, elsewhere, false).is_none(),
            "the same user"
        );
        assert!(connect(&connection_limiter, user(8), false).is_some());
        permits.pop();
        assert!(connect(&connection_limiter, elsewhere, false).is_some());
        // The refused connections left nothing behind.
        assert_eq!(lock(&connection_limiter.taken).all, 2);
    }

    #[test]
    fn unprivileged_peers_leave_half_of_all_connections_to_others() {
        let connection_limiter = ConnectionLimiter::of(100, None);
        let unprivileged: Vec<Permit> = (0..200)
            .map_while(|uid| connect(&connection_limiter, user(uid), true))
            .collect();
        assert_eq!(unprivileged.len(), 50);
        let allowed: Vec<Permit> = (0..50)
            .map_while(|_| connect(&connection_limiter, user(1000), false))
            .collect();
        assert_eq!(allowed.len(), 50);
        assert!(connection_limiter.is_full());
        drop(unprivileged);
        assert!(connect(&connection_limiter, user(0), true).is_some());
        // One of them has no more than half of that.
        let one: Vec<Permit> = (0..200)
            .map_while(|_| connect(&connection_limiter, user(5), true))
            .collect();
        assert_eq!(one.len(), 25);
    }

    #[test]
    fn of_disconnected_peers_only_the_logged_refusals_are_remembered() {
        let connection_limiter = ConnectionLimiter::of(10_000, Some(1));
        for uid in 0..u32::try_from(REFUSALS_REMEMBERED).unwrap() + 10 {
            let permit = connect(&connection_limiter, user(uid), false);
            assert!(permit.is_some());
            assert!(connect(&connection_limiter, user(uid), false).is_none());
        }
        let taken = lock(&connection_limiter.taken);
        assert!(taken.all == 0 && taken.by_peer.is_empty() && taken.by_unprivileged == 0);
        assert_eq!(taken.logged_at.len(), REFUSALS_REMEMBERED);
    }
}
