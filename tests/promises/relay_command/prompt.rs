//! The prompt for a password, on a terminal made by the test.

use super::{all, text};
use crate::harness::daemon::{CREDENTIALS, Setup};
use crate::harness::eventually;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

const FIRST: &str = "Password for user at @one.test: ";
const SECOND: &str = "Repeat the password: ";

/// `add-auth` on a terminal, which is the controlling one of its session.
struct Session {
    /// Keeps the directory.
    _setup: Setup,
    keyboard: File,
    /// The program's end of the terminal, for reading its settings.
    terminal: OwnedFd,
    shown: Arc<Mutex<String>>,
    child: Child,
}

impl Session {
    fn begin(setup: &Setup) -> Self {
        let pair = openpty(None, None).expect("a pseudo-terminal");
        let terminal = pair.slave;
        let mut screen = File::from(pair.master.try_clone().unwrap());
        let shown = Arc::new(Mutex::new(String::new()));
        let writer = Arc::clone(&shown);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            // At the end of a terminal, read returns an error.
            while let Ok(read) = screen.read(&mut piece) {
                *writer.lock().unwrap() += &String::from_utf8_lossy(&piece[..read]);
            }
        });
        let program = setup.command("relay");
        let mut command = Command::new("setsid");
        // The tests may have been started with these signals ignored (by a shell's `&`), which programs inherit.
        command.args(["--ctty", "--wait", "env", "--default-signal=INT,QUIT"]);
        command
            .arg(program.get_program())
            .args(program.get_args())
            .args(["add-auth", "one.test", "user"]);
        let child = command
            .stdin(Stdio::from(terminal.try_clone().unwrap()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setsid");
        Self {
            _setup: setup.clone(),
            keyboard: pair.master.into(),
            terminal,
            shown,
            child,
        }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        eventually(|| self.shown(), |shown| shown.contains(text));
    }

    fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.terminal)
            .unwrap()
            .local_flags
            .contains(LocalFlags::ECHO)
    }

    /// The exit status, the standard output, and everything that the terminal showed.
    fn end(mut self) -> (ExitStatus, String, String) {
        eventually(
            || self.child.try_wait().unwrap().is_some(),
            |has_ended| *has_ended,
        );
        assert!(self.echoes(), "the terminal stays silent");
        let status = self.child.wait().unwrap();
        let mut written = String::new();
        let (mut stdout, mut stderr) = (
            self.child.stdout.take().unwrap(),
            self.child.stderr.take().unwrap(),
        );
        stdout.read_to_string(&mut written).unwrap();
        stderr.read_to_string(&mut written).unwrap();
        (status, written, self.shown())
    }
}

#[test]
fn the_password_is_prompted_for_twice_and_never_shown() {
    let setup = Setup::new();
    let mut session = Session::begin(&setup);
    session.wait_for(FIRST);
    assert!(!session.echoes());
    session.type_in("CANARY #1 ä\n");
    session.wait_for(SECOND);
    session.type_in("CANARY #1 ä\n");
    let (status, written, shown) = session.end();
    assert_eq!(status.code(), Some(0), "{written}");
    assert_eq!(text(&setup, CREDENTIALS), "@one.test user:CANARY #1 ä\n");
    assert!(!shown.contains("CANARY") && !written.contains("CANARY"));
    assert_eq!(shown, format!("{FIRST}\r\n{SECOND}\r\n"));
}

#[test]
fn erased_characters_are_not_part_of_the_password() {
    let setup = Setup::new();
    let mut session = Session::begin(&setup);
    session.wait_for(FIRST);
    session.type_in("wrong\x15secrex\x7ft\n");
    session.wait_for(SECOND);
    session.type_in("secret\n");
    assert_eq!(session.end().0.code(), Some(0));
    assert_eq!(text(&setup, CREDENTIALS), "@one.test user:secret\n");
}

#[test]
fn differing_empty_or_overlong_passwords_are_refused() {
    for (first, second, reason) in [
        ("CANARY1\n", "CANARY2\n", "do not match"),
        ("\n", "\n", "empty"),
        ("CANARY \n", "CANARY \n", "whitespace"),
        ("\x04", "", "no password"),
        ("CANARY\n", "\x04", "no password"),
    ] {
        let setup = Setup::new();
        let mut session = Session::begin(&setup);
        session.wait_for(FIRST);
        session.type_in(first);
        if !second.is_empty() {
            session.wait_for(SECOND);
            session.type_in(second);
        }
        let (status, written, shown) = session.end();
        assert_eq!(status.code(), Some(1), "{written}");
        assert!(written.contains(reason), "{written}");
        assert!(!shown.contains("CANARY") && !written.contains("CANARY"));
        assert!(all(&setup).is_empty());
    }
    let setup = Setup::new();
    let mut session = Session::begin(&setup);
    session.wait_for(FIRST);
    session.type_in(&format!("{}\n", "x".repeat(5000)));
    let (status, written, _) = session.end();
    assert!(
        status.code() == Some(1) && written.contains("--password-stdin"),
        "{written}"
    );
}

#[test]
fn the_terminal_echo_is_restored_after_every_signal() {
    let setup = Setup::new();
    for (run_line, signal) in [("half\x03", Signal::SIGINT), ("half\x1c", Signal::SIGQUIT)] {
        for at_second in [false, true] {
            let mut session = Session::begin(&setup);
            session.wait_for(FIRST);
            if at_second {
                session.type_in("CANARY\n");
                session.wait_for(SECOND);
            }
            session.type_in(run_line);
            let (status, _, shown) = session.end();
            assert_eq!(status.signal(), Some(signal as i32), "{status:?}");
            assert!(!shown.contains("CANARY") && !shown.contains("half"), "{shown}");
        }
    }
    for name in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let session = Session::begin(&setup);
        session.wait_for(FIRST);
        kill(Pid::from_raw(i32::try_from(session.child.id()).unwrap()), name).unwrap();
        let (status, ..) = session.end();
        assert!(status.signal().is_some(), "{name}: {status:?}");
    }
    assert!(all(&setup).is_empty());
}

#[test]
fn after_suspend_and_resume_the_prompt_is_repeated() {
    let setup = Setup::new();
    let mut session = Session::begin(&setup);
    session.wait_for(FIRST);
    // No shell could continue it here, so the kernel does not stop it.
    session.type_in("half\x1a");
    session.wait_for(&format!("{FIRST}\r\n{FIRST}"));
    assert!(!session.echoes());
    session.type_in("secret\n");
    session.wait_for(SECOND);
    session.type_in("secret\n");
    assert_eq!(session.end().0.code(), Some(0));
    assert_eq!(text(&setup, CREDENTIALS), "@one.test user:secret\n");
}

#[test]
fn without_a_terminal_the_command_fails_with_a_hint_instead_of_a_prompt() {
    let setup = Setup::new();
    let program = setup.command("relay");
    let mut command = Command::new("setsid");
    command
        .arg("--wait")
        .arg(program.get_program())
        .args(program.get_args());
    let ran = crate::harness::daemon::finish(command.args(["add-auth", "one.test", "user"]), b"CANARY\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("--password-stdin"), "{}", ran.stderr);
    assert!(all(&setup).is_empty());
}

#[test]
fn invalid_arguments_are_refused_before_the_password_prompt() {
    let nowhere = Setup::in_directory(&Setup::new().root().join("nowhere"));
    for (setup, line) in [
        (Setup::new(), "add-auth one..test user"),
        (Setup::new(), "add-auth one.test us:er"),
        (nowhere, "add-auth one.test user"),
    ] {
        let ran = super::relay(&setup, line);
        assert_eq!(ran.code, Some(1));
        assert!(!ran.stderr.contains("terminal"), "{}", ran.stderr);
    }
}
