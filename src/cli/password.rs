//! A password that is typed twice without echo, or one line of standard input.
//!
//! It is asked for at the terminal of the process (/dev/tty), whatever standard input and output are, or at standard
//! input where that is a terminal. The echo comes back on every way out: signals that would end or stop the process
//! are taken from the kernel's hand while it is off, and have their effect when it is on again.
//!
//! Limits: a terminal gives lines of up to 4095 bytes; a longer password goes to standard input. After a SIGKILL the
//! echo stays off (`stty sane`).

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use thiserror::Error;
use zeroize::Zeroize;

use super::say;
use crate::lookup::table::line::MAX_LINE;
use crate::os::secret::Secret;

/// The most that a terminal gives at once, with the line end (N_TTY_BUF_SIZE).
const TERMINAL_LINE: usize = 4096;

/// Why there is no password.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// Nobody to ask.
    #[error("there is no terminal to ask for the password at; give it with --password-stdin")]
    NoTerminal,
    /// Two passwords.
    #[error("the two passwords are not the same")]
    Different,
    /// End of file, or a signal that did not end the process.
    #[error("no password was given")]
    NotGiven,
    /// As long as a terminal's line, and so perhaps longer.
    #[error("the password is longer than a terminal can take; give it with --password-stdin")]
    TooLongForTerminal,
    /// More than a line can hold.
    #[error("the password is longer than a line of the file can be, {MAX_LINE} bytes")]
    TooLong,
    /// A second line on standard input.
    #[error("standard input has more than one line, and a password has no line end; give the password alone")]
    SeveralLines,
    /// Standard input cannot be read.
    #[error("standard input cannot be read: {0}")]
    Input(io::Error),
    /// The terminal cannot be used.
    #[error("the terminal cannot be used: {0}; give the password with --password-stdin")]
    Terminal(io::Error),
}

impl PasswordError {
    fn terminal(error: impl Into<io::Error>) -> Self {
        Self::Terminal(error.into())
    }
}

/// The one line of standard input.
pub(super) fn from_standard_input() -> Result<Secret, PasswordError> {
    let mut text = Vec::with_capacity(MAX_LINE + 6);
    let limit = u64::try_from(text.capacity()).unwrap_or(u64::MAX);
    let read = io::stdin().lock().take(limit).read_to_end(&mut text);
    let mut text = Secret::from(text);
    read.map_err(PasswordError::Input)?;
    // As a secret file is read.
    if text.strip_byte_order_mark() {
        say("warning: standard input begins with a byte order mark, which is not a part of the password");
    }
    text.strip_line_end();
    if text.expose().contains(&b'\n') {
        return Err(PasswordError::SeveralLines);
    }
    if text.len() > MAX_LINE {
        return Err(PasswordError::TooLong);
    }
    Ok(text)
}

/// Asks for the password of `whom` twice.
pub(super) fn ask(whom: &str) -> Result<Secret, PasswordError> {
    let mut terminal = Terminal::open()?;
    let signals = Signals::taken().map_err(PasswordError::terminal)?;
    loop {
        match terminal.ask_twice(whom, &signals)? {
            Typed::Password(password) => return Ok(password),
            Typed::Signal(signal) => {
                signals.let_pass(signal);
                // It was to stop the process, and the process was continued.
                if signal != Signal::SIGTSTP {
                    return Err(PasswordError::NotGiven);
                }
            }
        }
    }
}

enum Typed {
    Password(Secret),
    Signal(Signal),
}

/// Where is asked, and where the answer comes from.
struct Terminal {
    input: File,
    /// Standard error, where the terminal is known by standard input alone.
    output: Option<File>,
}

impl Terminal {
    fn open() -> Result<Self, PasswordError> {
        if let Ok(tty) = OpenOptions::new().read(true).write(true).open("/dev/tty") {
            let output = tty.try_clone().map_err(PasswordError::terminal)?;
            return Ok(Self {
                input: tty,
                output: Some(output),
            });
        }
        if !io::stdin().is_terminal() {
            return Err(PasswordError::NoTerminal);
        }
        let input = io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(PasswordError::terminal)?;
        Ok(Self {
            input: input.into(),
            output: None,
        })
    }

    fn say(&mut self, text: &str) -> Result<(), PasswordError> {
        let said = match &mut self.output {
            Some(terminal) => terminal.write_all(text.as_bytes()),
            None => io::stderr().write_all(text.as_bytes()),
        };
        said.map_err(PasswordError::terminal)
    }

    fn ask_twice(&mut self, whom: &str, signals: &Signals) -> Result<Typed, PasswordError> {
        // Declared first and dropped last: the echo comes back after whatever is said here.
        let input = self.input.try_clone().map_err(PasswordError::terminal)?;
        let _silence = Silence::begin(&input).map_err(PasswordError::terminal)?;
        self.say(&format!("Password for {whom}: "))?;
        let first = match self.line(signals)? {
            Typed::Password(line) => line,
            signal @ Typed::Signal(_) => return Ok(signal),
        };
        self.say("The same once more: ")?;
        match self.line(signals)? {
            Typed::Password(second) if second == first => Ok(Typed::Password(second)),
            Typed::Password(_) => Err(PasswordError::Different),
            signal @ Typed::Signal(_) => Ok(signal),
        }
    }

    fn line(&mut self, signals: &Signals) -> Result<Typed, PasswordError> {
        let mut line = Secret::with_capacity(TERMINAL_LINE);
        let typed = loop {
            if let Some(signal) = signals.or_input(&self.input).map_err(PasswordError::terminal)? {
                break Ok(Typed::Signal(signal));
            }
            let mut piece = [0; TERMINAL_LINE];
            let read = match self.input.read(&mut piece) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(PasswordError::terminal(error)),
            };
            line.append(piece.get(..read).unwrap_or_default());
            piece.zeroize();
            if line.len() >= TERMINAL_LINE {
                break Err(PasswordError::TooLongForTerminal);
            }
            if line.expose().ends_with(b"\n") {
                line.strip_line_end();
                break Ok(Typed::Password(line));
            }
            if read == 0 {
                break Err(PasswordError::NotGiven);
            }
        };
        // The line end that was typed was not echoed.
        self.say("\n")?;
        typed
    }
}

/// No echo, until this is dropped.
struct Silence<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Silence<'t> {
    fn begin(terminal: &'t File) -> nix::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL);
        silent.local_flags.insert(LocalFlags::ICANON | LocalFlags::ISIG);
        // What was typed before anybody asked was echoed, and is no password.
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // What is left of a password that was typed too far goes, too. A terminal that is gone needs no echo.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// The signals that would end or stop the process and leave the terminal silent. Dropping this gives them back.
struct Signals {
    before: SigSet,
    arrived: SignalFd,
}

impl Signals {
    fn taken() -> nix::Result<Self> {
        let taken: SigSet = [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGTSTP,
        ]
        .into_iter()
        .collect();
        let arrived = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let before = taken.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { before, arrived })
    }

    /// Waits for input or for a signal, and says which signal.
    fn or_input(&self, input: &File) -> nix::Result<Option<Signal>> {
        loop {
            let mut either = [
                PollFd::new(input.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.arrived.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut either, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error),
            }
            let arrived = self.arrived.read_signal()?;
            let signal = arrived.and_then(|info| Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok());
            if signal.is_some() || either.first().and_then(PollFd::any) == Some(true) {
                return Ok(signal);
            }
        }
    }

    /// Lets a signal do what it would have done.
    fn let_pass(&self, signal: Signal) {
        let taken = self.before.thread_swap_mask(SigmaskHow::SIG_SETMASK);
        // Where it has no effect, the caller goes on.
        let _ = raise(signal);
        if let Ok(taken) = taken {
            let _ = taken.thread_set_mask();
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // It cannot fail with a mask that the kernel gave us.
        let _ = self.before.thread_set_mask();
    }
}
