//! `postmapd-follow run`, as a program with a real PostgreSQL: its start, its end, and what happens to the source meanwhile.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::thread;

use database::one_sender::{PATIENT, files, server, set, wait_for_files};
use database::postgres::Postgres;
use database::processes::{DEADLINE, wait_for};
use database::program::Setup;
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// For a source that is found to hang, and confirmed often.
const QUICK: &str = "poll = \"100ms\"\nhang = \"1s\"\nstale_after = \"3s\"";

/// The file of a table without rows.
const NO_ROWS: &str = "# no rows\n";

/// Adds senders, so that a read takes a while.
fn fill(server: &Postgres, senders: u32) {
    server.psql(
        "mail",
        &format!(
            "INSERT INTO postmapd.relay SELECT '@' || i || '.example', '[relay.test]' FROM generate_series(1, {senders}) i"
        ),
    );
}

#[test]
fn it_starts_before_the_database_and_publishes_once_that_is_there() {
    let mut server = server();
    server.stop();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let mut program = setup.start();
    program.wait_for_log("the source is unavailable, and there are no tables yet");
    let (code, reason) = program.get("/readyz");
    assert_eq!(code, 503);
    assert!(
        reason.starts_with("no tables are active, and the source has not been read: "),
        "{reason}"
    );
    assert_eq!(program.get("/healthz").0, 200);
    assert_eq!(setup.files(), None);
    server.start_again();
    wait_for_files(&setup, 1);
    program.wait_until_ready();
    program.wait_for_log("the source is available again");
    set(&server, 2);
    wait_for_files(&setup, 2);
    assert_eq!(program.log_with("unavailable").len(), 1, "{}", program.log());
    assert_eq!(program.log_with("available again").len(), 1, "{}", program.log());
    assert_eq!(program.end("TERM"), 0);
}

#[test]
fn the_tables_of_an_earlier_run_are_active_without_the_database() {
    let mut server = server();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let program = setup.start();
    program.wait_until_ready();
    assert_eq!(program.end("INT"), 0);
    let revision = server.psql("mail", "SELECT revision FROM postmapd.state");
    server.stop();
    let mut program = setup.start();
    program.wait_for_log("the source is unavailable; keeping the active tables");
    let line = program
        .log_with("following the source source=postgres://reader@")
        .remove(0);
    assert!(line.ends_with(&format!(" revision={revision}")), "{line}");
    assert_eq!(setup.files(), Some(files(1)));
    let status = program.status();
    assert_eq!(status["state"]["revision"].to_string(), revision);
    assert_eq!(
        (&status["connected"], &status["ready"]),
        (&false.into(), &false.into())
    );
    assert!(
        program
            .get("/readyz")
            .1
            .contains("has not been read since the start")
    );
}

#[test]
fn each_outage_is_logged_once_and_the_program_is_not_ready_after_stale_after() {
    let server = server();
    let setup = Setup::new(&server.source("reader"), QUICK);
    let program = setup.start();
    program.wait_until_ready();
    for outage in 1..3 {
        server.freeze();
        let reason = program.wait_for_code("/readyz", 503);
        assert!(
            reason.starts_with("the active tables were last confirmed "),
            "{reason}"
        );
        assert!(
            reason.contains("stale_after: 3s") && reason.contains("no answer within "),
            "{reason}"
        );
        assert_eq!(setup.files(), Some(files(1)));
        // An attempt may have connected to what the kernel accepts for the server.
        wait_for("the status of the outage", || {
            let status = program.status();
            (status["connected"] == false && status["last_error"]["current"] == true).then_some(())
        });
        server.thaw();
        program.wait_until_ready();
        // On a slow machine, there may be more outages.
        wait_for("the end of each outage", || {
            let status = program.status();
            let begun = program.log_with("WARN the source is unavailable").len();
            let ended = program.log_with("the source is available again away=").len();
            let is_over = status["connected"] == true && status["last_error"]["current"] == false;
            (is_over && begun >= outage && begun == ended).then_some(())
        });
    }
}

#[test]
fn systemd_is_notified_when_tables_are_active_while_they_are_confirmed_and_at_the_end() {
    let mut server = server();
    server.stop();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let path = setup.root().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    // The kernel keeps 10 notifications that are not read, and there are 10 a second.
    let (sender, notifications) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = manager.recv(&mut buffer) {
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    let setup = setup
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "200000");
    let receive = |wanted: &dyn Fn(&str) -> bool| {
        let mut before = Vec::new();
        loop {
            let text = notifications.recv_timeout(DEADLINE).unwrap();
            if wanted(&text) {
                return (text, before);
            }
            before.push(text);
        }
    };
    let program = setup.start();
    let (_, before) = receive(&|text| {
        text.starts_with("STATUS=no tables are active, and") && text.contains("cannot connect")
    });
    assert!(before.iter().all(|text| !text.contains("READY=1")), "{before:?}");
    receive(&|text| text == "WATCHDOG=1");
    server.start_again();
    let (ready, _) = receive(&|text| text.starts_with("READY=1\n"));
    assert!(
        ready.contains("STATUS=revision ") && ready.contains(", 1 sender, 1 login, 0 bad rows"),
        "{ready}"
    );
    assert_eq!(program.end("TERM"), 0);
    let (_, before) = receive(&|text| text == "STOPPING=1");
    assert!(before.iter().all(|text| !text.contains("READY=1")), "{before:?}");
    // With tables of an earlier run, it is ready without the source.
    server.stop();
    let _program = setup.start();
    let (ready, _) = receive(&|text| text.starts_with("READY=1\n"));
    assert!(
        ready.contains("STATUS=the source has not been read since the start"),
        "{ready}"
    );
}

#[test]
fn a_signal_during_a_read_ends_the_program_and_leaves_nothing_of_it() {
    let server = server();
    fill(&server, 2000);
    let setup = Setup::new(&server.source("reader"), PATIENT);
    // The logins, which are read after the relays, cannot be read meanwhile.
    let lock = server.lock("postmapd.credential");
    for name in ["TERM", "INT", "KILL"] {
        let program = setup.start();
        wait_for("a generation", || setup.generations().first().cloned());
        assert_eq!(setup.files(), None);
        let code = program.end(name);
        assert_eq!(code, if name == "KILL" { -9 } else { 0 }, "{name}");
        assert_eq!(setup.files(), None);
        assert_eq!(setup.generations().len(), usize::from(name == "KILL"), "{name}");
    }
    drop(lock);
    let program = setup.start();
    program.wait_until_ready();
    assert_eq!(setup.files().unwrap()[0].lines().count(), 2001);
    wait_for("one generation", || {
        (setup.generations().len() == 1).then_some(())
    });
}

#[test]
fn a_killed_program_goes_on_where_it_was() {
    let server = server();
    fill(&server, 2000);
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let relay = |number: u32| format!("UPDATE postmapd.relay SET nexthop = '[r{number}.test]:587'");
    for number in 1..16 {
        let program = setup.start();
        program.wait_until_ready();
        let sql = [relay(number * 10), relay(number * 10 + 1)].join(";\n");
        server.psql("mail", &sql);
        if number % 3 == 0 {
            setup.wait_for_relay(&format!("[r{}.test]", number * 10 + 1));
        }
        assert_eq!(program.end("KILL"), -9);
        // Whatever is active is one state: all senders have one relay.
        let [text, _] = setup.files().unwrap();
        let mut relays: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(_, relay)| relay)
            .collect();
        assert_eq!(relays.len(), 2001);
        relays.dedup();
        assert!(relays.len() == 1 || number == 1, "{relays:?}");
    }
    let program = setup.start();
    setup.wait_for_relay("[r151.test]");
    program.wait_until_ready();
    wait_for("one generation", || {
        (setup.generations().len() == 1).then_some(())
    });
}

#[test]
fn a_table_that_is_emptied_is_published_if_the_source_has_recorded_it_and_refused_from_another_database() {
    let server = server();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let mut program = setup.start();
    program.wait_until_ready();
    server.psql("mail", "TRUNCATE postmapd.credential");
    wait_for("no login", || {
        setup.files().filter(|[_, credentials]| credentials == NO_ROWS)
    });
    set(&server, 2);
    wait_for_files(&setup, 2);
    // A restored database: the same numbers and no rows.
    server.psql("mail", "DROP SCHEMA postmapd CASCADE");
    server.psql("mail", &postmapd_follow::schema::ddl("postmapd", Some("reader")));
    program.wait_for_log("a table has become empty; keeping the active tables");
    assert_eq!(setup.files(), Some(files(2)));
    assert_eq!(program.end("TERM"), 0);
    let ended = setup.run(&["once", "--timeout", "60s"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.err.contains("has no rows") && ended.err.contains("--allow-empty"),
        "{ended:?}"
    );
    assert_eq!(setup.files(), Some(files(2)));
    let ended = setup.run(&["once", "--timeout", "60s", "--allow-empty"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(setup.files(), Some([NO_ROWS, NO_ROWS].map(str::to_owned)));
}

#[test]
fn tables_that_are_removed_while_the_database_is_away_are_restored() {
    let mut server = server();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let mut program = setup.start();
    program.wait_until_ready();
    server.stop();
    program.wait_for_log("the source is unavailable; keeping the active tables");
    for entry in fs::read_dir(setup.directory()).unwrap() {
        let path = entry.unwrap().path();
        let removed = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        // The program may have restored them meanwhile, and has then removed the old ones.
        assert!(removed.is_ok() || removed.is_err_and(|error| error.kind() == ErrorKind::NotFound));
    }
    wait_for_files(&setup, 1);
    program.wait_for_log("had been removed or changed, and are restored");
    // The next start finds them, too.
    assert_eq!(program.end("TERM"), 0);
    let mut program = setup.start();
    program.wait_for_log("the source is unavailable; keeping the active tables");
    assert_eq!(setup.files(), Some(files(1)));
}

#[test]
fn a_directory_that_takes_the_place_of_the_one_in_use_ends_the_program_and_is_used_after_a_restart() {
    let server = server();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let mut program = setup.start();
    program.wait_until_ready();
    let other = setup.root().join("other");
    fs::create_dir(&other).unwrap();
    // In one step, so that the path is never missing.
    renameat_with(CWD, &other, CWD, setup.directory(), RenameFlags::EXCHANGE).unwrap();
    // Restart= of the unit starts it again after this exit code.
    assert_eq!(program.wait(), 1);
    let line = program
        .log_with("is not the one that the program has opened")
        .remove(0);
    assert!(
        line.contains(setup.directory().to_str().unwrap()) && line.contains("start the program again"),
        "{line}"
    );
    assert_eq!(setup.files(), None);
    let program = setup.start();
    program.wait_until_ready();
    assert_eq!(setup.files(), Some(files(1)));
}

#[test]
fn a_hangup_changes_nothing_and_says_so() {
    let server = server();
    let setup = Setup::new(&server.source("reader"), PATIENT);
    let mut program = setup.start();
    program.wait_until_ready();
    program.signal("HUP");
    program.wait_for_log("SIGHUP has no effect; restart the program to apply changed settings");
    set(&server, 2);
    wait_for_files(&setup, 2);
    assert_eq!(program.end("TERM"), 0);
}

#[test]
fn what_the_program_cannot_use_ends_it_with_the_exit_code_that_the_help_names() {
    let setup = Setup::new("postgres://u@127.0.0.1:1/mail", "tls = \"off\"");
    let running = setup.start();
    running.get("/healthz");
    for command in ["run", "once"] {
        let ended = setup.run(&[command]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("another postmapd-follow"), "{ended:?}");
    }
    for (lines, code, text) in [
        (
            "tls = \"off\"\npol = 1",
            78,
            "follow.toml:5:1: error: unknown setting `pol`",
        ),
        (
            "tls = \"off\"\npassword_file = \"/missing\"",
            78,
            "error: the file of `password_file` cannot be read",
        ),
        ("ca = \"/dev/null\"", 78, "error: the file of `ca` "),
    ] {
        let setup = Setup::new("postgres://u@127.0.0.1:1/mail", lines);
        for command in ["run", "once"] {
            let ended = setup.run(&[command]);
            assert_eq!(ended.code, Some(code), "{ended:?}");
            assert!(ended.err.contains(text), "{text}: {ended:?}");
        }
        // Those of an administrator report all errors alike.
        for command in [
            &["check"][..],
            &["dump", "/new"],
            &["init", "--apply"],
            &["load", "/etc"],
        ] {
            let ended = setup.run(command);
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.err.contains(text), "{text}: {ended:?}");
        }
    }
    let missing = Setup::new("postgres://u@127.0.0.1:1/mail", "tls = \"off\"");
    fs::remove_dir(missing.directory()).unwrap();
    let ended = missing.run(&["run"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("the directory does not exist"), "{ended:?}");

    let line = running.log_with("listening for admin requests").remove(0);
    let address = line.split_once("address=").unwrap().1.trim();
    let taken = Setup::new(
        "postgres://u@127.0.0.1:1/mail",
        &format!("tls = \"off\"\nadmin = \"{address}\""),
    );
    let ended = taken.run(&["run"]);
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(
        ended.err.contains("another process is already listening there"),
        "{ended:?}"
    );
}
