//! The reasons that refused peers get. Each peer is logged once.
//!
//! Limits: at most [`REFUSALS_REMEMBERED`] peers are remembered, for [`REFUSALS_FORGOTTEN`]. Further peers are refused as
//! well, and it is logged once that there are more. A user is one peer, from whichever loopback address it connects; an IPv6 /64
//! is one peer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::warn;

use crate::lookup::peer::Peer;
use crate::os::printable::printable;
use crate::os::user_namespace;
use crate::server::limits::{REFUSALS_FORGOTTEN, REFUSALS_REMEMBERED};

/// The refusals of one server.
pub struct Refusals {
    logged: Mutex<Logged>,
}

struct Logged {
    reasons: HashMap<Peer, Arc<str>>,
    since: Instant,
    /// Whether the log has that some are not named.
    is_full: bool,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            logged: Mutex::new(Logged {
                reasons: HashMap::new(),
                since: Instant::now(),
                is_full: false,
            }),
        }
    }
}

impl Refusals {
    /// Returns why this peer is refused, and logs it the first time.
    #[must_use]
    pub fn reason(&self, peer: Peer) -> Arc<str> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.since.elapsed() > REFUSALS_FORGOTTEN {
            logged.reasons.clear();
            (logged.since, logged.is_full) = (Instant::now(), false);
        }
        if let Some(reason) = logged.reasons.get(&peer.accounting_peer()) {
            // For a host, the text names the address that asks, not the first one of its network.
            return match peer {
                Peer::Host(_) => reason_of(peer, None),
                _ => Arc::clone(reason),
            };
        }
        if logged.reasons.len() >= REFUSALS_REMEMBERED {
            if !logged.is_full {
                warn!(
                    limit = REFUSALS_REMEMBERED,
                    "too many clients refused; not logging further ones"
                );
            }
            logged.is_full = true;
            return reason_of(peer, None);
        }
        let reason = reason_of(peer, name_of(peer).as_deref());
        warn!(%reason, "refused a client");
        logged.reasons.insert(peer.accounting_peer(), Arc::clone(&reason));
        reason
    }
}

/// The reason as a text. Postfix logs its first 200 characters.
fn reason_of(peer: Peer, name: Option<&str>) -> Arc<str> {
    let who = called(peer, name);
    match peer {
        Peer::User { .. } | Peer::Unknown { .. } => {
            format!("{who} is not allowed to query sasl: not in allow_users of postmapd")
        }
        Peer::Host(_) => format!("{who} is not allowed to connect: not in allow_networks of postmapd"),
    }
    .into()
}

/// Returns how the log names a peer.
pub(in crate::server) fn name(peer: Peer) -> String {
    called(peer, name_of(peer).as_deref())
}

fn called(peer: Peer, name: Option<&str>) -> String {
    match (peer, name) {
        (Peer::User { uid, .. }, Some(name)) => format!("user {name} ({uid})"),
        (Peer::User { uid, .. }, None) => format!("user {uid}"),
        (Peer::Unknown { .. }, _) => match user_namespace::overflow_uid() {
            None => "an unidentified user".to_owned(),
            Some(number) => format!(
                "an unidentified user ({number} stands for every user that this user namespace does not map)"
            ),
        },
        (Peer::Host(address), _) => address.to_string(),
    }
}

/// The name of a user, from /etc/passwd alone: another source may be slow, and lookups would wait for it.
fn name_of(peer: Peer) -> Option<String> {
    const ENOUGH: u64 = 1 << 20;
    let Peer::User { uid, .. } = peer else {
        return None;
    };
    let lines = BufReader::new(File::open("/etc/passwd").ok()?.take(ENOUGH)).split(b'\n');
    let uid = uid.to_string();
    lines.map_while(Result::ok).find_map(|line| {
        let mut fields = line.split(|c| *c == b':');
        let name = fields.next().filter(|name| (1..=64).contains(&name.len()))?;
        (fields.nth(1)? == uid.as_bytes()).then(|| printable(name))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{Refusals, name_of};
    use crate::lookup::peer::Peer;
    use crate::server::limits::REFUSALS_REMEMBERED;

    fn remembered(refusals: &Refusals) -> usize {
        refusals.logged.lock().unwrap().reasons.len()
    }

    #[test]
    fn the_reason_names_the_peer_and_the_setting() {
        let refusals = Refusals::default();
        let reason = |peer| refusals.reason(peer).to_string();
        let root = reason(Peer::User {
            uid: 0,
            address: None,
        });
        assert!(
            root.contains("root (0)") && root.contains("allow_users"),
            "{root}"
        );
        let unknown = reason(Peer::Unknown { address: None });
        assert!(unknown.contains("allow_users"), "{unknown}");
        let host = "2001:db8::1".parse().unwrap();
        let host = reason(Peer::Host(host));
        assert!(
            host.contains("2001:db8::1") && host.contains("allow_networks"),
            "{host}"
        );
        for reason in [root, unknown, host] {
            assert!(reason.len() < 200, "{reason}");
        }
        // Another of the same network is named as itself.
        let host = reason(Peer::Host("2001:db8::2".parse().unwrap()));
        assert!(host.contains("2001:db8::2"), "{host}");
    }

    #[test]
    fn no_more_peers_are_remembered_than_the_limit() {
        let refusals = Refusals::default();
        for n in 0..10 {
            let address = Some(IpAddr::from(Ipv4Addr::new(127, 0, 0, n)));
            let _ = refusals.reason(Peer::User { uid: 7, address });
            let _ = refusals.reason(Peer::Unknown { address });
            let _ = refusals.reason(Peer::Host(format!("2001:db8::{n}").parse().unwrap()));
        }
        assert_eq!(remembered(&refusals), 3);
        for uid in 0..u32::try_from(REFUSALS_REMEMBERED).unwrap() + 10 {
            let reason = refusals.reason(Peer::User { uid, address: None });
            assert!(reason.contains(&uid.to_string()), "{reason}");
        }
        assert_eq!(remembered(&refusals), REFUSALS_REMEMBERED);
    }

    #[test]
    fn names_come_from_the_file_of_local_users() {
        let name = |uid| name_of(Peer::User { uid, address: None });
        assert_eq!(name(0).as_deref(), Some("root"));
        assert_eq!(name(4_000_000_000), None);
    }
}
