//! Numbered versions of every file that a server reads, requests whose answers identify the version, and a client that
//! sends them all the time while a test edits the files.
//!
//! So a test only says how it edits: an answer that is from none of the versions fails it.

use super::client::Reply;
use super::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup, write_file};
use super::observer::{Observer, observe};
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How soon an edit takes effect. On a busy machine one edit may be late, but not five in a row.
pub(crate) const EFFECT_DEADLINE: Duration = Duration::from_millis(500);

/// The file named by `RELAY_PASSWORD_FILE`, beside the directory of the tables.
pub(crate) const PASSWORD: &str = "password";

/// All files that are read.
pub(crate) const FILES: [&str; 4] = [RELAYMAP, CREDENTIALS, PASSWORD, SETTINGS];

/// The files in the directory of the tables.
pub(crate) const IN_DIRECTORY: [&str; 3] = [RELAYMAP, CREDENTIALS, SETTINGS];

/// The version of each of [`FILES`].
pub(crate) type Numbers = [usize; 4];

/// The requests. The answers depend on every file.
pub(crate) const REQUESTS: [(&str, &str); 6] = [
    ("relayhost", "ann@one.test"),
    ("sasl", "login.test"),
    ("sasl", "[default.test]:25"),
    ("relayhost", "ann=x@two.test"),
    ("relayhost", "ann-x@two.test"),
    ("relayhost", "ann@three.test"),
];

/// Settings with which no poll finds a change before a test ends.
pub(crate) const EVENTS_ONLY: &str = "poll_interval = 600";

/// Settings with frequent polls and a short wait for a file that is missing or empty: a test then waits less for what
/// must not happen.
pub(crate) const QUICK: &str = "poll_interval = 0.02\nempty_grace = 0.1";

/// The next hop in the n-th relay map.
pub(crate) fn relay(n: usize) -> String {
    format!("[relay{n}.test]:587")
}

/// The inverse of [`relay`].
pub(crate) fn generation(reply: &Reply) -> usize {
    let Reply::Found(value) = reply else {
        panic!("no relay: {reply:?}")
    };
    let number = value
        .strip_prefix("[relay")
        .and_then(|rest| rest.strip_suffix(".test]:587"));
    number.expect("a relay").parse().expect("its number")
}

/// The n-th text of a file. `pace` has the settings for reloads.
pub(crate) fn text(file: &str, n: usize, pace: &str) -> String {
    match file {
        RELAYMAP => format!(
            "# {n}\n@one.test {}\nann@two.test [ann.test]\n@two.test [two.test]\n",
            relay(n)
        ),
        CREDENTIALS => format!("login.test user{n}:secret{n}\n@one.test user{n}:secret{n}\n"),
        PASSWORD => format!("secret{n}\n"),
        _ => format!(
            "recipient_delimiter = \"{}\"\n# {n}\n[reload]\n{pace}\n",
            ["=", "-"][n % 2]
        ),
    }
}

/// The answers to [`REQUESTS`] where these versions are active.
pub(crate) fn answers([map, credentials, password, settings]: Numbers) -> Vec<Reply> {
    let mut two = [Reply::found("[ann.test]"), Reply::found("[two.test]")];
    two.rotate_left(settings % 2);
    let [one, other] = two;
    vec![
        Reply::Found(relay(map)),
        Reply::Found(format!("user{credentials}:secret{credentials}")),
        Reply::Found(format!("user:secret{password}")),
        one,
        other,
        Reply::found("[default.test]:25"),
    ]
}

/// The path of a file.
pub(crate) fn path_of(setup: &Setup, file: &str) -> PathBuf {
    match file {
        PASSWORD => setup.root().join(PASSWORD),
        _ => setup.dir().join(file),
    }
}

/// Writes the n-th version of these files into a directory.
pub(crate) fn fill(directory: &Path, files: &[&str], n: usize, pace: &str) {
    for file in files {
        write_file(&directory.join(file), text(file, n, pace));
    }
}

/// Sets the default relay, with its password in [`PASSWORD`].
pub(crate) fn with_default_relay(setup: Setup) -> Setup {
    let password = path_of(&setup, PASSWORD);
    setup
        .env("RELAY_HOST", "default.test")
        .env("RELAY_USER", "user")
        .env("RELAY_PASSWORD_FILE", password)
}

/// A setup with the first version of every file.
pub(crate) fn setup(pace: &str) -> Setup {
    let setup = Setup::new();
    fill(setup.dir(), &IN_DIRECTORY, 0, pace);
    fill(setup.root(), &[PASSWORD], 0, pace);
    with_default_relay(setup)
}

/// Changes the target of a symbolic link in one step, as Kubernetes does.
pub(crate) fn repoint(link: &Path, target: impl AsRef<Path>) {
    let new = link.with_file_name("..new");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

/// Makes these names of a directory links through `..data`, as in a volume of Kubernetes.
pub(crate) fn link_through_data(volume: &Path, files: &[&str]) {
    for file in files {
        symlink(Path::new("..data").join(file), volume.join(file)).unwrap();
    }
}

/// A running server, the active versions, and a client that sends requests all the time.
pub(crate) struct Versions<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) observer: &'a Observer,
    pub(crate) numbers: Numbers,
    pace: &'a str,
    /// Every expected set of answers so far, in order.
    expected: Vec<Vec<Reply>>,
}

/// Sends requests on one connection while `act` edits the files of a daemon started with [`setup`].
pub(crate) fn with_versions<R>(daemon: &Daemon, pace: &str, act: impl FnOnce(&mut Versions<'_>) -> R) -> R {
    observe(daemon, &REQUESTS, |observer| {
        observer.wait_for(&answers([0; 4]));
        act(&mut Versions {
            daemon,
            observer,
            numbers: [0; 4],
            pace,
            expected: vec![answers([0; 4])],
        })
    })
}

impl Deref for Versions<'_> {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        self.daemon
    }
}

impl Versions<'_> {
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        path_of(&self.daemon.setup(), file)
    }

    /// The version numbers after the next edit of these files.
    pub(crate) fn next(&self, files: &[&str]) -> Numbers {
        let mut next = self.numbers;
        for (number, file) in next.iter_mut().zip(FILES) {
            *number += usize::from(files.contains(&file));
        }
        next
    }

    /// The next text of a file.
    pub(crate) fn next_text(&self, file: &str) -> String {
        let number = FILES.iter().position(|name| *name == file).expect("a file");
        text(file, self.numbers[number] + 1, self.pace)
    }

    /// Replaces a file by its next version in one step.
    pub(crate) fn replace_with_next(&self, file: &str) {
        let path = self.path(file);
        let new = path.with_extension("new");
        write_file(&new, self.next_text(file));
        fs::rename(&new, path).unwrap();
    }

    /// Waits until the server has noticed what was done, by an event or by several polls ([`QUICK`]). Fails the test
    /// where any answer is unexpected.
    #[track_caller]
    pub(crate) fn pause(&self, what: &str) {
        self.observer.wait_for_rounds(60);
        self.are_still_active(what);
    }

    /// Fails the test where an answer is not from one of the versions so far.
    #[track_caller]
    pub(crate) fn are_still_active(&self, what: &str) {
        assert_eq!(self.observer.answers(), self.expected, "{what}");
    }

    /// Waits for these answers, and returns since when they come. Fails the test where any other answer came before.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, answers: Vec<Reply>, what: &str) -> Instant {
        let since = self.observer.wait_for(&answers);
        if self.expected.last() != Some(&answers) {
            self.expected.push(answers);
        }
        self.are_still_active(what);
        since
    }

    /// Waits for these versions.
    #[track_caller]
    pub(crate) fn wait_for_numbers(&mut self, numbers: Numbers, what: &str) -> Instant {
        self.numbers = numbers;
        self.wait_for(answers(numbers), what)
    }

    /// Fails the test unless the next version of these files takes effect in time, and all answers are from one of the
    /// versions. A late edit is tried again, up to five times.
    #[track_caller]
    pub(crate) fn take_effect(&mut self, files: &[&str], what: &str, mut edit: impl FnMut(&Self)) {
        let mut late = Vec::new();
        while late.len() < 5 {
            edit(self);
            let edited = Instant::now();
            let since = self.wait_for_numbers(self.next(files), what);
            let took = since.saturating_duration_since(edited);
            if took <= EFFECT_DEADLINE {
                return;
            }
            late.push(took);
        }
        panic!("{what}: live after {late:?}");
    }
}

/// The number of reloads in the log, including the load at startup.
pub(crate) fn reloads(daemon: &Daemon) -> usize {
    let log = daemon.log();
    log.lines()
        .filter(|line| line.contains("loaded generation="))
        .count()
}
