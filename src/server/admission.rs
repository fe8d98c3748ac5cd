//! Who gets a connection: so many there are in all, and so many for each peer.
//!
//! Where there are as many as there may be, none is accepted: the kernel's queue waits and not our memory. A peer that
//! has its share already is known only afterwards: its connection is closed at once, because if it waited, those behind
//! it in the queue would wait as well.
//!
//! Peers that may not ask for credentials are no part of a mail system that is set up right, and one person may be a
//! great many of them (whoever has subordinate user numbers is 65 536 users). So they share half of all connections, and
//! no peer of either kind has more than half of what its kind has. Against all that strangers can do, Postfix is left
//! with half of all.
//!
//! Which kind a peer is, is decided when it connects. A list of allowed users that is edited does not move or close a
//! connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

use super::access::refusals::name;
use super::limits::{CONNECTIONS, REFUSALS_REMEMBERED, SHARE, SPARE_DESCRIPTORS};
use crate::config::Limits;
use crate::lookup::peer::Peer;
use crate::net::accept::SAID_AGAIN;

/// The connections of one server.
pub(super) struct Admission {
    most: Most,
    taken: Arc<Mutex<Taken>>,
}

/// How many connections whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Most {
    /// All together.
    all: usize,
    /// A peer that may ask for credentials.
    peer: usize,
    /// One that may not.
    stranger: usize,
    /// All of the latter together.
    strangers: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Of peers that have any.
    by_peer: HashMap<Peer, usize>,
    by_strangers: usize,
    /// Whom the log has named, and when; `None` are all strangers together.
    said: HashMap<Option<Peer>, Instant>,
}

/// A connection that was admitted, as long as this lives.
pub(super) struct Place {
    peer: Peer,
    is_stranger: bool,
    taken: Arc<Mutex<Taken>>,
}

impl Admission {
    /// As the settings say, and as many as the process may have descriptors for.
    #[must_use]
    pub(super) fn new(limits: Limits) -> Self {
        let wanted = limits.connections.unwrap_or(CONNECTIONS);
        let open_files = descriptors(wanted.saturating_add(SPARE_DESCRIPTORS));
        let connections = wanted.min(open_files.saturating_sub(SPARE_DESCRIPTORS)).max(1);
        if connections < wanted {
            warn!(
                "no more than {connections} connections are served at once, and not {wanted}, because the process may \
                 have {open_files} files open, and keeps {SPARE_DESCRIPTORS} for itself; raise that (LimitNOFILE= in a \
                 systemd unit, --ulimit nofile= in Docker), or lower limits.connections"
            );
        }
        Self::of(connections, limits.connections_per_peer)
    }

    fn of(connections: usize, per_peer: Option<usize>) -> Self {
        Self {
            most: Most::of(connections, per_peer),
            taken: Arc::default(),
        }
    }

    /// Whether there is no place for anybody.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        lock(&self.taken).all >= self.most.all
    }

    /// Takes a connection of this peer on. `None` if it has too many, which the log is told.
    #[must_use]
    pub(super) fn admit(&self, peer: Peer, is_stranger: bool) -> Option<Place> {
        let peer = peer.counts_as();
        let mut taken = lock(&self.taken);
        let own = taken.by_peer.get(&peer).copied().unwrap_or_default();
        let most = if is_stranger {
            self.most.stranger
        } else {
            self.most.peer
        };
        if own >= most {
            if taken.is_news(Some(peer)) {
                warn!(
                    "{} has {own} connections, as many as it may (limits.connections_per_peer); more of it are closed \
                     at once",
                    name(peer)
                );
            }
            debug!(?peer, own, "closed: too many connections");
            return None;
        }
        if is_stranger && taken.by_strangers >= self.most.strangers {
            if taken.is_news(None) {
                warn!(
                    "peers that may not ask sasl have {} connections, half of all (limits.connections); more of them \
                     are closed at once",
                    taken.by_strangers
                );
            }
            debug!(?peer, own, "closed: too many connections of such peers");
            return None;
        }
        taken.all += 1;
        taken.by_peer.insert(peer, own + 1);
        taken.by_strangers += usize::from(is_stranger);
        Some(Place {
            peer,
            is_stranger,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Most {
    fn of(connections: usize, per_peer: Option<usize>) -> Self {
        let share = |of: usize| (of / SHARE).max(1);
        let peer = per_peer.unwrap_or_else(|| share(connections)).min(connections);
        let strangers = share(connections);
        Self {
            all: connections,
            peer,
            stranger: peer.min(share(strangers)),
            strangers,
        }
    }
}

impl Taken {
    /// Whether the log is to have it. Nothing grows for those that are not to be named.
    fn is_news(&mut self, peer: Option<Peer>) -> bool {
        if self.said.get(&peer).is_some_and(|at| at.elapsed() < SAID_AGAIN) {
            return false;
        }
        if self.said.len() >= REFUSALS_REMEMBERED {
            self.said.retain(|_, at| at.elapsed() < SAID_AGAIN);
            if self.said.len() >= REFUSALS_REMEMBERED {
                return false;
            }
        }
        self.said.insert(peer, Instant::now());
        true
    }

    fn leave(&mut self, peer: Peer, is_stranger: bool) {
        self.all = self.all.saturating_sub(1);
        if let Some(own) = self.by_peer.get_mut(&peer) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.by_peer.remove(&peer);
            }
        }
        self.by_strangers = self.by_strangers.saturating_sub(usize::from(is_stranger));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).leave(self.peer, self.is_stranger);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Raises the soft limit of descriptors to `wanted`, because it is 1024 nearly everywhere for the sake of programs that
/// use select(2), and says how many there may be now.
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

    use super::{Admission, Most, Place, lock};
    use crate::lookup::peer::Peer;
    use crate::server::limits::REFUSALS_REMEMBERED;

    fn user(uid: u32) -> Peer {
        Peer::User { uid, address: None }
    }

    /// As the server does it: only where there is a place at all.
    fn connect(admission: &Admission, peer: Peer, is_stranger: bool) -> Option<Place> {
        assert!(!admission.is_full());
        admission.admit(peer, is_stranger)
    }

    #[test]
    fn shares_are_halves_and_never_nothing() {
        let most = |connections, per_peer| {
            let most = Most::of(connections, per_peer);
            (most.peer, most.stranger, most.strangers)
        };
        assert_eq!(most(10_000, None), (5000, 2500, 5000));
        assert_eq!(most(10_000, Some(9999)), (9999, 2500, 5000));
        assert_eq!(most(10_000, Some(10_001)), (10_000, 2500, 5000));
        assert_eq!(most(10_000, Some(7)), (7, 7, 5000));
        for few in 1..4 {
            let (peer, stranger, strangers) = most(few, None);
            assert!(peer >= 1 && stranger >= 1 && strangers >= 1);
        }
    }

    #[test]
    fn a_peer_has_its_share_and_a_place_that_is_left_is_free() {
        let admission = Admission::of(100, Some(3));
        let mut places: Vec<Place> = (0..3)
            .map(|_| connect(&admission, user(7), false).unwrap())
            .collect();
        assert!(connect(&admission, user(7), false).is_none());
        let elsewhere = Peer::User {
            uid: 7,
            address: Some(Ipv4Addr::LOCALHOST.into()),
        };
        assert!(connect(&admission, elsewhere, false).is_none(), "the same user");
        assert!(connect(&admission, user(8), false).is_some());
        places.pop();
        assert!(connect(&admission, elsewhere, false).is_some());
        // Both of those who were refused have left nothing behind.
        assert_eq!(lock(&admission.taken).all, 2);
    }

    #[test]
    fn strangers_leave_half_of_all_however_many_they_are() {
        let admission = Admission::of(100, None);
        let strangers: Vec<Place> = (0..200)
            .map_while(|uid| connect(&admission, user(uid), true))
            .collect();
        assert_eq!(strangers.len(), 50);
        let allowed: Vec<Place> = (0..50)
            .map_while(|_| connect(&admission, user(1000), false))
            .collect();
        assert_eq!(allowed.len(), 50);
        assert!(admission.is_full());
        drop(strangers);
        assert!(connect(&admission, user(0), true).is_some());
        // One of them has no more than half of that.
        let one: Vec<Place> = (0..200)
            .map_while(|_| connect(&admission, user(5), true))
            .collect();
        assert_eq!(one.len(), 25);
    }

    #[test]
    fn nothing_is_remembered_of_those_who_have_gone_but_what_the_log_has() {
        let admission = Admission::of(10_000, Some(1));
        for uid in 0..u32::try_from(REFUSALS_REMEMBERED).unwrap() + 10 {
            let place = connect(&admission, user(uid), false);
            assert!(place.is_some());
            assert!(connect(&admission, user(uid), false).is_none());
        }
        let taken = lock(&admission.taken);
        assert!(taken.all == 0 && taken.by_peer.is_empty() && taken.by_strangers == 0);
        assert_eq!(taken.said.len(), REFUSALS_REMEMBERED);
    }
}
