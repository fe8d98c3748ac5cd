//! A reader follows the links after each operation, as a server would; the program ends before each operation in turn; and
//! after that, the power may be lost: what was not flushed is cut, gone, or as it was.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use postmapd::os::secret::Secret;
use proptest::prelude::*;

use super::disk::{Disk, System};
use super::generation::Generation;
use super::{ACTIVE, Directory, DirectoryError, DirectoryErrorKind, Provenance};

/// A state of the source: its number is in every file, and its tables depend on the number.
fn state(number: i64) -> (Vec<(&'static TableSpec, Secret)>, Provenance) {
    let text = |text: String| Secret::from(text.into_bytes());
    let mut tables = vec![
        (&RELAY_MAP, text(format!("@a.test [r{number}.test]:587\n"))),
        (&CREDENTIALS, text(format!("@a.test u{number}:p{number}\n"))),
    ];
    if number % 3 == 0 {
        tables.push((&RELAY_TLS, text(format!("r{number}.test encrypt\n"))));
    }
    let provenance = Provenance {
        source: "postgres://reader@db.test/mail".to_owned(),
        revision: number,
        version: format!("version {number}"),
        committed: UNIX_EPOCH + Duration::from_millis(1_790_000_000_123),
    };
    (tables, provenance)
}

fn publish(directory: &mut Directory, number: i64) -> Result<(), DirectoryError> {
    let (tables, provenance) = state(number);
    let tables: Vec<_> = tables.iter().map(|(spec, text)| (*spec, text)).collect();
    directory.publish(&tables, &provenance)
}

/// The number of the state that a server reads, which is the same in each file. `None` if nothing is active.
fn seen(path: &Path) -> Option<i64> {
    if !path.join(ACTIVE).exists() {
        return None;
    }
    let source = fs::read_to_string(path.join("..data/source.json")).unwrap();
    let source: serde_json::Value = serde_json::from_str(&source).unwrap();
    let number = source["revision"].as_i64().unwrap();
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
fn seen_after_start(path: &Path) -> Option<i64> {
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

/// What a loss of power may do: any combination.
const LOSSES: u8 = 8;
const LOSE_CONTENT: u8 = 1;
const LOSE_LINKS: u8 = 2;
const LOSE_GENERATIONS: u8 = 4;

/// A disk on which the program ends.
#[derive(Default)]
struct Faults {
    path: PathBuf,
    /// How many operations succeed before one fails.
    successes: Cell<usize>,
    /// Whether the operations after it fail, too.
    is_end: Cell<bool>,
    has_failed: Cell<bool>,
    /// Whether a program starts after a loss of power, when a server reads what it left.
    is_starting: Cell<bool>,
    /// Whether a state was active, so that one always is.
    was_active: Cell<bool>,
    /// The files and directories that were flushed.
    flushed: RefCell<BTreeSet<PathBuf>>,
    /// The links when the directory was flushed.
    flushed_links: RefCell<BTreeMap<OsString, PathBuf>>,
}

fn links(path: &Path) -> BTreeMap<OsString, PathBuf> {
    let links = names(path).into_iter();
    links
        .filter_map(|name| Some((name.clone(), fs::read_link(path.join(name)).ok()?)))
        .collect()
}

impl Faults {
    fn new(path: &Path) -> Rc<Self> {
        let faults = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        faults.successes.set(usize::MAX);
        faults.flushed_links.replace(links(path));
        Rc::new(faults)
    }

    fn fail_after(&self, successes: usize, is_end: bool) {
        self.successes.set(successes);
        self.is_end.set(is_end);
        self.has_failed.set(false);
    }

    fn step(&self) -> io::Result<()> {
        if self.has_failed.get() && self.is_end.get() {
            return Err(ErrorKind::Other.into());
        }
        let Some(left) = self.successes.get().checked_sub(1) else {
            self.successes.set(usize::MAX);
            self.has_failed.set(true);
            return Err(ErrorKind::StorageFull.into());
        };
        self.successes.set(left);
        Ok(())
    }

    fn read(&self) {
        if !self.is_starting.get() {
            let is_active = seen(&self.path).is_some();
            assert!(is_active || !self.was_active.replace(is_active));
        }
    }

    fn lose_power(&self, losses: u8) {
        let flushed = self.flushed.borrow();
        let generations = names(&self.path)
            .into_iter()
            .filter_map(|name| name.into_string().ok());
        for name in generations.filter(|name| Generation::is_name(name)) {
            let generation = self.path.join(name);
            for file in names(&generation) {
                let file = generation.join(file);
                if losses & LOSE_CONTENT != 0 && !flushed.contains(&file) {
                    let text = fs::read(&file).unwrap();
                    fs::write(&file, &text[..text.len() / 2]).unwrap();
                }
            }
            if losses & LOSE_GENERATIONS != 0 && !flushed.contains(&generation) {
                fs::remove_dir_all(generation).unwrap();
            }
        }
        if losses & LOSE_LINKS != 0 {
            for name in links(&self.path).into_keys() {
                fs::remove_file(self.path.join(name)).unwrap();
            }
            for (name, target) in &*self.flushed_links.borrow() {
                symlink(target, self.path.join(name)).unwrap();
            }
        }
    }
}

struct Faulty(Rc<Faults>);

impl Faulty {
    /// Does an operation, and reads what a server would read then.
    fn then_read(&self, operation: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.0.step()?;
        operation()?;
        self.0.read();
        Ok(())
    }
}

impl Disk for Faulty {
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.then_read(|| System.create_directory(path, mode))
    }

    fn write(&self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        if let Err(error) = self.0.step() {
            if error.kind() == ErrorKind::StorageFull {
                System.write(path, mode, &content[..content.len() / 2])?;
            }
            return Err(error);
        }
        System.write(path, mode, content)?;
        self.0.read();
        Ok(())
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.then_read(|| System.link(target, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.then_read(|| System.rename(from, to))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        // The disk is a model here, and flushing a real one takes time.
        self.0.step()?;
        self.0.flushed.borrow_mut().insert(path.to_owned());
        if path == self.0.path {
            self.0.flushed_links.replace(links(path));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.then_read(|| System.remove(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.then_read(|| System.remove_directory(path))
    }
}

fn start(path: &Path) -> Result<Directory, DirectoryError> {
    Directory::open(path, &[&RELAY_MAP, &CREDENTIALS])
}

/// Starts on a disk without faults, which is not flushed for real.
fn restart(path: &Path) -> Result<Directory, DirectoryError> {
    let faults = Faults::new(path);
    faults.is_starting.set(true);
    open(&faults)
}

fn open(faults: &Rc<Faults>) -> Result<Directory, DirectoryError> {
    Directory::open_on(
        &faults.path,
        &[&RELAY_MAP, &CREDENTIALS],
        Box::new(Faulty(Rc::clone(faults))),
    )
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

/// Publishes and flushes states 2 and 3 after 1, with the end after `successes` operations. Returns the state whose
/// publication succeeded last, and the one whose flush did, or `None` if there was no end.
fn run_to_the_end(faults: &Rc<Faults>, successes: usize, is_end: bool) -> Option<(i64, i64)> {
    let mut directory = open(faults).unwrap();
    publish(&mut directory, 1).unwrap();
    directory.sync().unwrap();
    faults.fail_after(successes, is_end);
    let (mut published, mut flushed) = (1, 1);
    for number in [2, 3] {
        if publish(&mut directory, number).is_err() {
            break;
        }
        published = number;
        if directory.sync().is_err() {
            break;
        }
        flushed = number;
    }
    faults.has_failed.get().then_some((published, flushed))
}

#[test]
fn a_start_after_the_end_at_any_operation_and_any_loss_of_power_finds_a_whole_state() {
    let mut ends = 0;
    for losses in 0..LOSSES {
        for successes in 0.. {
            let temp = tempfile::tempdir().unwrap();
            let faults = Faults::new(temp.path());
            let Some((published, flushed)) = run_to_the_end(&faults, successes, true) else {
                break;
            };
            ends += 1;
            faults.lose_power(losses);
            let place = format!("losses {losses}, {successes} operations, {published} published");
            let mut directory = restart(temp.path()).unwrap();
            let found = seen_after_start(temp.path()).expect(&place);
            // Without a loss of power, the last publication that succeeded, or the one that was about to.
            let oldest = if losses == 0 { published } else { flushed };
            assert!(
                (oldest..=published + 1).contains(&found),
                "{place}: found {found}"
            );
            assert_eq!(directory.active().map(|active| active.revision), Some(found));
            publish(&mut directory, 9).expect(&place);
            directory.sync().expect(&place);
            assert_eq!(seen_after_start(temp.path()), Some(9), "{place}");
        }
    }
    assert!(ends > 8 * 25, "{ends}");
}

#[test]
fn the_end_at_any_operation_of_the_first_publication_leaves_nothing_or_a_whole_state() {
    for losses in 0..LOSSES {
        for successes in 0.. {
            let temp = tempfile::tempdir().unwrap();
            let faults = Faults::new(temp.path());
            faults.fail_after(successes, true);
            let result = open(&faults).and_then(|mut directory| {
                publish(&mut directory, 1)?;
                directory.sync()
            });
            if !faults.has_failed.get() {
                result.unwrap();
                break;
            }
            faults.lose_power(losses);
            let mut directory = restart(temp.path()).unwrap();
            let found = seen(temp.path());
            assert!([None, Some(1)].contains(&found), "{found:?}");
            assert_eq!(directory.active().is_some(), found.is_some());
            publish(&mut directory, 2).unwrap();
            directory.sync().unwrap();
            assert_eq!(seen_after_start(temp.path()), Some(2));
        }
    }
}

#[test]
fn the_end_at_any_operation_of_a_start_leaves_a_whole_state() {
    for successes in 0.. {
        let temp = tempfile::tempdir().unwrap();
        let faults = Faults::new(temp.path());
        // The program ends before state 2 is flushed, and the power is lost: state 1 is activated again.
        run_to_the_end(&faults, 9, true).unwrap();
        faults.lose_power(LOSE_CONTENT);
        faults.is_starting.set(true);
        faults.fail_after(successes, true);
        let result = open(&faults);
        if !faults.has_failed.get() {
            result.unwrap();
            assert!(successes > 3, "{successes}");
            break;
        }
        drop(result);
        let directory = restart(temp.path()).unwrap();
        assert_eq!(seen_after_start(temp.path()), Some(1));
        assert_eq!(directory.active().map(|active| active.revision), Some(1));
    }
}

#[test]
fn an_operation_that_fails_once_changes_no_answer_and_the_next_publication_succeeds() {
    for successes in 0.. {
        let temp = tempfile::tempdir().unwrap();
        let faults = Faults::new(temp.path());
        let mut directory = open(&faults).unwrap();
        publish(&mut directory, 1).unwrap();
        directory.sync().unwrap();
        faults.fail_after(successes, false);
        match publish(&mut directory, 2) {
            Ok(()) => assert_eq!(seen(temp.path()), Some(2)),
            Err(error) => {
                assert!(matches!(error.kind, DirectoryErrorKind::System { .. }), "{error}");
                assert_eq!(seen_after_start(temp.path()), Some(1));
            }
        }
        let has_synced = directory.sync().is_ok();
        assert!(has_synced || faults.has_failed.get());
        if !faults.has_failed.get() {
            break;
        }
        publish(&mut directory, 3).unwrap();
        directory.sync().unwrap();
        assert_eq!(seen_after_start(temp.path()), Some(3));
    }
}

#[test]
fn a_state_that_cannot_be_flushed_leaves_the_one_before_for_a_start_after_a_loss_of_power() {
    for losses in 0..LOSSES {
        for successes in 0..6 {
            let temp = tempfile::tempdir().unwrap();
            let faults = Faults::new(temp.path());
            let mut directory = open(&faults).unwrap();
            publish(&mut directory, 1).unwrap();
            directory.sync().unwrap();
            publish(&mut directory, 2).unwrap();
            faults.fail_after(successes, false);
            let error = directory.sync().unwrap_err();
            assert!(
                error.to_string().contains("cannot flush it to the disk"),
                "{error}"
            );
            drop(directory);
            faults.lose_power(losses);
            restart(temp.path()).unwrap();
            let found = seen_after_start(temp.path());
            assert!([Some(1), Some(2)].contains(&found), "{losses}: {found:?}");
        }
    }
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

#[derive(Clone, Debug)]
enum Action {
    Publish(i64),
    Sync,
    /// The end after so many operations of the next publication, a loss of power, and a start.
    End(usize, u8),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (1..1000_i64).prop_map(Action::Publish),
        3 => Just(Action::Sync),
        2 => (0..30_usize, 0..LOSSES).prop_map(|(successes, losses)| Action::End(successes, losses)),
    ];
    prop::collection::vec(action, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_publications_and_ends_leaves_a_state_that_was_published(actions in actions()) {
        let temp = tempfile::tempdir().unwrap();
        let mut faults = Faults::new(temp.path());
        let mut directory = Some(open(&faults).unwrap());
        // What a start may find: the state that was flushed last, and those after it.
        let mut possible = vec![None];
        for action in actions {
            let current = directory.as_mut().unwrap();
            match action {
                Action::Publish(number) => {
                    publish(current, number).unwrap();
                    prop_assert_eq!(seen(temp.path()), Some(number));
                    possible.push(Some(number));
                }
                Action::Sync => {
                    current.sync().unwrap();
                    possible = vec![seen(temp.path())];
                }
                Action::End(successes, losses) => {
                    faults.fail_after(successes, true);
                    let _ = publish(current, 1001).and_then(|()| current.sync());
                    possible.push(Some(1001));
                    drop(directory.take());
                    faults.lose_power(losses);
                    faults = Faults::new(temp.path());
                    faults.is_starting.set(true);
                    directory = Some(open(&faults).unwrap());
                    faults.is_starting.set(false);
                    let found = seen(temp.path());
                    prop_assert!(possible.contains(&found), "{:?} of {:?}", found, possible);
                    possible = vec![found];
                }
            }
        }
    }
}
