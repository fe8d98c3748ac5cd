//! Reads a password: typed twice without echo, or one line of standard input.
//!
//! It is typed at the terminal of the process (/dev/tty), whatever standard input and output are, or at standard input
//! if that is a terminal. The echo is restored in every case: signals that would end or stop the process are blocked
//! while it is off, and delivered when it is on again.
//!
//! Limits: a terminal returns lines of up to 4095 bytes; a longer password needs standard input. After SIGKILL the echo
//! stays off (`stty sane`).

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

use super::print_message;
use crate::lookup::table::line::MAX_LINE;
use crate::os::secret::Secret;

/// The maximum that a terminal returns at once, in bytes, with the line end (N_TTY_BUF_SIZE).
const TERMINAL_LINE: usize = 4096;

/// The reason why there is no password.
#[derive(Debug, Error)]
pub enum PasswordError {
    #[error("there is no terminal to prompt for the password; use --password-stdin")]
    NoTerminal,
    #[error("the passwords do not match")]
    Different,
    /// End of file, or a signal that did not end the process.
    #[error("no password was given")]
    NotGiven,
    /// As long as a terminal's line, so perhaps longer.
    #[error("the password is longer than a line of a terminal can be; use --password-stdin")]
    TooLongForTerminal,
    #[error("the password is longer than a line of the file can be ({MAX_LINE} bytes)")]
    TooLong,
    #[error("standard input has more than one line; give only the password, which has no line end")]
    SeveralLines,
    #[error("standard input cannot be read: {0}")]
    Input(io::Error),
    #[error("the terminal cannot be used: {0}; use --password-stdin")]
    Terminal(io::Error),
}

impl PasswordError {
    fn terminal(error: impl Into<io::Error>) -> Self {
        Self::Terminal(error.into())
    }
}

/// Reads the one line of standard input.
pub(super) fn from_standard_input() -> Result<Secret, PasswordError> {
    let mut text = Vec::with_capacity(MAX_LINE + 6);
    let limit = u64::try_from(text.capacity()).unwrap_or(u64::MAX);
    let read = io::stdin().lock().take(limit).read_to_end(&mut text);
    let mut text = Secret::from(text);
    read.map_err(PasswordError::Input)?;
    // The same as for a secret file.
    if text.strip_byte_order_mark() {
        print_message(
            "warning: standard input starts with a byte order mark, which is not part of the password",
        );
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

/// Prompts for the password of `account` twice.
pub(super) fn prompt(account: &str) -> Result<Secret, PasswordError> {
    let mut terminal = Terminal::open()?;
    let signals = BlockedSignals::new().map_err(PasswordError::terminal)?;
    loop {
        match terminal.prompt_twice(account, &signals)? {
            Input::Password(password) => return Ok(password),
            Input::Signal(signal) => {
                signals.deliver(signal);
                // It stopped the process, which was then continued.
                if signal != Signal::SIGTSTP {
                    return Err(PasswordError::NotGiven);
                }
            }
        }
    }
}

enum Input {
    Password(Secret),
    Signal(Signal),
}

/// Where prompts are written and the password is read.
struct Terminal {
    input: File,
    /// `None` for standard error, where standard input is the only known terminal.
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

    fn write(&mut self, text: &str) -> Result<(), PasswordError> {
        let written = match &mut self.output {
            Some(terminal) => terminal.write_all(text.as_bytes()),
            None => io::stderr().write_all(text.as_bytes()),
        };
        written.map_err(PasswordError::terminal)
    }

    fn prompt_twice(&mut self, account: &str, signals: &BlockedSignals) -> Result<Input, PasswordError> {
        // Declared first and dropped last: the echo is restored after all output here.
        let input = self.input.try_clone().map_err(PasswordError::terminal)?;
        let _echo_off = EchoOff::new(&input).map_err(PasswordError::terminal)?;
        self.write(&format!("Password for {account}: "))?;
        let first = match self.read_line(signals)? {
            Input::Password(line) => line,
            signal @ Input::Signal(_) => return Ok(signal),
        };
        self.write("Repeat the password: ")?;
        match self.read_line(signals)? {
            Input::Password(second) if second == first => Ok(Input::Password(second)),
            Input::Password(_) => Err(PasswordError::Different),
            signal @ Input::Signal(_) => Ok(signal),
        }
    }

    fn read_line(&mut self, signals: &BlockedSignals) -> Result<Input, PasswordError> {
        let mut line = Secret::with_capacity(TERMINAL_LINE);
        let result = loop {
            if let Some(signal) = signals
                .wait_readable_or_signal(&self.input)
                .map_err(PasswordError::terminal)?
            {
                break Ok(Input::Signal(signal));
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
                break Ok(Input::Password(line));
            }
            if read == 0 {
                break Err(PasswordError::NotGiven);
            }
        };
        // The line end that was typed was not echoed.
        self.write("\n")?;
        result
    }
}

/// Turns the echo off until it is dropped.
struct EchoOff<'t> {
    terminal: &'t File,
    previous: Termios,
}

impl<'t> EchoOff<'t> {
    fn new(terminal: &'t File) -> nix::Result<Self> {
        let previous = tcgetattr(terminal)?;
        let mut without_echo = previous.clone();
        without_echo
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ECHONL);
        without_echo
            .local_flags
            .insert(LocalFlags::ICANON | LocalFlags::ISIG);
        // Discards what was typed before the prompt: it was echoed, and is no password.
        tcsetattr(terminal, SetArg::TCSAFLUSH, &without_echo)?;
        Ok(Self { terminal, previous })
    }
}

impl Drop for EchoOff<'_> {
    fn drop(&mut self) {
        // Discards the rest of a password that was not read. A terminal that is gone needs no echo.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.previous);
    }
}

/// Blocks the signals that would end or stop the process and leave the echo off. Dropping it restores the signal mask.
struct BlockedSignals {
    previous: SigSet,
    signal_fd: SignalFd,
}

impl BlockedSignals {
    fn new() -> nix::Result<Self> {
        let blocked: SigSet = [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGTSTP,
        ]
        .into_iter()
        .collect();
        let signal_fd = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let previous = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { previous, signal_fd })
    }

    /// Waits until `input` is readable or a signal arrives. Returns the signal.
    fn wait_readable_or_signal(&self, input: &File) -> nix::Result<Option<Signal>> {
        loop {
            let mut fds = [
                PollFd::new(input.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signal_fd.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error),
            }
            let arrived = self.signal_fd.read_signal()?;
            let signal = arrived.and_then(|info| Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok());
            if signal.is_some() || fds.first().and_then(PollFd::any) == Some(true) {
                return Ok(signal);
            }
        }
    }

    /// Delivers a signal, with its usual effect.
    fn deliver(&self, signal: Signal) {
        let blocked = self.previous.thread_swap_mask(SigmaskHow::SIG_SETMASK);
        // If it has none, the caller continues.
        let _ = raise(signal);
        if let Ok(blocked) = blocked {
            let _ = blocked.thread_set_mask();
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // This cannot fail with a mask from the kernel.
        let _ = self.previous.thread_set_mask();
    }
}
