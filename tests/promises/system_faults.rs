//! Promise: whatever system call fails, an answer is right or *cannot tell*; the server continues, or ends with a
//! reason; and once the fault is over, edits take effect.
//!
//! Each run starts a server, looks up, edits, looks up, sends SIGHUP, edits, looks up and sends SIGTERM, while
//! strace(1) makes the n-th call of one kind fail, in each thread that makes that many. This is repeated for every n
//! until no thread makes that many calls, once from the first instruction of the program on ([`Phase::Start`]) and once
//! from when it serves ([`Phase::Running`]; a failure at startup hides those of the threads that it keeps from
//! starting).
//!
//! `cargo test` gives each call one of [`ERRORS`], in turn: some 850 runs, a minute on two cores. Every call with every
//! error takes seven times as long: `POSTMAPD_FAULTS=all cargo test --locked --test promises system_faults`.
//! `POSTMAPD_FAULTS_CALL=openat` limits it to one kind of call.

use crate::harness::client::{Reply, Socketmap, Stream, framed};
use crate::harness::daemon::{CREDENTIALS, DEADLINE, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::eventually;
use netstring::ReadNetstring as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The errors with which calls fail.
const ERRORS: [&str; 7] = ["EIO", "ENOSPC", "EMFILE", "ENFILE", "ENOMEM", "EACCES", "EINTR"];

/// The kinds of system calls that the server makes and that can fail, without `execve`, `futex`, and those that only
/// release something. (brk(2) has no errors: it returns the end of the memory.)
const CALLS: [&str; 45] = [
    "openat",
    "read",
    "pread64",
    "lseek",
    "fstat",
    "newfstatat",
    "statx",
    "statfs",
    "getdents64",
    "readlink",
    "getcwd",
    "access",
    "inotify_init1",
    "inotify_add_watch",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "eventfd2",
    "poll",
    "ppoll",
    "socket",
    "socketpair",
    "bind",
    "listen",
    "connect",
    "accept4",
    "getsockname",
    "getsockopt",
    "setsockopt",
    "recvfrom",
    "recvmsg",
    "sendto",
    "sendmsg",
    "write",
    "fcntl",
    "mmap",
    "mprotect",
    "madvise",
    "clone3",
    "clone",
    "prctl",
    "prlimit64",
    "sigaltstack",
    "getrandom",
    "sched_getaffinity",
];

/// The calls without which a running server cannot continue: those for events, signals, and memory.
const MAY_END: [&str; 7] = [
    "epoll_wait",
    "recvfrom",
    "write",
    "mmap",
    "mprotect",
    "madvise",
    "sigaltstack",
];

/// How many runs there are at a time; most of each is waiting.
const CONCURRENCY: usize = 8;

/// The file for strace's own messages, where it has one.
const STRACE_MESSAGES: &str = "complaints";

/// The interval between lookups that wait for an edit to take effect.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(25);

/// When calls begin to fail.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Start,
    Running,
}

/// One failing call.
#[derive(Debug, Clone, Copy)]
struct Fault {
    phase: Phase,
    call: &'static str,
    error: &'static str,
    n: usize,
}

impl Fault {
    /// The arguments of strace.
    fn inject(self) -> [String; 4] {
        let Self { call, error, n, .. } = self;
        [
            "-e".to_owned(),
            format!("trace={call}"),
            "-e".to_owned(),
            format!("inject={call}:error={error}:when={n}"),
        ]
    }
}

/// The files of a version. A password of a sender is never one of another sender.
fn text(name: &str, version: usize) -> String {
    match name {
        RELAYMAP => format!(
            "@one.test [relay.test]:587\n@two.test [relay{version}.test]:587\n@direct.test\n# {version}\n"
        ),
        CREDENTIALS => format!(
            "@one.test one:secret{version}\n@two.test two:secret{version}\n[hop.test]:25 hop:secret\n@direct.test never:shown\n"
        ),
        _ => format!("password{version}\n"),
    }
}

/// Requests with the right answers of a version; `None` is *not found*.
fn expected_answers(version: usize) -> [(&'static str, &'static str, Option<String>); 8] {
    let found = |text: String| Some(text);
    [
        ("relayhost", "ann@one.test", found("[relay.test]:587".into())),
        ("sasl", "ann@one.test", found(format!("one:secret{version}"))),
        (
            "relayhost",
            "bob@two.test",
            found(format!("[relay{version}.test]:587")),
        ),
        ("sasl", "[hop.test]:25", found("hop:secret".into())),
        ("relayhost", "eve@other.test", found("[default.test]:25".into())),
        (
            "sasl",
            "[default.test]:25",
            found(format!("user:password{version}")),
        ),
        ("relayhost", "dan@direct.test", None),
        ("sasl", "dan@direct.test", None),
    ]
}

/// A server under a fault.
struct Run {
    daemon: Daemon,
    strace: Option<Child>,
    aside: tempfile::TempDir,
    secret: PathBuf,
    address: String,
    /// A connection that stays open as long as the server keeps it.
    held: Option<Stream>,
    ended: Option<ExitStatus>,
}

/// How a run ended: without the fault; or with it, and the server was stopped or ended itself.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    NotReached,
    Stopped,
    Ended,
    /// strace failed.
    StraceFailed,
}

type Failure = String;

impl Run {
    fn start(fault: Fault) -> Result<Self, Failure> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Addresses that nothing else uses, so that the port is known before the server announces it.
        let address = format!("127.100.{}.{}:10451", number / 250 % 250 + 1, number % 250 + 1);
        let aside = tempfile::tempdir().map_err(|error| error.to_string())?;
        let setup = Setup::new();
        let secret = setup.root().join("password");
        fs::write(&secret, text("", 0)).map_err(|error| error.to_string())?;
        let trace = aside.path().join("trace").display().to_string();
        let baseline = ["-f", "-qq", "-o", &trace].map(str::to_owned);
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut setup = setup
            .relaymap(text(RELAYMAP, 0))
            .credentials(text(CREDENTIALS, 0))
            .file(SETTINGS, "[reload]\npoll_interval = 0.2\nempty_grace = 1\n")
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "user")
            .env("RELAY_PASSWORD_FILE", &secret)
            .listen(format!(
                "socketmap:unix:{}",
                aside.path().join("socket").display()
            ))
            .listen(format!("socketmap:inet:{address}"));
        if matches!(fault.phase, Phase::Start) {
            setup = setup.within(
                [
                    words(&["strace", "-D", "--seccomp-bpf"]),
                    baseline.to_vec(),
                    fault.inject().to_vec(),
                ]
                .concat(),
            );
        }
        let mut run = Self {
            daemon: Daemon::launch(setup)?,
            strace: None,
            aside,
            secret,
            address,
            held: None,
            ended: None,
        };
        if matches!(fault.phase, Phase::Running) {
            run.wait_for_version(0)?;
            run.strace = Some(attach(
                &run.daemon,
                &run.aside.path().join(STRACE_MESSAGES),
                [baseline.to_vec(), fault.inject().to_vec()].concat(),
            )?);
        }
        Ok(run)
    }

    /// Whether the call that is to fail was made.
    fn was_reached(&self) -> bool {
        fs::read_to_string(self.aside.path().join("trace")).is_ok_and(|trace| trace.contains("(INJECTED)"))
    }

    fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.daemon.ended();
        }
        self.ended.is_some()
    }

    /// Whether strace has failed, as its version 6.1 sometimes does where a call is in progress when it attaches: a
    /// thread then stays stopped, and the run shows nothing about the server.
    fn strace_failed(&self) -> bool {
        let complaints = fs::read_to_string(self.aside.path().join(STRACE_MESSAGES)).unwrap_or_default();
        (self.daemon.log() + &complaints).contains("ptrace_syscall_info")
    }

    /// Looks up until all answers are those of this version, on both listeners, or the server has ended. Until then
    /// each answer is of this version or the one before it, or *cannot tell*.
    fn wait_for_version(&mut self, version: usize) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let answers = self.query_over_unix();
            let mut all = check_answers("unix", version, &answers)?;
            let mut over_tcp = Vec::new();
            if all {
                over_tcp = connect_tcp(&self.address)
                    .map_or_else(|error| lost(&error), |mut stream| query(&mut stream));
                all = check_answers("inet", version, &over_tcp)?;
            }
            if all || self.has_ended() {
                return Ok(());
            }
            if begun.elapsed() > DEADLINE {
                return Err(format!(
                    "version {version} does not come: {answers:?} {over_tcp:?}"
                ));
            }
            thread::sleep(LOOKUP_INTERVAL);
        }
    }

    /// The answers over the connection that is kept open, or over a new one if it was closed.
    fn query_over_unix(&mut self) -> Vec<Lookup> {
        let held = self
            .held
            .take()
            .map_or_else(|| connect_unix(&self.aside.path().join("socket")), Ok);
        let mut held = match held {
            Ok(held) => held,
            Err(error) => return lost(&error),
        };
        let answers = query(&mut held);
        // A connection whose peer the server could not identify does not recover.
        let is_good = |answer: &Lookup| !matches!(answer, Ok(Reply::Refused(_)) | Err(_));
        if answers.iter().all(is_good) {
            self.held = Some(held);
        }
        answers
    }

    fn edit(&self, version: usize) -> Result<(), Failure> {
        self.daemon.replace(CREDENTIALS, text(CREDENTIALS, version));
        self.daemon.replace(RELAYMAP, text(RELAYMAP, version));
        let new = self.secret.with_extension("new");
        fs::write(&new, text("", version))
            .and_then(|()| fs::rename(&new, &self.secret))
            .map_err(|error| error.to_string())
    }

    /// The whole life of a server.
    fn run_lifecycle(&mut self) -> Result<(), Failure> {
        self.wait_for_version(0)?;
        self.edit(1)?;
        self.wait_for_version(1)?;
        if !self.has_ended() {
            self.daemon.hangup();
        }
        self.edit(2)?;
        self.wait_for_version(2)?;
        if self.has_ended() {
            return Ok(());
        }
        let begun = Instant::now();
        let mut signals = 0;
        while !self.has_ended() {
            if begun.elapsed() > DEADLINE || self.strace_failed() {
                return Err("it does not end after SIGTERM".into());
            }
            // The one that tells its thread of the signal may be the call that failed.
            if begun.elapsed() >= signals * Duration::from_secs(1) {
                signals += 1;
                self.daemon.signal("TERM");
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Checks that the server ended with 0 after SIGTERM, or with a reason. It may end by a signal only without memory:
    /// the standard library then aborts with a message. A failure before the first line of this crate (the loader, the
    /// startup of the standard library) has no log yet, and no client has been answered.
    fn check_end(&self, fault: Fault) -> Result<(), Failure> {
        let Some(status) = self.ended else {
            return Err("it has not ended".into());
        };
        let log = self.daemon.log();
        let has_begun =
            self.aside.path().join("socket").exists() || log.contains("INFO") || log.contains("WARN");
        let has_reason = ["ERROR", "error", "cannot", "memory allocation of"]
            .iter()
            .any(|word| log.contains(word));
        let is_memory = ["mmap", "mprotect", "madvise", "sigaltstack"].contains(&fault.call);
        match status.code() {
            Some(0) => Ok(()),
            _ if !has_begun => Ok(()),
            Some(_) if has_reason => Ok(()),
            None if has_reason && is_memory => Ok(()),
            _ => Err(format!("it ended with {status} and no reason")),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(mut strace) = self.strace.take() {
            self.daemon.kill();
            drop(strace.wait());
        }
    }
}

/// Attaches strace to every thread, and to the threads that they start.
fn attach(daemon: &Daemon, complaints: &Path, args: Vec<String>) -> Result<Child, Failure> {
    let complaints = fs::File::create(complaints).map_err(|error| error.to_string())?;
    let strace = Command::new("strace")
        .args(args)
        .args(["-p", &daemon.pid().to_string()])
        .stderr(complaints)
        .spawn()
        .map_err(|error| format!("strace: {error}"))?;
    let tracer = format!("TracerPid:\t{}\n", strace.id());
    let is_traced =
        |task: &Path| fs::read_to_string(task.join("status")).is_ok_and(|status| status.contains(&tracer));
    let tasks = || -> Vec<bool> {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid()));
        tasks
            .into_iter()
            .flatten()
            .flatten()
            .map(|task| is_traced(&task.path()))
            .collect()
    };
    eventually(tasks, |traced| {
        !traced.is_empty() && traced.iter().all(|traced| *traced)
    });
    Ok(strace)
}

fn connect_unix(path: &Path) -> io::Result<Stream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(Stream::Unix(stream))
}

fn connect_tcp(address: &str) -> io::Result<Stream> {
    let address = address
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(Stream::Tcp(stream))
}

/// An answer, or how the connection was lost.
type Lookup = Result<Reply, String>;

fn lost(error: &io::Error) -> Vec<Lookup> {
    expected_answers(0).map(|_| Err(error.to_string())).to_vec()
}

/// Sends all requests in one write.
fn query(stream: &mut Stream) -> Vec<Lookup> {
    let requests: Vec<u8> = expected_answers(0)
        .iter()
        .flat_map(|(map, key, _)| framed(&format!("{map} {key}")))
        .collect();
    if let Err(error) = stream.write_all(&requests) {
        return lost(&error);
    }
    let reply = |_| {
        stream
            .read_netstring()
            .map(|payload| Reply::from_socketmap(&payload))
    };
    expected_answers(0)
        .map(reply)
        .map(|reply| reply.map_err(|error| error.to_string()))
        .to_vec()
}

/// Whether all of these answers are those of the version. A wrong one is a failure.
fn check_answers(listener: &str, version: usize, answers: &[Lookup]) -> Result<bool, Failure> {
    let before = expected_answers(version.saturating_sub(1));
    let mut all = true;
    for (((map, key, now), (_, _, before)), answer) in
        expected_answers(version).iter().zip(&before).zip(answers)
    {
        let found = match answer {
            Ok(Reply::Found(value)) => Some(value),
            Ok(Reply::NotFound) => None,
            Ok(Reply::CannotTell(_) | Reply::Refused(_)) | Err(_) => {
                all = false;
                continue;
            }
        };
        if found == now.as_ref() {
            continue;
        }
        all = false;
        if found != before.as_ref() {
            return Err(format!(
                "{map} {key} is {answer:?} over {listener} at version {version}"
            ));
        }
    }
    Ok(all)
}

/// Makes one run, and returns its outcome.
fn run(fault: Fault) -> Result<Outcome, Failure> {
    let mut run = Run::start(fault)?;
    let lived = run.run_lifecycle().and_then(|()| run.check_end(fault));
    let reached = run.was_reached();
    if lived.is_err() && run.strace_failed() {
        return Ok(Outcome::StraceFailed);
    }
    lived.map_err(|failure| format!("{fault:?}: {failure}\n{}", run.daemon.log()))?;
    Ok(match run.ended.and_then(|status| status.code()) {
        _ if !reached => Outcome::NotReached,
        Some(0) => Outcome::Stopped,
        _ => Outcome::Ended,
    })
}

/// The results of a sweep.
#[derive(Default)]
struct Report {
    runs: usize,
    failures: Vec<Failure>,
}

/// Runs every n of one kind of call, with the errors that `errors` gives for it.
fn sweep(
    phase: Phase,
    call: &'static str,
    errors: impl Fn(usize) -> Vec<&'static str>,
    report: &Mutex<Report>,
) -> usize {
    let mut runs = 0;
    for n in 1.. {
        let mut reached = false;
        for error in errors(n) {
            let fault = Fault {
                phase,
                call,
                error,
                n,
            };
            let outcomes = (0..5).map(|_| run(fault));
            let mut outcomes = outcomes.skip_while(|outcome| *outcome == Ok(Outcome::StraceFailed));
            let outcome = outcomes
                .next()
                .unwrap_or(Err(format!("{fault:?}: strace fails again and again")));
            let mut report = report.lock().unwrap();
            report.runs += 1;
            runs += 1;
            match outcome {
                Ok(Outcome::NotReached) => continue,
                Ok(Outcome::Ended) if matches!(phase, Phase::Running) && !MAY_END.contains(&call) => {
                    report.failures.push(format!("{fault:?} ends a running server"));
                }
                Ok(Outcome::Stopped | Outcome::Ended | Outcome::StraceFailed) => {}
                Err(failure) => report.failures.push(failure),
            }
            reached = true;
        }
        if !reached {
            break;
        }
    }
    runs
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn whichever_system_call_fails_no_answer_is_wrong_and_the_next_edit_takes_effect() {
    let all = std::env::var("POSTMAPD_FAULTS").is_ok_and(|form| form == "all");
    let only = std::env::var("POSTMAPD_FAULTS_CALL").ok();
    let errors = |n: usize| {
        if all {
            ERRORS.to_vec()
        } else {
            vec![ERRORS[n % ERRORS.len()]]
        }
    };
    let work: Vec<_> = CALLS
        .iter()
        .filter(|call| only.as_ref().is_none_or(|only| only == *call))
        .flat_map(|call| [(Phase::Start, *call), (Phase::Running, *call)])
        .collect();
    let next = AtomicUsize::new(0);
    let report = Mutex::new(Report::default());
    thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                while let Some((phase, call)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let runs = sweep(*phase, call, errors, &report);
                    if all {
                        drop(writeln!(io::stderr(), "{phase:?} {call}: {runs} runs"));
                    }
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    // At least one run was made for each call.
    assert!(only.is_some() || report.runs > 300, "{} runs", report.runs);
    assert!(
        report.failures.is_empty(),
        "{} failures:\n{}",
        report.failures.len(),
        report.failures.join("\n")
    );
}

/// The files of the sweep were just written, so their file stats are not relied on anyway.
#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_unreadable_at_startup_is_retried_without_a_change_to_it() {
    let setup = Setup::new()
        .relaymap(text(RELAYMAP, 0))
        .credentials(text(CREDENTIALS, 0));
    let setup = setup.file(SETTINGS, "[reload]\npoll_interval = 0.1\n");
    let file = setup.dir().join(CREDENTIALS);
    let age = || {
        fs::metadata(&file)
            .unwrap()
            .modified()
            .unwrap()
            .elapsed()
            .unwrap_or_default()
    };
    eventually(age, |age| *age > Duration::from_secs(3));
    let path = file.display().to_string();
    let words = "strace -D -f -qq -o /dev/null -e trace=openat -e inject=openat:error=EMFILE:when=1 -P";
    let daemon = Daemon::start(setup.within(words.split(' ').chain([path.as_str(), "-P", CREDENTIALS])));
    daemon.wait_for_log(|line| line.contains("map: Too many open files"));
    let query = || Socketmap::to(&daemon, 0).query("sasl", "ann@one.test");
    eventually(query, |reply| *reply == Reply::found("one:secret0"));
}
