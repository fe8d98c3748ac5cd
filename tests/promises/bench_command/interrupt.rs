//! `bench` on a terminal, and on Ctrl-C.
//!
//! The servers report when `bench` has begun, and the tests wait for that instead of a time.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe};

use super::faulty_server::Action::{Nothing, Send};
use super::faulty_server::socketmap;
use super::{HOP, figure, ok, setup, whole};
use crate::harness::daemon::{DEADLINE, Daemon, Finished, Setup, finish_started, reap};

/// What a process prints on a terminal of its own until it ends. With `until`, it gets Ctrl-C once it has printed that.
pub(crate) fn shown_at_a_terminal(
    setup: &Setup,
    command: &str,
    args: &[&str],
    until: Option<&str>,
) -> String {
    let pair = openpty(None, None).expect("a pseudo-terminal");
    let mut command = setup.command(command);
    let mut child = command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(pair.slave))
        .spawn()
        .unwrap();
    // The program has then the only open end of the terminal. When it ends, reading gives an error.
    drop(command);
    let mut awaited = until;
    let (mut shown, mut piece, mut screen) = (Vec::new(), [0; 4096], File::from(pair.master));
    while let Ok(read @ 1..) = screen.read(&mut piece) {
        shown.extend_from_slice(&piece[..read]);
        let has_come = |until: &str| String::from_utf8_lossy(&shown).contains(until);
        if awaited.take_if(|until| has_come(until)).is_some() {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        }
    }
    let code = reap(&mut child).expect("an end").code();
    assert_eq!(code, Some(if until.is_some() { 130 } else { 0 }));
    String::from_utf8(shown).unwrap()
}

#[test]
fn progress_is_shown_on_a_terminal_and_not_on_a_pipe() {
    let daemon = Daemon::start(setup());
    let run = ["--connections", "1", "--warm-up", "0", "--duration"];
    let args = |duration| [&[daemon.endpoint(0), "relayhost"], &run[..], &[duration]].concat();
    let shown = shown_at_a_terminal(
        &daemon.setup(),
        "bench",
        &args("1h"),
        Some(" replies/s  0 errors"),
    );
    // The progress line is removed at the end, and there are no colours.
    assert!(
        shown.contains("1/1  socketmap:inet:")
            && shown.ends_with("\r\u{1b}[K")
            && !shown.contains("\u{1b}[3"),
        "{shown:?}"
    );
    let dumb = daemon.setup().env("TERM", "dumb");
    assert_eq!(shown_at_a_terminal(&dumb, "bench", &args("1s"), None), "");
    assert_eq!(daemon.setup().run("bench", &args("1s")).exits(0).stderr, "");
}

/// A measurement of a server that reports the number of each request, and answers those below `answered`.
struct Measured {
    child: Child,
    command: Command,
    requests: Receiver<usize>,
    /// The files of this setup must outlive the program.
    _setup: Setup,
}

impl Measured {
    fn start(line: &str, answered: usize, stdout: Stdio) -> Self {
        let (sender, requests) = mpsc::channel();
        let endpoint = socketmap(move |number, _| {
            // Without a receiver, the test has ended.
            let _ = sender.send(number);
            if number < answered { Send(ok(HOP)) } else { Nothing }
        });
        let setup = setup();
        let mut command = setup.command("bench");
        command.args([&endpoint, "relayhost", "--no-verify"]);
        let child = command
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child,
            command,
            requests,
            _setup: setup,
        }
    }

    /// Waits until the server has received the request of this number.
    fn wait_for_request(&self, wanted: usize) {
        while self.requests.recv_timeout(DEADLINE).expect("a request") < wanted {}
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits until no signal is pending for the process (the bits of `ShdPnd` in proc(5)).
    fn wait_until_received(&self) {
        let started_at = Instant::now();
        loop {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
            let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
            if pending.unwrap().trim().bytes().all(|digit| digit == b'0') {
                return;
            }
            assert!(started_at.elapsed() < DEADLINE, "the signal is pending: {status}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(mut self) -> Finished {
        finish_started(&mut self.child, &self.command)
    }
}

/// A failed test leaves no measurement that runs for an hour.
impl Drop for Measured {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A generator stopped for a while has requests due, and free connections, and does not send them.
#[test]
fn an_invalid_run_is_marked_in_the_report_and_in_the_plot() {
    let directory = tempfile::tempdir().unwrap();
    let plot = directory.path().join("plot.svg");
    let line = format!(
        "--connections 400 --rate 500 --warm-up 0 --duration 1h --plot {}",
        plot.display()
    );
    let measured = Measured::start(&line, usize::MAX, Stdio::piped());
    measured.wait_for_request(20);
    measured.signal(Signal::SIGSTOP);
    // During this, at least a hundred requests are due.
    thread::sleep(Duration::from_millis(300));
    measured.signal(Signal::SIGCONT);
    measured.wait_for_request(100);
    measured.signal(Signal::SIGINT);
    let text = measured.finish().exits(130).stdout;
    let message = "\nInvalid: the generator could not keep up";
    let is_marked =
        |line: &str| line.trim_start().starts_with("400 ") && line.ends_with("  invalid  incomplete");
    assert!(text.contains(message) && text.lines().any(is_marked), "{text}");
    let drawn = fs::read_to_string(&plot).unwrap();
    for mark in [
        ">INVALID: the generator could not keep up<",
        ">400 connections, invalid<",
        ">INCOMPLETE: interrupted<",
    ] {
        assert!(drawn.contains(mark), "{mark}: {drawn}");
    }
}

/// The second of four runs has begun, and its last requests are not answered.
#[test]
fn ctrl_c_reports_what_was_measured_so_far_and_marks_it_as_incomplete() {
    for format in ["text", "json", "csv"] {
        let line = format!("--count 100 --warm-up 0 --connections 1,2,4,8 --timeout 1h --format {format}");
        let measured = Measured::start(&line, 150, Stdio::piped());
        measured.wait_for_request(151);
        measured.signal(Signal::SIGINT);
        let finished = measured.finish().exits(130);
        let message = "Incomplete: interrupted. 2 of 4 runs were measured";
        let Finished { stdout, stderr, .. } = &finished;
        match format {
            "text" => {
                assert!(stdout.contains(message) && stderr.is_empty(), "{finished:?}");
                let is_row =
                    |line: &&str| line.trim_start().starts_with("2 ") && line.ends_with("  incomplete");
                assert_eq!(stdout.lines().filter(is_row).count(), 1, "{stdout}");
            }
            "json" => {
                assert!(stderr.contains(message), "{finished:?}");
                let report = finished.json();
                assert_eq!(report["complete"], false);
                let runs = report["runs"].as_array().unwrap();
                assert_eq!(runs.len(), 2, "{report}");
                for (run, (complete, replies)) in runs.iter().zip([(true, 100), (false, 50)]) {
                    super::adds_up(run);
                    assert_eq!(run["complete"], complete);
                    assert_eq!(whole(&run["replies"]), replies);
                }
                // Both connections waited for a reply.
                assert_eq!(whole(&runs[1]["errors"]["timeout"]), 2);
                assert!(figure(&runs[1]["seconds"]) > 0.0);
            }
            _ => {
                let complete: Vec<_> = stdout
                    .lines()
                    .filter_map(|line| line.rsplit(',').next())
                    .collect();
                assert_eq!(complete, ["complete", "true", "false"]);
            }
        }
    }
}

#[test]
fn ctrl_c_before_the_first_reply_gives_a_report_without_runs() {
    // The warm-up is not measured.
    let measured = Measured::start("--warm-up 1h --format json", usize::MAX, Stdio::piped());
    measured.wait_for_request(0);
    measured.signal(Signal::SIGINT);
    let report = measured.finish().exits(130).json();
    assert_eq!(
        (&report["complete"], report["runs"].as_array().unwrap().len()),
        (&false.into(), 0)
    );
}

#[test]
fn a_second_ctrl_c_ends_the_program_although_it_is_blocked() {
    // Nothing is read from standard output, and nothing more fits into it.
    let (unread, full) = pipe().unwrap();
    let blocking = OFlag::from_bits_retain(fcntl(&full, FcntlArg::F_GETFL).unwrap());
    fcntl(&full, FcntlArg::F_SETFL(blocking | OFlag::O_NONBLOCK)).unwrap();
    let mut full = File::from(full);
    while full.write(&[b'x'; 4096]).is_ok() {}
    while full.write(b"x").is_ok() {}
    fcntl(&full, FcntlArg::F_SETFL(blocking)).unwrap();
    let mut measured = Measured::start(
        "--warm-up 0 --duration 1h",
        usize::MAX,
        Stdio::from(OwnedFd::from(full)),
    );
    measured.wait_for_request(10);
    measured.signal(Signal::SIGINT);
    measured.wait_until_received();
    measured.signal(Signal::SIGINT);
    let status = reap(&mut measured.child).expect("an end");
    assert_eq!(status.code(), Some(130), "{status}");
    drop(unread);
}
