//! Numbered versions of every file that a server reads, the questions that tell them apart, and a client that asks them
//! all the while a test edits the files.
//!
//! So a test says only how it edits: whatever is answered in between, and is not one of the versions, fails it.

use super::client::Reply;
use super::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup};
use super::observer::{Observer, observe};
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How soon an edit is live. A machine that is busy with other tests may be late now and then, but not five times in a row.
pub(crate) const LIVE: Duration = Duration::from_millis(500);

/// The file that `RELAY_PASSWORD_FILE` names, beside the directory of the tables.
pub(crate) const PASSWORD: &str = "password";

/// Each file that is read.
pub(crate) const FILES: [&str; 4] = [RELAYMAP, CREDENTIALS, PASSWORD, SETTINGS];

/// Those in the directory of the tables.
pub(crate) const IN_DIRECTORY: [&str; 3] = [RELAYMAP, CREDENTIALS, SETTINGS];

/// The version of each of [`FILES`].
pub(crate) type Numbers = [usize; 4];

/// What is asked. The answers depend on every file.
pub(crate) const QUESTIONS: [(&str, &str); 6] = [
    ("relayhost", "ann@one.test"),
    ("sasl", "login.test"),
    ("sasl", "[default.test]:25"),
    ("relayhost", "ann=x@two.test"),
    ("relayhost", "ann-x@two.test"),
    ("relayhost", "ann@three.test"),
];

/// No poll finds a change before a test ends.
pub(crate) const EVENTS_ALONE: &str = "poll = 600";

/// Polls often, and waits a moment for a file that is missing or empty, so that only what must not happen does not.
pub(crate) const QUICK: &str = "poll = 0.02\ngrace = 0.1";

/// The next hop of the n-th relay map.
pub(crate) fn relay(n: usize) -> String {
    format!("[relay{n}.test]:587")
}

/// The n of [`relay`].
pub(crate) fn generation(reply: &Reply) -> usize {
    let Reply::Found(value) = reply else {
        panic!("no relay: {reply:?}")
    };
    let number = value
        .strip_prefix("[relay")
        .and_then(|rest| rest.strip_suffix(".test]:587"));
    number.expect("a relay").parse().expect("its number")
}

/// The n-th text of a file. `pace` has the settings of reloads.
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

/// The answers to [`QUESTIONS`] where these versions are active.
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

/// Where a file is.
pub(crate) fn path_of(setup: &Setup, file: &str) -> PathBuf {
    match file {
        PASSWORD => setup.root().join(PASSWORD),
        _ => setup.dir().join(file),
    }
}

/// Writes the n-th version of these files into a directory.
pub(crate) fn fill(directory: &Path, files: &[&str], n: usize, pace: &str) {
    for file in files {
        fs::write(directory.join(file), text(file, n, pace)).unwrap();
    }
}

/// Names the default relay, whose password is in that file.
pub(crate) fn with_default_relay(setup: Setup) -> Setup {
    let password = path_of(&setup, PASSWORD);
    setup
        .env("RELAY_HOST", "default.test")
        .env("RELAY_USER", "user")
        .env("RELAY_PASSWORD_FILE", password)
}

/// The first version of every file.
pub(crate) fn setup(pace: &str) -> Setup {
    let setup = Setup::new();
    fill(setup.dir(), &IN_DIRECTORY, 0, pace);
    fill(setup.root(), &[PASSWORD], 0, pace);
    with_default_relay(setup)
}

/// Points a symbolic link elsewhere in one step, as Kubernetes does.
pub(crate) fn repoint(link: &Path, target: impl AsRef<Path>) {
    let new = link.with_file_name("..new");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

/// Leads these names of a directory through the link `..data`, as Kubernetes mounts a volume.
pub(crate) fn link_through_data(volume: &Path, files: &[&str]) {
    for file in files {
        symlink(Path::new("..data").join(file), volume.join(file)).unwrap();
    }
}

/// A running server, the versions that are active, and a client that asks all the while.
pub(crate) struct Versions<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) observer: &'a Observer,
    pub(crate) numbers: Numbers,
    pace: &'a str,
    /// Every answer that there should have been so far, one after the other.
    expected: Vec<Vec<Reply>>,
}

/// Asks on one connection while `act` edits the files of a daemon that was started with [`setup`].
pub(crate) fn with_versions<R>(daemon: &Daemon, pace: &str, act: impl FnOnce(&mut Versions<'_>) -> R) -> R {
    observe(daemon, &QUESTIONS, |observer| {
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

    /// The versions with the next one of these files.
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

    /// Puts the next version of a file in place in one step.
    pub(crate) fn replace_with_next(&self, file: &str) {
        let path = self.path(file);
        let new = path.with_extension("new");
        fs::write(&new, self.next_text(file)).unwrap();
        fs::rename(&new, path).unwrap();
    }

    /// Lets the server notice what was done, by an event or by several polls ([`QUICK`]): nothing else may be answered.
    #[track_caller]
    pub(crate) fn pause(&self, what: &str) {
        self.observer.wait_for_rounds(60);
        self.are_still_active(what);
    }

    /// Fails where anything but the versions so far was answered.
    #[track_caller]
    pub(crate) fn are_still_active(&self, what: &str) {
        assert_eq!(self.observer.answers(), self.expected, "{what}");
    }

    /// Waits for these answers, and fails where any others came meanwhile. Returns since when they come.
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

    /// Fails unless the next version of these files is live in time, and nothing but the versions is ever answered. An
    /// edit that is late is tried again, up to five times.
    #[track_caller]
    pub(crate) fn are_live(&mut self, files: &[&str], what: &str, mut edit: impl FnMut(&Self)) {
        let mut late = Vec::new();
        while late.len() < 5 {
            edit(self);
            let edited = Instant::now();
            let since = self.wait_for_numbers(self.next(files), what);
            let took = since.saturating_duration_since(edited);
            if took <= LIVE {
                return;
            }
            late.push(took);
        }
        panic!("{what}: live after {late:?}");
    }
}

/// How many reloads the log tells of, with that of the start.
pub(crate) fn reloads(daemon: &Daemon) -> usize {
    let log = daemon.log();
    log.lines()
        .filter(|line| line.contains("loaded generation="))
        .count()
}
