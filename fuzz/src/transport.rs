//! The answers of the maps `transport` and `tls`, whatever the files are.

use std::path::Path;

use postmapd::diagnostics::Findings;
use postmapd::lookup::address::LookupKeys;
use postmapd::lookup::default_relay::{Configured, DefaultRelay};
use postmapd::lookup::map::Map;
use postmapd::lookup::relay_tls::{RelayTls, Services};
use postmapd::lookup::search::Scratch;
use postmapd::lookup::snapshot::Snapshot;
use postmapd::lookup::table::Table;
use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use postmapd::lookup::tls_policy::ServiceName;
use postmapd::protocol::answer::Answer;

use super::plain::next_hop;

/// The relay map, the TLS file, the service for STARTTLS and the default relay, with NUL bytes between them.
pub fn transport(data: &[u8]) {
    let mut parts = data.split(|c| *c == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (relay_map, tls, service, default) = (next(), next(), next(), next());
    // An entry can name a service, but not this one, which stands for implicit TLS alone.
    let services = Services {
        starttls: ServiceName::try_from(service).unwrap_or(Services::default().starttls),
        implicit: ServiceName::try_from("tls-from-the-first-byte").unwrap(),
    };
    let own = services.implicit.as_str().as_bytes();
    if data.windows(own.len()).any(|part| part == own) {
        return;
    }
    let default = match next_hop::first_fault(default) {
        None => Configured::Value(default.to_vec()),
        Some(_) => Configured::Unset,
    };
    let default = DefaultRelay::new(default, Configured::Unset, Configured::Unset);
    let (relay_map, tls) = (table(&RELAY_MAP, relay_map), table(&RELAY_TLS, tls));
    let mut senders = vec![b"<>".to_vec(), b"other@elsewhere.test".to_vec()];
    relay_map.for_each(|record| senders.push(record.key.to_vec()));
    let (relay_tls, _) = RelayTls::new(&relay_map, &default, &tls, &services);
    let snapshot = Snapshot {
        relay_tls: relay_tls.into(),
        default: default.into(),
        ..Snapshot::new(relay_map.into(), Table::empty(&CREDENTIALS).into())
    };
    for sender in senders.iter().take(200) {
        check(&snapshot, sender, &services);
    }
}

fn table(spec: &'static TableSpec, text: &[u8]) -> Table {
    Table::build(
        spec,
        Path::new("t"),
        text.to_vec().into(),
        &mut Findings::default(),
    )
}

fn check(snapshot: &Snapshot, sender: &[u8], services: &Services) {
    let (mut keys, mut scratch) = (LookupKeys::default(), Scratch::default());
    let next_hop = Map::RELAYHOST.answer(snapshot, sender, &mut keys, &mut scratch);
    let next_hop = match next_hop {
        Answer::Found(value) => Some(value.expose().to_vec()),
        Answer::NotFound => None,
        Answer::CannotTell(reason) => {
            let answer = Map::TRANSPORT.answer(snapshot, sender, &mut keys, &mut scratch);
            assert!(answer == Answer::CannotTell(reason));
            return;
        }
    };
    let answer = match Map::TRANSPORT.answer(snapshot, sender, &mut keys, &mut scratch) {
        Answer::Found(value) => value.expose().to_vec(),
        Answer::NotFound => return assert_eq!(next_hop, None),
        Answer::CannotTell(_) => return assert!(next_hop.is_some()),
    };
    // Postfix stops the mail of all senders at any other answer.
    let colon = answer.iter().position(|c| *c == b':').unwrap();
    let (service, list) = (&answer[..colon], &answer[colon + 1..]);
    assert!(service[0].is_ascii_alphanumeric());
    assert!(
        service
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(c))
    );
    assert!(!b" \t,".contains(&list[0]));
    assert!(next_hop.unwrap().ends_with(list));
    let is_implicit = service == services.implicit.as_str().as_bytes();
    for element in list
        .split(|c| b" \t,".contains(c))
        .filter(|element| !element.is_empty())
    {
        // A next hop that has a service has a policy.
        let Answer::Found(policy) = Map::TLS.answer(snapshot, element, &mut keys, &mut scratch) else {
            panic!("{} has no policy", element.escape_ascii());
        };
        let policy = policy.expose().to_ascii_lowercase();
        let is_weak = ["none", "may", "dane"].iter().any(|level| {
            let rest = policy.strip_prefix(level.as_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|c| b" \t,".contains(c)))
        });
        assert!(!is_weak || !is_implicit);
    }
}
