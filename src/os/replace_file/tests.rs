use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{ReplaceError, ReplaceErrorKind, edit, edit_pair};
use crate::os::secret::Secret;

fn write(path: &Path, text: &str) -> Result<(), ReplaceError> {
    edit::<ReplaceError>(path, 0o600, |_| Ok(Some(Secret::from(text.as_bytes().to_vec())))).map(drop)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_with_two_names_keeps_both_and_is_written_in_place_at_any_length() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    fs::write(&one, "first\n").unwrap();
    fs::hard_link(&one, &two).unwrap();
    for text in ["a longer text than before\n", "short\n", "", "x", "y"] {
        write(&two, text).unwrap();
        assert_eq!(fs::read_to_string(&one).unwrap(), text);
    }
    assert_eq!(names(directory.path()), ["one", "two"]);
}

#[test]
fn a_change_by_another_program_is_read_again_and_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    for before in [None, Some("old\n")] {
        drop(fs::remove_file(&path));
        if let Some(before) = before {
            fs::write(&path, before).unwrap();
        }
        let mut calls = 0;
        edit::<ReplaceError>(&path, 0o600, |text| {
            calls += 1;
            if calls == 1 {
                // This writer takes no lock.
                fs::write(&path, "another writer's\n").unwrap();
            }
            Ok(Some([text, b"ours\n"].concat().into()))
        })
        .unwrap();
        assert_eq!(calls, 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another writer's\nours\n");
    }
    let mut calls = 0;
    let always_changing = edit::<ReplaceError>(&path, 0o600, |_| {
        calls += 1;
        fs::write(&path, "x".repeat(calls)).unwrap();
        Ok(Some(Secret::default()))
    });
    assert!(matches!(always_changing, Err(error) if matches!(error.kind, ReplaceErrorKind::Changing)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "x".repeat(calls));
    assert_eq!(names(directory.path()), ["t"]);
}

#[test]
fn a_stale_temporary_file_is_removed_by_the_next_edit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    for (name, age) in [
        (".t.postmapd-old", 3600),
        (".t.postmapd-new", 0),
        (".other", 3600),
    ] {
        let file = File::create(directory.path().join(name)).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        file.set_modified(time).unwrap();
    }
    write(&path, "text\n").unwrap();
    assert_eq!(names(directory.path()), [".other", ".t.postmapd-new", "t"]);
}

#[test]
fn a_failed_or_empty_edit_leaves_file_and_directory_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    fs::write(&path, "old\n").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let before = fs::metadata(&path).unwrap();
    let file_stat = |metadata: &fs::Metadata| (metadata.ino(), metadata.mtime_nsec(), metadata.ctime_nsec());
    edit::<ReplaceError>(&path, 0o600, |_| Ok(None)).unwrap();
    let failed = edit(&path, 0o600, |_| {
        Err(ReplaceErrorKind::Directory(io::Error::other("no")).at("x"))
    });
    assert!(failed.is_err());
    assert_eq!(file_stat(&fs::metadata(&path).unwrap()), file_stat(&before));
    write(&path, "new\n").unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.mode() & 0o7777, 0o640);
    assert_ne!(after.ino(), before.ino());
    assert_eq!(names(directory.path()), ["t"]);
}

#[test]
fn a_path_that_is_not_a_regular_file_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::os::unix::fs::symlink("nothing", at("link")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let kind = |name: &str| write(&at(name), "x").unwrap_err().kind;
    assert!(matches!(kind("link"), ReplaceErrorKind::DanglingLink));
    for name in ["directory", "fifo"] {
        assert!(matches!(kind(name), ReplaceErrorKind::Unreadable(_)), "{name}");
    }
    assert!(matches!(kind("missing/t"), ReplaceErrorKind::Directory(_)));
    assert_eq!(names(directory.path()), ["directory", "fifo", "link"]);
}

#[test]
fn two_files_are_replaced_together_and_neither_if_one_is_rejected() {
    let text = |text: &str| Some(Secret::from(text.as_bytes().to_vec()));
    let one_directory = tempfile::tempdir().unwrap();
    let other_directory = tempfile::tempdir().unwrap();
    for second in [one_directory.path().join("b"), other_directory.path().join("b")] {
        let first = one_directory.path().join("a");
        fs::write(&first, "a1").unwrap();
        let files = [(first.as_path(), 0o644), (second.as_path(), 0o600)];
        let now = || {
            (
                fs::read_to_string(&first).unwrap(),
                fs::read_to_string(&second).unwrap_or_default(),
            )
        };
        // The second file is new.
        let locks = edit_pair::<ReplaceError>(files, |a, b| {
            assert_eq!((a, b), (&b"a1"[..], &b""[..]));
            Ok([text("a2"), text("b2")])
        });
        assert_eq!(now(), ("a2".to_owned(), "b2".to_owned()));
        assert_eq!(fs::metadata(&second).unwrap().mode() & 0o777, 0o600);
        drop(locks.unwrap());
        for (changes, expected) in [
            ([None, text("b3")], ("a2", "b3")),
            ([text("a4"), None], ("a4", "b3")),
            ([None, None], ("a4", "b3")),
        ] {
            let [one, other] = changes;
            edit_pair::<ReplaceError>(files, |_, _| Ok([one.clone(), other.clone()])).unwrap();
            assert_eq!(now(), (expected.0.to_owned(), expected.1.to_owned()));
        }
        let rejected = edit_pair::<ReplaceError>(files, |_, _| Err(ReplaceErrorKind::Changing.at("x")));
        assert!(rejected.is_err());
        // A file with two names is written in place.
        fs::hard_link(&second, other_directory.path().join("c")).unwrap();
        edit_pair::<ReplaceError>(files, |_, _| Ok([text("a5"), text("b5")])).unwrap();
        assert_eq!(now(), ("a5".to_owned(), "b5".to_owned()));
        fs::remove_file(other_directory.path().join("c")).unwrap();
        fs::remove_file(&second).unwrap();
    }
    assert_eq!(names(one_directory.path()), ["a"]);
    assert!(names(other_directory.path()).is_empty());
}

#[test]
fn a_change_of_one_of_two_files_by_another_program_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("a"), directory.path().join("b"));
    fs::write(&first, "a").unwrap();
    fs::write(&second, "b").unwrap();
    let mut calls = 0;
    let append = |text: &[u8]| Some(Secret::from([text, b"+"].concat()));
    edit_pair::<ReplaceError>([(&first, 0o644), (&second, 0o644)], |a, b| {
        calls += 1;
        if calls == 1 {
            fs::write(&second, "other").unwrap();
        }
        Ok([append(a), append(b)])
    })
    .unwrap();
    assert_eq!(calls, 2);
    assert_eq!(fs::read_to_string(&first).unwrap(), "a+");
    assert_eq!(fs::read_to_string(&second).unwrap(), "other+");
}
