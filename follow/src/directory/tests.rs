use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use postmapd::lookup::directory_source::DirectorySource;
use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use postmapd::os::secret::Secret;

use super::generation::Generation;
use super::{ACTIVE, Directory, DirectoryError, DirectoryErrorKind, Provenance};

mod crashes;
mod faulty_disk;

/// A state of the source: its number is in every file, and its tables depend on the number.
fn state(number: u64) -> (Vec<(&'static TableSpec, Secret)>, Provenance) {
    let text = |text: String| Secret::from(text.into_bytes());
    let mut tables = vec![
        (&RELAY_MAP, text(format!("@a.test [r{number}.test]:587\n"))),
        (&CREDENTIALS, text(format!("@a.test u{number}:p{number}\n"))),
    ];
    if number.is_multiple_of(3) {
        tables.push((&RELAY_TLS, text(format!("r{number}.test encrypt\n"))));
    }
    let provenance = Provenance {
        source: "postgres://reader@db.test/mail".to_owned(),
        revision: Some(number),
        version: format!("version {number}"),
        committed: UNIX_EPOCH + Duration::from_millis(1_790_000_000_123),
    };
    (tables, provenance)
}

fn publish(directory: &mut Directory, number: u64) -> Result<(), DirectoryError> {
    let (tables, provenance) = state(number);
    let tables: Vec<_> = tables.iter().map(|(spec, text)| (*spec, text)).collect();
    directory.publish(&tables, &provenance)
}

/// The number of the state that a server reads, which is the same in each file. `None` if nothing is active.
fn seen(path: &Path) -> Option<u64> {
    if !path.join(ACTIVE).exists() {
        return None;
    }
    let source = fs::read_to_string(path.join("..data/source.json")).unwrap();
    let source: serde_json::Value = serde_json::from_str(&source).unwrap();
    let number = source["revision"].as_u64().unwrap();
    let (tables, provenance) = state(number);
    assert_eq!(source["version"], provenance.version);
    for spec in [&RELAY_MAP, &CREDENTIALS, &RELAY_TLS] {
        let expected = tables.iter().find(|(of, _)| *of == spec);
        let expected = expected.map(|(_, text)| text.expose().to_vec());
        assert_eq!(
            fs::read(path.join(ACTIVE).join(spec.file)).ok(),
            expected,
            "{spec:?}"
        );
    }
    Some(number)
}

/// As [`seen`], and the directory has a link for each file and no other file.
fn seen_after_start(path: &Path) -> Option<u64> {
    let number = seen(path)?;
    let mut expected: BTreeSet<OsString> = [ACTIVE, "source.json"].map(OsString::from).into();
    expected.extend(state(number).0.iter().map(|(spec, _)| OsString::from(spec.file)));
    expected.insert(fs::read_link(path.join(ACTIVE)).unwrap().into_os_string());
    assert_eq!(names(path), expected);
    for (spec, text) in state(number).0 {
        assert_eq!(fs::read(path.join(spec.file)).unwrap(), text.expose());
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
    Directory::open(path, &[&RELAY_MAP, &CREDENTIALS])
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
        assert_eq!(directory.active(), Some(&state(number).1));
    }
    drop(directory);
    let directory = start(temp.path()).unwrap();
    assert_eq!(directory.active(), Some(&state(4).1));
}

#[test]
fn before_the_first_publication_the_tables_are_links_to_nothing_which_a_server_cannot_read() {
    let temp = tempfile::tempdir().unwrap();
    let directory = start(temp.path()).unwrap();
    assert_eq!(directory.active(), None);
    let files = ["postfix-relaymap.cf", "postfix-sasl-password.cf"].map(OsString::from);
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
    assert_eq!(read.source, state(7).1.source);
    assert_eq!(
        (read.revision, read.version.as_deref()),
        (Some(7), Some("version 7"))
    );
    assert_eq!(
        read.committed.map(|commit| commit.time),
        Some(state(7).1.committed)
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
