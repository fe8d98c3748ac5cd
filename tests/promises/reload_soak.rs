//! Promise: however often the files are swapped, and under whatever load, each pair of answers is of one version, no
//! answer is missing, no connection ends, the last version takes effect, and the server does not grow.
//!
//! It takes a minute by default. `POSTMAPD_SOAK_SECONDS=3600 cargo test --test promises soak -- --nocapture` takes an
//! hour, and prints its progress.

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, DEADLINE, Daemon, RELAYMAP, Setup};
use crate::harness::versions::{generation, link_through_data, relay, repoint};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The number of concurrent clients, each on its own connection.
const CLIENTS: usize = 3;

/// How much the server may grow after its first reloads: less than a hundred snapshots.
const GROWTH_KIB: u64 = 3 << 10;

/// The duration.
fn length() -> Duration {
    let seconds = std::env::var("POSTMAPD_SOAK_SECONDS").ok();
    let seconds = seconds.map_or(60.0, |seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs_f64(seconds)
}

/// Both files of a version, in a new directory next to the others. The sender's entries are at the ends of the tables,
/// and what is between them differs in length.
fn write_version(parent: &Path, n: usize) {
    let directory = parent.join(format!("..version{n}"));
    fs::create_dir(&directory).unwrap();
    let (mut map, mut credentials) = (String::new(), String::new());
    for k in 0..800 + n % 7 {
        writeln!(map, "@d{k}.test [x.test]").unwrap();
        writeln!(credentials, "@d{k}.test user:secret").unwrap();
    }
    fs::write(
        directory.join(RELAYMAP),
        map + &format!("@one.test {}\n", relay(n)),
    )
    .unwrap();
    let text = format!("login.test user{n}:secret{n}\n{credentials}");
    fs::write(directory.join(CREDENTIALS), text).unwrap();
}

/// Swaps the versions.
struct Swapper {
    /// The directory with the directories of the versions.
    parent: PathBuf,
    /// The symbolic link to one of them.
    link: PathBuf,
    /// The version it leads to.
    at: usize,
    /// The highest version made so far.
    last: usize,
    swaps: usize,
}

impl Swapper {
    fn point(&mut self, n: usize) {
        repoint(&self.link, format!("..version{n}"));
        self.at = n;
        self.swaps += 1;
    }

    /// Alternates between two directories that stay, so that every file returns unchanged.
    fn alternate(&mut self, times: usize) {
        let (one, other) = (self.last, self.last - 1);
        for _ in 0..times {
            self.point(if self.at == one { other } else { one });
        }
    }

    /// Swaps in a new directory, and removes the one before the last.
    fn renew(&mut self) {
        self.last += 1;
        write_version(&self.parent, self.last);
        self.point(self.last);
        if let Some(old) = self.last.checked_sub(2) {
            fs::remove_dir_all(self.parent.join(format!("..version{old}"))).unwrap();
        }
    }

    /// Swaps at every pace until the time is over: bursts without a pause, single swaps, and short pauses.
    fn swap_repeatedly(&mut self, until: Instant) {
        for round in 0_u64.. {
            if Instant::now() >= until {
                return;
            }
            match round % 4 {
                0 => self.alternate(60),
                1 => self.renew(),
                2 => {
                    for _ in 0..6 {
                        self.alternate(1);
                        thread::sleep(Duration::from_millis(round % 5));
                    }
                }
                _ => {
                    self.renew();
                    self.renew();
                }
            }
            // Pauses, some shorter than the server's debounce time, some longer.
            thread::sleep(Duration::from_millis(7 * (round % 9)));
        }
    }
}

/// The resources of the process: memory in KiB, and open files.
#[derive(Debug, Clone, Copy)]
struct Size {
    memory: u64,
    files: usize,
    threads: usize,
}

fn size(daemon: &Daemon) -> Size {
    let process = PathBuf::from(format!("/proc/{}", daemon.pid()));
    let count = |directory| fs::read_dir(process.join(directory)).unwrap().count();
    Size {
        memory: daemon.memory("VmRSS") / 1024,
        files: count("fd"),
        threads: count("task"),
    }
}

/// The smallest of several sizes: new watches exist beside the old ones for a moment.
fn settled_size(daemon: &Daemon) -> Size {
    let sizes = (0..10).map(|_| {
        thread::sleep(Duration::from_millis(20));
        size(daemon)
    });
    let least = |one: Size, other: Size| Size {
        memory: one.memory.min(other.memory),
        files: one.files.min(other.files),
        threads: one.threads.min(other.threads),
    };
    sizes.reduce(least).unwrap()
}

/// Requests pairs until it is stopped. Fails at the first pair that is torn or missing.
fn query(daemon: &Daemon, stop: &AtomicBool, pairs: &AtomicUsize, seen: &Mutex<BTreeSet<usize>>) {
    let mut client = Socketmap::to(daemon, 0);
    let requests = [("relayhost", "ann@one.test"), ("sasl", "login.test")].repeat(8);
    let mut versions = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        for pair in client.query_all(&requests).chunks(2) {
            let version = generation(&pair[0]);
            let password = Reply::Found(format!("user{version}:secret{version}"));
            assert_eq!(pair[1], password, "beside the relay of version {version}");
            versions.insert(version);
        }
        pairs.fetch_add(8, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(3));
    }
    seen.lock().unwrap().extend(versions);
}

/// Swaps the link for the duration, a quarter of it to warm up, while several clients send requests.
fn soak(daemon: &Daemon, mut swapper: Swapper) {
    let length = length();
    let (stop, pairs, seen) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::default());
    let sizes = thread::scope(|scope| {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| query(daemon, &stop, &pairs, &seen)))
            .collect();
        let _stop = Stop(&stop);
        let begun = Instant::now();
        let mut sizes = Vec::new();
        let steps = 12;
        for step in 1..=steps {
            swapper.swap_repeatedly(begun + length * step / steps);
            assert!(
                !clients.iter().any(thread::ScopedJoinHandle::is_finished),
                "a client has seen what must not be"
            );
            wait_for_version(daemon, swapper.at);
            sizes.push(settled_size(daemon));
            let progress = format!(
                "{:?}: {} swaps, {:?}",
                begun.elapsed(),
                swapper.swaps,
                sizes.last()
            );
            drop(writeln!(std::io::stderr(), "{progress}"));
        }
        sizes
    });
    let seen = seen.into_inner().unwrap();
    let (pairs, swaps) = (pairs.into_inner(), swapper.swaps);
    // Thousands on an idle machine; in any case enough for the test to be meaningful.
    assert!(
        swaps > 100 && pairs > 500 && seen.len() > 10,
        "{swaps} swaps, {pairs} pairs, {} versions seen in {length:?}",
        seen.len()
    );
    let (warm_up, rest) = sizes.split_at(3);
    let warm = warm_up.iter().map(|size| size.memory).max().unwrap();
    for size in rest {
        assert!(
            size.memory <= warm + GROWTH_KIB,
            "it grows with each of {swaps} swaps: {sizes:?}"
        );
        assert!(
            size.files <= warm_up[2].files + 40 && size.threads <= warm_up[2].threads + 20,
            "it keeps something of each of {swaps} swaps: {sizes:?}"
        );
    }
}

/// Fails unless the version takes effect, by events only: no poll comes in time.
fn wait_for_version(daemon: &Daemon, version: usize) {
    let mut client = Socketmap::to(daemon, 0);
    let since = Instant::now();
    loop {
        let reply = client.query("relayhost", "ann@one.test");
        if generation(&reply) == version {
            return;
        }
        assert!(
            since.elapsed() < DEADLINE,
            "the last version, {version}, does not win: {reply:?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

fn start(setup: Setup) -> Daemon {
    let settings = setup.root().join("settings.toml");
    fs::write(&settings, "[reload]\npoll_interval = 600\n").unwrap();
    Daemon::start(setup.arg("--config").arg(settings))
}

fn soak_the_symbolic_link_of_the_directory() {
    let outer = Setup::new();
    let parent = outer.root().to_path_buf();
    for n in 0..2 {
        write_version(&parent, n);
    }
    let link = parent.join("link");
    repoint(&link, "..version1");
    let daemon = start(Setup::in_directory(&link));
    let swapper = Swapper {
        parent,
        link,
        at: 1,
        last: 1,
        swaps: 0,
    };
    soak(&daemon, swapper);
}

fn soak_a_config_map() {
    let setup = Setup::new();
    let parent = setup.dir().to_path_buf();
    for n in 0..2 {
        write_version(&parent, n);
    }
    let link = parent.join("..data");
    repoint(&link, "..version1");
    link_through_data(&parent, &[RELAYMAP, CREDENTIALS]);
    let daemon = start(setup);
    let swapper = Swapper {
        parent,
        link,
        at: 1,
        last: 1,
        swaps: 0,
    };
    soak(&daemon, swapper);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn thousands_of_swaps_under_load_lose_no_edit_tear_no_pair_and_leak_nothing() {
    // Both run at the same time in one test, so that the other tests continue meanwhile.
    thread::scope(|scope| {
        scope.spawn(soak_the_symbolic_link_of_the_directory);
        scope.spawn(soak_a_config_map);
    });
}
