//! A directory that cannot be written: what was active stays so, nothing is left behind, and the error says what to do.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

mod database;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use database::one_sender::{PATIENT, files, server, set};
use database::postgres::Postgres;
use database::processes::{owner, wait_for};
use database::program::{Program, Setup};

/// More than a megabyte.
const MANY: &str = "INSERT INTO postmapd.relay SELECT 'user' || n || '@many.test', '[relay.many.test]:587'
                    FROM generate_series(1, 30000) n";

/// Mounts a file system of a megabyte at the directory, which only the program sees.
const SMALL: &str = "mount -t tmpfs -o size=1m none \"$0\" && exec \"$@\"";

/// The same, and nothing can be written.
const READ_ONLY: &str = "mount -t tmpfs -o size=1m,ro none \"$0\" && exec \"$@\"";

/// A setup whose program mounts something.
fn mounting(server: &Postgres, script: &str) -> Setup {
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let directory = setup.directory();
    let unshare: &[&str] = match owner() {
        Some(_) => &["unshare", "--mount"],
        None => &["unshare", "--mount", "--map-root-user"],
    };
    let shell = ["sh", "-c", script, directory.to_str().unwrap()];
    setup.within(&[unshare, &shell].concat())
}

/// The directory as the program sees it.
fn seen_by(program: &Program<'_>) -> PathBuf {
    let directory = program.setup().directory();
    Path::new("/proc")
        .join(program.pid().to_string())
        .join("root")
        .join(directory.strip_prefix("/").unwrap())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Runs `once`, which must end with this error, and leave no file.
fn fails(setup: &Setup, error: &str, what_to_do: &str) {
    let ended = setup.run(&["once", "--timeout", "60s"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    let last = ended.err.lines().last().unwrap();
    assert!(last.contains(error) && last.contains(what_to_do), "{ended:?}");
    assert!(last.contains(setup.directory().to_str().unwrap()), "{ended:?}");
    assert_eq!(setup.generations(), [""; 0]);
}

#[test]
fn a_full_disk_keeps_the_active_tables_and_is_used_again_once_there_is_room() {
    let server = server();
    let setup = mounting(&server, SMALL);
    let mut program = setup.start();
    program.wait_for_log("tables published");
    let directory = seen_by(&program);
    // The program may remove a generation that was active a moment before.
    let tables = || {
        let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
        Some([read("postfix-relaymap.cf")?, read("postfix-sasl-password.cf")?])
    };
    assert_eq!(tables(), Some(files(1)));
    let before = names(&directory).len();
    server.psql("mail", MANY);
    program.wait_for_log("the tables cannot be written");
    let line = program.log_with("the tables cannot be written").remove(0);
    assert!(
        line.contains("No space left on device") && line.contains("free space there"),
        "{line}"
    );
    assert_eq!(tables(), Some(files(1)));
    assert_eq!(names(&directory).len(), before);
    set(&server, 2);
    wait_for("the tables after that", || {
        (tables() == Some(files(2))).then_some(())
    });
    program.wait_for_log("the directory can be written again");
    assert_eq!(program.log_with("the tables cannot be written").len(), 1);
}

#[test]
fn tables_that_do_not_fit_on_the_disk_are_an_error_of_once() {
    let server = server();
    server.psql("mail", MANY);
    fails(
        &mounting(&server, SMALL),
        "No space left on device",
        "free space there",
    );
}

#[test]
fn a_read_only_file_system_is_an_error_that_names_the_setting_of_the_unit() {
    let server = server();
    fails(
        &mounting(&server, READ_ONLY),
        "Read-only file system",
        "name dir in ReadWritePaths= of the unit",
    );
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_and_does_not_end_the_program_by_a_signal() {
    let server = server();
    server.psql("mail", MANY);
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let limited = setup.within(&["sh", "-c", "ulimit -f 100 && exec \"$0\" \"$@\""]);
    fails(&limited, "File too large", "LimitFSIZE=");
}

#[test]
fn a_directory_of_another_user_is_an_error_that_names_the_owner_it_must_have() {
    let server = server();
    let mut setup = Setup::new(&server.source("reader"), PATIENT);
    match owner() {
        // Without the capabilities that let root write everywhere.
        Some((user, group)) => {
            chown(setup.directory(), Some(user), Some(group)).unwrap();
            fs::set_permissions(server.sockets(), Permissions::from_mode(0o755)).unwrap();
            setup = setup.within(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
        }
        None => fs::set_permissions(setup.directory(), Permissions::from_mode(0o555)).unwrap(),
    }
    fails(
        &setup,
        "Permission denied",
        "make the user of postmapd-follow the owner of the directory dir",
    );
}

#[test]
fn a_local_file_with_the_name_of_a_table_is_kept_and_the_error_says_to_move_it() {
    let server = server();
    for file in ["postfix-relaymap.cf", "postfix-sasl-password.cf", "source.json"] {
        let setup = Setup::new(&server.source("reader"), PATIENT);
        let path = setup.directory().join(file);
        fs::write(&path, "local\n").unwrap();
        fails(&setup, file, "move it away");
        assert_eq!(fs::read_to_string(&path).unwrap(), "local\n");
    }
}
