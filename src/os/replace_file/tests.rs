use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Problem, ReplaceError, edit};
use crate::os::secret::Secret;

fn write(path: &Path, text: &str) -> Result<(), ReplaceError> {
    edit::<ReplaceError>(path, 0o600, |_| Ok(Some(Secret::from(text.as_bytes().to_vec())))).map(drop)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_with_two_names_keeps_both_and_every_length_is_written_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    fs::write(&one, "first\n").unwrap();
    fs::hard_link(&one, &two).unwrap();
    for text in ["a longer text than before\n", "short\n", "", "x", "y"] {
        write(&two, text).unwrap();
        assert_eq!(fs::read_to_string(&one).unwrap(), text);
    }
    assert_eq!(names(folder.path()), ["one", "two"]);
}

#[test]
fn what_somebody_wrote_meanwhile_is_read_again_and_nothing_of_it_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
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
                fs::write(&path, "somebody else's\n").unwrap();
            }
            Ok(Some([text, b"ours\n"].concat().into()))
        })
        .unwrap();
        assert_eq!(calls, 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody else's\nours\n");
    }
    let mut calls = 0;
    let restless = edit::<ReplaceError>(&path, 0o600, |_| {
        calls += 1;
        fs::write(&path, "x".repeat(calls)).unwrap();
        Ok(Some(Secret::default()))
    });
    assert!(matches!(restless, Err(error) if matches!(error.problem, Problem::Changing)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "x".repeat(calls));
    assert_eq!(names(folder.path()), ["t"]);
}

#[test]
fn a_new_file_that_was_left_behind_goes_with_the_next_edit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    for (name, age) in [
        (".t.postmapd-old", 3600),
        (".t.postmapd-new", 0),
        (".other", 3600),
    ] {
        let file = File::create(folder.path().join(name)).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        file.set_modified(time).unwrap();
    }
    write(&path, "text\n").unwrap();
    assert_eq!(names(folder.path()), [".other", ".t.postmapd-new", "t"]);
}

#[test]
fn a_change_that_fails_or_is_none_leaves_file_and_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    fs::write(&path, "old\n").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let before = fs::metadata(&path).unwrap();
    let stamp = |metadata: &fs::Metadata| (metadata.ino(), metadata.mtime_nsec(), metadata.ctime_nsec());
    edit::<ReplaceError>(&path, 0o600, |_| Ok(None)).unwrap();
    let failed = edit(&path, 0o600, |_| {
        Err(Problem::Folder(io::Error::other("no")).of("x"))
    });
    assert!(failed.is_err());
    assert_eq!(stamp(&fs::metadata(&path).unwrap()), stamp(&before));
    write(&path, "new\n").unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.mode() & 0o7777, 0o640);
    assert_ne!(after.ino(), before.ino());
    assert_eq!(names(folder.path()), ["t"]);
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink("nothing", at("link")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let problem = |name: &str| write(&at(name), "x").unwrap_err().problem;
    assert!(matches!(problem("link"), Problem::LeadsNowhere));
    for name in ["folder", "fifo"] {
        assert!(matches!(problem(name), Problem::Unreadable(_)), "{name}");
    }
    assert!(matches!(problem("missing/t"), Problem::Folder(_)));
    assert_eq!(names(folder.path()), ["fifo", "folder", "link"]);
}
