//! Changes are merged into the active files, which a map as the model has, too.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use proptest::prelude::*;

use super::faulty_disk::restart;
use super::{names, provenance, publish, read_everything, row, start, temporary};
use crate::directory::generation::Generation;
use crate::directory::lines::{Counts, NO_ENTRIES};
use crate::directory::{ACTIVE, Directory, DirectoryError, DirectoryErrorKind, Published, Staging};
use crate::engine::{Extent, Rows, Table};

/// What the source has: the value of each key.
pub(super) type Source = BTreeMap<Table, BTreeMap<String, String>>;

/// For a table and a key the new value, or `None` if it was removed.
pub(super) type Changes = BTreeMap<Table, BTreeMap<String, Option<String>>>;

pub(super) fn everything(source: &Source) -> impl Fn(&mut Staging) {
    move |staging| {
        staging.begin(Extent::Everything);
        for table in Table::ALL {
            staging.table(table);
            for (key, value) in source.get(&table).into_iter().flatten() {
                staging.row(row(table, key, value));
            }
        }
    }
}

pub(super) fn changed(changes: &Changes) -> impl Fn(&mut Staging) {
    move |staging| {
        staging.begin(Extent::Changes);
        for (table, changes) in changes {
            staging.table(*table);
            for (key, value) in changes {
                match value {
                    Some(value) => staging.row(row(*table, key, value)),
                    None => staging.removed(key.as_bytes()),
                }
            }
        }
    }
}

pub(super) fn publish_read(
    directory: &mut Directory,
    number: u64,
    read: impl Fn(&mut Staging),
) -> Result<Published, DirectoryError> {
    let mut staging = directory.stage().unwrap();
    read(&mut staging);
    directory.publish(staging, &provenance(number))
}

/// The files of the active generation that have entries.
pub(super) fn files(path: &Path) -> BTreeMap<Table, String> {
    let text = |table: Table| fs::read_to_string(path.join(ACTIVE).join(table.spec().file)).ok();
    let files = Table::ALL
        .into_iter()
        .filter_map(|table| Some((table, text(table)?)));
    files.filter(|(_, text)| text.as_bytes() != NO_ENTRIES).collect()
}

fn counts(directory: &Directory) -> BTreeMap<Table, Counts> {
    let files = directory.active.iter().flat_map(|active| &active.files);
    files.map(|(table, file)| (*table, file.counts)).collect()
}

pub(super) fn source(rows: &[(Table, &str, &str)]) -> Source {
    let mut source = Source::new();
    for (table, key, value) in rows {
        let table = source.entry(*table).or_default();
        table.insert((*key).to_owned(), (*value).to_owned());
    }
    source
}

/// Keys of which many start with one another, and some have whitespace, a quote or an invalid character.
const SENDERS: [&str; 16] = [
    "\" \"@a.test",
    "\"a b\"@a.test",
    "\"a\tb\"@a.test",
    "\"a\\\" b\"@a.test",
    "\"a\"@a.test",
    "@*",
    "@.a.test",
    "@a.test",
    "@a.test2",
    "@a.testing",
    "a@a.test",
    "a@a.test2",
    "a+b@a.test",
    "a b",
    "\u{e4}@a.test",
    "<>",
];

const NEXT_HOPS: [&str; 8] = [
    "*",
    "[r.test]",
    "[r.test]:25",
    "[r.test]:587",
    "r.test",
    "r.test:587",
    "not a key",
    "@a.test",
];

/// A value that some tables have, or that none has.
fn values() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "[r.test]:587",
        "encrypt",
        "implicit",
        "dunno",
        "no\nvalue",
        "[bad-row",
        "",
    ])
    .prop_map(str::to_owned)
}

fn keys() -> impl Strategy<Value = (Table, String)> {
    prop_oneof![
        4 => prop::sample::select(&SENDERS[..]).prop_map(|key| (Table::Relay, key.to_owned())),
        4 => prop::sample::select([&SENDERS[..], &NEXT_HOPS[..]].concat()).prop_map(|key| (Table::Credentials, key.to_owned())),
        1 => prop::sample::select(&NEXT_HOPS[..]).prop_map(|key| (Table::Tls, key.to_owned())),
    ]
}

fn changes() -> impl Strategy<Value = Changes> {
    let change = (keys(), prop::option::weighted(0.6, values()));
    prop::collection::vec(change, 0..12).prop_map(|list| {
        let mut changes = Changes::new();
        for ((table, key), value) in list {
            changes.entry(table).or_default().insert(key, value);
        }
        changes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn merged_changes_and_a_read_of_everything_give_the_same_files(
        steps in prop::collection::vec((changes(), any::<bool>()), 1..8),
    ) {
        let (merging, reading) = (temporary(), temporary());
        let mut merged = restart(merging.path()).unwrap();
        let mut read = restart(reading.path()).unwrap();
        let mut model = Source::new();
        publish_read(&mut merged, 0, everything(&model)).unwrap();
        for ((changes, is_restarted), number) in steps.into_iter().zip(1..) {
            for (table, changes) in &changes {
                let model = model.entry(*table).or_default();
                for (key, value) in changes {
                    match value {
                        Some(value) => model.insert(key.clone(), value.clone()),
                        None => model.remove(key),
                    };
                }
            }
            let mut of_changes = merged.stage().unwrap();
            changed(&changes)(&mut of_changes);
            let mut of_everything = read.stage().unwrap();
            everything(&model)(&mut of_everything);
            for table in Table::ALL {
                prop_assert!(of_changes.rows(table) <= of_everything.rows(table));
            }
            let emptied = of_changes.emptied();
            prop_assert_eq!(merged.publish(of_changes, &provenance(number)).unwrap(), Published::Changed);
            read.publish(of_everything, &provenance(number)).unwrap();
            let (files, expected) = (files(merging.path()), files(reading.path()));
            prop_assert_eq!(&files, &expected);
            prop_assert_eq!(counts(&merged), counts(&read));
            prop_assert!(emptied.is_none_or(|table| !files.contains_key(&table)));
            merged.sync().unwrap();
            if is_restarted {
                drop(merged);
                merged = restart(merging.path()).unwrap();
                prop_assert_eq!(merged.active(), Some(&provenance(number)));
            }
        }
    }
}

#[test]
fn a_changed_key_is_found_between_keys_that_start_with_it_and_quoted_ones() {
    let temp = temporary();
    let mut directory = start(temp.path()).unwrap();
    let all = SENDERS.map(|key| (Table::Relay, key, "[old.test]"));
    publish_read(&mut directory, 0, everything(&source(&all))).unwrap();
    for (key, number) in SENDERS.into_iter().zip(1..) {
        let value = Some(format!("[n{number}.test]"));
        let change = BTreeMap::from([(Table::Relay, BTreeMap::from([(key.to_owned(), value)]))]);
        publish_read(&mut directory, number, changed(&change)).unwrap();
        let text = &files(temp.path())[&Table::Relay];
        // Neither whitespace outside of quotes nor a control character is part of a key.
        let is_there = !["a b", "\"a\tb\"@a.test"].contains(&key);
        let expected = format!("\n{key} [n{number}.test]\n");
        assert_eq!(
            format!("\n{text}").matches(&expected).count(),
            usize::from(is_there),
            "{text}"
        );
        assert_eq!(text.lines().count(), SENDERS.len() - 2);
        assert!(text.lines().is_sorted(), "{text}");
    }
}

#[test]
fn a_table_without_changes_is_the_same_file_with_the_same_digest() {
    let temp = temporary();
    let mut directory = start(temp.path()).unwrap();
    publish(&mut directory, 3).unwrap();
    let inode = |file: &str| fs::metadata(temp.path().join(file)).unwrap().ino();
    let digests = || {
        let source = fs::read_to_string(temp.path().join("source.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&source).unwrap()["digests"].clone()
    };
    let tables = [
        "postfix-relaymap.cf",
        "postfix-sasl-password.cf",
        "postfix-relay-tls.cf",
    ];
    let (inodes, old_digests) = (tables.map(inode), digests());
    let change = BTreeMap::from([(
        Table::Relay,
        BTreeMap::from([("@b.test".to_owned(), Some("[b.test]".to_owned()))]),
    )]);
    let mut staging = directory.stage().unwrap();
    changed(&change)(&mut staging);
    assert_eq!(Table::ALL.map(|table| staging.rows(table)), [2, 1, 1]);
    directory.publish(staging, &provenance(4)).unwrap();
    let new_digests = digests();
    assert_ne!(inode(tables[0]), inodes[0]);
    assert_ne!(new_digests[tables[0]], old_digests[tables[0]]);
    for (file, old) in tables.into_iter().zip(inodes).skip(1) {
        assert_eq!(inode(file), old);
        assert_eq!(new_digests[file], old_digests[file]);
    }
    // The generation that had them first is removed together with the next replacement, so that a server that detects the
    // change of a file reads the files once.
    let generations = || {
        names(temp.path())
            .iter()
            .filter(|name| Generation::is_name(&name.to_string_lossy()))
            .count()
    };
    let links = |file: &str| fs::metadata(temp.path().join(file)).unwrap().nlink();
    let times = || {
        tables.map(|file| {
            let metadata = fs::metadata(temp.path().join(file)).unwrap();
            (metadata.ctime(), metadata.ctime_nsec())
        })
    };
    let before = times();
    directory.sync().unwrap();
    assert_eq!((generations(), tables.map(links)), (2, [1, 2, 2]));
    assert_eq!(times(), before);
    publish(&mut directory, 6).unwrap();
    assert_eq!((generations(), tables.map(links)), (2, [1, 1, 1]));
    directory.sync().unwrap();
    assert_eq!(generations(), 1);
    // Or at the next start.
    publish(&mut directory, 7).unwrap();
    directory.sync().unwrap();
    assert_eq!(
        (
            generations(),
            tables[..2].iter().map(|file| links(file)).collect::<Vec<_>>()
        ),
        (2, vec![1, 2])
    );
    drop(directory);
    assert_eq!(start(temp.path()).unwrap().active(), Some(&provenance(7)));
    assert_eq!(generations(), 1);
}

#[test]
fn the_same_state_again_replaces_nothing_and_the_same_rows_of_another_state_do() {
    let temp = temporary();
    let mut directory = start(temp.path()).unwrap();
    publish(&mut directory, 2).unwrap();
    directory.sync().unwrap();
    let target = || fs::read_link(temp.path().join(ACTIVE)).unwrap();
    let (before, all) = (target(), names(temp.path()));
    for _ in 0..2 {
        assert_eq!(publish(&mut directory, 2).unwrap(), Published::Unchanged);
        assert_eq!((target(), names(temp.path())), (before.clone(), all.clone()));
        drop(directory);
        directory = start(temp.path()).unwrap();
    }
    // A source that does not say when a state was committed has another time after each start.
    let mut later = provenance(2);
    later.state.committed += std::time::Duration::from_secs(5);
    let mut staging = directory.stage().unwrap();
    read_everything(&mut staging, 2);
    assert_eq!(directory.publish(staging, &later).unwrap(), Published::Unchanged);
    for change in [
        |of: &mut super::Provenance| of.state.version.push('x'),
        |of: &mut super::Provenance| of.state.revision = None,
        |of: &mut super::Provenance| of.source.push('x'),
    ] {
        let mut other = provenance(2);
        change(&mut other);
        let mut staging = directory.stage().unwrap();
        read_everything(&mut staging, 2);
        assert_eq!(directory.publish(staging, &other).unwrap(), Published::Changed);
        assert_eq!(directory.active(), Some(&other));
    }
    // The same state with other rows: the source was changed behind its triggers.
    let mut staging = directory.stage().unwrap();
    read_everything(&mut staging, 4);
    let last = directory.active().unwrap().clone();
    assert_eq!(directory.publish(staging, &last).unwrap(), Published::Changed);
}

#[test]
fn rows_are_counted_bad_ones_included_and_the_first_bad_ones_are_kept() {
    let temp = temporary();
    let mut directory = start(temp.path()).unwrap();
    let mut rows = source(&[
        (Table::Relay, "@good.test", "[r.test]"),
        (Table::Credentials, "@a.test", "p"),
    ]);
    for number in 10..40 {
        let relays = rows.get_mut(&Table::Relay).unwrap();
        relays.insert(format!("@a{number}.test"), "two\nlines".to_owned());
        relays.insert(format!("no key {number}"), "[r.test]".to_owned());
    }
    let mut staging = directory.stage().unwrap();
    everything(&rows)(&mut staging);
    assert_eq!(Table::ALL.map(|table| staging.rows(table)), [61, 1, 0]);
    assert_eq!(staging.bad_rows(), 60);
    assert_eq!(staging.first_bad_rows().len(), 20);
    assert_eq!(staging.first_bad_rows()[0].row, Some(1));
    assert_eq!(staging.first_bad_rows()[19].key.as_deref(), Some("@a29.test"));
    directory.publish(staging, &provenance(1)).unwrap();
    for _ in 0..2 {
        let change = BTreeMap::from([(
            Table::Relay,
            BTreeMap::from([
                ("@a10.test".to_owned(), None),
                ("@a11.test".to_owned(), Some("[r.test]".to_owned())),
                ("@a12.test".to_owned(), Some("bad\nagain".to_owned())),
                ("@b.test".to_owned(), Some("bad\ntoo".to_owned())),
                ("no key 10".to_owned(), Some("[r.test]".to_owned())),
                ("no key 11".to_owned(), None),
            ]),
        )]);
        let mut staging = directory.stage().unwrap();
        changed(&change)(&mut staging);
        assert_eq!(Table::ALL.map(|table| staging.rows(table)), [32, 1, 0]);
        assert_eq!(staging.bad_rows(), 30);
        let rows: Vec<_> = staging
            .first_bad_rows()
            .iter()
            .map(|row| (row.row, row.key.as_deref()))
            .collect();
        assert_eq!(
            rows,
            [
                (None, Some("@a12.test")),
                (None, Some("@b.test")),
                (None, Some("no key 10"))
            ]
        );
        drop(staging);
        // The counts are found again after a start.
        directory.sync().unwrap();
        drop(directory);
        directory = start(temp.path()).unwrap();
    }
}

#[test]
fn a_table_that_loses_all_its_rows_is_reported_whether_all_rows_or_changes_were_read() {
    let temp = temporary();
    let mut directory = start(temp.path()).unwrap();
    let rows = source(&[
        (Table::Relay, "@a.test", "[r.test]"),
        (Table::Tls, "r.test", "encrypt"),
    ]);
    let mut staging = directory.stage().unwrap();
    everything(&rows)(&mut staging);
    assert_eq!(staging.emptied(), None);
    directory.publish(staging, &provenance(1)).unwrap();
    for (table, key) in [(Table::Relay, "@a.test"), (Table::Tls, "r.test")] {
        let mut without = rows.clone();
        without.remove(&table);
        let mut staging = directory.stage().unwrap();
        everything(&without)(&mut staging);
        assert_eq!(staging.emptied(), Some(table));
        let mut staging = directory.stage().unwrap();
        staging.begin(Extent::Changes);
        staging.table(table);
        assert_eq!(staging.emptied(), None);
        staging.removed(b"another key");
        assert_eq!(staging.emptied(), None);
        drop(staging);
        let mut staging = directory.stage().unwrap();
        changed(&BTreeMap::from([(
            table,
            BTreeMap::from([(key.to_owned(), None)]),
        )]))(&mut staging);
        assert_eq!(staging.emptied(), Some(table));
    }
    // All rows of it became bad, and none of their keys is valid.
    let bad = source(&[
        (Table::Relay, "not a key", "[r.test]"),
        (Table::Tls, "r.test", "encrypt"),
    ]);
    let mut staging = directory.stage().unwrap();
    everything(&bad)(&mut staging);
    assert_eq!(staging.emptied(), Some(Table::Relay));
}

#[test]
fn the_tls_table_is_published_only_with_rows_and_may_be_a_local_file_without() {
    let temp = temporary();
    let local = temp.path().join("postfix-relay-tls.cf");
    fs::write(&local, "local.test encrypt\n").unwrap();
    let mut directory = start(temp.path()).unwrap();
    publish(&mut directory, 2).unwrap();
    directory.sync().unwrap();
    let error = publish(&mut directory, 3).unwrap_err();
    assert!(matches!(error.kind, DirectoryErrorKind::ForeignFile), "{error}");
    assert_eq!(fs::read_to_string(&local).unwrap(), "local.test encrypt\n");
    fs::remove_file(&local).unwrap();
    publish(&mut directory, 3).unwrap();
    directory.sync().unwrap();
    assert_eq!(super::seen_after_start(temp.path()), Some(3));
    // The server would wait for a table that is missing after one with rows.
    publish(&mut directory, 5).unwrap();
    directory.sync().unwrap();
    assert_eq!(super::seen_after_start(temp.path()), Some(5));
    assert_eq!(fs::read(&local).unwrap(), NO_ENTRIES);
    publish(&mut directory, 8).unwrap();
    // Not even until the flush: the server would reject a link to nothing.
    assert!(fs::symlink_metadata(&local).is_err());
    directory.sync().unwrap();
    assert_eq!(super::seen_after_start(temp.path()), Some(8));
}
