use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use postmapd::lookup::directory_source::DirectorySource;
use rustix::fs::statvfs;
use tempfile::TempDir;

use super::generation::Generation;
use super::lines::NO_ENTRIES;
use super::{ACTIVE, Directory, DirectoryError, DirectoryErrorKind, Provenance, Published, Staging};
use crate::engine::{Extent, Rows, State, Table};
use crate::rows::Row;

mod changes;
mod crashes;
mod faulty_disk;
mod inconsistent;
mod lines;
mod restored;

/// A temporary directory: in memory where there is enough, because a flush to the disk may take long.
pub(crate) fn temporary() -> TempDir {
    let memory = Path::new("/dev/shm");
    let is_enough = statvfs(memory).is_ok_and(|size| size.f_bavail * size.f_frsize >= 1 << 30);
    let temp = if is_enough {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    temp.unwrap()
}

/// A row of a table.
fn row<'a>(table: Table, key: &'a str, value: &'a str) -> Row<'a> {
    let (key, value) = (key.as_bytes(), Some(value.as_bytes()));
    match table {
        Table::Relay => Row::Relay { key, next_hop: value },
        Table::Credentials => Row::Credentials {
            key,
            user: Some(b"u"),
            password: value,
        },
        Table::Tls => Row::Tls { key, value },
    }
}

/// A state of the source: its number is in the relays. Two have the same password, and one in three has TLS.
fn rows(number: u64) -> Vec<(Table, String, String)> {
    let mut rows = vec![
        (
            Table::Relay,
            "@a.test".to_owned(),
            format!("[r{number}.test]:587"),
        ),
        (
            Table::Credentials,
            "@a.test".to_owned(),
            format!("p{}", number / 2),
        ),
    ];
    if number.is_multiple_of(3) {
        rows.push((Table::Tls, format!("r{number}.test"), "encrypt".to_owned()));
    }
    rows
}

/// The files of the state.
fn texts(number: u64) -> Vec<(Table, String)> {
    let line = |(table, key, value)| match table {
        Table::Credentials => (table, format!("{key} u:{value}\n")),
        Table::Relay | Table::Tls => (table, format!("{key} {value}\n")),
    };
    rows(number).into_iter().map(line).collect()
}

fn provenance(number: u64) -> Provenance {
    Provenance {
        source: "postgres://reader@db.test/mail".to_owned(),
        state: State {
            revision: Some(number),
            version: format!("version {number}"),
            committed: UNIX_EPOCH + Duration::from_millis(1_790_000_000_123),
        },
    }
}

/// Reads all rows of the state.
fn read_everything(staging: &mut Staging, number: u64) {
    staging.begin(Extent::Everything);
    let rows = rows(number);
    for table in Table::ALL {
        staging.table(table);
        for (_, key, value) in rows.iter().filter(|(of, ..)| *of == table) {
            staging.row(row(table, key, value));
        }
    }
}

/// Reads what differs between two states.
fn read_changes(staging: &mut Staging, from: u64, to: u64) {
    staging.begin(Extent::Changes);
    let (before, after) = (rows(from), rows(to));
    for table in Table::ALL {
        let of = |rows: &[(Table, String, String)]| -> BTreeMap<String, Option<String>> {
            let own = rows.iter().filter(|(of, ..)| *of == table);
            own.map(|(_, key, value)| (key.clone(), Some(value.clone())))
                .collect()
        };
        let (before, after) = (of(&before), of(&after));
        if before == after {
            continue;
        }
        staging.table(table);
        let mut changes: BTreeMap<String, Option<String>> =
            before.into_keys().map(|key| (key, None)).collect();
        changes.extend(after);
        for (key, value) in &changes {
            match value {
                Some(value) => staging.row(row(table, key, value)),
                None => staging.removed(key.as_bytes()),
            }
        }
    }
}

/// Publishes a state, of which changes were read if there is an active one and its number is odd.
fn publish(directory: &mut Directory, number: u64) -> Result<Published, DirectoryError> {
    let mut staging = directory.stage()?;
    match directory.active().and_then(|active| active.state.revision) {
        Some(active) if !number.is_multiple_of(2) => read_changes(&mut staging, active, number),
        _ => read_everything(&mut staging, number),
    }
    directory.publish(staging, &provenance(number))
}

/// The number of the state that a server reads, which is the same in each file. `None` if nothing is active.
fn seen(path: &Path) -> Option<u64> {
    if !path.join(ACTIVE).exists() {
        return None;
    }
    let source = fs::read_to_string(path.join("..data/source.json")).unwrap();
    let source: serde_json::Value = serde_json::from_str(&source).unwrap();
    let number = source["revision"].as_u64().unwrap();
    assert_eq!(source["version"], provenance(number).state.version);
    let texts = texts(number);
    for table in Table::ALL {
        let expected = texts.iter().find(|(of, _)| *of == table);
        let text = fs::read_to_string(path.join(ACTIVE).join(table.spec().file)).ok();
        let text = text.filter(|text| text.as_bytes() != NO_ENTRIES);
        assert_eq!(text.as_ref(), expected.map(|(_, text)| text), "{table:?}");
    }
    Some(number)
}

/// As [`seen`], and the directory has a link for each file, and nothing else but further names of active files.
fn seen_after_start(path: &Path) -> Option<u64> {
    let number = seen(path)?;
    let mut expected: BTreeSet<OsString> = [ACTIVE, "source.json"].map(OsString::from).into();
    expected.extend(
        texts(number)
            .iter()
            .map(|(table, _)| OsString::from(table.spec().file)),
    );
    // It has no entries after a state with some.
    let tls = OsString::from(Table::Tls.spec().file);
    expected.extend(Some(tls).filter(|tls| path.join(ACTIVE).join(tls).exists()));
    expected.insert(fs::read_link(path.join(ACTIVE)).unwrap().into_os_string());
    let remnants: BTreeSet<OsString> = names(path).difference(&expected).cloned().collect();
    for remnant in remnants {
        assert!(Generation::is_name(remnant.to_str().unwrap()), "{remnant:?}");
        let names = names(&path.join(&remnant));
        assert!(!names.is_empty());
        for name in names {
            let inode = |path: &Path| fs::metadata(path.join(&name)).unwrap().ino();
            assert_eq!(inode(&path.join(&remnant)), inode(&path.join(ACTIVE)), "{name:?}");
        }
    }
    for (table, text) in texts(number) {
        assert_eq!(fs::read_to_string(path.join(table.spec().file)).unwrap(), text);
    }
    Some(number)
}

fn names(path: &Path) -> BTreeSet<OsString> {
    fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect()
}

fn start(path: &Path) -> Result<Directory, DirectoryError> {
    Directory::open(path, &Table::ALL)
}

#[test]
fn a_published_state_is_read_through_the_links_and_the_one_before_is_removed_after_the_flush() {
    let temp = tempfile::tempdir().unwrap();
    let mut directory = start(temp.path()).unwrap();
    assert_eq!(directory.active(), None);
    for number in [1, 2, 3, 4] {
        publish(&mut directory, number).unwrap();
        assert_eq!(seen(temp.path()), Some(number));
        directory.sync().unwrap();
        assert_eq!(seen_after_start(temp.path()), Some(number));
        assert_eq!(directory.active(), Some(&provenance(number)));
    }
    drop(directory);
    let directory = start(temp.path()).unwrap();
    assert_eq!(directory.active(), Some(&provenance(4)));
}

#[test]
fn before_the_first_publication_the_tables_are_links_to_nothing_which_a_server_cannot_read() {
    let temp = tempfile::tempdir().unwrap();
    let directory = start(temp.path()).unwrap();
    assert_eq!(directory.active(), None);
    let files = [
        "postfix-relaymap.cf",
        "postfix-sasl-password.cf",
        "postfix-relay-tls.cf",
    ]
    .map(OsString::from);
    assert_eq!(names(temp.path()), files.clone().into());
    for file in files {
        assert!(
            fs::symlink_metadata(temp.path().join(&file))
                .unwrap()
                .is_symlink()
        );
        let error = fs::read(temp.path().join(&file)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_thread_can_take_over_a_directory() {
    fn take_over<T: Send>(_: T) {}
    let temp = tempfile::tempdir().unwrap();
    let mut directory = start(temp.path()).unwrap();
    take_over(directory.stage().unwrap());
    take_over(directory);
}

#[test]
fn source_json_says_where_the_files_come_from() {
    let temp = tempfile::tempdir().unwrap();
    let mut directory = start(temp.path()).unwrap();
    publish(&mut directory, 7).unwrap();
    let text = fs::read_to_string(temp.path().join("source.json")).unwrap();
    let source: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(source["source"], "postgres://reader@db.test/mail");
    assert_eq!(source["revision"], 7);
    assert_eq!(source["version"], "version 7");
    assert_eq!(source["committed"], "2026-09-21T14:13:20.123Z");
    let read = DirectorySource::parse(text.as_bytes()).unwrap();
    assert_eq!(read.source, provenance(7).source);
    assert_eq!(
        (read.revision, read.version.as_deref()),
        (Some(7), Some("version 7"))
    );
    assert_eq!(
        read.committed.map(|commit| commit.time),
        Some(provenance(7).state.committed)
    );
    let digests = source["digests"].as_object().unwrap();
    let files: Vec<&String> = digests.keys().collect();
    assert_eq!(files, ["postfix-relaymap.cf", "postfix-sasl-password.cf"]);
    for digest in digests.values() {
        assert!(digest.as_str().unwrap().starts_with("hmac-sha256:"), "{digest}");
    }
}

#[test]
fn only_the_owner_can_read_the_files_and_the_group_if_the_directory_has_the_set_group_id_bit() {
    for (directory_mode, generation_mode, file_mode) in [(0o755, 0o700, 0o600), (0o2750, 0o750, 0o640)] {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), Permissions::from_mode(directory_mode)).unwrap();
        let mut directory = start(temp.path()).unwrap();
        publish(&mut directory, 1).unwrap();
        let mode = |name: &str| fs::metadata(temp.path().join(name)).unwrap().mode() & 0o777;
        assert_eq!(mode("..data/."), generation_mode);
        for file in ["postfix-relaymap.cf", "postfix-sasl-password.cf", "source.json"] {
            assert_eq!(mode(file), file_mode, "{file}");
        }
        assert_eq!(mode("..data/digest-key"), 0o600);
    }
}

#[test]
fn files_get_the_modes_that_the_directory_has_at_the_next_start_even_if_no_row_changes() {
    for read_changes in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let mode = |file: &str| fs::metadata(temp.path().join(file)).unwrap().mode() & 0o777;
        let tables = ["postfix-relaymap.cf", "postfix-sasl-password.cf"];
        publish(&mut start(temp.path()).unwrap(), 2).unwrap();
        assert_eq!(tables.map(mode), [0o600; 2]);
        fs::set_permissions(temp.path(), Permissions::from_mode(0o2750)).unwrap();
        let mut directory = start(temp.path()).unwrap();
        let mut staging = directory.stage().unwrap();
        if read_changes {
            staging.begin(Extent::Changes);
        } else {
            read_everything(&mut staging, 2);
        }
        assert_eq!(
            directory.publish(staging, &provenance(2)).unwrap(),
            Published::Changed
        );
        assert_eq!(tables.map(mode), [0o640; 2]);
        assert_eq!(seen(temp.path()), Some(2));
        assert_eq!(publish(&mut directory, 2).unwrap(), Published::Unchanged);
    }
}

#[test]
fn a_name_is_never_used_again() {
    let temp = tempfile::tempdir().unwrap();
    let mut used = BTreeSet::new();
    for number in 0..20 {
        let mut directory = start(temp.path()).unwrap();
        publish(&mut directory, number).unwrap();
        directory.sync().unwrap();
        assert!(used.insert(fs::read_link(temp.path().join(ACTIVE)).unwrap()));
    }
}

#[test]
fn a_file_that_is_not_from_this_program_is_not_replaced() {
    let create: [fn(&Path); 3] = [
        |path| fs::write(path, "@a.test [local.test]\n").unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/etc/elsewhere", path).unwrap(),
    ];
    for name in ["postfix-relaymap.cf", "source.json", ACTIVE] {
        for create in create {
            let temp = tempfile::tempdir().unwrap();
            create(&temp.path().join(name));
            let result = start(temp.path()).and_then(|mut directory| publish(&mut directory, 1));
            let error = result.unwrap_err();
            assert!(matches!(error.kind, DirectoryErrorKind::ForeignFile), "{error}");
            assert_eq!(error.path, temp.path().join(name));
            assert!(
                !names(temp.path())
                    .iter()
                    .any(|name| Generation::is_name(&name.to_string_lossy()))
            );
        }
    }
    // A table that is not published may be local.
    let temp = tempfile::tempdir().unwrap();
    let local = temp.path().join("postfix-relay-tls.cf");
    fs::write(&local, "r.test encrypt\n").unwrap();
    let mut directory = start(temp.path()).unwrap();
    publish(&mut directory, 1).unwrap();
    directory.sync().unwrap();
    assert_eq!(fs::read_to_string(local).unwrap(), "r.test encrypt\n");
}

#[test]
fn a_directory_has_one_program_at_a_time_and_must_exist() {
    let temp = tempfile::tempdir().unwrap();
    let kind = |path: &Path| start(path).err().unwrap().kind;
    let first = start(temp.path()).unwrap();
    assert!(matches!(kind(temp.path()), DirectoryErrorKind::InUse));
    drop(first);
    start(temp.path()).unwrap();
    let missing = temp.path().join("missing");
    assert!(matches!(kind(&missing), DirectoryErrorKind::Missing));
    fs::write(&missing, "").unwrap();
    assert!(matches!(kind(&missing), DirectoryErrorKind::NotADirectory));
}

#[test]
fn a_generation_with_a_changed_file_is_not_whole() {
    for file in [
        "postfix-relaymap.cf",
        "postfix-sasl-password.cf",
        "source.json",
        "digest-key",
    ] {
        let change: [fn(&Path); 3] = [
            |path| fs::remove_file(path).unwrap(),
            |path| fs::write(path, "").unwrap(),
            |path| {
                let mut text = fs::read(path).unwrap();
                text[0] ^= 1;
                fs::write(path, text).unwrap();
            },
        ];
        for change in change {
            let temp = tempfile::tempdir().unwrap();
            let mut directory = start(temp.path()).unwrap();
            publish(&mut directory, 1).unwrap();
            directory.sync().unwrap();
            drop(directory);
            change(&temp.path().join(ACTIVE).join(file));
            let directory = start(temp.path()).unwrap();
            assert_eq!(directory.active(), None, "{file}");
        }
    }
}
