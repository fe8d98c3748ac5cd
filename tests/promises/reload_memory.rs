//! Promise: an edit needs memory for what it changes, and the memory of what it replaces is freed. tests/fuzz_cases.rs
//! tests that a table after many edits answers as one that was read from scratch.
//!
//! The memory is the kernel's figure for the process, less that of a server without an entry. A program without
//! optimisations reads the tables here, so they are not longer.

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, DEADLINE, Daemon, RELAYMAP, Setup};
use crate::harness::{eventually_within, names_place};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// Reads of large files take long in a program without optimisations, in a thread that yields to every other one.
#[track_caller]
fn eventually<T: std::fmt::Debug>(observe: impl FnMut() -> T, condition: impl Fn(&T) -> bool) {
    eventually_within(5 * DEADLINE, observe, condition);
}

/// The number of lines in each of two large files.
const LINES: usize = 100_000;

fn sender(n: usize) -> String {
    format!("some.body{n}@domain{}.test", n / 20)
}

fn hop(n: usize, version: usize) -> String {
    format!("[relay{}.version{version}.test]:587", n % 12)
}

fn login(n: usize, version: usize) -> String {
    format!("user{n}:secret-{version}-{n:010}")
}

/// These lines of a version of the relay map.
fn relay_map(lines: Range<usize>, version: usize) -> String {
    lines.fold(String::new(), |mut text, n| {
        writeln!(text, "{}  {}", sender(n), hop(n, version)).unwrap();
        text
    })
}

/// These lines of a version of the credentials.
fn credentials(lines: Range<usize>, version: usize) -> String {
    lines.fold(String::new(), |mut text, n| {
        writeln!(text, "{}  {}", sender(n), login(n, version)).unwrap();
        text
    })
}

/// A server, a client on one connection, and the memory that the server needs without an entry.
struct Served {
    daemon: Daemon,
    client: Socketmap,
    /// With the pages of the program.
    base: u64,
    anonymous_base: u64,
}

impl Served {
    /// Starts it with the first version of both files, and with no memory of edits.
    fn start() -> Self {
        Self::with("[reload]\nin_flight = 0\n")
    }

    /// Starts it with the first version of both files.
    fn with(settings: &str) -> Self {
        let empty = Daemon::start(Setup::new().relaymap("").credentials(""));
        let base = empty.memory("VmRSS");
        let anonymous_base = empty.memory("RssAnon");
        drop(empty);
        let setup = Setup::new()
            .relaymap(relay_map(0..LINES, 0))
            .credentials(credentials(0..LINES, 0))
            // The memory for edits is tested separately.
            .settings(settings);
        let daemon = Daemon::start(setup);
        Self {
            client: Socketmap::to(&daemon, 0),
            daemon,
            base,
            anonymous_base,
        }
    }

    /// The size of both files.
    fn files(&self) -> u64 {
        [RELAYMAP, CREDENTIALS]
            .map(|name| fs::metadata(self.daemon.dir().join(name)).unwrap().len())
            .iter()
            .sum()
    }

    /// The memory for its tables. How much of the program itself is in memory depends on the code that has run, and on the
    /// kernel.
    fn resident(&self) -> u64 {
        self.daemon.memory("RssAnon").saturating_sub(self.anonymous_base)
    }

    /// The peak of the memory for its tables since [`Served::reset_peak`].
    fn peak(&self) -> u64 {
        self.daemon.memory("VmHWM").saturating_sub(self.base)
    }

    fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.daemon.pid()), "5").unwrap();
    }

    /// Waits for an answer.
    #[track_caller]
    fn wait_for_answer(&mut self, map: &str, key: &str, wanted: &Reply) {
        eventually(|| self.client.query(map, key), |reply| reply == wanted);
    }

    /// Replaces both files by these lines of a version, and waits until they take effect.
    fn replace_both(&mut self, lines: Range<usize>, version: usize) {
        let last = lines.end - 1;
        self.daemon.replace(RELAYMAP, relay_map(lines.clone(), version));
        self.daemon.replace(CREDENTIALS, credentials(lines, version));
        self.wait_for_answer("relayhost", &sender(last), &Reply::Found(hop(last, version)));
        self.wait_for_answer("sasl", &sender(last), &Reply::Found(login(last, version)));
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn idle_and_during_a_small_edit_the_server_needs_less_than_twice_the_size_of_its_files() {
    let mut served = Served::start();
    let twice = 2 * served.files();
    let at_rest = served.resident();
    assert!(at_rest < twice, "at rest it needs {at_rest}, of {twice}");
    let path = served.daemon.dir().join(RELAYMAP);
    let edit = |served: &mut Served, what: &str, edit: &dyn Fn(), map: &str, key: &str, wanted: Reply| {
        served.reset_peak();
        edit();
        served.wait_for_answer(map, key, &wanted);
        let peak = served.peak();
        assert!(
            peak < twice,
            "{what} needs {peak}, of {twice}; at rest it was {at_rest}"
        );
    };
    let replaced = |name: &'static str, from: &str, to: &str| {
        let path = path.with_file_name(name);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(from).count(), 1);
        let new = path.with_extension("new");
        fs::write(&new, text.replacen(from, to, 1)).unwrap();
        fs::rename(&new, &path).unwrap();
    };

    let middle = sender(LINES / 2);
    let line = format!("{middle}  {}\n", hop(LINES / 2, 0));
    edit(
        &mut served,
        "a line that is replaced",
        &|| replaced(RELAYMAP, &line, &format!("{middle} [new.test]\n")),
        "relayhost",
        &middle,
        Reply::found("[new.test]"),
    );
    let line = format!("{middle}  {}\n", login(LINES / 2, 0));
    edit(
        &mut served,
        "a credential that is replaced",
        &|| replaced(CREDENTIALS, &line, &format!("{middle} new:secret\n")),
        "sasl",
        &middle,
        Reply::found("new:secret"),
    );
    edit(
        &mut served,
        "a line that is written over in place",
        &|| {
            let at = fs::read_to_string(&path).unwrap().find("[new.test]").unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(b"[old.test]", at.try_into().unwrap()).unwrap();
        },
        "relayhost",
        &middle,
        Reply::found("[old.test]"),
    );
    edit(
        &mut served,
        "a file that is written again in place, with one line more at its beginning",
        &|| {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("first@of.test [first.test]\n{text}")).unwrap();
        },
        "relayhost",
        "first@of.test",
        Reply::found("[first.test]"),
    );
    edit(
        &mut served,
        "a line that is appended",
        &|| {
            let mut file = File::options().append(true).open(&path).unwrap();
            file.write_all(b"last@of.test [last.test]\n").unwrap();
        },
        "relayhost",
        "last@of.test",
        Reply::found("[last.test]"),
    );
    edit(
        &mut served,
        "a line that is removed",
        &|| replaced(RELAYMAP, &format!("{middle} [old.test]\n"), ""),
        "relayhost",
        &middle,
        Reply::NotFound,
    );
    edit(
        &mut served,
        "a line that is there twice, which is worked out from the whole text,",
        &|| {
            replaced(
                RELAYMAP,
                "last@of.test [last.test]\n",
                "last@of.test [l.test]\nlast@of.test [m.test]\n",
            );
        },
        "relayhost",
        "last@of.test",
        Reply::found("[l.test]"),
    );
    let tenth_more = at_rest + at_rest / 10;
    eventually(|| served.resident(), |resident| *resident < tenth_more);
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn the_memory_for_mail_in_flight_is_limited() {
    let mut served = Served::with("");
    let files = served.files();
    for version in 1..=4 {
        served.daemon.replace(CREDENTIALS, credentials(0..LINES, version));
        served.daemon.replace(RELAYMAP, relay_map(0..LINES, version));
        served.wait_for_answer(
            "relayhost",
            &sender(LINES - 1),
            &Reply::Found(hop(LINES - 1, version)),
        );
    }
    // The active tables, and up to two older versions of each, of at most 8 MiB each (src/history.rs).
    let limit = 2 * files + 4 * 8 * 1024 * 1024;
    eventually(|| served.resident(), |resident| *resident < limit);
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn after_every_line_has_changed_the_memory_of_the_old_table_is_freed() {
    let mut served = Served::start();
    let before = served.daemon.memory("VmRSS");
    let at_most = before + before * 15 / 100;
    for version in 1..=3 {
        served.replace_both(0..LINES, version);
        eventually(|| served.daemon.memory("VmRSS"), |now| *now <= at_most);
    }
    // A tenth of both is replaced, then all of them again.
    served.replace_both(0..LINES / 10, 3);
    served.wait_for_answer("sasl", &sender(LINES / 10), &Reply::NotFound);
    let twice = 2 * served.files();
    eventually(|| served.resident(), |resident| *resident < twice);
    served.replace_both(0..LINES, 4);
    eventually(|| served.daemon.memory("VmRSS"), |now| *now <= at_most);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn repeated_reads_of_an_invalid_file_leak_no_memory() {
    let mut served = Served::start();
    let before = served.daemon.memory("VmRSS");
    let at_most = before + before * 15 / 100;
    for version in [2, 3] {
        // The active tables are then in memory behind the old ones, and the next load uses the gap.
        served.replace_both(0..LINES, version);
        eventually(|| served.daemon.memory("VmRSS"), |now| *now <= at_most);
    }
    let bad = relay_map(0..LINES, 1) + "@bad.test [bad\n";
    let seen = served.daemon.log_lines();
    served.daemon.replace(RELAYMAP, &bad);
    let is_rejected = |log: &String| {
        let mut lines = log.lines().skip(seen);
        lines.any(|line| line.contains("reload rejected"))
    };
    eventually(|| served.daemon.log(), is_rejected);
    eventually(|| served.daemon.memory("VmRSS"), |now| *now <= at_most);
    for _ in 0..2 {
        served.reset_peak();
        served.daemon.replace(RELAYMAP, &bad);
        // It does not log the same errors again, so only its memory shows that it reads.
        let half = u64::try_from(bad.len() / 2).unwrap();
        eventually(|| served.daemon.memory("VmHWM"), |peak| *peak > before + half);
        eventually(|| served.daemon.memory("VmRSS"), |now| *now <= at_most);
    }
    served.wait_for_answer("relayhost", &sender(0), &Reply::Found(hop(0, 3)));
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn a_warning_that_moves_is_logged_again_with_its_new_line() {
    let setup = Setup::new()
        .relaymap(relay_map(0..20_000, 0) + "@twice.test [one.test]\n@TWICE.test [two.test]\n")
        .credentials("@twice.test user:secret\n");
    let path = setup.dir().join(RELAYMAP);
    let daemon = Daemon::start(setup);
    let mut client = Socketmap::to(&daemon, 0);
    daemon.wait_for_log(|line| names_place(line, RELAYMAP, 20_002) && line.contains("line 20001 "));
    let mut text = fs::read_to_string(&path).unwrap();
    for (n, (lines_before, at)) in [(1, 0), (3, text.len() / 2), (1, 0)].into_iter().enumerate() {
        let at = text[at..]
            .find('\n')
            .map_or(0, |lf| if at == 0 { 0 } else { at + lf + 1 });
        let new = format!("new{n}@of.test [new.test]\n") + &"# more\n".repeat(lines_before - 1);
        text.insert_str(at, &new);
        let line = text.lines().count();
        let seen = daemon.log_lines();
        daemon.replace(RELAYMAP, &text);
        eventually(
            || client.query("relayhost", &format!("new{n}@of.test")),
            |reply| *reply == Reply::found("[new.test]"),
        );
        daemon.wait_for_log_after(seen, |line| line.contains("loaded generation="));
        let log = daemon.log();
        let warnings: Vec<_> = log
            .lines()
            .skip(seen)
            .filter(|line| line.contains("already has this key"))
            .collect();
        let first = format!("line {} ", line - 1);
        assert!(
            matches!(warnings[..], [warning] if names_place(warning, RELAYMAP, line) && warning.contains(&first)),
            "the warning of line {line} alone, and not {warnings:#?}"
        );
    }
    // Lines after the warning do not move it, and nothing is logged again.
    let seen = daemon.log_lines();
    text.push_str("under@of.test [under.test]\n");
    daemon.replace(RELAYMAP, &text);
    let loaded = daemon.wait_for_log_after(seen, |line| line.contains("loaded generation="));
    assert!(loaded.contains("warnings=1"), "{loaded}");
    assert_eq!(
        daemon.log().lines().skip(seen).count(),
        1,
        "more than the reload is logged:\n{}",
        daemon.log()
    );
    assert_eq!(
        client.query("relayhost", "under@of.test"),
        Reply::found("[under.test]")
    );
    assert_eq!(
        client.query("relayhost", "a@twice.test"),
        Reply::found("[one.test]")
    );
    // Without the first of the two lines, the second one applies, and there is no warning.
    let seen = daemon.log_lines();
    daemon.replace(RELAYMAP, text.replace("@twice.test [one.test]\n", ""));
    let loaded = daemon.wait_for_log_after(seen, |line| line.contains("loaded generation="));
    assert!(loaded.contains("warnings=0"), "{loaded}");
    assert_eq!(
        client.query("relayhost", "a@twice.test"),
        Reply::found("[two.test]")
    );
}

#[test]
fn the_reload_thread_yields_to_the_lookup_thread() {
    let daemon = Daemon::start(Setup::new());
    let nicenesses = |process: u32| -> HashMap<String, String> {
        let stats = fs::read_dir(format!("/proc/{process}/task"))
            .unwrap()
            .filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
        stats
            .map(|stat| {
                let (name, fields) = stat.rsplit_once(") ").unwrap();
                let (_, name) = name.split_once(" (").unwrap();
                // The nineteenth of all fields (proc_pid_stat(5)), two of which come before.
                let niceness = fields.split(' ').nth(16).unwrap();
                (name.to_owned(), niceness.to_owned())
            })
            .collect()
    };
    let is = |all: &HashMap<String, String>, name: &str, niceness: &str| {
        all.get(name).is_some_and(|own| own == niceness)
    };
    // The tests may have been started with another niceness.
    let own = nicenesses(std::process::id()).into_values().next().unwrap();
    eventually(
        || nicenesses(daemon.pid()),
        |all| is(all, "reload", "10") && is(all, "postmapd", &own),
    );
}

/// A daemon whose address space is limited to this many KiB more than one without an entry needs.
fn with_memory(setup: Setup, more: u64) -> Daemon {
    let empty = Daemon::start(Setup::new().relaymap("").credentials(""));
    let limit = empty.memory("VmPeak") / 1024 + more;
    drop(empty);
    let script = format!("ulimit -v {limit}; exec \"$0\" \"$@\"");
    Daemon::start(setup.within(["sh", "-c", &script]))
}

#[test]
fn a_large_file_without_a_line_end_is_rejected_before_it_is_read_into_memory() {
    let setup = Setup::new().relaymap("@one.test [one.test]\n").credentials("");
    let sparse = |setup: &Setup| {
        let new = setup.root().join("sparse");
        File::create(&new).unwrap().set_len(1 << 30).unwrap();
        fs::rename(new, setup.dir().join(RELAYMAP)).unwrap();
    };
    let daemon = with_memory(setup, 100 << 10);
    let mut client = Socketmap::to(&daemon, 0);
    sparse(&daemon.setup());
    daemon.wait_for_log(|line| line.contains("longer than 65535 bytes") && names_place(line, RELAYMAP, 1));
    assert_eq!(
        client.query("relayhost", "a@one.test"),
        Reply::found("[one.test]")
    );
    daemon.replace(RELAYMAP, "@one.test [two.test]\n");
    eventually(
        || client.query("relayhost", "a@one.test"),
        |reply| *reply == Reply::found("[two.test]"),
    );
    // At startup, everything then answers *cannot tell*.
    let setup = Setup::new().credentials("");
    sparse(&setup);
    let daemon = with_memory(setup, 100 << 10);
    let reply = Socketmap::to(&daemon, 0).query("relayhost", "a@one.test");
    assert!(matches!(reply, Reply::CannotTell(_)), "{reply:?}");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_too_large_for_memory_is_an_error_of_that_file() {
    let daemon = with_memory(
        Setup::new()
            .relaymap("@one.test [one.test]\n")
            .credentials("@one.test u:p\n"),
        100 << 10,
    );
    let mut client = Socketmap::to(&daemon, 0);
    // Few long lines, because an unoptimized program takes long for many.
    let line = format!("#{}\n", "x".repeat(1022));
    daemon.replace(RELAYMAP, line.repeat(120 << 10));
    daemon.wait_for_log(|line| {
        line.contains("ERROR") && line.contains(RELAYMAP) && line.contains("not enough memory")
    });
    assert_eq!(
        client.query("relayhost", "a@one.test"),
        Reply::found("[one.test]")
    );
    daemon.replace(RELAYMAP, "@one.test [two.test]\n");
    eventually(
        || client.query("relayhost", "a@one.test"),
        |reply| *reply == Reply::found("[two.test]"),
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_shortest_entries_need_no_more_memory_than_five_times_their_bytes() {
    let served = Served::start();
    let lines = 1_000_000;
    served.reset_peak();
    let before = served.peak();
    // An invalid key needs as much memory as a valid one, and is shorter.
    served.daemon.replace(RELAYMAP, "a\n".repeat(lines));
    served
        .daemon
        .wait_for_log(|line| line.contains("reload rejected") && line.contains(&format!("errors={lines}")));
    let more = served.peak().saturating_sub(before);
    let most = u64::try_from(5 * 2 * lines).unwrap();
    assert!(more < most, "{more} for {lines} lines of two bytes");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn empty_lines_need_no_more_memory_than_their_bytes() {
    let mut served = Served::start();
    let empty_lines = 4_000_000;
    served.reset_peak();
    let before = served.peak();
    served.daemon.replace(
        RELAYMAP,
        "@one.test [one.test]\n".to_owned() + &"\n".repeat(empty_lines),
    );
    served.wait_for_answer("relayhost", "a@one.test", &Reply::found("[one.test]"));
    let more = served.peak().saturating_sub(before);
    let most = u64::try_from(3 * empty_lines).unwrap();
    assert!(more < most, "{more} for {empty_lines} empty lines");
}
