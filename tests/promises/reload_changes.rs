//! Promise: whatever changes a file, and in whatever way, the change is live, whole, and nothing else ever was.
//!
//! Somebody asks all the while on a connection that stays open. The answers that he sees, one after the other, are
//! exactly those of the versions that were saved: none is missing on the way, none is half of two.

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::observer::{Observer, observe};
use crate::harness::{eventually, names_place};
use crate::live_reload::{LIVE, mounted, relay, repoint, setup, table, version};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// What is asked about the tables of [`setup`].
const SENDERS: [(&str, &str); 3] = [
    ("relayhost", "ann@one.test"),
    ("relayhost", "ann@two.test"),
    ("sasl", "login.test"),
];

/// The answers of the n-th relay map.
fn relays(n: usize) -> Vec<Reply> {
    vec![
        Reply::Found(relay(n)),
        Reply::found("[two.test]"),
        Reply::found("user0:secret0"),
    ]
}

/// The answers of the n-th version of both files.
fn versions(n: usize) -> Vec<Reply> {
    let mut answers = relays(n);
    answers[2] = Reply::Found(format!("user{n}:secret{n}"));
    answers
}

/// Tries an edit three times, each with the next version, and fails where anything but these versions is answered,
/// or where each of them is late.
#[track_caller]
fn follow(
    daemon: &Daemon,
    within: Duration,
    questions: &[(&str, &str)],
    answers: impl Fn(usize) -> Vec<Reply>,
    mut edit: impl FnMut(usize, &Observer),
) {
    observe(daemon, questions, |observer| {
        observer.wait_for(&answers(0));
        let mut late = Vec::new();
        for n in 1..=3 {
            edit(n, observer);
            let edited = Instant::now();
            let took = observer.wait_for(&answers(n)).saturating_duration_since(edited);
            if took > within {
                late.push(took);
            }
        }
        assert!(late.len() < 3, "live after {late:?}");
        let expected: Vec<_> = (0..=3).map(answers).collect();
        assert_eq!(
            observer.answers(),
            expected,
            "other answers than those that were saved"
        );
    });
}

/// Tries a way to save the relay map. `edit` gets the path, the number of the version and its text.
#[track_caller]
fn relay_map_is_live(setup: Setup, mut edit: impl FnMut(&Path, usize, &str, &Observer)) {
    let daemon = Daemon::start(setup);
    let path = daemon.dir().join(RELAYMAP);
    follow(&daemon, LIVE, &SENDERS, relays, |n, observer| {
        edit(&path, n, &table(n), observer);
    });
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// How many reloads the log tells of.
fn reloads(daemon: &Daemon) -> usize {
    daemon
        .log()
        .lines()
        .filter(|line| line.contains("loaded generation="))
        .count()
}

#[test]
fn an_editor_that_renames_the_old_file_and_creates_a_new_one_is_live() {
    relay_map_is_live(setup(), |path, _, text, observer| {
        fs::rename(path, path.with_extension("cf~")).unwrap();
        // Long enough for a server that would believe what it sees.
        observer.wait_for_rounds(100);
        let (one, other) = text.split_at(text.len() / 2);
        let mut file = File::create_new(path).unwrap();
        file.write_all(one.as_bytes()).unwrap();
        observer.wait_for_rounds(100);
        file.write_all(other.as_bytes()).unwrap();
    });
}

#[test]
fn an_editor_that_keeps_a_copy_and_writes_the_file_itself_is_live() {
    relay_map_is_live(setup(), |path, _, text, observer| {
        fs::copy(path, path.with_extension("cf~")).unwrap();
        let mut file = File::options().write(true).truncate(true).open(path).unwrap();
        observer.wait_for_rounds(100);
        for line in text.split_inclusive('\n') {
            file.write_all(line.as_bytes()).unwrap();
            observer.wait_for_rounds(40);
        }
    });
}

#[test]
fn a_file_emptied_and_filled_by_two_programs_is_live_and_never_empty() {
    relay_map_is_live(setup(), |path, _, text, observer| {
        fs::write(path, "").unwrap();
        observer.wait_for_rounds(100);
        fs::write(path, text).unwrap();
    });
}

#[test]
fn a_file_moved_in_from_another_folder_is_live() {
    let setup = setup();
    let elsewhere = setup.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    relay_map_is_live(setup, |path, _, text, _| {
        let new = elsewhere.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    });
}

#[test]
fn a_file_moved_in_where_the_old_one_was_moved_out_is_live() {
    let setup = setup();
    let elsewhere = setup.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    relay_map_is_live(setup, |path, n, text, observer| {
        let new = elsewhere.join(format!("new{n}"));
        fs::write(&new, text).unwrap();
        fs::rename(path, elsewhere.join(format!("old{n}"))).unwrap();
        observer.wait_for_rounds(100);
        fs::rename(&new, path).unwrap();
    });
}

#[test]
fn a_file_copied_in_and_renamed_is_live() {
    let setup = setup();
    let new = setup.root().join("new");
    relay_map_is_live(setup, |path, _, text, _| {
        fs::write(&new, text).unwrap();
        let beside = path.with_extension("tmp");
        run(Command::new("cp").arg(&new).arg(&beside));
        run(Command::new("mv").arg(&beside).arg(path));
    });
}

#[test]
fn a_file_copied_over_the_old_one_is_live() {
    let setup = setup();
    let new = setup.root().join("new");
    relay_map_is_live(setup, |path, _, text, _| {
        fs::write(&new, text).unwrap();
        run(Command::new("cp").arg("-p").arg(&new).arg(path));
    });
}

#[test]
fn a_file_put_in_place_by_install_is_live() {
    let setup = setup();
    let new = setup.root().join("new");
    relay_map_is_live(setup, |path, _, text, _| {
        fs::write(&new, text).unwrap();
        run(Command::new("install").args(["-m", "0640"]).arg(&new).arg(path));
    });
}

#[test]
fn a_few_bytes_written_over_in_place_are_live() {
    // The same length, the same file, and the time set back.
    relay_map_is_live(setup(), |path, n, _, _| {
        let text = fs::read_to_string(path).unwrap();
        let at = text.find(&format!("relay{}", n - 1)).unwrap() + "relay".len();
        let file = File::options().write(true).open(path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, n.to_string().as_bytes(), at as u64).unwrap();
        file.set_modified(modified).unwrap();
    });
}

#[test]
fn a_hard_link_made_in_place_of_the_file_is_live() {
    relay_map_is_live(setup(), |path, n, text, observer| {
        let new = path.with_file_name(format!("text{n}"));
        fs::write(&new, text).unwrap();
        fs::remove_file(path).unwrap();
        observer.wait_for_rounds(50);
        fs::hard_link(&new, path).unwrap();
    });
}

#[test]
fn a_hard_link_whose_first_name_goes_at_once_is_live() {
    // So do programs that write under a name of their own and never want to replace anything: link, then unlink.
    let setup = setup();
    let new = setup.root().join("new");
    relay_map_is_live(setup, |path, _, text, _| {
        fs::write(&new, text).unwrap();
        fs::remove_file(path).unwrap();
        fs::hard_link(&new, path).unwrap();
        fs::remove_file(&new).unwrap();
    });
}

#[test]
fn a_file_written_through_another_hard_link_is_live() {
    let setup = setup();
    let other = setup.root().join("other");
    fs::hard_link(setup.dir().join(RELAYMAP), &other).unwrap();
    relay_map_is_live(setup, |_, _, text, observer| {
        let mut file = File::create(&other).unwrap();
        observer.wait_for_rounds(50);
        file.write_all(text.as_bytes()).unwrap();
    });
}

/// Writes both files of a version into a folder that is there.
fn fill(folder: &Path, n: usize) {
    fs::write(folder.join(RELAYMAP), table(n)).unwrap();
    fs::write(folder.join(CREDENTIALS), credentials(n)).unwrap();
}

fn credentials(n: usize) -> String {
    format!("login.test user{n}:secret{n}\n")
}

/// Makes a folder with both files of a version.
fn folder(path: &Path, n: usize) {
    fs::create_dir(path).unwrap();
    fill(path, n);
}

/// A daemon on `root/a/b/tables`, with what is at `root` and not yet there left to the caller.
fn below(root: &Path) -> (Setup, PathBuf) {
    let dir = root.join("a/b/tables");
    (Setup::in_folder(&dir), dir)
}

/// Fails where the answers before the first version are anything but *cannot tell*.
#[track_caller]
fn appears(setup: Setup, within: Duration, act: impl FnOnce(&Observer)) {
    let daemon = Daemon::start(setup);
    observe(&daemon, &SENDERS, |observer| {
        observer.wait_for_rounds(20);
        act(observer);
        let acted = Instant::now();
        let took = observer.wait_for(&versions(1)).saturating_duration_since(acted);
        let answers = observer.answers();
        let before = &answers[..answers.len() - 1];
        assert!(
            before.iter().flatten().all(Reply::is_cannot_tell),
            "between nothing and everything: {answers:?}"
        );
        assert!(took < within, "live after {took:?}");
    });
}

#[test]
fn a_folder_that_appears_later_is_live() {
    let outer = Setup::new();
    let (setup, dir) = below(outer.root());
    appears(setup, LIVE * 3, |_| {
        // Name by name, the files last.
        fs::create_dir_all(dir.parent().unwrap()).unwrap();
        let new = outer.root().join("new");
        folder(&new, 1);
        fs::rename(&new, &dir).unwrap();
    });
}

#[test]
fn a_folder_that_appears_as_a_link_is_live() {
    let outer = Setup::new();
    let link = outer.root().join("link");
    let elsewhere = outer.root().join("elsewhere");
    folder(&elsewhere, 1);
    appears(Setup::in_folder(&link), LIVE * 3, |_| {
        symlink("elsewhere", &link).unwrap();
    });
}

#[test]
fn a_folder_that_appears_and_is_filled_slowly_answers_nothing_that_is_not_so() {
    // Where nothing was ever readable, the files of a new folder are as likely to be on their way as those of one
    // whose files were deleted. "Not found" would send mail without its relay and its password meanwhile.
    let outer = Setup::new();
    let dir = outer.root().join("tables");
    fs::remove_dir(&dir).unwrap();
    appears(Setup::in_folder(&dir), LIVE * 3, |observer| {
        fs::create_dir(&dir).unwrap();
        observer.wait_for_rounds(100);
        fs::write(dir.join(CREDENTIALS), credentials(1)).unwrap();
        observer.wait_for_rounds(100);
        fs::write(dir.join(RELAYMAP), table(1)).unwrap();
    });
}

/// Tries a way to replace the whole folder. `replace` gets the folder, a folder beside it, and the version.
#[track_caller]
fn folder_is_live(replace: impl Fn(&Path, &Path, usize, &Observer)) {
    let setup = Setup::new();
    fill(setup.dir(), 0);
    let daemon = Daemon::start(setup);
    let root = daemon.root().to_path_buf();
    follow(&daemon, LIVE, &SENDERS, versions, |n, observer| {
        replace(daemon.dir(), &root, n, observer);
    });
    // And what happens in the new folder is noticed, too.
    fs::write(daemon.dir().join(RELAYMAP), table(4)).unwrap();
    let mut client = Socketmap::to(&daemon, 0);
    let took = eventually(
        || client.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::Found(relay(4)),
    );
    assert!(took < LIVE * 3, "live after {took:?}");
}

#[test]
fn a_folder_renamed_away_for_another_is_live() {
    folder_is_live(|dir, root, n, observer| {
        let new = root.join("new");
        folder(&new, n);
        fs::rename(dir, root.join(format!("old{n}"))).unwrap();
        observer.wait_for_rounds(50);
        fs::rename(&new, dir).unwrap();
    });
}

#[test]
fn a_folder_exchanged_for_another_in_one_step_is_live() {
    folder_is_live(|dir, root, n, _| {
        let new = root.join("new");
        folder(&new, n);
        let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
        nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &new, nix::fcntl::AT_FDCWD, dir, flags).unwrap();
        fs::remove_dir_all(&new).unwrap();
    });
}

#[test]
fn a_folder_deleted_and_made_again_is_live() {
    folder_is_live(|dir, _, n, observer| {
        fs::remove_dir_all(dir).unwrap();
        observer.wait_for_rounds(50);
        fs::create_dir(dir).unwrap();
        observer.wait_for_rounds(50);
        fill(dir, n);
    });
}

#[test]
fn a_folder_far_above_that_is_replaced_is_found() {
    // Not one of the folders that hold the files or their links: the poll finds it.
    let outer = Setup::new();
    let make = |root: &Path, n| {
        fs::create_dir_all(root.join("b")).unwrap();
        folder(&root.join("b/tables"), n);
        fs::write(root.join("b/tables").join(SETTINGS), "[reload]\npoll = 0.1\n").unwrap();
    };
    let (setup, _) = below(outer.root());
    make(&outer.root().join("a"), 0);
    let daemon = Daemon::start(setup);
    follow(&daemon, LIVE * 3, &SENDERS, versions, |n, _| {
        let new = outer.root().join("new");
        make(&new, n);
        fs::rename(outer.root().join("a"), outer.root().join(format!("old{n}"))).unwrap();
        fs::rename(&new, outer.root().join("a")).unwrap();
    });
}

#[test]
fn a_symbolic_link_at_any_level_is_live() {
    for level in 0..5 {
        let outer = Setup::new();
        let root = outer.root();
        for n in 0..=3 {
            let links = [
                (format!("..outer{n}"), "inner", format!("../..inner{n}")),
                (format!("..inner{n}"), "tables", format!("../..tables{n}")),
                (format!("..tables{n}"), RELAYMAP, format!("../..texts{n}/hop")),
                (format!("..texts{n}"), "hop", "text".to_owned()),
            ];
            for (folder, name, target) in links {
                fs::create_dir(root.join(&folder)).unwrap();
                symlink(target, root.join(folder).join(name)).unwrap();
            }
            fs::write(root.join(format!("..texts{n}/text")), table(n)).unwrap();
            fs::write(
                root.join(format!("..tables{n}")).join(CREDENTIALS),
                "login.test user0:secret0\n",
            )
            .unwrap();
        }
        symlink("..outer0", root.join("outer")).unwrap();
        let daemon = Daemon::start(Setup::in_folder(&root.join("outer/inner/tables")));
        follow(&daemon, LIVE, &SENDERS, relays, |n, _| {
            if n == 2 {
                // Where the links lead now.
                fs::write(daemon.dir().join(RELAYMAP), table(n)).unwrap();
                return;
            }
            let (link, target) = match level {
                0 => ("outer".to_owned(), format!("..outer{n}")),
                1 => ("..outer0/inner".to_owned(), format!("../..inner{n}")),
                2 => ("..inner0/tables".to_owned(), format!("../..tables{n}")),
                3 => (format!("..tables0/{RELAYMAP}"), format!("../..texts{n}/hop")),
                _ => ("..texts0/hop".to_owned(), format!("../..texts{n}/text")),
            };
            repoint(&root.join(link), Path::new(&target));
        });
    }
}

#[test]
fn a_link_that_becomes_a_file_and_a_file_that_becomes_a_link_are_live() {
    let setup = setup();
    let elsewhere = setup.root().join("elsewhere");
    relay_map_is_live(setup, |path, n, text, _| {
        if n % 2 == 1 {
            fs::write(&elsewhere, text).unwrap();
            repoint(path, &elsewhere);
        } else {
            let new = path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, path).unwrap();
        }
    });
}

/// The next version of a volume as Kubernetes writes it: a folder with a name of its own, and one link to it.
fn swap(volume: &Path, n: usize, write: impl FnOnce(&Path)) {
    let new = format!("..2026_11_23_{n}");
    fs::create_dir(volume.join(&new)).unwrap();
    write(&volume.join(&new));
    let before = fs::read_link(volume.join("..data")).ok();
    repoint(&volume.join("..data"), Path::new(&new));
    if let Some(before) = before {
        fs::remove_dir_all(volume.join(before)).unwrap();
    }
}

#[test]
fn both_files_of_a_swapped_config_map_are_live_as_one() {
    let daemon = Daemon::start(mounted());
    follow(&daemon, LIVE, &SENDERS, versions, |n, _| {
        version(daemon.dir(), n);
        repoint(&daemon.dir().join("..data"), Path::new(&format!("..version{n}")));
        fs::remove_dir_all(daemon.dir().join(format!("..version{}", n - 1))).unwrap();
    });
    daemon.wait_for_log(|line| line.contains("loaded generation=4"));
    assert_eq!(reloads(&daemon), 4, "{}", daemon.log());
}

#[test]
fn tables_settings_and_a_secret_of_one_swapped_volume_are_live_as_one() {
    let volume = Setup::new();
    let write = |n: usize| {
        move |folder: &Path| {
            fs::write(folder.join(RELAYMAP), format!("ann@one.test {}\n", relay(n))).unwrap();
            // The delimiter of the n-th version is the n-th of these.
            let delimiter = ["=", "-", "~", "_"][n];
            let text = format!("recipient_delimiter = \"{delimiter}\"\n");
            fs::write(folder.join(SETTINGS), text).unwrap();
            fs::write(folder.join("password"), format!("secret{n}\n")).unwrap();
        }
    };
    swap(volume.dir(), 0, write(0));
    for name in [RELAYMAP, SETTINGS, "password"] {
        symlink(Path::new("..data").join(name), volume.dir().join(name)).unwrap();
    }
    let setup = Setup::in_folder(volume.dir())
        .env("RELAY_HOST", "default.test")
        .env("RELAY_USER", "user")
        .env("RELAY_PASSWORD_FILE", volume.dir().join("password"));
    let questions = [
        ("relayhost", "ann=x@one.test"),
        ("relayhost", "ann-x@one.test"),
        ("relayhost", "ann~x@one.test"),
        ("relayhost", "ann_x@one.test"),
        ("sasl", "[default.test]:25"),
    ];
    let answers = |n: usize| {
        let mut answers = vec![Reply::found("[default.test]:25"); 4];
        answers[n] = Reply::Found(relay(n));
        answers.push(Reply::Found(format!("user:secret{n}")));
        answers
    };
    let daemon = Daemon::start(setup);
    follow(&daemon, LIVE, &questions, answers, |n, _| {
        swap(volume.dir(), n, write(n));
    });
}

/// Mounts `$1` over `$2` where nobody else sees it, and becomes the rest.
const BIND: [&str; 7] = [
    "unshare",
    "--mount",
    "--",
    "sh",
    "-c",
    "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"",
    "sh",
];

/// A daemon that has the file `host` mounted over its relay map.
fn bound() -> (Daemon, PathBuf) {
    let setup = setup();
    let host = setup.root().join("host");
    let target = setup.dir().join(RELAYMAP);
    fs::rename(&target, &host).unwrap();
    fs::write(&target, "# what is mounted hides this\n").unwrap();
    let words: Vec<_> = BIND
        .iter()
        .map(|word| PathBuf::from(*word))
        .chain([host.clone(), target])
        .collect();
    (Daemon::start(setup.within(words)), host)
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_single_file_mounted_over_the_name_is_live() {
    let (daemon, host) = bound();
    follow(&daemon, LIVE, &SENDERS, relays, |n, observer| {
        let mut file = File::create(&host).unwrap();
        observer.wait_for_rounds(50);
        file.write_all(table(n).as_bytes()).unwrap();
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn lines_appended_to_a_file_mounted_over_the_name_are_live() {
    let (daemon, host) = bound();
    let questions = [
        ("relayhost", "ann@one.test"),
        ("relayhost", "n1@three.test"),
        ("relayhost", "n2@three.test"),
        ("relayhost", "n3@three.test"),
    ];
    let answers = |n| {
        let mut answers = vec![Reply::Found(relay(0))];
        answers.extend((1..=3).map(|m| {
            if m <= n {
                Reply::Found(relay(m))
            } else {
                Reply::NotFound
            }
        }));
        answers
    };
    follow(&daemon, LIVE, &questions, answers, |n, _| {
        let mut file = File::options().append(true).open(&host).unwrap();
        writeln!(file, "n{n}@three.test {}", relay(n)).unwrap();
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_mounted_file_that_its_host_replaces_stays_as_it_is_mounted_and_the_log_says_so_once() {
    // The mount shows the old file for as long as it lasts. It has no name any more, and is not gone.
    let (daemon, host) = bound();
    observe(&daemon, &SENDERS, |observer| {
        observer.wait_for(&relays(0));
        let seen = daemon.log_lines();
        let new = host.with_extension("new");
        fs::write(&new, table(1)).unwrap();
        fs::rename(&new, &host).unwrap();
        let is_warning = |line: &str| line.contains("WARN") && line.contains("mount its folder instead");
        daemon.wait_for_log_after(seen, is_warning);
        fs::write(&new, table(2)).unwrap();
        fs::rename(&new, &host).unwrap();
        observer.wait_for_rounds(100);
        assert_eq!(daemon.log().lines().filter(|line| is_warning(line)).count(), 1);
        daemon.hangup();
        daemon.wait_for_log_after(seen, |line| line.contains("nothing changed"));
        assert_eq!(observer.answers(), [relays(0)]);
    });
}

/// Runs a command in the mount namespace of the daemon.
fn inside(daemon: &Daemon, command: &[&Path]) {
    run(Command::new("nsenter")
        .arg("--mount")
        .arg(format!("--target={}", daemon.pid()))
        .args(command));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_system_mounted_over_the_folder_and_taken_away_again_is_found() {
    // The kernel tells nobody of a mount.
    let setup = Setup::new().settings("[reload]\npoll = 0.1\n");
    fill(setup.dir(), 0);
    let other = setup.root().join("other");
    folder(&other, 1);
    fs::copy(setup.dir().join(SETTINGS), other.join(SETTINGS)).unwrap();
    let daemon = Daemon::start(setup.within(["unshare", "--mount"]));
    let dir = daemon.dir().to_path_buf();
    observe(&daemon, &SENDERS, |observer| {
        observer.wait_for(&versions(0));
        inside(&daemon, &[Path::new("mount"), Path::new("--bind"), &other, &dir]);
        observer.wait_for(&versions(1));
        inside(&daemon, &[Path::new("umount"), &dir]);
        observer.wait_for(&versions(0));
        assert_eq!(observer.answers(), [versions(0), versions(1), versions(0)]);
    });
}

const DEFAULT_RELAY: [(&str, &str); 2] = [("sasl", "[default.test]:25"), ("relayhost", "ann@one.test")];

fn passwords(n: usize) -> Vec<Reply> {
    vec![
        Reply::Found(format!("user:secret{n}")),
        Reply::found("[default.test]:25"),
    ]
}

/// Tries a way to save the file that `RELAY_PASSWORD_FILE` names.
#[track_caller]
fn secret_is_live(path: &str, begin: impl FnOnce(&Path), edit: impl Fn(&Path, usize, &Observer)) {
    let setup = Setup::new();
    let path = setup.root().join(path);
    begin(&path);
    let daemon = Daemon::start(
        setup
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "user")
            .env("RELAY_PASSWORD_FILE", &path),
    );
    follow(&daemon, LIVE, &DEFAULT_RELAY, passwords, |n, observer| {
        edit(&path, n, observer);
    });
}

fn secret(n: usize) -> String {
    format!("secret{n}\n")
}

fn first_secret(path: &Path) {
    fs::write(path, secret(0)).unwrap();
}

#[test]
fn a_secret_file_that_is_replaced_is_live() {
    secret_is_live("password", first_secret, |path, n, _| {
        let new = path.with_extension("new");
        fs::write(&new, secret(n)).unwrap();
        fs::rename(&new, path).unwrap();
    });
}

#[test]
fn a_secret_file_written_in_place_is_live_and_never_seen_half() {
    secret_is_live("password", first_secret, |path, n, observer| {
        let mut file = File::create(path).unwrap();
        observer.wait_for_rounds(100);
        file.write_all(b"sec").unwrap();
        observer.wait_for_rounds(100);
        file.write_all(&secret(n).as_bytes()[3..]).unwrap();
    });
}

#[test]
fn a_secret_file_deleted_and_created_is_live_and_never_missed() {
    secret_is_live("password", first_secret, |path, n, observer| {
        fs::remove_file(path).unwrap();
        observer.wait_for_rounds(100);
        fs::write(path, secret(n)).unwrap();
    });
}

#[test]
fn a_secret_file_emptied_and_filled_by_two_programs_is_never_empty() {
    // An empty password would be no password, and that is mail without authentication.
    secret_is_live("password", first_secret, |path, n, observer| {
        fs::write(path, "").unwrap();
        observer.wait_for_rounds(100);
        fs::write(path, secret(n)).unwrap();
    });
}

#[test]
fn a_secret_of_a_swapped_volume_is_live() {
    let write = |n| move |folder: &Path| fs::write(folder.join("password"), secret(n)).unwrap();
    secret_is_live(
        "secret/password",
        |path| {
            let volume = path.parent().unwrap();
            fs::create_dir(volume).unwrap();
            swap(volume, 0, write(0));
            symlink("..data/password", path).unwrap();
        },
        |path, n, _| {
            if n == 2 {
                fs::write(path, secret(n)).unwrap();
            } else {
                swap(path.parent().unwrap(), n, write(n));
            }
        },
    );
}

/// A sender of which the answer tells the delimiter: each of these has an extension under one of them.
const EXTENSIONS: [(&str, &str); 4] = [
    ("relayhost", "ann+x@one.test"),
    ("relayhost", "ann-x@one.test"),
    ("relayhost", "ann=x@one.test"),
    ("relayhost", "ann~x@one.test"),
];

/// The answers where the n-th delimiter of `+-=~` is in force, beside the n-th relay map of [`delimited`].
fn extensions(delimiter: usize, n: usize) -> Vec<Reply> {
    let mut answers = vec![Reply::found("[domain.test]"); 4];
    answers[delimiter] = Reply::Found(relay(n));
    answers
}

fn delimited(n: usize) -> String {
    format!("ann@one.test {}\n@one.test [domain.test]\n", relay(n))
}

fn delimiter(n: usize) -> String {
    format!("recipient_delimiter = \"{}\"\n", &"+-=~"[n..=n])
}

#[test]
fn a_delimiter_saved_in_the_settings_is_live() {
    let daemon = Daemon::start(Setup::new().relaymap(delimited(0)));
    follow(
        &daemon,
        LIVE,
        &EXTENSIONS,
        |n| extensions(n, 0),
        |n, _| match n {
            1 => fs::write(daemon.dir().join(SETTINGS), delimiter(n)).unwrap(),
            2 => daemon.replace(SETTINGS, delimiter(n)),
            _ => run(Command::new("sed")
                .args(["-i", "s/=.*/= \"~\"/"])
                .arg(daemon.dir().join(SETTINGS))),
        },
    );
}

#[test]
fn settings_renamed_and_created_by_an_editor_are_never_missed() {
    let setup = Setup::new().relaymap(delimited(0)).settings(delimiter(3));
    let daemon = Daemon::start(setup);
    let path = daemon.dir().join(SETTINGS);
    // From ~ to -, to =, to ~; never the default in between.
    let order = [3, 1, 2, 3];
    follow(
        &daemon,
        LIVE,
        &EXTENSIONS[1..],
        |n| extensions(order[n], 0)[1..].to_vec(),
        |n, observer| {
            fs::rename(&path, path.with_extension("toml~")).unwrap();
            observer.wait_for_rounds(100);
            let mut file = File::create_new(&path).unwrap();
            observer.wait_for_rounds(50);
            file.write_all(delimiter(order[n]).as_bytes()).unwrap();
        },
    );
}

#[test]
fn settings_that_are_deleted_are_the_defaults_in_the_end() {
    let setup = Setup::new()
        .relaymap(delimited(0))
        .settings("recipient_delimiter = \"=\"\n[reload]\ngrace = 0.3\n");
    let daemon = Daemon::start(setup);
    observe(&daemon, &EXTENSIONS, |observer| {
        observer.wait_for(&extensions(2, 0));
        fs::remove_file(daemon.dir().join(SETTINGS)).unwrap();
        observer.wait_for(&extensions(0, 0));
        assert_eq!(observer.answers(), [extensions(2, 0), extensions(0, 0)]);
    });
}

const INET: &str = "socketmap:inet:127.0.0.1:0";

#[test]
fn a_setting_that_needs_a_restart_is_named_and_the_others_are_live() {
    let setup = Setup::new()
        .relaymap(delimited(0))
        .settings(format!("listen = [\"{INET}\"]\n"));
    let daemon = Daemon::start(setup.announces(&[INET]));
    observe(&daemon, &EXTENSIONS, |observer| {
        observer.wait_for(&extensions(0, 0));
        for (n, (setting, name)) in [
            (
                format!("listen = [\"{INET}\", \"tcp:127.0.0.1:0:sasl\"]\n"),
                "listen",
            ),
            (
                format!("socket_mode = \"0600\"\nlisten = [\"{INET}\"]\n"),
                "socket_mode",
            ),
            (
                format!("socket_owner = \"root\"\nlisten = [\"{INET}\"]\n"),
                "socket_owner",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let seen = daemon.log_lines();
            daemon.replace(SETTINGS, setting + &delimiter(n + 1));
            observer.wait_for(&extensions(n + 1, 0));
            let line = daemon.wait_for_log_after(seen, |line| line.contains("restart"));
            assert!(
                line.contains(name) && line.contains(SETTINGS),
                "no {name}: {line}"
            );
        }
        // Back at what it was started with, there is nothing to restart for.
        let seen = daemon.log_lines();
        daemon.replace(SETTINGS, format!("listen = [\"{INET}\"]\n"));
        observer.wait_for(&extensions(0, 0));
        daemon.wait_for_log_after(seen, |line| line.contains("loaded generation="));
        let log = daemon.log();
        let new: Vec<_> = log
            .lines()
            .skip(seen)
            .filter(|line| line.contains("restart"))
            .collect();
        assert!(new.is_empty(), "{new:?}");
        // What cannot count now is judged now all the same, and not at the next start.
        let seen = daemon.log_lines();
        daemon.replace(SETTINGS, delimiter(1) + "listen = [\"nonsense\"]\n");
        daemon.wait_for_log_after(seen, |line| names_place(line, SETTINGS, 2));
        observer.wait_for_rounds(60);
        assert_eq!(observer.answers().last(), Some(&extensions(0, 0)));
    });
    // And it listens where it did.
    assert_eq!(
        Socketmap::to(&daemon, 0).ask("relayhost", "ann+x@one.test"),
        Reply::Found(relay(0))
    );
}

#[test]
fn a_wrong_settings_file_leaves_everything_as_it_was_and_says_where() {
    let daemon = Daemon::start(Setup::new().relaymap(delimited(0)).settings(delimiter(0)));
    observe(&daemon, &EXTENSIONS, |observer| {
        observer.wait_for(&extensions(0, 0));
        let wrong = [
            ("recipient_delimiter = \"-\"\nlisten = [\n", 2..=3),
            (
                "recipient_delimiter = \"-\"\n\nrecipient_delimeter = \"=\"\n",
                3..=3,
            ),
            ("\nrecipient_delimiter = 7\n", 2..=2),
            ("recipient_delimiter = \"@\"\n", 1..=1),
            ("recipient_delimiter = \"-\"\n[reload]\ngrace = -1\n", 3..=3),
            ("recipient_delimiter = \"-\"\nsocket_mode = \"999\"\n", 2..=2),
            (
                "recipient_delimiter = \"-\"\nrecipient_delimiter = \"-\"\n",
                1..=2,
            ),
        ];
        for (n, (text, rows)) in wrong.into_iter().enumerate() {
            let seen = daemon.log_lines();
            daemon.replace(SETTINGS, text);
            daemon.wait_for_log_after(seen, |line| {
                rows.clone().any(|row| names_place(line, SETTINGS, row))
            });
            // What is right beside it waits, too: one snapshot.
            daemon.replace(RELAYMAP, delimited(n + 1));
            observer.wait_for_rounds(60);
        }
        daemon.replace(SETTINGS, delimiter(1));
        observer.wait_for(&extensions(1, 7));
        assert_eq!(observer.answers(), [extensions(0, 0), extensions(1, 7)]);
    });
}

#[test]
fn two_files_saved_in_quick_succession_are_one_reload() {
    let setup = Setup::new();
    fill(setup.dir(), 0);
    let daemon = Daemon::start(setup);
    let mut counted = 0;
    for n in 1..=6 {
        observe(&daemon, &SENDERS, |observer| {
            observer.wait_for(&versions(n - 1));
            let before = reloads(&daemon);
            let new = ["new1", "new2"].map(|name| daemon.root().join(name));
            fs::write(&new[0], table(n)).unwrap();
            fs::write(&new[1], credentials(n)).unwrap();
            let begun = Instant::now();
            // The second while the server has heard of the first: an editor that saves all its files, a script.
            let meanwhile = || std::thread::sleep(Duration::from_millis(5));
            if n % 2 == 0 {
                fs::rename(&new[0], daemon.dir().join(RELAYMAP)).unwrap();
                meanwhile();
                fs::rename(&new[1], daemon.dir().join(CREDENTIALS)).unwrap();
            } else {
                fs::write(daemon.dir().join(CREDENTIALS), credentials(n)).unwrap();
                meanwhile();
                fs::write(daemon.dir().join(RELAYMAP), table(n)).unwrap();
            }
            // On a busy machine the second may come late, and is another edit then.
            let quick = begun.elapsed() < Duration::from_millis(12);
            observer.wait_for(&versions(n));
            eventually(|| reloads(&daemon), |reloads| *reloads > before);
            if quick {
                assert_eq!(reloads(&daemon), before + 1, "{}", daemon.log());
                assert_eq!(observer.answers(), [versions(n - 1), versions(n)]);
                counted += 1;
            }
        });
    }
    assert!(
        counted > 0,
        "the machine is too busy to save two files in quick succession"
    );
}

#[test]
fn what_changes_no_content_is_no_reload() {
    let setup = setup().settings("[reload]\npoll = 0.1\n");
    let password = setup.root().join("password");
    fs::write(&password, secret(0)).unwrap();
    let daemon = Daemon::start(
        setup
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "user")
            .env("RELAY_PASSWORD_FILE", &password),
    );
    let path = daemon.dir().join(RELAYMAP);
    let touch = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now()).unwrap();
    };
    let unchanged: [&dyn Fn(); 9] = [
        &|| touch(&path),
        &|| touch(&password),
        &|| touch(&daemon.dir().join(SETTINGS)),
        &|| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap(),
        &|| fs::write(&path, table(0)).unwrap(),
        &|| daemon.replace(RELAYMAP, table(0)),
        &|| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, table(0)).unwrap();
        },
        &|| {
            let elsewhere = daemon.root().join("elsewhere");
            fs::rename(&path, &elsewhere).unwrap();
            symlink(&elsewhere, &path).unwrap();
        },
        &|| fs::write(daemon.dir().join("other.cf"), table(9)).unwrap(),
    ];
    observe(&daemon, &SENDERS, |observer| {
        observer.wait_for(&relays(0));
        for change in unchanged {
            change();
            // The server looks by itself, and once more because it is told to.
            observer.wait_for_rounds(40);
            let seen = daemon.log_lines();
            daemon.hangup();
            daemon.wait_for_log_after(seen, |line| line.contains("nothing changed"));
            assert_eq!(reloads(&daemon), 1, "{}", daemon.log());
        }
        // And yet it would have noticed.
        daemon.replace(RELAYMAP, table(1));
        observer.wait_for(&relays(1));
        daemon.wait_for_log(|line| line.contains("loaded generation=2"));
        assert_eq!(observer.answers(), [relays(0), relays(1)]);
    });
}

/// Becomes the rest where not one inotify instance may be had.
const WITHOUT_INOTIFY: [&str; 7] = [
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"",
    "sh",
];

#[test]
#[ignore = "needs root: tests/run-all"]
fn where_inotify_is_exhausted_changes_are_found_by_a_poll_and_the_log_says_so_once() {
    let setup = setup().settings("[reload]\npoll = 0.1\n");
    let daemon = Daemon::start(setup.within(WITHOUT_INOTIFY));
    let path = daemon.dir().join(RELAYMAP);
    follow(&daemon, LIVE * 3, &SENDERS, relays, |n, observer| match n {
        1 => daemon.replace(RELAYMAP, table(n)),
        2 => fs::write(&path, table(n)).unwrap(),
        _ => {
            fs::remove_file(&path).unwrap();
            observer.wait_for_rounds(100);
            fs::write(&path, "").unwrap();
            observer.wait_for_rounds(100);
            fs::write(&path, table(n)).unwrap();
        }
    });
    daemon.hangup();
    daemon.wait_for_log(|line| line.contains("nothing changed"));
    let log = daemon.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("polling")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains("max_user_instances"), "no advice: {said:?}");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn where_the_permission_is_missing_no_limit_of_inotify_is_blamed() {
    // Whoever may only enter a directory reads the files in it and does not watch it.
    let setup = setup().settings("[reload]\npoll = 0.1\n");
    fs::set_permissions(setup.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    let other = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"];
    let daemon = Daemon::start(setup.within(other));
    let said = daemon.wait_for_log(|line| line.contains("found by polling"));
    assert!(
        said.contains("ermission denied") && said.contains("chmod"),
        "{said}"
    );
    assert!(said.contains(daemon.dir().to_str().unwrap()), "{said}");
    assert!(!said.contains("max_user") && !said.contains("raise"), "{said}");
}

#[test]
fn where_inotify_works_nothing_is_said_of_polling() {
    let daemon = Daemon::start(setup());
    daemon.hangup();
    daemon.wait_for_log(|line| line.contains("nothing changed"));
    assert!(!daemon.log().contains("polling"), "{}", daemon.log());
}

#[test]
fn a_change_whose_event_was_lost_in_an_overflow_is_live() {
    // Long after the test, so that no poll helps.
    let daemon = Daemon::start(setup().settings("[reload]\npoll = 600\n"));
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue: usize = queue.trim().parse().unwrap();
    follow(&daemon, LIVE * 2, &SENDERS, relays, |n, _| {
        daemon.signal("STOP");
        // Each is two events or more.
        let other = daemon.dir().join("other");
        for _ in 0..=queue / 2 {
            fs::write(&other, "").unwrap();
            fs::remove_file(&other).unwrap();
        }
        daemon.replace(RELAYMAP, table(n));
        daemon.signal("CONT");
    });
}
