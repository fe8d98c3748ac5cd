use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{MixedList, RelayTls, Services, WeakPolicy};
use crate::diagnostics::Findings;
use crate::lookup::address::LookupKeys;
use crate::lookup::default_relay::{Configured, DefaultRelay};
use crate::lookup::map::Map;
use crate::lookup::reason;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Table;
use crate::lookup::table::spec::{RELAY_MAP, RELAY_TLS, TableSpec};
use crate::lookup::tls_policy;
use crate::protocol::answer::{Answer, Reason};

fn table(spec: &'static TableSpec, text: &str) -> Table {
    let text = text.as_bytes().to_vec().into();
    Table::build(spec, Path::new("t"), text, &mut Findings::default())
}

/// Returns a snapshot, and what is wrong between its files.
fn snapshot(relay_map: &str, tls: &str, default: DefaultRelay) -> (Snapshot, super::Conflicts) {
    with_tables(table(&RELAY_MAP, relay_map), &table(&RELAY_TLS, tls), default)
}

fn with_tables(relay_map: Table, tls: &Table, default: DefaultRelay) -> (Snapshot, super::Conflicts) {
    let (relay_tls, conflicts) = RelayTls::new(&relay_map, &default, tls, &Services::default());
    let credentials = Table::empty(&crate::lookup::table::spec::CREDENTIALS);
    let snapshot = Snapshot {
        relay_tls: relay_tls.into(),
        default: default.into(),
        ..Snapshot::new(relay_map.into(), credentials.into())
    };
    (snapshot, conflicts)
}

fn lookup(snapshot: &Snapshot, map: Map, key: &str) -> String {
    let (mut keys, mut scratch) = (LookupKeys::default(), Scratch::default());
    match map.answer(snapshot, key.as_bytes(), &mut keys, &mut scratch) {
        Answer::Found(value) => String::from_utf8(value.expose().to_vec()).unwrap(),
        Answer::NotFound => "-".to_owned(),
        Answer::CannotTell(reason) => cannot_tell(reason),
    }
}

fn cannot_tell(reason: Reason) -> String {
    format!("? {reason}")
}

fn default_relay(host: &str, tls: Option<&str>) -> DefaultRelay {
    let host = Configured::Value(host.as_bytes().to_vec());
    let tls = tls.map_or(Configured::Unset, |tls| {
        Configured::Value(tls_policy::parse(tls.as_bytes()).unwrap())
    });
    DefaultRelay::new(host, Configured::Unset, Configured::Unset).with_tls(tls)
}

#[test]
fn the_most_specific_entry_decides_for_a_next_hop() {
    let relay_map = "@a [r.test]:587\n@b [R.test]:2465\n@c r.test\n@d [s.test]:587\n@e [2001:DB8::1]:25\n@f [t.test]:25\n";
    let tls =
        "[r.test]:2465 implicit\nr.test verify\n* encrypt\n2001:db8::1 none\nt.test starttls via=other\n";
    let (snapshot, conflicts) = snapshot(relay_map, tls, DefaultRelay::default());
    assert_eq!(conflicts, super::Conflicts::default());
    for (next_hop, policy) in [
        ("[r.test]:587", "verify"),
        ("[R.TEST]:587", "verify"),
        ("[r.test]:2465", "secure match=nexthop servername=hostname"),
        ("r.test", "verify"),
        ("[s.test]:587", "encrypt"),
        ("[2001:db8::1]:25", "none"),
        ("[t.test]:25", "secure match=nexthop servername=hostname"),
    ] {
        assert_eq!(lookup(&snapshot, Map::TLS, next_hop), policy, "{next_hop}");
    }
    for (sender, transport) in [
        ("x@a", "relay-starttls:[r.test]:587"),
        ("x@b", "relay-implicit:[R.test]:2465"),
        ("x@c", "relay-starttls:r.test"),
        ("x@f", "other:[t.test]:25"),
    ] {
        assert_eq!(lookup(&snapshot, Map::TRANSPORT, sender), transport, "{sender}");
    }
}

#[test]
fn only_the_next_hop_of_a_sender_has_a_policy() {
    let (snapshot, _) = snapshot(
        "@a [r.test]:587, s.test\n@b DUNNO\n@c\n",
        "other.test encrypt\n* encrypt\n",
        default_relay("[d.test]:25", None),
    );
    for next_hop in ["[r.test]:587", "s.test", "[d.test]:25"] {
        assert_eq!(lookup(&snapshot, Map::TLS, next_hop), "encrypt", "{next_hop}");
    }
    for other in [
        "r.test",
        "[r.test]",
        "other.test",
        ".test",
        "d.test",
        "*",
        "DUNNO",
        "x@a",
    ] {
        assert_eq!(lookup(&snapshot, Map::TLS, other), "-", "{other}");
    }
}

#[test]
fn relay_tls_is_for_the_default_relay_and_less_specific_than_a_line_for_it() {
    let policy = |tls_file, relay_tls| {
        let (snapshot, _) = snapshot(
            "@a [r.test]:25\n",
            tls_file,
            default_relay("[d.test]:25", Some(relay_tls)),
        );
        assert_eq!(
            lookup(&snapshot, Map::TLS, "[r.test]:25"),
            if tls_file.contains('*') {
                "may"
            } else {
                "secure match=nexthop servername=hostname"
            }
        );
        let transport = lookup(&snapshot, Map::TRANSPORT, "x@any");
        format!("{} {transport}", lookup(&snapshot, Map::TLS, "[d.test]:25"))
    };
    assert_eq!(policy("", "encrypt"), "encrypt relay-starttls:[d.test]:25");
    assert_eq!(policy("* may\n", "encrypt"), "encrypt relay-starttls:[d.test]:25");
    assert_eq!(
        policy("d.test implicit verify\n", "encrypt"),
        "verify relay-implicit:[d.test]:25"
    );
    let unreadable = DefaultRelay::new(
        Configured::Value(b"[d.test]:25".to_vec()),
        Configured::Unset,
        Configured::Unset,
    )
    .with_tls(Configured::Unreadable);
    let (snapshot, _) = snapshot("@a [r.test]:25\n", "", unreadable);
    let unknown = cannot_tell(reason::DEFAULT_TLS_UNREADABLE);
    assert_eq!(lookup(&snapshot, Map::TLS, "[d.test]:25"), unknown);
    assert_eq!(lookup(&snapshot, Map::TRANSPORT, "x@any"), unknown);
    assert_eq!(
        lookup(&snapshot, Map::TRANSPORT, "x@a"),
        "relay-starttls:[r.test]:25"
    );
}

#[test]
fn a_list_needs_one_service_for_all_its_elements() {
    let relay_map = "@a [r]:465, [s]:submissions\n@b [r]:465, [s]:587\n@c [s]:587,[t]:587\n@d ,[r]:587 ,\n";
    let (snapshot, conflicts) = snapshot(relay_map, "t via=other\n", DefaultRelay::default());
    let transport = |sender| lookup(&snapshot, Map::TRANSPORT, sender);
    assert_eq!(transport("x@a"), "relay-implicit:[r]:465, [s]:submissions");
    assert_eq!(transport("x@b"), cannot_tell(reason::MIXED_TLS));
    assert_eq!(transport("x@c"), cannot_tell(reason::MIXED_TLS));
    assert_eq!(transport("x@d"), "relay-starttls:[r]:587 ,");
    let mut mixed = conflicts.mixed_lists;
    mixed.sort_by(|a, b| a.next_hops.cmp(&b.next_hops));
    let lists = [&b"[r]:465, [s]:587"[..], b"[s]:587,[t]:587"];
    assert_eq!(
        mixed,
        lists.map(|next_hops| MixedList {
            next_hops: next_hops.into()
        })
    );
    // The policies of the elements do not depend on the list.
    assert_eq!(
        lookup(&snapshot, Map::TLS, "[s]:587"),
        "secure match=nexthop servername=hostname"
    );
}

#[test]
fn an_invalid_entry_affects_its_next_hops_only_and_an_unreadable_line_all_that_may_be_meant() {
    let relay_map = "@a [r]:587\n@b [s]:587\n@c [t]:465\n";
    let (one, _) = snapshot(relay_map, "[r]:587 secure match=\n", DefaultRelay::default());
    let invalid = cannot_tell(RELAY_TLS.invalid_entry);
    assert_eq!(lookup(&one, Map::TRANSPORT, "x@a"), invalid);
    assert_eq!(lookup(&one, Map::TLS, "[r]:587"), invalid);
    assert_eq!(lookup(&one, Map::TRANSPORT, "x@b"), "relay-starttls:[s]:587");
    let (all, _) = snapshot(relay_map, "user@r may\n[s]:587 may\n", DefaultRelay::default());
    let unparsable = cannot_tell(RELAY_TLS.unparsable_key);
    assert_eq!(lookup(&all, Map::TRANSPORT, "x@a"), unparsable);
    assert_eq!(lookup(&all, Map::TLS, "[r]:587"), unparsable);
    assert_eq!(lookup(&all, Map::TLS, "[s]:587"), "may");
    assert_eq!(lookup(&all, Map::TLS, "other"), "-");
    let (unreadable, _) = with_tables(
        table(&RELAY_MAP, relay_map),
        &Table::unreadable(&RELAY_TLS),
        DefaultRelay::default(),
    );
    assert_eq!(
        lookup(&unreadable, Map::TRANSPORT, "x@a"),
        cannot_tell(RELAY_TLS.unreadable)
    );
    assert_eq!(lookup(&unreadable, Map::TRANSPORT, "x@other"), "-");
    // A next hop that is not known may be one of the relay map.
    let (relays, _) = with_tables(
        Table::unreadable(&RELAY_MAP),
        &table(&RELAY_TLS, ""),
        DefaultRelay::default(),
    );
    assert_eq!(
        lookup(&relays, Map::TLS, "[r]:587"),
        cannot_tell(RELAY_MAP.unreadable)
    );
}

#[test]
fn a_weak_level_for_implicit_tls_is_cannot_tell_for_that_next_hop() {
    let relay_map = "@a [r]:465\n@b [r]:587\n@c [s]:465\n";
    let (snapshot, conflicts) = snapshot(relay_map, "r may\n", DefaultRelay::default());
    let weak = cannot_tell(reason::WEAK_TLS);
    assert_eq!(lookup(&snapshot, Map::TLS, "[r]:465"), weak);
    assert_eq!(lookup(&snapshot, Map::TRANSPORT, "x@a"), weak);
    assert_eq!(lookup(&snapshot, Map::TLS, "[r]:587"), "may");
    assert_eq!(lookup(&snapshot, Map::TRANSPORT, "x@c"), "relay-implicit:[s]:465");
    let expected = WeakPolicy {
        key: Some(b"r".to_vec()),
        next_hop: b"[r]:465".to_vec(),
    };
    assert_eq!(conflicts.weak_policies, [expected]);
}

#[test]
fn after_an_edit_the_next_hops_are_those_of_the_new_text() {
    let text = |text: &str| {
        let text = text.as_bytes();
        crate::lookup::table::text::Text::read(&mut &*text, text.len(), &[], &std::hash::RandomState::new())
            .unwrap()
    };
    let path = Path::new("t");
    let before = Table::rebuild(
        None,
        &RELAY_MAP,
        path,
        &text("@a [r]:587\n@b [r]:587\n@c [s]:587\n"),
    );
    let after = Table::rebuild(
        Some(&before),
        &RELAY_MAP,
        path,
        &text("@a [r]:587\n@b [t]:587\n@c DUNNO\n"),
    );
    let mut next_hops: Vec<_> = after.next_hops().map(|next_hop| next_hop.to_vec()).collect();
    next_hops.sort();
    assert_eq!(next_hops, [b"[r]:587", b"[t]:587"]);
}

#[test]
fn a_removed_next_hop_keeps_its_policy_for_a_limited_time() {
    let services = Services::default();
    let tls_file = table(&RELAY_TLS, "[a]:1 verify\n");
    let of = |relay_map: &str| {
        let relay_map = table(&RELAY_MAP, relay_map);
        RelayTls::new(&relay_map, &DefaultRelay::default(), &tls_file, &services).0
    };
    let policy = |tls: &RelayTls, key: &str| match tls.policy(key.as_bytes()) {
        Answer::Found(value) => String::from_utf8(value.expose().to_vec()).unwrap(),
        Answer::NotFound => "-".to_owned(),
        Answer::CannotTell(reason) => cannot_tell(reason),
    };
    let (start, window) = (Instant::now(), Duration::from_secs(10));
    let after = |seconds| start + Duration::from_secs(seconds);
    let first = of("@s [a]:1\n");
    let second = of("@s [b]:2\n").remembering(&first, start, window);
    let third = of("@s [a]:1\n@t [c]:3\n").remembering(&second, after(5), window);
    let fourth = of("@s [d]:4\n").remembering(&third, after(6), window);
    let computed = "secure match=nexthop servername=hostname";
    for (tls, a, b) in [
        (&first, "verify", "-"),
        (&second, "verify", computed),
        (&third, "verify", computed),
        (&fourth, "verify", computed),
    ] {
        assert_eq!((policy(tls, "[a]:1"), policy(tls, "[b]:2")), (a.into(), b.into()));
    }
    assert_eq!(fourth.expires(), Some(after(15)));
    let fifth = fourth.without_expired(after(15));
    assert_eq!(policy(&fifth, "[b]:2"), "-");
    assert_eq!(policy(&fifth, "[c]:3"), computed);
    let last = fifth.without_expired(fifth.expires().unwrap());
    assert_eq!((policy(&last, "[a]:1"), last.expires()), ("-".into(), None));
    let disabled = of("@s [b]:2\n").remembering(&first, start, Duration::ZERO);
    assert_eq!(policy(&disabled, "[a]:1"), "-");
}

#[test]
fn beyond_the_limit_a_removed_next_hop_is_cannot_tell_and_a_domain_is_not() {
    let mut lines = String::new();
    for n in 0..=super::MAX_RETIRED {
        writeln!(lines, "@d{n} [r{n}.test]:25").unwrap();
    }
    let of = |relay_map: &str| {
        let relay_map = table(&RELAY_MAP, relay_map);
        let tls = table(&RELAY_TLS, "");
        RelayTls::new(&relay_map, &DefaultRelay::default(), &tls, &Services::default()).0
    };
    let (start, window) = (Instant::now(), Duration::from_secs(10));
    let next = of("@s [s.test]:25\n").remembering(&of(&lines), start, window);
    let unknown = Answer::CannotTell(reason::NEXT_HOP_CHANGED);
    assert!(next.policy(b"[unknown.test]:25") == unknown);
    assert!(next.policy(b"recipient.test") == Answer::NotFound);
    assert!(matches!(next.policy(b"[s.test]:25"), Answer::Found(_)));
    let expired = next.without_expired(start + window);
    assert!(expired.policy(b"[unknown.test]:25") == Answer::NotFound);
}
