//! What a version of the tables would change in another one: senders, logins, the TLS of next hops, the default relay.
//!
//! Both versions are snapshots in this process. An entry is compared with the entry of the same key, and shown with the
//! next hops that lookups result in, so that a removed entry shows what applies in its place. A login is compared and
//! never shown, not even its user.
//!
//! Limits: time and memory are those of two tables and of the changes. What the settings change is not listed by
//! setting, except for those that take effect on restart.

use serde::Serialize;

use super::excerpt::{shown_key, shown_next_hops};
use crate::config::setting;
use crate::lookup::address::{Delimiters, Key, LookupKeys};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::relay_tls::HopDescription;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::{Hit, Table};
use crate::os::printable::printable;
use crate::protocol::answer::{Answer, Reason};
use crate::source::evaluate::LoadedConfig;

/// All changes. Names and meaning are an interface.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Changes {
    /// The number of the snapshot that they change.
    pub generation: u64,
    /// The entries of the relay map.
    pub senders: Vec<SenderChange>,
    /// The entries of the credentials file, and the credentials of the default relay.
    pub logins: Vec<LoginChange>,
    /// The next hops that both versions have.
    pub tls: Vec<TlsChange>,
    /// The next hops of the default relay.
    pub default_relay: Vec<DefaultRelayChange>,
    /// Whether the settings differ.
    pub settings: bool,
    /// Those of the changed settings that take effect on restart.
    pub restart: Vec<&'static str>,
}

/// What happens to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// It is new and has a value.
    Added,
    /// It has another next hop, or one in place of direct delivery.
    Moved,
    /// It has another login.
    Changed,
    /// It has no value any more, or is new without one.
    Excluded,
    /// There is no such entry any more.
    Removed,
}

impl Kind {
    /// Returns the word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Moved => "moved",
            Self::Changed => "changed",
            Self::Excluded => "excluded",
            Self::Removed => "removed",
        }
    }

    /// Returns what happens to an entry; `None` if nothing. `other` is for another value.
    fn of(before: Option<Hit<'_>>, after: Option<Hit<'_>>, other: Self) -> Option<Self> {
        match (before, after) {
            (before, after) if before == after => None,
            (_, None | Some(Hit::Absent)) => Some(Self::Removed),
            (_, Some(Hit::NoValue)) => Some(Self::Excluded),
            (None | Some(Hit::Absent), Some(_)) => Some(Self::Added),
            (Some(_), Some(_)) => Some(other),
        }
    }
}

/// A change of a relay map entry.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SenderChange {
    /// The key.
    pub sender: String,
    /// What happens to the entry.
    pub change: Kind,
    /// The next hop before, from whatever entry; `null` for direct delivery.
    pub before: Option<String>,
    /// The next hop after.
    pub after: Option<String>,
}

/// A change of a login.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LoginChange {
    /// The key, or the variables of the default relay.
    pub key: String,
    /// What happens to the entry.
    pub change: Kind,
}

/// A change of the TLS of a next hop.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TlsChange {
    /// The next hop.
    pub nexthop: String,
    /// Mode, policy, and the service if that changes.
    pub before: String,
    /// The same, after.
    pub after: String,
}

/// A change of the default relay.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DefaultRelayChange {
    /// The variable.
    pub variable: &'static str,
    /// Its next hop before; `null` if unset.
    pub before: Option<String>,
    /// Its next hop after.
    pub after: Option<String>,
}

impl Changes {
    /// Returns what `after` changes in `before`, which is active as the snapshot of this number.
    pub(crate) fn between(before: &LoadedConfig, after: &LoadedConfig, generation: u64) -> Self {
        let (old, new) = (&before.snapshot, &after.snapshot);
        Self {
            generation,
            senders: senders(old, new),
            logins: logins(old, new),
            tls: tls(old, new),
            default_relay: default_relay(&old.default, &new.default),
            settings: before.settings != after.settings,
            restart: setting::keys_needing_restart(&after.settings, &before.settings),
        }
    }

    /// Returns the number of changes.
    pub(crate) fn count(&self) -> usize {
        self.senders.len()
            + self.logins.len()
            + self.tls.len()
            + self.default_relay.len()
            + usize::from(self.settings)
    }

    /// Returns a line for each change.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let direct = |next_hop: &Option<String>| next_hop.clone().unwrap_or_else(|| "direct".to_owned());
        let unset = |next_hop: &Option<String>| next_hop.clone().unwrap_or_else(|| "unset".to_owned());
        let senders = self.senders.iter().map(move |change| {
            let (before, after) = (direct(&change.before), direct(&change.after));
            let route = if before == after {
                after
            } else {
                format!("{before} -> {after}")
            };
            format!("{}: {}: {route}", change.sender, change.change.name())
        });
        let logins = self
            .logins
            .iter()
            .map(|change| format!("{}: login {}", change.key, change.change.name()));
        let tls = self
            .tls
            .iter()
            .map(|change| format!("{}: TLS: {} -> {}", change.nexthop, change.before, change.after));
        let default_relay = self.default_relay.iter().map(move |change| {
            let (before, after) = (unset(&change.before), unset(&change.after));
            format!("{}: default relay: {before} -> {after}", change.variable)
        });
        let settings = self.settings.then(|| match self.restart.as_slice() {
            [] => "settings: changed".to_owned(),
            names => format!("settings: changed; on restart: {}", names.join(", ")),
        });
        senders
            .chain(logins)
            .chain(tls)
            .chain(default_relay)
            .chain(settings)
    }
}

/// Returns the keys whose entries differ, folded and as written, each once.
fn changed_keys(before: &Table, after: &Table, other: Kind) -> Vec<(Vec<u8>, Vec<u8>, Kind)> {
    let mut changed = Vec::new();
    let mut keys = LookupKeys::default();
    for table in [before, after] {
        table.for_each(|record| {
            // Delimiters do not matter for the whole key.
            keys.parse(record.key, &Delimiters::default());
            let key = Key::from(keys.whole());
            if let Some(kind) = Kind::of(before.entry_hit(key), after.entry_hit(key), other) {
                changed.push((keys.whole().to_vec(), record.key.to_vec(), kind));
            }
        });
    }
    changed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    changed.dedup_by(|a, b| a.0 == b.0);
    changed
}

fn senders(before: &Snapshot, after: &Snapshot) -> Vec<SenderChange> {
    let entries = changed_keys(&before.relay_map, &after.relay_map, Kind::Moved);
    let mut keys = LookupKeys::default();
    let mut next_hop = |snapshot: &Snapshot, key: &[u8]| match snapshot.next_hop_for(key, &mut keys) {
        Answer::Found(list) => Some(shown_next_hops(list.expose())),
        Answer::NotFound => None,
        Answer::CannotTell(_) => Some(CANNOT_TELL.to_owned()),
    };
    let changes = entries.into_iter().map(|(_, key, change)| SenderChange {
        sender: shown_key(&key),
        change,
        before: next_hop(before, &key),
        after: next_hop(after, &key),
    });
    changes.collect()
}

const CANNOT_TELL: &str = "cannot tell";

fn logins(before: &Snapshot, after: &Snapshot) -> Vec<LoginChange> {
    let changed = changed_keys(&before.credentials, &after.credentials, Kind::Changed);
    let entries = changed.into_iter().map(|(_, key, change)| LoginChange {
        key: shown_key(&key),
        change,
    });
    let default = match (before.default.login(), after.default.login()) {
        (before, after) if before == after => None,
        (None, Some(_)) => Some(Kind::Added),
        (Some(_), None) => Some(Kind::Removed),
        _ => Some(Kind::Changed),
    };
    let default = default.map(|change| LoginChange {
        key: "RELAY_USER and RELAY_PASSWORD".to_owned(),
        change,
    });
    entries.chain(default).collect()
}

fn tls(before: &Snapshot, after: &Snapshot) -> Vec<TlsChange> {
    let mut changes: Vec<TlsChange> = after
        .relay_tls
        .next_hops()
        .filter_map(|next_hop| {
            let old = before.relay_tls.describe(next_hop)?;
            let new = after.relay_tls.describe(next_hop)?;
            let names_service = match (&old, &new) {
                (Ok(old), Ok(new)) => old.service != new.service,
                _ => true,
            };
            (old != new).then(|| TlsChange {
                nexthop: shown_next_hops(next_hop),
                before: describe(&old, names_service),
                after: describe(&new, names_service),
            })
        })
        .collect();
    changes.sort_unstable_by(|a, b| a.nexthop.cmp(&b.nexthop));
    changes
}

fn describe(tls: &Result<HopDescription<'_>, Reason>, names_service: bool) -> String {
    let Ok(tls) = tls else {
        return CANNOT_TELL.to_owned();
    };
    let mut text = format!("{} {}", tls.mode.name(), printable(tls.policy));
    if names_service {
        text.extend([" via=", tls.service.as_str()]);
    }
    text
}

fn default_relay(before: &DefaultRelay, after: &DefaultRelay) -> Vec<DefaultRelayChange> {
    let next_hop = |default: &DefaultRelay, variable: &str| {
        let mut set = default.next_hops();
        let (list, _) = set.find(|(_, name)| *name == variable)?;
        Some(shown_next_hops(list))
    };
    let changes = ["RELAY_HOST", "DEFAULT_RELAY_HOST"].map(|variable| DefaultRelayChange {
        variable,
        before: next_hop(before, variable),
        after: next_hop(after, variable),
    });
    let changes = changes.into_iter();
    changes.filter(|change| change.before != change.after).collect()
}
