//! A `postmapd` for one test: the built binary, a temporary directory and ports chosen by the system. It ends on drop.
//!
//! Its startup lines are the interface: each listener is announced on standard error with its actual address. Nothing
//! here waits for time to pass, only for a line, the end of a file or an exit, each with a deadline.
//! `contrib/demo/demo.rs` includes this file too, and sets its binary with [`Setup::binary`].
#![allow(
    dead_code,
    reason = "the tests and the demo include this file, and neither uses all of it"
)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

/// The timeout for every operation, far more than a healthy run on a machine with ten times as much to do needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Programs are started one at a time, and not while a file is written: a program that is being started has the open
/// files of this process until it is executed, and closes them late. The server would see the end of another write.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts a program.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Writes a file that a server watches.
pub(crate) fn write_file(path: &Path, text: impl AsRef<[u8]>) {
    let _no_start = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The relay map: senders and next hops.
pub(crate) const RELAYMAP: &str = "postfix-relaymap.cf";
/// The credentials file.
pub(crate) const CREDENTIALS: &str = "postfix-sasl-password.cf";
pub(crate) const RELAY_TLS: &str = "postfix-relay-tls.cf";
/// The settings file.
pub(crate) const SETTINGS: &str = "postmapd.toml";

/// How to start a daemon. Clones share the directory.
#[derive(Clone)]
pub(crate) struct Setup {
    /// A program with its arguments that executes the daemon.
    within: Vec<OsString>,
    binary: PathBuf,
    /// Keeps a temporary directory while any clone exists.
    temporary: Option<Arc<tempfile::TempDir>>,
    root: PathBuf,
    dir: PathBuf,
    dir_flag: bool,
    env: Vec<(OsString, OsString)>,
    listen: Vec<String>,
    announced: Option<Vec<String>>,
    args: Vec<OsString>,
}

impl Setup {
    /// An empty directory in the system's temporary directory, readable by all users, because Postfix reads it too.
    pub(crate) fn new() -> Self {
        let temporary = tempfile::Builder::new()
            .prefix("postmapd-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory");
        let dir = temporary.path().join("tables");
        fs::create_dir(&dir).expect("the directory of the tables");
        let mut setup = Self::in_directory(&dir);
        setup.root = temporary.path().to_path_buf();
        setup.temporary = Some(Arc::new(temporary));
        setup
    }

    /// A directory of the caller, which is kept when the daemon ends.
    pub(crate) fn in_directory(dir: &Path) -> Self {
        Self {
            within: Vec::new(),
            binary: option_env!("CARGO_BIN_EXE_postmapd").map_or_else(PathBuf::new, PathBuf::from),
            temporary: None,
            root: dir.to_path_buf(),
            dir: dir.to_path_buf(),
            dir_flag: true,
            env: Vec::new(),
            listen: Vec::new(),
            announced: None,
            args: Vec::new(),
        }
    }

    /// The program to start, where Cargo does not set its path (an example).
    pub(crate) fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = path.into();
        self
    }

    /// Starts the daemon by another program, which gets it as its last arguments and executes it.
    pub(crate) fn within<S: AsRef<OsStr>>(mut self, program: impl IntoIterator<Item = S>) -> Self {
        self.within = program.into_iter().map(|word| word.as_ref().into()).collect();
        self
    }

    /// Writes the relay map.
    pub(crate) fn relaymap(self, text: impl AsRef<[u8]>) -> Self {
        self.file(RELAYMAP, text)
    }

    /// Writes the credentials.
    pub(crate) fn credentials(self, text: impl AsRef<[u8]>) -> Self {
        self.file(CREDENTIALS, text)
    }

    /// Writes `postmapd.toml`.
    pub(crate) fn settings(self, text: impl AsRef<[u8]>) -> Self {
        self.file(SETTINGS, text)
    }

    /// Writes a file of that name to the directory.
    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        write_file(&self.dir.join(name), text);
        self
    }

    /// Sets an environment variable. The daemon inherits only `PATH`.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Adds `--listen ENDPOINT`. Without any, the daemon listens on `socketmap:inet:127.0.0.1:0`.
    pub(crate) fn listen(mut self, endpoint: impl Into<String>) -> Self {
        self.listen.push(endpoint.into());
        self
    }

    /// Passes no `--listen`: the endpoints are configured otherwise, and these are the ones to be announced.
    pub(crate) fn announces(mut self, endpoints: &[&str]) -> Self {
        self.announced = Some(endpoints.iter().map(ToString::to_string).collect());
        self
    }

    /// Passes no `--dir`: the directory is configured otherwise.
    pub(crate) fn without_dir_flag(mut self) -> Self {
        self.dir_flag = false;
        self
    }

    /// Adds an argument of `serve`.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// The directory of the tables.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The parent of the directory of the tables, for sockets, secret files and everything else.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The same program with the same directory and environment: `postmapd COMMAND --dir DIR …`.
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut words = self
            .within
            .iter()
            .map(OsString::as_os_str)
            .chain([self.binary.as_os_str()]);
        let mut process = Command::new(words.next().expect("a program"));
        process
            .args(words)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .arg(command);
        if self.dir_flag {
            process.arg("--dir").arg(&self.dir);
        }
        process
    }

    /// Runs `postmapd query …` to its end.
    pub(crate) fn run_query<S: AsRef<OsStr>>(&self, args: &[S]) -> Finished {
        finish(self.command("query").args(args), b"")
    }

    /// `serve` with all that is set.
    fn serve(&self) -> Command {
        let mut process = self.command("serve");
        if self.announced.is_none() {
            for endpoint in self.wanted() {
                process.arg("--listen").arg(endpoint);
            }
        }
        process.args(&self.args);
        process
    }

    /// The endpoints to be announced, with the configured ports.
    fn wanted(&self) -> Vec<String> {
        if let Some(announced) = &self.announced {
            return announced.clone();
        }
        if self.listen.is_empty() {
            return vec!["socketmap:inet:127.0.0.1:0".into()];
        }
        self.listen.clone()
    }

    /// Runs `serve` with this endpoint, which is expected to fail, and waits for its end.
    pub(crate) fn serve_with(self, endpoint: &str) -> Finished {
        self.listen(endpoint).serve_until_exit()
    }

    /// Runs `serve`, which is expected to fail, and waits for its end.
    pub(crate) fn serve_until_exit(&self) -> Finished {
        finish(&mut self.serve(), b"")
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end with that standard input. After the timeout, kills it and fails the test.
pub(crate) fn finish(command: &mut Command, input: &[u8]) -> Finished {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command).unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program may end without reading, which breaks the pipe.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    finish_started(&mut child, command)
}

/// Waits for the end of a program that was started with pipes. After the timeout, kills it and fails the test.
pub(crate) fn finish_started(child: &mut Child, command: &Command) -> Finished {
    let stdout = Lines::collect(child.stdout.take());
    let stderr = Lines::collect(child.stderr.take());
    let ended = stdout.wait_for_end() && stderr.wait_for_end();
    if !ended {
        drop(child.kill());
    }
    let status = reap(child);
    let (stdout, stderr) = (stdout.text(), stderr.text());
    assert!(
        ended && status.is_some(),
        "{command:?} does not end within {DEADLINE:?}\n{stdout}\n{stderr}"
    );
    Finished {
        code: status.and_then(|status| status.code()),
        stdout,
        stderr,
    }
}

/// Waits for a child whose output has ended, and kills it after the timeout.
pub(crate) fn reap(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            // A process exits within a moment after the end of its output.
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            _ => {
                drop(child.kill());
                drop(child.wait());
                return None;
            }
        }
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    setup: Setup,
    endpoints: Vec<String>,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

impl Daemon {
    /// Starts it, and waits until it has announced every endpoint. Fails the test where it does not.
    pub(crate) fn start(setup: Setup) -> Self {
        Self::try_start(setup).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts it, and waits until it has announced every endpoint.
    pub(crate) fn try_start(setup: Setup) -> Result<Self, String> {
        let mut daemon = Self::launch(setup)?;
        let wanted = daemon.setup.wanted();
        let announced = daemon.stderr.wait(DEADLINE, |lines| {
            announced(&wanted, lines.iter().map(String::as_str))
        });
        match announced {
            Some(endpoints) => {
                daemon.endpoints = endpoints;
                Ok(daemon)
            }
            None => Err(format!(
                "{:?} does not announce {wanted:?}; it wrote:\n{}",
                daemon.setup.serve(),
                daemon.log()
            )),
        }
    }

    /// Starts it without waiting: the caller knows its endpoints.
    pub(crate) fn launch(setup: Setup) -> Result<Self, String> {
        let mut command = setup.serve();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            spawn(&mut command).map_err(|error| format!("{command:?} does not start: {error}"))?;
        let stdout = Lines::collect(child.stdout.take());
        let stderr = Lines::collect(child.stderr.take());
        Ok(Self {
            child,
            setup,
            endpoints: Vec::new(),
            stdout,
            stderr,
        })
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("a child can be waited for")?;
        // Its last output may not be read yet.
        self.stderr.wait_for_end();
        Some(status)
    }

    /// Its setup with the ports that the system chose, to start it again or to query it.
    pub(crate) fn setup(&self) -> Setup {
        let mut setup = self.setup.clone();
        if setup.announced.is_none() {
            setup.listen.clone_from(&self.endpoints);
        }
        setup
    }

    /// The n-th endpoint with its actual address, as written in main.cf (without the map name of a socketmap).
    pub(crate) fn endpoint(&self, n: usize) -> &str {
        &self.endpoints[n]
    }

    /// The address of the n-th endpoint: `host:port`, or the path of a socket.
    pub(crate) fn address(&self, n: usize) -> &str {
        let endpoint = self.endpoint(n);
        if let Some(address) = endpoint.strip_prefix("socketmap:inet:") {
            return address;
        }
        if let Some(path) = endpoint.strip_prefix("socketmap:unix:") {
            return path;
        }
        let rest = endpoint
            .strip_prefix("tcp:")
            .expect("an endpoint of a known kind");
        rest.rsplit_once(':').expect("tcp:host:port:map").0
    }

    /// The n-th endpoint as a socket address.
    pub(crate) fn socket_address(&self, n: usize) -> SocketAddr {
        self.address(n).parse().expect("an address with a port")
    }

    /// The directory of the tables.
    pub(crate) fn dir(&self) -> &Path {
        self.setup.dir()
    }

    /// The parent of the directory of the tables.
    pub(crate) fn root(&self) -> &Path {
        self.setup.root()
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A memory figure of proc(5) (`VmRSS` and others), in bytes.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kilobytes = line.expect("a line of that name").trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().expect("a number") * 1024
    }

    /// The processor time of the process so far, in ticks of 10 ms.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a process");
        let (_, fields) = stat.rsplit_once(") ").expect("the name of the process");
        let times = fields.split(' ').skip(11).take(2);
        times.map(|field| field.parse::<u64>().expect("a number")).sum()
    }

    /// Standard error so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.text()
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// The number of lines in the log, for [`Daemon::wait_for_log_after`].
    pub(crate) fn log_lines(&self) -> usize {
        self.stderr.lock().lines.len()
    }

    /// Waits for a line in the log, past or future, and returns it. Fails the test where none comes.
    pub(crate) fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_for_log_after(0, wanted)
    }

    /// Waits for a line after the first `seen` ones.
    pub(crate) fn wait_for_log_after(&self, seen: usize, wanted: impl Fn(&str) -> bool) -> String {
        self.stderr
            .wait(DEADLINE, |lines| {
                lines.iter().skip(seen).find(|line| wanted(line)).cloned()
            })
            .unwrap_or_else(|| panic!("the awaited line does not come; the log so far:\n{}", self.log()))
    }

    /// Replaces a file of the directory as careful programs do: by a new file renamed over the old one.
    pub(crate) fn replace(&self, name: &str, text: impl AsRef<[u8]>) {
        let new = self.dir().join(format!("{name}.new"));
        write_file(&new, text);
        fs::rename(&new, self.dir().join(name)).expect("renamed over the old file");
    }

    /// Sends SIGHUP.
    pub(crate) fn hangup(&self) {
        self.signal("HUP");
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.end_by("TERM")
    }

    /// Sends a signal that ends it and waits for the end.
    pub(crate) fn end_by(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.wait_for_exit()
    }

    /// Waits for an end that has another cause.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        self.stderr.wait_for_end();
        self.stdout.wait_for_end();
        reap(&mut self.child)
            .unwrap_or_else(|| panic!("it does not end within {DEADLINE:?}; the log:\n{}", self.log()))
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        // The child has not been waited for, so its process number is not reused.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$0\" \"$1\"", name, &self.pid().to_string()]);
        let status = spawn(&mut kill).and_then(|mut kill| kill.wait());
        assert!(status.expect("sh").success(), "signal {name} was not sent");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        // Shows the daemon's log in a test that fails.
        if thread::panicking() {
            let mut stderr = io::stderr().lock();
            drop(writeln!(
                stderr,
                "--- the log of postmapd {} ---\n{}",
                self.pid(),
                self.log()
            ));
        }
    }
}

/// The wanted endpoints with their actual ports, once each has its own startup line.
fn announced<'a>(wanted: &[String], lines: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let mut found: Vec<Option<String>> = vec![None; wanted.len()];
    for line in lines.filter(|line| line.contains("listening")) {
        let line = without_colours(line);
        for (wanted, found) in wanted.iter().zip(&mut found) {
            if found.is_none()
                && let Some(endpoint) = named_in(wanted, &line)
            {
                *found = Some(endpoint);
                break;
            }
        }
    }
    found.into_iter().collect()
}

/// The endpoint as this line names it. A wanted port 0 matches any other port.
fn named_in(wanted: &str, line: &str) -> Option<String> {
    let (before, after) = match wanted.strip_prefix("tcp:").and_then(|rest| rest.rsplit_once(':')) {
        Some((address, map)) if address.ends_with(":0") => {
            (format!("tcp:{}", address.strip_suffix('0')?), format!(":{map}"))
        }
        _ if wanted.starts_with("socketmap:inet:") && wanted.ends_with(":0") => {
            (wanted.strip_suffix('0')?.to_owned(), String::new())
        }
        _ => {
            let at = line.find(wanted)?;
            let next = line[at + wanted.len()..].chars().next();
            let whole = next.is_none_or(|c| !(c.is_alphanumeric() || "/._-".contains(c)));
            return whole.then(|| wanted.to_owned());
        }
    };
    let rest = &line[line.find(&before)? + before.len()..];
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let port = &rest[..digits];
    let real = port.parse::<u16>().is_ok_and(|port| port != 0) && rest[digits..].starts_with(&after);
    real.then(|| format!("{before}{port}{after}"))
}

/// Removes the escape sequences that colour a line on a terminal.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut escape = false;
    for c in line.chars() {
        match (escape, c) {
            (false, '\u{1b}') => escape = true,
            (true, c) if c.is_ascii_alphabetic() => escape = false,
            (true, _) => {}
            (false, c) => plain.push(c),
        }
    }
    plain
}

/// The lines that a process writes, collected by a thread.
struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn collect(stream: Option<impl Read + Send + 'static>) -> Arc<Self> {
        let lines = Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let stream = stream.expect("a pipe");
        let writer = Arc::clone(&lines);
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                writer
                    .lock()
                    .lines
                    .push(String::from_utf8_lossy(&line).into_owned());
                writer.changed.notify_all();
                line.clear();
            }
            writer.lock().ended = true;
            writer.changed.notify_all();
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        self.lock().lines.concat()
    }

    /// Waits until the lines fulfil the condition, have ended, or the timeout has passed.
    fn wait<T>(&self, timeout: Duration, condition: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if let Some(granted) = condition(&state.lines) {
                return Some(granted);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn wait_for_end(&self) -> bool {
        self.wait(DEADLINE, |_| None::<()>);
        self.lock().ended
    }
}
