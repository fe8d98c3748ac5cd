//! Files that another program removes or changes while the directory is open.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use super::faulty_disk::{Faults, LOSSES, open, restart};
use super::{names, publish, seen, seen_after_start, start};
use crate::directory::{ACTIVE, Directory, DirectoryErrorKind, Restored};
use crate::engine::Table;

/// Publishes a state that has all tables.
fn published(path: &Path) -> Directory {
    let mut directory = start(path).unwrap();
    publish(&mut directory, 3).unwrap();
    directory.sync().unwrap();
    assert!(directory.is_intact());
    directory
}

/// What another program does to the directory.
type Damage = Box<dyn Fn(&Path)>;

fn remove_everything(path: &Path) {
    for name in names(path) {
        let path = path.join(name);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn what_another_program_removes_or_replaces_is_restored_without_the_source() {
    let remove = |name: &'static str| move |path: &Path| fs::remove_file(path.join(name)).unwrap();
    let replace = |name: &'static str, text: &'static str| {
        move |path: &Path| {
            let new = path.join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, path.join(ACTIVE).join(name)).unwrap();
        }
    };
    let damages: [Damage; 9] = [
        Box::new(remove("postfix-relaymap.cf")),
        Box::new(remove(ACTIVE)),
        Box::new(remove("..data/postfix-relaymap.cf")),
        Box::new(remove("..data/postfix-relay-tls.cf")),
        Box::new(remove("..data/digest-key")),
        Box::new(replace("postfix-sasl-password.cf", "")),
        Box::new(replace("postfix-sasl-password.cf", "@a.test u:other\n")),
        Box::new(|path| {
            fs::remove_file(path.join(ACTIVE)).unwrap();
            symlink(format!("..{}", "0".repeat(32)), path.join(ACTIVE)).unwrap();
        }),
        Box::new(remove_everything),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let mut directory = published(temp.path());
        // More than once.
        for _ in 0..2 {
            damage(temp.path());
            assert!(!directory.is_intact(), "{number}");
            assert_eq!(directory.restore().unwrap(), Restored::Changed, "{number}");
            assert!(directory.is_intact(), "{number}");
            assert_eq!(seen(temp.path()), Some(3), "{number}");
            directory.sync().unwrap();
        }
        // Changes fit, and the next start finds it.
        publish(&mut directory, 5).unwrap();
        assert_eq!(seen(temp.path()), Some(5), "{number}");
        directory.sync().unwrap();
        drop(directory);
        start(temp.path()).unwrap();
        assert_eq!(seen_after_start(temp.path()), Some(5), "{number}");
    }
}

#[test]
fn a_file_with_another_time_and_the_same_text_is_whole() {
    let temp = tempfile::tempdir().unwrap();
    let mut directory = published(temp.path());
    let link = fs::read_link(temp.path().join(ACTIVE)).unwrap();
    let file = fs::File::open(temp.path().join("postfix-relaymap.cf")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(!directory.is_intact());
    assert_eq!(directory.restore().unwrap(), Restored::Unchanged);
    assert!(directory.is_intact());
    assert_eq!(fs::read_link(temp.path().join(ACTIVE)).unwrap(), link);
}

#[test]
fn a_file_that_was_written_in_place_is_not_restored_and_an_empty_table_becomes_an_unreadable_one() {
    for (file, text, stays) in [
        ("postfix-relaymap.cf", "", false),
        ("postfix-relay-tls.cf", "", false),
        ("postfix-relaymap.cf", "@a.test [other.test]\n", true),
        ("postfix-relaymap.cf", "@a.test [r3.test]:587", true),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let mut directory = published(temp.path());
        fs::write(temp.path().join(file), text).unwrap();
        for _ in 0..2 {
            assert!(!directory.is_intact(), "{file}");
            let error = directory.restore().unwrap_err();
            assert!(matches!(error.kind, DirectoryErrorKind::Lost), "{error}");
        }
        for table in Table::ALL {
            let path = temp.path().join(table.spec().file);
            assert!(path.is_symlink(), "{file}");
            assert_eq!(path.exists(), stays, "{file}");
        }
        // The source has them.
        publish(&mut directory, 4).unwrap();
        assert!(directory.is_intact());
        assert_eq!(seen(temp.path()), Some(4));
    }
}

/// Publishes a state, of which everything is then removed: nothing is active until it is restored.
fn publish_and_remove(faults: &Arc<Faults>, path: &Path) -> Directory {
    let mut directory = open(faults).unwrap();
    publish(&mut directory, 3).unwrap();
    directory.sync().unwrap();
    remove_everything(path);
    faults.set_starting(true);
    directory
}

#[test]
fn the_end_at_any_operation_of_a_restoration_leaves_nothing_or_the_whole_state() {
    for losses in 0..LOSSES {
        for successes in 0.. {
            let temp = tempfile::tempdir().unwrap();
            let faults = Faults::new(temp.path());
            let mut directory = publish_and_remove(&faults, temp.path());
            faults.fail_after(successes, true);
            let restored = directory.restore().and_then(|_| directory.sync());
            assert_eq!(restored.is_err(), faults.has_failed());
            drop(directory);
            faults.lose_power(losses);
            let directory = restart(temp.path()).unwrap();
            let found = seen(temp.path());
            assert_eq!(directory.active().is_some(), found.is_some());
            assert!(
                found == Some(3) || (found.is_none() && faults.has_failed()),
                "{found:?}"
            );
            if !faults.has_failed() {
                assert!(successes > 10, "{successes}");
                break;
            }
        }
    }
}

#[test]
fn an_operation_that_fails_once_leaves_a_restoration_to_the_next_attempt() {
    for successes in 0.. {
        let temp = tempfile::tempdir().unwrap();
        let faults = Faults::new(temp.path());
        let mut directory = publish_and_remove(&faults, temp.path());
        faults.fail_after(successes, false);
        let first = directory.restore();
        if faults.has_failed() {
            let error = first.unwrap_err();
            assert!(matches!(error.kind, DirectoryErrorKind::System { .. }), "{error}");
            assert_eq!(directory.restore().unwrap(), Restored::Changed);
        }
        assert_eq!(seen(temp.path()), Some(3));
        if !faults.has_failed() {
            break;
        }
    }
}

#[test]
fn a_directory_that_was_replaced_is_not_changed_and_one_that_comes_back_is_used_again() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("tables");
    fs::create_dir(&path).unwrap();
    let mut directory = published(&path);
    let place = directory.place();
    place.check().unwrap();
    let elsewhere = temp.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    for error in [
        place.check().unwrap_err(),
        directory.restore().unwrap_err(),
        publish(&mut directory, 4).unwrap_err(),
    ] {
        assert!(matches!(error.kind, DirectoryErrorKind::Missing), "{error}");
    }
    fs::create_dir(&path).unwrap();
    for error in [
        place.check().unwrap_err(),
        directory.restore().unwrap_err(),
        publish(&mut directory, 4).unwrap_err(),
    ] {
        assert!(matches!(error.kind, DirectoryErrorKind::Replaced), "{error}");
    }
    assert!(names(&path).is_empty());
    fs::remove_dir(&path).unwrap();
    fs::rename(&elsewhere, &path).unwrap();
    place.check().unwrap();
    assert!(directory.is_intact());
    publish(&mut directory, 4).unwrap();
    assert_eq!(seen(&path), Some(4));
}
