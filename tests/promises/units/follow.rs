//! The unit, the user and the directory of postmapd-follow.

use std::fs;
use std::path::Path;

use super::{access, analyze, exposure_of, installed, number, run_on, units};
use crate::harness::daemon::{RELAYMAP, Setup, finish};

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_follower_is_sandboxed_although_it_has_a_network() {
    const UNIT: &str = "postmapd-follow.service";
    let directory = units(&[]);
    assert!(
        exposure_of(UNIT, &directory) <= 1.3,
        "{}",
        exposure_of(UNIT, &directory)
    );
    // With the lines that only an administrator can complete.
    let path = directory.path().join(UNIT);
    let unit = fs::read_to_string(&path).unwrap();
    let completed = unit
        .replace("#IPAddress", "IPAddress")
        .replace("#LoadCred", "LoadCred");
    assert_eq!(completed.len() + 3, unit.len());
    fs::write(&path, completed).unwrap();
    assert!(
        exposure_of(UNIT, &directory) <= 1.2,
        "{}",
        exposure_of(UNIT, &directory)
    );
    let verified = analyze(&directory, &["verify", "--man=no", "./postmapd-follow.service"]);
    assert!(!verified.stderr.contains("postmapd-follow"), "{verified:?}");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_directory_of_the_follower_is_created_for_both_users_and_existing_tables_stay() {
    let runs: &[(&str, &[&str], &str)] = &[
        ("systemd-sysusers", &[], "sysusers.d/postmapd-follow.conf"),
        (
            "systemd-tmpfiles",
            &["--create"],
            "tmpfiles.d/postmapd-follow.conf",
        ),
    ];
    // Alone, and beside the server.
    for is_alone in [true, false] {
        let root = if is_alone {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("etc")).unwrap();
            root
        } else {
            installed()
        };
        run_on(&root, runs);
        let (user, group) = (
            number(&root, "passwd", "postmapd-follow"),
            number(&root, "group", "postmapd"),
        );
        assert!(user > 0 && user < 1000, "a system user: {user}");
        assert_eq!(access(&root, "var/lib/postmapd"), (user, group, 0o2750));
        let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
        assert!(
            users.contains(&format!("postmapd-follow:x:{user}:{group}:")),
            "{users}"
        );
        // Lookups return temporary errors until the first state of the source is there.
        let table = root.path().join("var/lib/postmapd").join(RELAYMAP);
        assert_eq!(fs::read_link(&table).unwrap(), Path::new("..data").join(RELAYMAP));
        let setup = Setup::in_directory(&root.path().join("var/lib/postmapd"));
        let answer = finish(setup.command("query").args(["relayhost", "ann@one.test"]), b"");
        assert_eq!(answer.code, Some(75), "{answer:?}");
        // A table that is there already stays.
        fs::remove_file(&table).unwrap();
        fs::write(&table, "@one.test [relay1.test]\n").unwrap();
        run_on(&root, runs);
        assert_eq!(fs::read_to_string(&table).unwrap(), "@one.test [relay1.test]\n");
    }
}
