//! The terminal while a measurement runs: a progress line, and Ctrl-C.
//!
//! Ctrl-C ends the measurement, and what was measured so far is reported; a second one ends the program.

use std::io::{self, IsTerminal, Write};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::super::count_of;
use crate::bench::Step;
use crate::bench::load::Progress;

/// A line on a terminal that each update overwrites, without colors.
#[derive(Default)]
pub(super) struct ProgressLine {
    is_shown: bool,
}

impl ProgressLine {
    pub(super) fn show(&mut self, step: &Step<'_>, progress: Progress) {
        let mut stderr = io::stderr().lock();
        if !stderr.is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return;
        }
        self.is_shown = true;
        // Without a progress line, the measurement is the same.
        let _ = write!(
            stderr,
            "\r\x1b[K{}/{}  {}  {}  {:.1} s  {:.0} replies/s  {} errors",
            step.number,
            step.total,
            step.server,
            count_of(step.connections, "connection"),
            progress.seconds,
            progress.rate,
            progress.errors
        );
        let _ = stderr.flush();
    }

    pub(super) fn clear(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// SIGINT, blocked for the process.
pub(super) struct Interrupt {
    previous: SigSet,
    signal_fd: SignalFd,
    /// Whether SIGINT has arrived.
    pub(super) received: bool,
}

impl Interrupt {
    /// Blocks SIGINT. `None` where the system does not allow it: then SIGINT ends the program as usual.
    pub(super) fn block() -> Option<Self> {
        let signals: SigSet = [Signal::SIGINT].into_iter().collect();
        let signal_fd =
            SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok()?;
        let previous = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()?;
        Some(Self {
            previous,
            signal_fd,
            received: false,
        })
    }

    /// Whether SIGINT has arrived. From then on the next one ends the program.
    pub(super) fn poll(&mut self) -> bool {
        if !self.received && matches!(self.signal_fd.read_signal(), Ok(Some(_))) {
            self.received = true;
            // This cannot fail with a mask from the kernel.
            let _ = self.previous.thread_set_mask();
        }
        self.received
    }
}
