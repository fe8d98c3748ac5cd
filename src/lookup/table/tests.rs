use std::collections::{HashMap, HashSet};
use std::path::Path;

use std::hash::RandomState;
use std::sync::Arc;

use proptest::prelude::*;

use super::text::{Block, Text};
use super::{Hit, Table};
use crate::diagnostics::Findings;
use crate::lookup::address::{Delimiters, LookupKeys};
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};

#[test]
fn the_first_of_two_lines_with_one_key_answers_and_the_second_is_a_warning() {
    let mut findings = Findings::default();
    let text = b"@A.example [one]\n\"x y\"@a r\n@a.EXAMPLE [two]\n\"X Y\"@a r\n".to_vec();
    let table = Table::build(&RELAY_MAP, Path::new("t"), text.into(), &mut findings);
    assert!(matches!(
        table.find([b"@a.example"[..].into()]),
        Hit::Value(b"[one]")
    ));
    assert!(matches!(table.find([b"x y@a"[..].into()]), Hit::Value(b"r")));
    assert_eq!((table.len(), findings.errors(), findings.warnings()), (2, 0, 2));
    assert!(
        findings
            .iter()
            .next()
            .unwrap()
            .to_string()
            .starts_with("t:3:1: warning: line 1 already has")
    );
}

/// Generates a key as it may be written, or as a lookup with other letter case.
fn key() -> impl Strategy<Value = String> {
    "(\"[a-c ]{0,2}\"|[a-cA-Cßé]{1,2}|)@[a-bA-B]|<>|\"<>\""
}

proptest! {
    /// The oracle is a map of the standard library with the same entries.
    #[test]
    fn a_table_answers_like_a_hash_map(
        entries in prop::collection::vec((key(), prop::option::of("[a-z]{1,9}"), " {0,1}", "\r?\n"), 0..60),
        asked in prop::collection::vec(key(), 0..50),
    ) {
        let folded = |key: &str| {
            let mut keys = LookupKeys::default();
            keys.parse(key.as_bytes(), &Delimiters::default());
            keys.whole().to_vec()
        };
        let mut text = String::from("# comment\n");
        let mut model: HashMap<Vec<u8>, Option<String>> = HashMap::new();
        for (key, value, indent, end) in entries {
            text.extend([&indent, &key, " \t", value.as_deref().unwrap_or_default(), &end]);
            model.entry(folded(&key)).or_insert(value);
        }
        let text = text.into_bytes();
        let table = Table::build(&RELAY_MAP, Path::new("t"), text.into(), &mut Findings::default());
        prop_assert_eq!(table.len(), model.len());
        for key in asked.iter().map(|key| folded(key)).chain(model.keys().cloned()) {
            let found = match table.find([key[..].into()]) {
                Hit::Value(value) => Some(Some(String::from_utf8(value.to_vec()).unwrap())),
                Hit::NoValue => Some(None),
                Hit::Absent => None,
                Hit::CannotTell(reason) => panic!("{reason}"),
            };
            prop_assert_eq!(found.as_ref(), model.get(&key));
        }
    }
}

/// Generates a domain of a few labels, so that many are parents of others.
fn nested_domain() -> impl Strategy<Value = String> {
    "([abAß]{1,2}\\.){0,5}[abAß]{1,2}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The oracle tries each suffix of the domain in a map of the standard library.
    #[test]
    fn the_longest_suffix_with_an_entry_answers_then_the_entry_for_all_senders(
        exact in prop::collection::vec(nested_domain(), 0..6),
        wide in prop::collection::vec(nested_domain(), 0..12),
        any in any::<bool>(),
        asked in prop::collection::vec(nested_domain(), 1..40),
    ) {
        let folded = |domain: &str| caseless::default_case_fold_str(domain);
        let mut model = HashMap::new();
        let mut text = String::new();
        let keys = exact.iter().map(|domain| format!("@{domain}"));
        let keys = keys.chain(wide.iter().map(|domain| format!("@.{domain}")));
        for (number, key) in keys.chain(any.then(|| "@*".to_owned())).enumerate() {
            text.extend([&*key, " [r", &number.to_string(), "]\n"]);
            model.entry(folded(&key)).or_insert_with(|| format!("[r{number}]"));
        }
        let table = Table::build(&RELAY_MAP, Path::new("t"), text.into_bytes().into(), &mut Findings::default());
        for domain in &asked {
            let whole = folded(domain);
            let dots = whole.match_indices('.').map(|(at, _)| format!("@{}", &whole[at..]));
            let mut tried = [format!("@{whole}")].into_iter().chain(dots).chain(["@*".to_owned()]);
            let expected = tried.find_map(|key| model.get(&key));
            let keys = LookupKeys::of(format!("U+x@{domain}").as_bytes(), &Delimiters::default());
            for hit in [table.find_all(&keys), table.find(keys.in_order())] {
                let found = match hit {
                    Hit::Value(value) => Some(String::from_utf8(value.to_vec()).unwrap()),
                    _ => None,
                };
                prop_assert_eq!(found.as_ref(), expected, "{}", domain);
            }
        }
    }
}

/// A name of 255 characters has more bytes in other scripts.
#[test]
fn parents_of_any_length_are_found() {
    let label = |length: usize| format!("{}.", "é".repeat(length));
    let long = [label(60), label(60), label(60), "test".to_owned()].concat();
    let middle = [label(60), label(60), "test".to_owned()].concat();
    let short = [label(60), "test".to_owned()].concat();
    for entries in [
        vec![&long, &short],
        vec![&middle],
        vec![&short],
        vec![&long, &middle],
    ] {
        let lines: Vec<String> = entries
            .iter()
            .map(|name| format!("@.{name} [r{}]\n", name.len()))
            .collect();
        let text = lines.concat();
        let table = Table::build(
            &RELAY_MAP,
            Path::new("t"),
            text.into_bytes().into(),
            &mut Findings::default(),
        );
        for domain in [&long, &middle, &short] {
            let keys = LookupKeys::of(format!("u@x.{domain}").as_bytes(), &Delimiters::default());
            let longest = entries
                .iter()
                .filter(|name| domain.ends_with(name.as_str()))
                .max_by_key(|name| name.len());
            let expected = longest.map(|name| format!("[r{}]", name.len()));
            for hit in [table.find_all(&keys), table.find(keys.in_order())] {
                let found = match hit {
                    Hit::Value(value) => Some(String::from_utf8(value.to_vec()).unwrap()),
                    _ => None,
                };
                assert_eq!(found, expected, "{domain}");
            }
        }
    }
}

#[test]
fn credentials_for_a_domain_with_two_ats_make_that_domain_cannot_tell() {
    let build = |map, text: &str| {
        let text = text.as_bytes().to_vec();
        Table::build(map, Path::new("t"), text.into(), &mut Findings::default())
    };
    let answer = |table: &Table, key: &str| match table.find([key.as_bytes().into()]) {
        Hit::Value(_) => "value",
        Hit::NoValue => "nothing",
        Hit::Absent => "absent",
        Hit::CannotTell(_) => "unsure",
    };
    let relay_map = build(&RELAY_MAP, "@@a.test [r]\n@b.test [r]\n");
    let credentials = build(&CREDENTIALS, "@@a.test u:p\n@b.test u:p\n@@B.test u:p\n");
    for (key, of_relay_map, of_credentials) in [
        ("@@a.test", "unsure", "unsure"),
        ("@a.test", "absent", "unsure"),
        ("@b.test", "value", "value"),
        ("@c.test", "absent", "absent"),
    ] {
        assert_eq!(answer(&relay_map, key), of_relay_map, "{key}");
        assert_eq!(answer(&credentials, key), of_credentials, "{key}");
    }
    let unreadable = build(&RELAY_MAP, "@b.test [r]\n*\t[r]\n");
    assert_eq!(answer(&unreadable, "@c.test"), "unsure");
}

fn read(text: &str, previous: Option<&Table>, hasher: &RandomState) -> Text {
    let previous: Vec<Arc<Block>> = previous.into_iter().flat_map(Table::blocks).cloned().collect();
    Text::read(&mut text.as_bytes(), text.len(), &previous, hasher).unwrap()
}

fn many(key: impl Fn(usize) -> String) -> Vec<String> {
    let line = |n: usize| {
        let spaces = " ".repeat(1 + n % 2);
        format!("{}{spaces}[relay{}.example]:587\n", key(n), n % 5)
    };
    (0..6_000).map(line).collect()
}

fn sender(n: usize) -> String {
    format!("user{n}@domain.example")
}

fn domain(n: usize) -> String {
    format!("@domain{n}.example")
}

fn subdomains(n: usize) -> String {
    if n == 0 {
        "@*".to_owned()
    } else {
        format!("@.domain{n}.example")
    }
}

/// Returns the number of entries, the hits for all keys of these tests, and the findings.
fn contents(table: &Table) -> (usize, Vec<String>, Vec<String>) {
    let answer = |key: String| match table.find([key.as_bytes().into()]) {
        Hit::Value(value) => String::from_utf8(value.to_vec()).unwrap(),
        Hit::NoValue => "nothing".into(),
        Hit::Absent => "absent".into(),
        Hit::CannotTell(reason) => reason.to_string(),
    };
    let findings = table.findings().iter().map(ToString::to_string).collect();
    let keys = (0..6_100).map(sender).chain((0..6_100).map(domain));
    let keys = keys.chain((0..6_100).map(subdomains));
    (table.len(), keys.map(answer).collect(), findings)
}

#[test]
fn an_edit_of_one_line_parses_only_its_block() {
    let (hasher, path) = (RandomState::new(), Path::new("t"));
    let mut lines = many(sender);
    let before = Table::from_text(&RELAY_MAP, path, &read(&lines.concat(), None, &hasher));
    // All in one or two of some seven blocks, so that it is never more than half.
    lines[100] = "User100@domain.example new\n".into();
    lines.insert(10, "user6050@domain.example new\n".into());
    lines.insert(20, "user6060@domain.example new\n".into());
    lines.remove(50);
    let text = read(&lines.concat(), Some(&before), &hasher);
    let edited = before.apply_edit(path, &text).unwrap();
    assert!(contents(&edited) == contents(&Table::from_text(&RELAY_MAP, path, &text)));
    let kept = edited
        .blocks()
        .filter(|new| before.blocks().any(|old| Arc::ptr_eq(old, new)));
    assert!(kept.count() > 0);
}

#[test]
fn a_table_of_one_kind_of_keys_finds_its_first_of_another() {
    let (hasher, path) = (RandomState::new(), Path::new("t"));
    for (mut lines, other) in [
        (many(sender), domain(1)),
        (many(domain), sender(1)),
        (many(sender), subdomains(0)),
        (many(domain), subdomains(1)),
        (many(subdomains), domain(1)),
        (many(subdomains), sender(1)),
    ] {
        let mut table = Table::from_text(&RELAY_MAP, path, &read(&lines.concat(), None, &hasher));
        for line in [format!("{other} [new]\n"), "# gone again\n".to_owned()] {
            lines[3_000] = line;
            let text = read(&lines.concat(), Some(&table), &hasher);
            table = table.apply_edit(path, &text).unwrap();
            let rebuilt = Table::from_text(&RELAY_MAP, path, &text);
            assert!(contents(&table) == contents(&rebuilt));
            assert_eq!(table.kinds.counts(), rebuilt.kinds.counts());
        }
    }
}

#[test]
fn an_unchanged_file_returns_the_same_table() {
    let hasher = RandomState::new();
    let lines = many(sender).concat() + "user1@domain.example twice\n";
    let build = |previous: Option<&Arc<Table>>| {
        let text = read(&lines, previous.map(|table| &**table), &hasher);
        Table::rebuild(previous, &RELAY_MAP, Path::new("t"), &text)
    };
    let before = build(None);
    assert!(Arc::ptr_eq(&before, &build(Some(&before))));
    assert_eq!(before.findings().warnings(), 1);
}

/// Generates edits: the place, the number of replaced lines, and the new line.
fn edit() -> impl Strategy<Value = (usize, usize, String)> {
    let new = |key: fn(usize) -> String| (0_usize..6_100).prop_map(move |n| format!("{} [new]\n", key(n)));
    let line = prop_oneof![
        6 => Just(String::new()),
        6 => new(sender),
        6 => new(domain),
        6 => new(subdomains),
        1 => Just("\u{feff}# a byte order mark\n".to_owned()),
        1 => Just("user1@domain.example [bad\n".to_owned()),
        1 => Just("\"user2@domain.example [bad]\n".to_owned()),
        1 => Just("\n\n# comment\n".repeat(3_000)),
    ];
    let place = prop_oneof![Just(0_usize), 0_usize..6_000];
    let lines = prop_oneof![6 => 0_usize..3, 1 => 0_usize..6_000];
    (place, lines, line)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any number of edits of any kind.
    #[test]
    fn a_table_after_edits_equals_a_new_table_of_the_text(
        kind in 0_usize..3,
        edits in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..6)
    ) {
        let (hasher, path) = (RandomState::new(), Path::new("t"));
        let key: fn(usize) -> String = [domain, sender, subdomains][kind];
        let mut lines = many(key);
        let mut table = Table::rebuild(None, &RELAY_MAP, path, &read(&lines.concat(), None, &hasher));
        for edit in edits {
            for (place, replaced, line) in edit {
                let place = place.min(lines.len());
                let end = (place + replaced).min(lines.len());
                lines.splice(place..end, [line]);
            }
            let text = read(&lines.concat(), Some(&table), &hasher);
            let next = Table::rebuild(Some(&table), &RELAY_MAP, path, &text);
            let rebuilt = Table::from_text(&RELAY_MAP, path, &text);
            prop_assert!(contents(&next) == contents(&rebuilt));
            prop_assert_eq!(next.kinds.counts(), rebuilt.kinds.counts());
            let next_hops = |table: &Table| table.next_hops().cloned().collect::<HashSet<_>>();
            prop_assert_eq!(next_hops(&next), next_hops(&rebuilt));
            table = next;
        }
    }
}
