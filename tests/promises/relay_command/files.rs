//! What an edit does to the file: its mode, its owner and its links; concurrent edits; and files that cannot be
//! replaced by rename, or not written at all.

use super::{all, answer, done, refused, relay, text};
use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup, finish};
use crate::harness::eventually;
use crate::harness::observer::observe;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn new_credentials_files_are_private_and_new_files_belong_to_the_owner_of_the_directory() {
    let setup = Setup::new();
    done(
        &setup,
        "add-domain one.test r",
        "@one.test: [r]:25 without credentials",
    );
    done(&setup, "add-auth one.test u p", "@one.test: [r]:25 as u");
    assert_eq!(mode(&setup.dir().join(CREDENTIALS)), 0o600);
    assert_eq!(mode(&setup.dir().join(RELAYMAP)), 0o644);
    let setup = Setup::new();
    chown(setup.dir(), Some(4711), Some(4712)).expect("the tests need to be root");
    done(
        &setup,
        "add-auth one.test u p",
        "@one.test: no next hop is configured here",
    );
    let metadata = fs::metadata(setup.dir().join(CREDENTIALS)).unwrap();
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
        (4711, 4712, 0o600)
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn an_edit_replaces_the_inode_and_keeps_mode_owner_and_attributes() {
    let setup = Setup::new()
        .relaymap("@one.test [a]\n")
        .credentials("@one.test u:p\n");
    for (name, wanted) in [(RELAYMAP, 0o640), (CREDENTIALS, 0o4604)] {
        let path = setup.dir().join(name);
        chown(&path, Some(4711), Some(4712)).expect("the tests need to be root");
        fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
        rustix::fs::setxattr(&path, "user.note", b"kept", rustix::fs::XattrFlags::empty())
            .expect("a file system with extended attributes");
        // u::rw-,u:4713:r--,g::r--,m::r--,o::---, as setfacl(1) writes it: tag, permissions and number.
        let none = u32::MAX;
        let entries = [
            (1, 6, none),
            (2, 4, 4713),
            (4, 4, none),
            (0x10, 4, none),
            (0x20, 0, none),
        ];
        let bytes = entries.map(|(tag, permissions, id): (u16, u16, u32)| {
            [
                &tag.to_le_bytes()[..],
                &permissions.to_le_bytes(),
                &id.to_le_bytes(),
            ]
            .concat()
        });
        let list = [2_u32.to_le_bytes().to_vec(), bytes.concat()].concat();
        let with_list = name == RELAYMAP;
        if with_list {
            let list_name = "system.posix_acl_access";
            rustix::fs::setxattr(&path, list_name, &list, rustix::fs::XattrFlags::empty())
                .expect("a file system with access control lists");
        }
        let before = fs::metadata(&path).unwrap();
        let line = if with_list {
            "add-domain two.test r 25"
        } else {
            "add-auth one.test u new"
        };
        relay(&setup, line).exits(0);
        let after = fs::metadata(&path).unwrap();
        assert_eq!(
            (after.uid(), after.gid(), after.mode()),
            (4711, 4712, before.mode()),
            "{name}"
        );
        assert_ne!(after.ino(), before.ino());
        let read = |attribute: &str| {
            let mut value = vec![0; 1000];
            let length = rustix::fs::getxattr(&path, attribute, value.as_mut_slice()).unwrap();
            value.truncate(length);
            value
        };
        assert_eq!(read("user.note"), b"kept");
        if with_list {
            assert_eq!(read("system.posix_acl_access"), list);
        }
    }
}

#[test]
fn a_symbolic_link_stays_and_its_target_is_replaced() {
    let setup = Setup::new();
    let real = setup.root().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("map"), "# real\n").unwrap();
    symlink("../real", setup.root().join("linked")).unwrap();
    symlink("../real/map", setup.dir().join(RELAYMAP)).unwrap();
    let before = fs::metadata(real.join("map")).unwrap().ino();
    relay(&setup, "exclude-domain one.test").exits(0);
    assert_eq!(
        fs::read_to_string(real.join("map")).unwrap(),
        "# real\n@one.test\n"
    );
    assert_ne!(fs::metadata(real.join("map")).unwrap().ino(), before);
    let link = setup.dir().join(RELAYMAP);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("../real/map"));
    assert_eq!(fs::read_dir(&real).unwrap().count(), 1);
    fs::remove_file(real.join("map")).unwrap();
    let ran = relay(&setup, "exclude-domain two.test");
    assert!(ran.code == Some(1) && ran.stderr.contains("dangling"), "{ran:?}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn thirty_concurrent_edits_lose_nothing_and_a_server_never_reads_an_invalid_file() {
    const N: usize = 30;
    let setup = Setup::new()
        .relaymap("@first.test [first]:25\n")
        .credentials("@first.test first:secret\n");
    let daemon = Daemon::start(setup);
    let setup = daemon.setup();
    let requests = [("relayhost", "x@first.test"), ("sasl", "x@first.test")];
    let seen = observe(&daemon, &requests, |observer| {
        thread::scope(|scope| {
            for n in 0..N {
                let setup = &setup;
                scope.spawn(move || {
                    let domain = format!("d{n}.test");
                    let ran = if n % 2 == 0 {
                        relay(setup, &format!("add-domain {domain} r{n}.test"))
                    } else {
                        relay(setup, &format!("add-auth {domain} u{n} secret"))
                    }
                    .exits(0);
                    assert!(ran.stdout.starts_with(&format!("@{domain}: ")), "{ran:?}");
                });
            }
        });
        observer.answers()
    });
    assert_eq!(seen, [[Reply::found("[first]:25"), Reply::found("first:secret")]]);
    let (relays, credentials) = (text(&setup, RELAYMAP), text(&setup, CREDENTIALS));
    assert_eq!(
        (relays.lines().count(), credentials.lines().count()),
        (N / 2 + 1, N / 2 + 1)
    );
    let mut client = Socketmap::to(&daemon, 0);
    for n in 0..N {
        if n % 2 == 0 {
            assert!(relays.contains(&format!("@d{n}.test [r{n}.test]:25\n")));
            client.eventually_finds("relayhost", &format!("x@d{n}.test"), &format!("[r{n}.test]:25"));
        } else {
            assert!(credentials.contains(&format!("@d{n}.test u{n}:secret\n")));
        }
    }
    let log = daemon.log();
    assert!(!log.contains("ERROR") && !log.contains("secret"), "{log}");
    assert_eq!(all(&setup).len(), 2);
}

#[test]
fn concurrent_edits_of_one_entry_leave_one_of_them_intact() {
    let setup = Setup::new().relaymap("@one.test [a]\n");
    thread::scope(|scope| {
        for n in 0..10 {
            let setup = &setup;
            scope.spawn(move || relay(setup, &format!("add-domain one.test r{n}.test")));
        }
    });
    let text = text(&setup, RELAYMAP);
    assert!(
        text.starts_with("@one.test [r") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn a_signal_at_any_moment_leaves_the_old_or_the_new_text_and_no_temporary_file() {
    let setup = Setup::new().credentials("# only this\n");
    let mut ended_by_signal = 0;
    for n in 0..60_u64 {
        let mut child = setup
            .command("relay")
            .args(["add-auth", &format!("d{n}.test"), "u", "p"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The signal arrives at another moment each time.
        thread::sleep(Duration::from_micros(n * 300));
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let _ = kill(id, Signal::SIGTERM);
        ended_by_signal += usize::from(child.wait().unwrap().code().is_none());
        let names: Vec<_> = all(&setup).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [CREDENTIALS]);
    }
    assert!(ended_by_signal > 0, "no signal came in time");
    let text = text(&setup, CREDENTIALS);
    for line in text.lines().skip(1) {
        assert!(line.starts_with("@d") && line.ends_with(".test u:p"), "{line}");
    }
}

/// Executes a program after a script has prepared file systems that only it sees. `$1` is the directory around the
/// tables, and the current one.
fn prepared(setup: Setup, script: &str) -> Setup {
    let root = setup.root().to_str().unwrap().to_owned();
    let script = format!("set -e; cd \"$1\"; {script}; shift; exec \"$@\"");
    setup.within(["unshare", "--mount", "sh", "-c", &script, "sh", &root])
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn an_individually_mounted_file_is_written_in_place_and_the_edit_takes_effect() {
    let setup = Setup::new();
    let host = setup.root().join("host");
    fs::write(&host, "# mounted\n@one.test [a.test]:25\n").unwrap();
    fs::set_permissions(&host, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(setup.dir().join(RELAYMAP), "# hidden\n").unwrap();
    let inode = fs::metadata(&host).unwrap().ino();
    let setup = prepared(setup, &format!("mount --bind host tables/{RELAYMAP}"));
    let daemon = Daemon::start(setup.clone());
    let mut client = Socketmap::to(&daemon, 0);
    let inside = |line: &str| -> Finished {
        let program = Setup::in_directory(daemon.dir()).command("relay");
        let mut command = Command::new("nsenter");
        command.args(["--mount", &format!("--target={}", daemon.pid())]);
        let command = command.arg(program.get_program()).args(program.get_args());
        finish(command.args(line.split(' ')), b"")
    };
    for (line, expected, key, wanted) in [
        (
            "add-domain two.test a-much-longer-name.test 587",
            "# mounted\n@one.test [a.test]:25\n@two.test [a-much-longer-name.test]:587\n",
            "x@two.test",
            "[a-much-longer-name.test]:587",
        ),
        (
            "remove-domain two.test",
            "# mounted\n@one.test [a.test]:25\n",
            "x@two.test",
            "",
        ),
        (
            "add-domain ONE.test b",
            "# mounted\n@one.test [b]:25\n",
            "x@one.test",
            "[b]:25",
        ),
    ] {
        inside(line).exits(0);
        assert_eq!(fs::read_to_string(&host).unwrap(), expected);
        client.eventually_finds("relayhost", key, wanted);
    }
    let metadata = fs::metadata(&host).unwrap();
    assert_eq!((metadata.ino(), metadata.mode() & 0o7777), (inode, 0o640));
    // Thirty edits at once share the file as their only lock.
    thread::scope(|scope| {
        for n in 0..30 {
            let inside = &inside;
            scope.spawn(move || {
                inside(&format!("exclude-domain d{n}.test")).exits(0);
            });
        }
    });
    assert_eq!(fs::read_to_string(&host).unwrap().lines().count(), 32);
    let names: Vec<_> = all(&setup).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [RELAYMAP]);
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn concurrent_edits_through_a_mounted_file_and_through_its_directory_lose_nothing() {
    // Where the file is mounted individually, an edit locks the file and writes in place. Both paths lead to one file
    // until one is renamed over it, which an edit through the directory would do. A second hard link prevents that.
    let setup = Setup::new().relaymap("# both\n");
    let host = setup.root().join("host");
    fs::hard_link(setup.dir().join(RELAYMAP), &host).unwrap();
    let other = Setup::new().relaymap("# hidden\n");
    let script = format!(
        "mount --bind {} {}",
        host.display(),
        other.dir().join(RELAYMAP).display()
    );
    let other = prepared(other, &script);
    thread::scope(|scope| {
        for n in 0..20 {
            let setup = if n % 2 == 0 { &setup } else { &other };
            scope.spawn(move || {
                relay(setup, &format!("exclude-domain d{n}.test")).exits(0);
            });
        }
    });
    assert_eq!(text(&setup, RELAYMAP).lines().count(), 21);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_read_only_directory_is_an_error_and_nothing_changes() {
    let setup = Setup::new().relaymap("@one.test [a]\n");
    let read_only = prepared(
        setup.clone(),
        "mount --bind tables tables && mount -o remount,bind,ro tables",
    );
    for line in [
        "add-domain one.test r",
        "remove-domain one.test",
        "add-auth one.test u CANARY",
    ] {
        let stderr = refused(&read_only, line);
        assert!(
            stderr.contains("cannot be written") && !stderr.contains("CANARY"),
            "{stderr}"
        );
    }
    // An entry that exists already needs no write.
    let ran = relay(&read_only, "exclude-domain none.test");
    assert_eq!(ran.code, Some(1));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_writable_file_in_a_read_only_directory_is_written_in_place() {
    let setup = Setup::new().relaymap("@one.test [a]\n");
    let path = setup.dir().join(RELAYMAP);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let other_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let as_other = setup.clone().within(other_user);
    done(
        &as_other,
        "exclude-domain one.test",
        "@one.test: delivered directly",
    );
    assert_eq!(text(&setup, RELAYMAP), "@one.test\n");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&as_other, "exclude-domain two.test").contains("ermission denied"));
    // In its own directory it may not give files to another owner, so the file is edited in place.
    chown(setup.dir(), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    done(
        &as_other,
        "exclude-domain two.test",
        "@two.test: delivered directly",
    );
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.ino(), metadata.uid()), (inode, 0));
    assert_eq!(all(&setup).len(), 1);
}

/// Runs `add-auth` with a password too long for the space left on the disk that `script` has mounted. Fails unless the
/// directory then has these names and the file is unchanged.
#[track_caller]
fn full(script: &str, names: &[&str]) {
    let before = "@one.test u:p\n".to_owned() + &"# filler\n".repeat(300);
    let setup = Setup::new().credentials("# hidden\n");
    fs::write(setup.root().join("old"), &before).unwrap();
    fs::create_dir(setup.root().join("small")).unwrap();
    // The mounts end with the process, so they are inspected in it.
    let look = "\"$@\"; code=$?; ls -A tables; echo --; cat tables/postfix-sasl-password.cf; exit $code";
    let program = setup.command("relay");
    let password = "CANARY".repeat(8000);
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "sh",
            "-c",
            &format!("set -e; cd \"$1\"; shift; {script}; set +e; {look}"),
            "sh",
        ])
        .arg(setup.root())
        .arg(program.get_program())
        .args(program.get_args())
        .args(["add-auth", "one.test", "u", &password]);
    let ran = finish(&mut command, b"").exits(1);
    assert!(
        ran.stderr.contains("No space left") && ran.stderr.contains("is unchanged"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("CANARY"));
    let (listed, shown) = ran.stdout.split_once("--\n").unwrap();
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
    assert_eq!(shown, before);
}

/// Uses up all the space left in `small`.
const FILL: &str = "dd if=/dev/zero of=small/fill bs=1k 2>/dev/null || [ -s small/fill ]";

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_full_disk_leaves_the_file_unchanged() {
    let mount = "mount -t tmpfs -o size=16k none small; cp old small/postfix-sasl-password.cf";
    full(
        &format!("{mount}; {FILL}; mount --bind small tables"),
        &["fill", CREDENTIALS],
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_full_disk_leaves_an_individually_mounted_file_unchanged() {
    let mount = "mount -t tmpfs -o size=16k none small; cp old small/f";
    full(
        &format!("{mount}; {FILL}; mount --bind small/f tables/{CREDENTIALS}"),
        &[CREDENTIALS],
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_partial_write_to_a_full_disk_is_undone() {
    // A file system that reserves no space (ext2) writes in place as much as it has.
    let mount = "truncate -s 256k disk; mkfs.ext2 -q -b 1024 disk; mount -o loop disk small; cp old small/f; \
                 dd if=/dev/zero of=small/spare bs=1024 count=6 2>/dev/null";
    full(
        &format!("{mount}; {FILL}; rm small/spare; mount --bind small/f tables/{CREDENTIALS}"),
        &[CREDENTIALS],
    );
}

#[test]
fn an_edit_waits_for_the_lock_of_the_directory_and_of_the_file() {
    for locked in ["", RELAYMAP] {
        let setup = Setup::new().relaymap("@one.test [a]\n");
        let path = setup.dir().join(locked).canonicalize().unwrap();
        let lock = Flock::lock(fs::File::open(&path).unwrap(), FlockArg::LockExclusive).unwrap();
        let mut child = setup
            .command("relay")
            .args(["exclude-domain", "one.test"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let held = format!("/proc/{}/fd", child.id());
        eventually(
            || {
                fs::read_dir(&held).is_ok_and(|fds| {
                    fds.flatten()
                        .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path))
                })
            },
            |waits| *waits,
        );
        // Long enough for an edit that does not wait.
        thread::sleep(Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none(), "{locked}");
        assert_eq!(text(&setup, RELAYMAP), "@one.test [a]\n");
        drop(lock);
        assert!(child.wait().unwrap().success());
        assert_eq!(answer(&setup, "relayhost", "x@one.test"), "");
    }
}

/// A user that is neither root nor the owner of root's files.
const MALLORY: u32 = 4711;

fn link_of(owner: u32, target: impl AsRef<Path>, link: &Path) {
    symlink(target, link).unwrap();
    std::os::unix::fs::lchown(link, Some(owner), Some(owner)).expect("the tests need to be root");
}

/// A directory of another user, and a file of root elsewhere.
fn another_users_directory() -> (Setup, std::path::PathBuf) {
    let setup = Setup::new();
    chown(setup.dir(), Some(MALLORY), Some(MALLORY)).unwrap();
    let roots = setup.root().join("roots");
    fs::create_dir(&roots).unwrap();
    let file = roots.join(RELAYMAP);
    fs::write(&file, "@root.test [root]\n").unwrap();
    (setup, file)
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn root_follows_no_symbolic_link_of_another_user_to_a_third_users_file() {
    let (setup, file) = another_users_directory();
    let link = setup.dir().join(RELAYMAP);
    let expect_refused = |setup: &Setup, named: &Path| {
        let ran = relay(setup, "add-domain one.test evil.test");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        let what = format!(
            "{} is a symbolic link owned by the user {MALLORY}",
            named.display()
        );
        assert!(
            ran.stderr.contains(&what) && ran.stderr.contains("chown -h"),
            "{ran:?}"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "@root.test [root]\n");
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    };
    // The file itself, through one link, and through two links of which the second is root's.
    link_of(MALLORY, &file, &link);
    expect_refused(&setup, &link);
    let between = setup.root().join("between");
    link_of(0, &file, &between);
    fs::remove_file(&link).unwrap();
    link_of(MALLORY, "../between", &link);
    expect_refused(&setup, &link);
    // A directory of the path.
    let way = setup.root().join("way");
    link_of(MALLORY, "roots", &way);
    expect_refused(&Setup::in_directory(&way), &way);
    // The second link is Mallory's, after a correct first one.
    let (dir, right) = (setup.root().join("dir"), setup.root().join("right"));
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(MALLORY), None).unwrap();
    link_of(MALLORY, "dir", &right);
    link_of(MALLORY, &file, &dir.join(RELAYMAP));
    expect_refused(&Setup::in_directory(&right), &dir.join(RELAYMAP));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_symbolic_link_of_root_or_of_the_targets_owner_is_followed() {
    let (setup, file) = another_users_directory();
    let link = setup.dir().join(RELAYMAP);
    link_of(0, &file, &link);
    relay(&setup, "add-domain one.test relay").exits(0);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "@root.test [root]\n@one.test [relay]:25\n"
    );
    // Mallory's own file in another place, through a link of Mallory.
    let own = setup.root().join("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("map"), "@own.test [own]\n").unwrap();
    chown(own.join("map"), Some(MALLORY), None).unwrap();
    fs::remove_file(&link).unwrap();
    link_of(MALLORY, "../own/map", &link);
    relay(&setup, "exclude-domain own.test").exits(0);
    assert_eq!(fs::read_to_string(own.join("map")).unwrap(), "@own.test\n");
    assert_eq!(fs::metadata(own.join("map")).unwrap().uid(), MALLORY);
    // A link of the user that runs the edit is followed.
    let everybodys = setup.root().join("everybodys");
    fs::write(&everybodys, "@own.test [own]\n").unwrap();
    fs::set_permissions(&everybodys, fs::Permissions::from_mode(0o666)).unwrap();
    fs::remove_file(&link).unwrap();
    link_of(MALLORY, "../everybodys", &link);
    let mallory = MALLORY.to_string();
    let as_mallory = setup.clone().within([
        "setpriv",
        "--reuid",
        &mallory,
        "--regid",
        &mallory,
        "--clear-groups",
    ]);
    relay(&as_mallory, "exclude-domain own.test").exits(0);
    assert_eq!(fs::read_to_string(&everybodys).unwrap(), "@own.test\n");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn symbolic_links_exchanged_during_an_edit_never_redirect_root() {
    let (setup, file) = another_users_directory();
    let (way, good) = (setup.root().join("way"), setup.root().join("good"));
    fs::create_dir(&good).unwrap();
    chown(&good, Some(MALLORY), None).unwrap();
    let spare = setup.root().join("spare");
    link_of(MALLORY, "roots", &spare);
    fs::create_dir(&way).unwrap();
    chown(&way, Some(MALLORY), None).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // A directory and a link of Mallory alternate under the same name.
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &way,
                    rustix::fs::CWD,
                    &spare,
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        for n in 0..40 {
            let ran = relay(
                &Setup::in_directory(&way),
                &format!("add-domain d{n}.test evil.test"),
            );
            assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_to_string(&file).unwrap(), "@root.test [root]\n");
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_file_size_limit_is_an_error_and_leaves_no_temporary_file() {
    let long = "# a comment of some length\n".repeat(4000);
    let setup = Setup::new()
        .relaymap("@one.test [relay]\n")
        .credentials(format!("@one.test first:secret\n{long}"));
    let limited = setup.clone().within(["prlimit", "--fsize=4096:4096"]);
    let message = refused(&limited, "add-auth one.test u p");
    assert!(
        message.contains("cannot be written and is unchanged") && message.contains("too large"),
        "{message}"
    );
    // A file that cannot be replaced is written in place, and restored.
    let path = setup.dir().join(CREDENTIALS);
    fs::hard_link(&path, setup.dir().join("second-name")).unwrap();
    let message = refused(&limited, "add-auth one.test u p");
    assert!(message.contains("is unchanged"), "{message}");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_signal_during_a_write_ends_the_program_only_after_cleanup() {
    for signal in ["TERM", "INT", "HUP", "QUIT", "XCPU", "ALRM", "USR1", "XFSZ"] {
        let setup = Setup::new().credentials("@one.test first:secret\n");
        let trace = setup.root().join("trace");
        // The flush of the new file takes time, and the signal comes before it.
        let inject = format!("inject=fsync:signal=SIG{signal}:when=1");
        let strace = ["strace", "-qq", "-o", trace.to_str().unwrap(), "-e", &inject];
        let ran = relay(&setup.clone().within(strace), "add-auth one.test u p");
        assert_eq!(text(&setup, CREDENTIALS), "@one.test u:p\n", "{signal}: {ran:?}");
        assert_eq!(all(&setup).len(), 1, "{signal}: {:?}", all(&setup));
    }
}
