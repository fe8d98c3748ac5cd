//! Promise: an edit needs memory for what it changes, what it replaces is given back, and a table that came about by
//! many edits answers as one that was read from nothing.
//!
//! The memory is what the kernel says of the process, less that of a server without an entry. Long tables are read
//! by a program without optimisations here, which is why they are no longer.

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, Setup, finish};
use crate::harness::{eventually, names_place};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// How many lines each of two large files has.
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

/// Likewise of the credentials.
fn credentials(lines: Range<usize>, version: usize) -> String {
    lines.fold(String::new(), |mut text, n| {
        writeln!(text, "{}  {}", sender(n), login(n, version)).unwrap();
        text
    })
}

/// A server, somebody who asks it on one connection, and what it would need without an entry.
struct Served {
    daemon: Daemon,
    client: Socketmap,
    base: u64,
}

impl Served {
    /// The first version of both files, and nothing of it remembered after an edit.
    fn start() -> Self {
        Self::with("[reload]\nin_flight = 0\n")
    }

    /// The first version of both files.
    fn with(settings: &str) -> Self {
        let empty = Daemon::start(Setup::new().relaymap("").credentials(""));
        let base = memory(&empty, "VmRSS:");
        drop(empty);
        let setup = Setup::new()
            .relaymap(relay_map(0..LINES, 0))
            .credentials(credentials(0..LINES, 0))
            // What is remembered of an edit is looked at by itself.
            .settings(settings);
        let daemon = Daemon::start(setup);
        Self {
            client: Socketmap::to(&daemon, 0),
            daemon,
            base,
        }
    }

    /// The size of both files.
    fn files(&self) -> u64 {
        [RELAYMAP, CREDENTIALS]
            .map(|name| fs::metadata(self.daemon.dir().join(name)).unwrap().len())
            .iter()
            .sum()
    }

    /// What it needs for its tables.
    fn resident(&self) -> u64 {
        memory(&self.daemon, "VmRSS:").saturating_sub(self.base)
    }

    /// The most that it needed for its tables since [`Served::forget_peak`].
    fn peak(&self) -> u64 {
        memory(&self.daemon, "VmHWM:").saturating_sub(self.base)
    }

    fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.daemon.pid()), "5").unwrap();
    }

    /// Waits for an answer.
    #[track_caller]
    fn says(&mut self, map: &str, key: &str, wanted: &Reply) {
        eventually(|| self.client.ask(map, key), |reply| reply == wanted);
    }

    /// Replaces both files by these lines of a version, and waits until they are in force.
    fn replace_both(&mut self, lines: Range<usize>, version: usize) {
        let last = lines.end - 1;
        self.daemon.replace(RELAYMAP, relay_map(lines.clone(), version));
        self.daemon.replace(CREDENTIALS, credentials(lines, version));
        self.says("relayhost", &sender(last), &Reply::Found(hop(last, version)));
        self.says("sasl", &sender(last), &Reply::Found(login(last, version)));
    }
}

/// What the kernel says of the memory of a process, in bytes.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    kilobytes * 1024
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn at_rest_and_while_one_line_changes_the_server_needs_less_than_twice_its_files() {
    let mut served = Served::start();
    let twice = 2 * served.files();
    let at_rest = served.resident();
    assert!(at_rest < twice, "at rest it needs {at_rest}, of {twice}");
    let path = served.daemon.dir().join(RELAYMAP);
    let edit = |served: &mut Served, what: &str, edit: &dyn Fn(), map: &str, key: &str, wanted: Reply| {
        served.forget_peak();
        edit();
        served.says(map, key, &wanted);
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
fn what_is_remembered_for_mail_on_its_way_has_a_limit() {
    let mut served = Served::with("");
    let files = served.files();
    for version in 1..=4 {
        served.daemon.replace(CREDENTIALS, credentials(0..LINES, version));
        served.daemon.replace(RELAYMAP, relay_map(0..LINES, version));
        served.says(
            "relayhost",
            &sender(LINES - 1),
            &Reply::Found(hop(LINES - 1, version)),
        );
    }
    // Both tables as they are, and of either two that were, of at most 8 MiB each (src/history.rs).
    let limit = 2 * files + 4 * 8 * 1024 * 1024;
    eventually(|| served.resident(), |resident| *resident < limit);
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn when_every_line_has_changed_the_memory_of_what_was_there_is_given_back() {
    let mut served = Served::start();
    let before = memory(&served.daemon, "VmRSS:");
    let at_most = before + before * 15 / 100;
    for version in 1..=3 {
        served.replace_both(0..LINES, version);
        eventually(|| memory(&served.daemon, "VmRSS:"), |now| *now <= at_most);
    }
    // A tenth of both, and all of them again.
    served.replace_both(0..LINES / 10, 3);
    served.says("sasl", &sender(LINES / 10), &Reply::NotFound);
    let twice = 2 * served.files();
    eventually(|| served.resident(), |resident| *resident < twice);
    served.replace_both(0..LINES, 4);
    eventually(|| memory(&served.daemon, "VmRSS:"), |now| *now <= at_most);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_rewritten_file_that_is_bad_leaves_no_memory_behind_however_often_it_is_read() {
    let mut served = Served::start();
    let before = memory(&served.daemon, "VmRSS:");
    let at_most = before + before * 15 / 100;
    for version in [2, 3] {
        // What is in force then lies behind what was, and the gap is where the next reading finds room.
        served.replace_both(0..LINES, version);
        eventually(|| memory(&served.daemon, "VmRSS:"), |now| *now <= at_most);
    }
    let bad = relay_map(0..LINES, 1) + "@bad.test [bad\n";
    let seen = served.daemon.log_lines();
    served.daemon.replace(RELAYMAP, &bad);
    served
        .daemon
        .wait_for_log_after(seen, |line| line.contains("are not used"));
    eventually(|| memory(&served.daemon, "VmRSS:"), |now| *now <= at_most);
    for _ in 0..2 {
        served.forget_peak();
        served.daemon.replace(RELAYMAP, &bad);
        // It says nothing about what it has said before; that it reads shows in its memory alone.
        let half = u64::try_from(bad.len() / 2).unwrap();
        eventually(|| memory(&served.daemon, "VmHWM:"), |peak| *peak > before + half);
        eventually(|| memory(&served.daemon, "VmRSS:"), |now| *now <= at_most);
    }
    served.says("relayhost", &sender(0), &Reply::Found(hop(0, 3)));
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn a_warning_that_moves_down_is_said_again_with_its_new_line_and_lines_change_beside_it() {
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
            || client.ask("relayhost", &format!("new{n}@of.test")),
            |reply| *reply == Reply::found("[new.test]"),
        );
        daemon.wait_for_log_after(seen, |line| line.contains("loaded generation="));
        let log = daemon.log();
        let warnings: Vec<_> = log
            .lines()
            .skip(seen)
            .filter(|line| line.contains("has this key already"))
            .collect();
        let first = format!("line {} ", line - 1);
        assert!(
            matches!(warnings[..], [warning] if names_place(warning, RELAYMAP, line) && warning.contains(&first)),
            "the warning of line {line} alone, and not {warnings:#?}"
        );
    }
    // What stands beneath the warning moves nothing, and nothing is said again.
    let seen = daemon.log_lines();
    text.push_str("under@of.test [under.test]\n");
    daemon.replace(RELAYMAP, &text);
    let loaded = daemon.wait_for_log_after(seen, |line| line.contains("loaded generation="));
    assert!(loaded.contains("warnings=1"), "{loaded}");
    assert_eq!(
        daemon.log().lines().skip(seen).count(),
        1,
        "more than the reload is said:\n{}",
        daemon.log()
    );
    assert_eq!(
        client.ask("relayhost", "under@of.test"),
        Reply::found("[under.test]")
    );
    assert_eq!(
        client.ask("relayhost", "a@twice.test"),
        Reply::found("[one.test]")
    );
    // Without the first of the two, the second one counts, and nothing is left to say.
    let seen = daemon.log_lines();
    daemon.replace(RELAYMAP, text.replace("@twice.test [one.test]\n", ""));
    let loaded = daemon.wait_for_log_after(seen, |line| line.contains("loaded generation="));
    assert!(loaded.contains("warnings=0"), "{loaded}");
    assert_eq!(
        client.ask("relayhost", "a@twice.test"),
        Reply::found("[two.test]")
    );
}

/// Numbers by chance, which come again with the same seed (splitmix64).
struct Chance(u64);

impl Chance {
    /// Less than `below`.
    fn number(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let below = u64::try_from(below.max(1)).unwrap();
        usize::try_from((z ^ (z >> 31)) % below).unwrap()
    }

    /// One time of so many.
    fn once_in(&mut self, times: usize) -> bool {
        self.number(times) == 0
    }

    /// Some lines in a row, of so many.
    fn lines(&mut self, of: usize, most: usize) -> Range<usize> {
        let from = match self.number(6) {
            0 => 0,
            1 => of.saturating_sub(1),
            _ => self.number(of),
        };
        from..(from + self.number(most + 1)).min(of)
    }
}

/// How many entries the edited files have at first: more than ten blocks of what the server shares between generations.
const ENTRIES: usize = 8_000;

/// A file that is edited, each line with its end.
struct Edited {
    name: &'static str,
    lines: Vec<String>,
    /// Counts the versions, and stands in the file.
    version: usize,
    /// Lines that came, went or changed since the last version.
    touched: Vec<String>,
}

impl Edited {
    /// The marker that says which version is in force.
    const MARKER: &'static str = "marker@check.test";

    fn is_relay_map(&self) -> bool {
        self.name == RELAYMAP
    }

    fn map(&self) -> &'static str {
        if self.is_relay_map() { "relayhost" } else { "sasl" }
    }

    fn value(&self, n: usize, version: usize) -> String {
        if self.is_relay_map() {
            hop(n, version)
        } else {
            login(n, version)
        }
    }

    fn marker(&self) -> String {
        self.value(0, self.version)
    }

    /// The text of the next version. The marker stands somewhere, and only once.
    fn next(&mut self, chance: &mut Chance) -> String {
        self.version += 1;
        let marker = format!("{} {}\n", Self::MARKER, self.marker());
        match self.lines.iter().position(|line| line.starts_with(Self::MARKER)) {
            // Mostly where it was, so that the block that is edited may be another one as well.
            Some(at) if !chance.once_in(8) => self.lines[at] = marker,
            at => {
                at.map(|at| self.lines.remove(at));
                self.lines.insert(chance.number(self.lines.len() + 1), marker);
            }
        }
        let mut text = self.lines.concat();
        if chance.once_in(8) {
            let end = text.trim_end_matches(['\r', '\n']).len();
            text.truncate(end);
        }
        text
    }

    fn entry(&self, chance: &mut Chance) -> String {
        let n = chance.number(ENTRIES * 5 / 4);
        let key = match chance.number(9) {
            0 => sender(n).to_uppercase(),
            1 => format!("\"{}\"@domain{}.test", n, n / 20),
            2 => format!("@domain{}.test", n / 20),
            _ => sender(n),
        };
        format!("{key} {}\n", self.value(n, self.version + 1))
    }

    /// One edit, and what it was.
    fn edit(&mut self, chance: &mut Chance) -> String {
        let count = self.lines.len();
        match chance.number(18) {
            0..=2 => {
                let at = chance.lines(count, 0).start;
                let entries: Vec<_> = (0..=chance.number(3)).map(|_| self.entry(chance)).collect();
                let what = format!("insert {} lines at {at}", entries.len());
                self.touched.extend_from_slice(&entries);
                self.lines.splice(at..at, entries);
                what
            }
            3 | 4 => {
                let some = chance.lines(count, 3);
                self.touched.extend(self.lines.drain(some.clone()));
                format!("remove {some:?}")
            }
            5..=7 => {
                let at = chance.number(count);
                // An indented line has no key before its first blank.
                if let Some((key, _)) = self.lines[at].split_once(' ').filter(|(key, _)| !key.is_empty()) {
                    let value = self.value(chance.number(99), self.version + 1);
                    self.lines[at] = format!("{key} {value}\n");
                    self.touched.push(self.lines[at].clone());
                }
                format!("replace {at}")
            }
            8 => {
                let (one, other) = (chance.number(count), chance.number(count));
                self.lines.swap(one, other);
                self.touched.extend([one, other].map(|at| self.lines[at].clone()));
                format!("swap {one} and {other}")
            }
            9 => {
                // Whole blocks stand elsewhere afterwards, or stand there in another order.
                let some = chance.lines(count, 4_000);
                let moved: Vec<_> = self.lines.drain(some.clone()).collect();
                let at = chance.number(self.lines.len() + 1);
                self.lines.splice(at..at, moved);
                format!("move {some:?} to {at}")
            }
            10 => {
                let (from, at) = (chance.number(count), chance.number(count));
                let line = self.lines[from].to_uppercase().replace("SECRET", "other");
                self.touched.push(line.clone());
                self.lines.insert(at, line);
                format!("repeat {from} at {at}")
            }
            11 => {
                // A block of the same lines all over has the same digest as the next one.
                let at = chance.lines(count, 0).start;
                let line = ["#\n", "\n", "\r\n", "   # a comment, \"half \\\n"][chance.number(4)];
                let times = [1, 40, 3_000, 90_000][chance.number(4)];
                let times = times / line.len();
                self.lines.splice(at..at, vec![line.to_owned(); times]);
                format!("insert {times} times {line:?} at {at}")
            }
            12 => {
                let at = chance.lines(count, 0).start;
                // The longest has room for the carriage return that another edit may put behind it.
                let length = [30_000, 60_000, 65_533][chance.number(3)];
                self.lines.insert(at, format!("#{}\n", "x".repeat(length)));
                format!("insert a comment of {length} at {at}")
            }
            13 => {
                let some = chance.lines(count, 2_000);
                let to_crlf = chance.once_in(2);
                for line in &mut self.lines[some.clone()] {
                    let end = line.trim_end_matches(['\r', '\n']).len();
                    line.truncate(end);
                    line.push_str(if to_crlf { "\r\n" } else { "\n" });
                }
                format!("lines {some:?} end in CR LF: {to_crlf}")
            }
            14 => {
                let line = self.entry(chance);
                self.touched.push(line.clone());
                self.lines.insert(0, line);
                "insert an entry at the beginning".to_owned()
            }
            15 => {
                let some = chance.lines(count, count);
                self.touched.extend(self.lines.drain(some.clone()).take(40));
                format!("remove many, {some:?}")
            }
            16 => {
                let at = chance.number(count);
                let line = ["  ", "\t"][chance.number(2)].to_owned() + &self.entry(chance);
                self.touched.push(line.clone());
                self.lines.insert(at, line);
                format!("insert an indented entry at {at}")
            }
            _ => {
                let at = chance.number(count);
                let key = self.entry(chance);
                let line = format!("{}\n", key.split(' ').next().unwrap());
                self.touched.push(line.clone());
                self.lines.insert(at, line);
                format!("insert a key alone at {at}")
            }
        }
    }

    /// Mends whatever a warning is said about, and brings back what makes the file large.
    fn mend(&mut self) {
        let mut seen = HashSet::new();
        self.lines.retain(|line| {
            let key = line.split_ascii_whitespace().next().unwrap_or_default();
            let is_entry = !line.starts_with([' ', '\t', '\u{feff}']) && line.trim_end().contains(' ');
            let is_comment = line.len() < 3;
            (is_entry && !key.is_empty() && seen.insert(key.to_lowercase()))
                || (is_comment && seen.len() % 2 == 0)
        });
        if self.lines.len() < ENTRIES / 2 {
            for n in 0..ENTRIES {
                if seen.insert(sender(n)) {
                    self.lines
                        .push(format!("{} {}\n", sender(n), self.value(n, self.version)));
                }
            }
        }
    }
}

/// What a file says, as simply as it can be read: of two lines with one key the first counts.
struct Model(HashMap<String, String>);

impl Model {
    fn of(text: &str) -> Self {
        let mut model = HashMap::new();
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            if let Some((key, value)) = entry(line) {
                model.entry(key).or_insert_with(|| value.to_owned());
            }
        }
        Self(model)
    }

    /// The value for a sender, or that of the domain.
    fn say(&self, sender: &str) -> Reply {
        let domain = sender.find('@').map_or("", |at| &sender[at..]);
        match self.0.get(sender).or_else(|| self.0.get(domain)) {
            Some(value) if !value.is_empty() => Reply::found(value),
            _ => Reply::NotFound,
        }
    }
}

/// The key of a line, as it is asked for, and the value.
fn entry(line: &str) -> Option<(String, &str)> {
    let line = line.trim_matches([' ', '\t', '\r', '\n']);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once(' ').unwrap_or((line, ""));
    // Postfix asks for the local part without the quotes around it.
    let key = match key.strip_prefix('"') {
        Some(key) => key.replacen('"', "", 1),
        None => key.to_owned(),
    };
    Some((key.to_lowercase(), value.trim_start()))
}

/// A server whose files are edited, and a folder with what ought to be in force.
struct Comparison {
    daemon: Daemon,
    client: Socketmap,
    good: Setup,
    /// Likewise: the relay map and the credentials.
    models: [Model; 2],
}

impl Comparison {
    /// What the server ought to say of a sender. Whoever has no next hop needs no credentials.
    fn expected(&self, map: &str, sender: &str) -> Reply {
        let [relay_map, credentials] = &self.models;
        match relay_map.say(sender) {
            Reply::Found(_) if map == "sasl" => credentials.say(sender),
            other => other,
        }
    }

    /// Puts a version that was saved in force, and fails where the server says anything else of these lines.
    fn follow(&mut self, file: &mut Edited, text: &str) {
        fs::write(self.good.dir().join(file.name), text).unwrap();
        self.models[usize::from(!file.is_relay_map())] = Model::of(text);
        let (map, marker) = (file.map(), Reply::Found(file.marker()));
        eventually(|| self.client.ask(map, Edited::MARKER), |reply| *reply == marker);
        for line in file.touched.drain(..) {
            let Some((key, _)) = entry(&line) else {
                continue;
            };
            let sender = if key.starts_with('@') {
                format!("any{key}")
            } else {
                key
            };
            for map in ["relayhost", "sasl"] {
                let reply = self.client.ask(map, &sender);
                assert_eq!(reply, self.expected(map, &sender), "{map} {sender}");
            }
        }
    }

    /// Saves a version in one of the ways in which files are saved.
    fn save(&self, name: &str, text: &str, chance: &mut Chance) -> &'static str {
        if chance.once_in(3) {
            fs::write(self.daemon.dir().join(name), text).unwrap();
            return "in place";
        }
        self.daemon.replace(name, text);
        "by rename"
    }

    /// Fails where the server answers otherwise than a program that reads the files from nothing.
    fn compare(&mut self, chance: &mut Chance) {
        let mut keys: Vec<String> = (0..2_000)
            .map(|_| {
                let n = chance.number(ENTRIES * 3 / 2);
                match chance.number(9) {
                    0 => sender(n).to_uppercase(),
                    1 => format!("\"{}\"@domain{}.test", n, n / 20),
                    2 => format!("nobody{n}@domain{}.test", n / 20),
                    3 => format!("@domain{}.test", n / 20),
                    4 => format!("\u{feff}{}", sender(n)),
                    _ => sender(n),
                }
            })
            .collect();
        // Not first, where `query -` takes a byte order mark for that of its input.
        keys.insert(0, Edited::MARKER.to_owned());
        keys.extend(["#", "<>"].map(str::to_owned));
        for map in ["relayhost", "sasl"] {
            let mut said = String::new();
            for some in keys.chunks(100) {
                let questions: Vec<_> = some.iter().map(|key| (map, key.as_str())).collect();
                for (key, reply) in some.iter().zip(self.client.ask_all(&questions)) {
                    match reply {
                        Reply::Found(value) => writeln!(said, "{key}\t{value}").unwrap(),
                        Reply::NotFound => {}
                        other => panic!("{map} {key}: {other:?}"),
                    }
                }
            }
            let fresh = finish(
                self.good.command("query").args([map, "-"]),
                (keys.join("\n") + "\n").as_bytes(),
            )
            .exits(0);
            if fresh.stdout != said {
                let different = fresh.stdout.lines().zip(said.lines()).find(|(a, b)| a != b);
                panic!("{map}: {different:?} (from nothing, and the server)");
            }
        }
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn after_hundreds_of_edits_the_server_answers_as_one_that_has_read_the_files_from_nothing() {
    let seed = std::env::var("POSTMAPD_SEED").ok();
    let seed = seed.map_or_else(
        || RandomState::new().hash_one(0),
        |seed| seed.parse().expect("a number"),
    );
    let mut done: Vec<String> = Vec::new();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| edit_and_compare(seed, &mut done)));
    if let Err(failure) = result {
        let last = &done[done.len().saturating_sub(12)..];
        drop(writeln!(
            std::io::stderr(),
            "POSTMAPD_SEED={seed} tries the same again. The last of {} edits:\n{}",
            done.len(),
            last.join("\n")
        ));
        std::panic::resume_unwind(failure);
    }
}

fn edit_and_compare(seed: u64, done: &mut Vec<String>) {
    const VERSIONS: usize = 120;
    let chance = &mut Chance(seed);
    let lines = |text: String| text.split_inclusive('\n').map(str::to_owned).collect();
    let mut files = [
        (RELAYMAP, relay_map(0..ENTRIES, 0)),
        (CREDENTIALS, credentials(0..ENTRIES, 0)),
    ]
    .map(|(name, text)| Edited {
        name,
        lines: lines(text),
        version: 0,
        touched: Vec::new(),
    });
    let setup = Setup::new().settings("[reload]\nin_flight = 0\n");
    let good = Setup::new();
    let models = files.each_mut().map(|file| {
        let text = file.next(chance);
        fs::write(good.dir().join(file.name), &text).unwrap();
        fs::write(setup.dir().join(file.name), &text).unwrap();
        Model::of(&text)
    });
    let daemon = Daemon::start(setup);
    let client = Socketmap::to(&daemon, 0);
    let mut compared = Comparison {
        daemon,
        client,
        good,
        models,
    };
    let before = memory(&compared.daemon, "VmRSS:");
    for version in 1..=VERSIONS {
        let file = &mut files[chance.number(2)];
        let mut what = file.name.to_owned();
        // Mostly there is nothing to say about the file: then the server edits what it has, as it does here.
        if chance.once_in(3) {
            file.mend();
            what += ", mend";
        }
        for _ in 0..=chance.number(3) {
            write!(what, ", {}", file.edit(chance)).unwrap();
        }
        if chance.once_in(10) {
            // A version with a bad line is not used, and its repair is.
            let bad = ["@bad.test [bad:\n", "bad\\\n", "\"bad [x]\n"][chance.number(3)];
            let bad = if file.is_relay_map() {
                bad
            } else {
                "@bad.test nocolon\n"
            };
            let at = chance.number(file.lines.len() + 1);
            file.lines.insert(at, bad.to_owned());
            let from = compared.daemon.log_lines();
            let text = file.next(chance);
            done.push(format!("{version}, bad at {at}: {what}"));
            compared.save(file.name, &text, chance);
            compared
                .daemon
                .wait_for_log_after(from, |line| line.contains("are not used"));
            if chance.once_in(4) {
                compared.compare(chance);
            }
            let at = file.lines.iter().position(|line| line == bad).unwrap();
            file.lines.remove(at);
        }
        let text = file.next(chance);
        let how = compared.save(file.name, &text, chance);
        done.push(format!("{version}, {} bytes, {how}: {what}", text.len()));
        compared.follow(file, &text);
        if version % 20 == 0 {
            compared.compare(chance);
        }
    }
    for file in &mut files {
        file.mend();
        let text = file.next(chance);
        compared.save(file.name, &text, chance);
        compared.follow(file, &text);
    }
    compared.compare(chance);
    let files: u64 = [RELAYMAP, CREDENTIALS]
        .map(|name| fs::metadata(compared.daemon.dir().join(name)).unwrap().len())
        .iter()
        .sum();
    // The files may have become longer; the server has no more than they are.
    let at_most = before + files + before / 4;
    eventually(|| memory(&compared.daemon, "VmRSS:"), |now| *now <= at_most);
}

#[test]
fn the_thread_that_reads_lets_those_that_answer_go_first() {
    let daemon = Daemon::start(Setup::new());
    let nicenesses = |process: u32| -> HashMap<String, String> {
        let stats = fs::read_dir(format!("/proc/{process}/task"))
            .unwrap()
            .filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
        stats
            .map(|stat| {
                let (name, fields) = stat.rsplit_once(") ").unwrap();
                let (_, name) = name.split_once(" (").unwrap();
                // The nineteenth of all fields (proc_pid_stat(5)), of which two stand before.
                let niceness = fields.split(' ').nth(16).unwrap();
                (name.to_owned(), niceness.to_owned())
            })
            .collect()
    };
    let is = |all: &HashMap<String, String>, name: &str, niceness: &str| {
        all.get(name).is_some_and(|own| own == niceness)
    };
    // Whoever runs the tests may have made them nice.
    let own = nicenesses(std::process::id()).into_values().next().unwrap();
    eventually(
        || nicenesses(daemon.pid()),
        |all| is(all, "reload", "10") && is(all, "postmapd", &own),
    );
}

/// A daemon whose address space may be so large, in KiB more than that of one without an entry.
fn with_memory(setup: Setup, more: u64) -> Daemon {
    let empty = Daemon::start(Setup::new().relaymap("").credentials(""));
    let limit = memory(&empty, "VmPeak:") / 1024 + more;
    drop(empty);
    let script = format!("ulimit -v {limit}; exec \"$0\" \"$@\"");
    Daemon::start(setup.within(["sh", "-c", &script]))
}

#[test]
fn a_file_without_a_line_end_is_refused_before_it_is_read_into_memory() {
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
    assert_eq!(client.ask("relayhost", "a@one.test"), Reply::found("[one.test]"));
    daemon.replace(RELAYMAP, "@one.test [two.test]\n");
    eventually(
        || client.ask("relayhost", "a@one.test"),
        |reply| *reply == Reply::found("[two.test]"),
    );
    // And at the start nothing of it is certain.
    let setup = Setup::new().credentials("");
    sparse(&setup);
    let daemon = with_memory(setup, 100 << 10);
    let reply = Socketmap::to(&daemon, 0).ask("relayhost", "a@one.test");
    assert!(matches!(reply, Reply::CannotTell(_)), "{reply:?}");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_for_which_there_is_no_memory_is_an_error_of_that_file() {
    let daemon = with_memory(
        Setup::new()
            .relaymap("@one.test [one.test]\n")
            .credentials("@one.test u:p\n"),
        100 << 10,
    );
    let mut client = Socketmap::to(&daemon, 0);
    daemon.replace(RELAYMAP, "#\n".repeat(60 << 20));
    daemon.wait_for_log(|line| {
        line.contains("ERROR") && line.contains(RELAYMAP) && line.contains("not enough memory")
    });
    assert_eq!(client.ask("relayhost", "a@one.test"), Reply::found("[one.test]"));
    daemon.replace(RELAYMAP, "@one.test [two.test]\n");
    eventually(
        || client.ask("relayhost", "a@one.test"),
        |reply| *reply == Reply::found("[two.test]"),
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_shortest_lines_need_no_more_than_five_times_their_bytes() {
    let served = Served::start();
    let lines = 1_000_000;
    served.forget_peak();
    let before = served.resident();
    // A key that is none costs as much as one, and is shorter.
    served.daemon.replace(RELAYMAP, "a\n".repeat(lines));
    served
        .daemon
        .wait_for_log(|line| line.contains("stays in force") && line.contains(&format!("errors={lines}")));
    let more = served.peak().saturating_sub(before);
    let most = u64::try_from(5 * 2 * lines).unwrap();
    assert!(more < most, "{more} for {lines} lines of two bytes");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn blank_lines_need_no_more_memory_than_their_bytes() {
    let mut served = Served::start();
    let blank = 4_000_000;
    served.forget_peak();
    let before = served.resident();
    served.daemon.replace(
        RELAYMAP,
        "@one.test [one.test]\n".to_owned() + &"\n".repeat(blank),
    );
    served.says("relayhost", "a@one.test", &Reply::found("[one.test]"));
    let more = served.peak().saturating_sub(before);
    let most = u64::try_from(3 * blank).unwrap();
    assert!(more < most, "{more} for {blank} blank lines");
}
