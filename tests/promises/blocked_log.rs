//! Promise: a blocked log delays no lookup, no edit, and not the shutdown. Lost lines are reported afterwards.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, Read, Write as _, pipe};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags, open};

use crate::harness::client::{Reply, Socketmap, Stream};
use crate::harness::daemon::{RELAYMAP, Setup, finish};
use crate::harness::eventually;
use crate::harness::identities::{as_user, uid_of};

const SENDER: &str = "ann@one.test";

/// A server whose log is sent to where a test chooses, so the test knows its socket otherwise.
struct Server {
    child: Child,
    setup: Setup,
    socket: String,
}

impl Server {
    fn start(within: &[&str], stderr: impl Into<Stdio>) -> Self {
        let setup = Setup::new()
            .relaymap("@one.test [relay0.test]\n")
            .credentials("@one.test user:password\n")
            .within(within);
        let socket = format!("{}/socket", setup.root().display());
        let child = setup
            .command("serve")
            .arg(format!("--listen=socketmap:unix:{socket}"))
            .args(["--socket-mode=0666", "--log-format=text"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { child, setup, socket }
    }

    fn client(&self) -> Socketmap {
        Socketmap {
            stream: Stream::connect(&self.socket),
        }
    }

    fn edit(&self, n: usize) {
        let new = self.setup.dir().join("new");
        fs::write(&new, format!("@one.test [relay{n}.test]\n")).unwrap();
        fs::rename(&new, self.setup.dir().join(RELAYMAP)).unwrap();
        let mut client = self.client();
        let expected = Reply::found(&format!("[relay{n}.test]"));
        eventually(|| client.query("relayhost", SENDER), |reply| *reply == expected);
    }

    /// Makes the lookup thread log something.
    fn is_refused(&self, user: &str) {
        let mut client = as_user(uid_of(user), || self.client());
        assert!(client.query("sasl", SENDER).is_refused());
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = finish(
            Command::new("sh").args(["-c", "kill -s \"$1\" \"$0\"", &pid, name]),
            b"",
        );
        assert_eq!(sent.code, Some(0));
    }

    /// Ends after SIGTERM as usual.
    fn ends(&mut self) {
        self.signal("TERM");
        let mut status = None;
        eventually(
            || {
                status = self.child.try_wait().unwrap();
                status
            },
            Option::is_some,
        );
        assert_eq!(status.unwrap().code(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A server whose standard error is a pipe that is read when the test decides.
struct BlockedLog {
    server: Server,
    log: BufReader<PipeReader>,
    /// The same pipe, for writing without waiting.
    filler: File,
}

impl BlockedLog {
    fn start() -> Self {
        let (reader, writer) = pipe().unwrap();
        // Opened again, because flags set for a duplicate would also apply to the server's end.
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let filler = open(path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let mut server = Self {
            server: Server::start(&[], writer),
            log: BufReader::new(reader),
            filler: filler.into(),
        };
        server.read_until("listening endpoint=");
        server
    }

    fn read_until(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "the log ends");
        }
    }

    /// Fills the pipe, as if the server had written that much.
    fn fill(&mut self) {
        for size in [4096, 1] {
            let line = vec![b'\n'; size];
            loop {
                match self.filler.write(&line) {
                    Ok(written) => assert!(written > 0),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Reads what is in the pipe, and what comes.
    fn read_from_now_on(&self) -> Arc<Mutex<String>> {
        let text = Arc::new(Mutex::new(String::new()));
        let (mut log, read) = (self.log.get_ref().try_clone().unwrap(), Arc::clone(&text));
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = log.read(&mut piece) {
                *read.lock().unwrap() += &String::from_utf8_lossy(&piece[..length]);
            }
        });
        text
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn with_a_blocked_log_lookups_and_reloads_continue_and_lost_lines_are_reported() {
    let mut blocked_log = BlockedLog::start();
    let mut polite = blocked_log.server.client();
    blocked_log.fill();
    let server = &blocked_log.server;
    // A line of the lookup thread, and lines of the reload thread.
    server.is_refused("nobody");
    for n in 1..5 {
        server.edit(n);
    }
    server.is_refused("daemon");
    assert_eq!(polite.query("relayhost", SENDER), Reply::found("[relay4.test]"));

    // The log is read again.
    let text = blocked_log.read_from_now_on();
    let mut n = 5;
    eventually(
        || {
            n += 1;
            server.edit(n);
            text.lock().unwrap().clone()
        },
        |text| text.contains("log messages lost"),
    );
    let text = text.lock().unwrap().clone();
    let has = |words: [&str; 2]| {
        text.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(has(["WARN", "lost="]) && has(["INFO", "generation="]), "{text}");
}

#[test]
fn with_a_blocked_log_reloads_and_shutdown_still_work() {
    for is_full in [true, false] {
        let mut blocked_log = BlockedLog::start();
        if is_full {
            blocked_log.fill();
        }
        blocked_log.server.edit(1);
        blocked_log.server.ends();
        if !is_full {
            blocked_log.read_until("stopped");
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_does_not_stop_the_server() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (reader, blocked_log) = pipe().unwrap();
    drop(reader);
    let logs: [(&str, &[&str], Stdio); 3] = [
        ("a full disk", &[], full.into()),
        (
            "closed from the start",
            &["sh", "-c", "exec \"$@\" 2>&-", "sh"],
            Stdio::null(),
        ),
        ("its reader went away", &[], blocked_log.into()),
    ];
    for (log, within, stderr) in logs {
        let mut server = Server::start(within, stderr);
        let is_there = || UnixStream::connect(&server.socket).is_ok();
        eventually(is_there, |connected| *connected);
        // It listens before it loads its files, and answers afterwards.
        let mut client = server.client();
        assert_eq!(client.query("relayhost", SENDER), Reply::found("[relay0.test]"));
        for n in 1..4 {
            // Errors, a request and a reload, each of which would log a line.
            fs::write(server.setup.dir().join(RELAYMAP), "@one.test [relay\n").unwrap();
            server.signal("HUP");
            server.edit(n);
            let expected = Reply::found(&format!("[relay{n}.test]"));
            assert_eq!(client.query("relayhost", SENDER), expected, "{log}");
        }
        server.ends();
    }
}
