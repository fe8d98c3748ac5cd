//! postmapd-follow as a program: its settings and directory, its log, its admin listener, and its end.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::processes::{DEADLINE, signal, wait_for};

/// A temporary directory with the settings of the program, and with the directory that it writes.
pub struct Setup {
    temp: TempDir,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    within: Vec<String>,
}

impl Setup {
    /// Settings for a source, with more lines. The admin listener is at a free port.
    pub fn new(source: &str, lines: &str) -> Self {
        let temp = tempfile::tempdir_in("/tmp").unwrap();
        let setup = Self {
            temp,
            environment: Vec::new(),
            arguments: Vec::new(),
            within: Vec::new(),
        };
        fs::create_dir(setup.directory()).unwrap();
        let admin = if lines.contains("admin = ") {
            ""
        } else {
            "admin = \"127.0.0.1:0\"\n"
        };
        let text = format!(
            "source = \"{source}\"\ndir = \"{}\"\n{admin}{lines}\n",
            setup.directory().to_str().unwrap()
        );
        fs::write(setup.settings(), text).unwrap();
        setup
    }

    /// With an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// With an argument of each command.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// By a program, which gets the program with its arguments as its last arguments, and executes it.
    pub fn within(mut self, words: &[&str]) -> Self {
        self.within = words.iter().copied().map(str::to_owned).collect();
        self
    }

    /// The directory of all files of the test.
    pub fn root(&self) -> &Path {
        self.temp.path()
    }

    /// The directory that is written.
    pub fn directory(&self) -> PathBuf {
        self.temp.path().join("tables")
    }

    pub fn settings(&self) -> PathBuf {
        self.temp.path().join("follow.toml")
    }

    /// Writes a file that only its owner can read.
    pub fn write_private(&self, name: &str, text: &str) -> PathBuf {
        let path = self.temp.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The active files of the relay map and the credentials, of one generation. `None` without one.
    pub fn files(&self) -> Option<[String; 2]> {
        // The program may remove a generation that was active a moment before.
        let generation = fs::canonicalize(self.directory().join("..data")).ok()?;
        let [relay, credentials] = ["postfix-relaymap.cf", "postfix-sasl-password.cf"]
            .map(|file| fs::read_to_string(generation.join(file)).ok());
        Some([relay?, credentials?])
    }

    /// Waits until the active relay map has a text.
    pub fn wait_for_relay(&self, text: &str) {
        wait_for(text, || self.files().filter(|[relay, _]| relay.contains(text)));
    }

    /// The names of the generations in the directory, whole or not.
    pub fn generations(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("..") && name.len() == 34)
            .collect()
    }

    /// A command with these settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_postmapd-follow");
        let mut words = self.within.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(arguments)
            .arg("--config")
            .arg(self.settings())
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::new(self.command(arguments).output().unwrap())
    }

    /// Starts `run`.
    pub fn start(&self) -> Program<'_> {
        let log = self.temp.path().join("log");
        let file = File::create(&log).unwrap();
        let child = self.command(&["run"]).stderr(file).spawn().unwrap();
        Program {
            setup: self,
            child,
            log,
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A running program, which is killed when it is dropped.
pub struct Program<'a> {
    setup: &'a Setup,
    child: Child,
    log: PathBuf,
}

impl Program<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The lines of the log that contain a text.
    pub fn log_with(&self, text: &str) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }

    /// Waits until it has logged a text.
    pub fn wait_for_log(&mut self, text: &str) {
        wait_for(text, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(
                    self.log().contains(text),
                    "it has ended ({status}): {}",
                    self.log()
                );
            }
            self.log().contains(text).then_some(())
        });
    }

    /// The response of the admin listener over TCP: status code, headers and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let line = wait_for("the admin listener", || {
            self.log_with("listening for admin requests").into_iter().next()
        });
        let address = line.split_once("address=").unwrap().1.trim();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        exchange(stream, path)
    }

    /// `/status`.
    pub fn status(&self) -> Value {
        let (code, body) = self.get("/status");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until a path is answered with this status code. Returns the body.
    pub fn wait_for_code(&self, path: &str, code: u16) -> String {
        wait_for(&format!("{path}: {code}"), || {
            let (found, body) = self.get(path);
            (found == code).then_some(body)
        })
    }

    /// Waits until the active tables are those of the source.
    pub fn wait_until_ready(&self) {
        self.wait_for_code("/readyz", 200);
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Sends a signal, and waits for the end. Returns the exit code, or the negative number of the signal that ended it.
    pub fn end(mut self, name: &str) -> i32 {
        self.signal(name);
        self.wait()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> i32 {
        let status = wait_for("the end of the program", || self.child.try_wait().unwrap());
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }

    /// The setup that it was started from.
    pub fn setup(&self) -> &Setup {
        self.setup
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request, and returns the status code and the body of the response.
pub fn exchange(mut stream: impl Read + Write, path: &str) -> (u16, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}
