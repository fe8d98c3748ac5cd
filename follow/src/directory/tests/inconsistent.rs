//! What a source must not return: changes of files that do not exist or are not sorted, and rows in another order than promised.

use std::fs;

use super::changes::{Changes, changed, files, publish_read};
use super::{names, provenance, publish, row, seen, seen_after_start, start};
use crate::directory::{DirectoryErrorKind, Staging};
use crate::engine::{Extent, Rows, Table};
use crate::rows::Row;

/// A read that cannot become files.
type BadRead = fn(&mut Staging);

fn relay(key: &str) -> Row<'_> {
    row(Table::Relay, key, "[r.test]")
}

/// Reads and what is wrong with them.
fn bad_reads() -> [(BadRead, &'static str); 12] {
    [
        (|_| (), "returned nothing"),
        (|staging| staging.table(Table::Relay), "before its read began"),
        (
            |staging| staging.begin(Extent::Everything),
            "did not return all tables",
        ),
        (
            |staging| {
                staging.begin(Extent::Everything);
                staging.begin(Extent::Everything);
            },
            "two reads as one",
        ),
        (
            |staging| {
                staging.begin(Extent::Everything);
                staging.table(Table::Relay);
                staging.table(Table::Credentials);
                staging.table(Table::Relay);
            },
            "a table twice",
        ),
        (
            |staging| {
                staging.begin(Extent::Everything);
                staging.row(relay("@a.test"));
            },
            "a row of another table",
        ),
        (
            |staging| {
                staging.begin(Extent::Everything);
                staging.table(Table::Credentials);
                staging.row(relay("@a.test"));
            },
            "a row of another table",
        ),
        (
            |staging| {
                staging.begin(Extent::Everything);
                staging.table(Table::Relay);
                staging.removed(b"@a.test");
            },
            "a removed key and no changes",
        ),
        (
            |staging| {
                staging.begin(Extent::Changes);
                staging.removed(b"@a.test");
            },
            "a removed key and no changes",
        ),
        (
            |staging| {
                staging.begin(Extent::Changes);
                staging.table(Table::Relay);
                staging.row(relay("@b.test"));
                staging.removed(b"@a.test");
            },
            "not in ascending order",
        ),
        (
            |staging| {
                staging.begin(Extent::Changes);
                staging.table(Table::Relay);
                staging.row(relay("@b.test"));
                staging.row(relay("@b.test"));
            },
            "not in ascending order",
        ),
        (
            |staging| {
                staging.begin(Extent::Changes);
                staging.table(Table::Relay);
                staging.table(Table::Relay);
            },
            "a table twice",
        ),
    ]
}

#[test]
fn a_read_that_cannot_become_files_is_an_error_and_leaves_the_active_ones() {
    let temp = tempfile::tempdir().unwrap();
    let mut directory = start(temp.path()).unwrap();
    publish(&mut directory, 3).unwrap();
    directory.sync().unwrap();
    let before = names(temp.path());
    for (read, message) in bad_reads() {
        let mut staging = directory.stage().unwrap();
        read(&mut staging);
        // The rows that came before the error are not all.
        assert_eq!(
            staging
                .emptied()
                .filter(|_| message != "did not return all tables"),
            None
        );
        let error = directory.publish(staging, &provenance(4)).unwrap_err();
        assert!(
            matches!(error.kind, DirectoryErrorKind::Inconsistent(_)),
            "{error}"
        );
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(seen_after_start(temp.path()), Some(3));
        assert_eq!(names(temp.path()), before);
    }
    assert_eq!(directory.active(), Some(&provenance(3)));
}

#[test]
fn changes_without_active_files_or_of_files_that_are_not_active_any_more_are_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let mut directory = start(temp.path()).unwrap();
    let error = publish_read(&mut directory, 1, changed(&Changes::new())).unwrap_err();
    assert!(error.to_string().contains("there are no active files"), "{error}");
    publish(&mut directory, 2).unwrap();
    let mut first = directory.stage().unwrap();
    changed(&Changes::new())(&mut first);
    publish(&mut directory, 4).unwrap();
    let error = directory.publish(first, &provenance(3)).unwrap_err();
    assert!(
        error.to_string().contains("older than the active ones"),
        "{error}"
    );
    assert_eq!(seen(temp.path()), Some(4));
}

#[test]
fn a_change_is_not_merged_into_a_file_that_is_not_sorted_or_has_other_lines_than_were_written() {
    let order: [(&[&str], &str); 4] = [
        (&["@b.test", "@a.test"], "@c.test"),
        (&["@b.test", "@a.test"], "@a.test"),
        (&["@c.test", "@b.test", "@d.test"], "@c.test"),
        (&["@a.test", "@c.test", "@b.test"], "@a.test"),
    ];
    for (keys, key) in order {
        let temp = tempfile::tempdir().unwrap();
        let mut directory = start(temp.path()).unwrap();
        publish_read(&mut directory, 1, |staging| {
            staging.begin(Extent::Everything);
            staging.table(Table::Credentials);
            staging.table(Table::Relay);
            for key in keys {
                staging.row(relay(key));
            }
        })
        .unwrap();
        let before = files(temp.path());
        let error = publish_read(&mut directory, 2, |staging| {
            staging.begin(Extent::Changes);
            staging.table(Table::Relay);
            staging.row(relay(key));
        })
        .unwrap_err();
        assert!(error.to_string().contains("ascending order"), "{error}");
        assert_eq!(files(temp.path()), before);
    }
    for text in [
        "",
        "@a.test [r2.test]:587\n@b.test [r2.test]\n",
        "@a.test [r2",
        "# comment\n",
        "@a.test [r2.test]:587",
    ] {
        let temp = tempfile::tempdir().unwrap();
        let mut directory = start(temp.path()).unwrap();
        publish(&mut directory, 2).unwrap();
        fs::write(temp.path().join("postfix-relaymap.cf"), text).unwrap();
        let read = |staging: &mut Staging| {
            staging.begin(Extent::Changes);
            staging.table(Table::Relay);
            staging.row(relay("@c.test"));
        };
        publish_read(&mut directory, 3, read).unwrap_err();
        assert_eq!(directory.active(), Some(&provenance(2)));
    }
}
