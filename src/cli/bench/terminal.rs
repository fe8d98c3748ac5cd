//! What a person at the terminal sees and does while a measurement runs.
//!
//! A line says how far it is. Ctrl-C ends it, and what was measured so far is reported; a second one ends the program.

use std::io::{self, IsTerminal, Write};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::bench::Step;
use crate::bench::load::Progress;

/// One line on a terminal, written over and over. There is nothing coloured in it.
#[derive(Default)]
pub(super) struct ProgressLine {
    is_shown: bool,
}

impl ProgressLine {
    pub(super) fn show(&mut self, step: &Step<'_>, progress: Progress) {
        let mut err = io::stderr().lock();
        if !err.is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return;
        }
        self.is_shown = true;
        // Without the line of progress, the measurement is the same.
        let _ = write!(
            err,
            "\r\x1b[K{}/{}  {}  {} connections  {:.1} s  {:.0} replies/s  {} errors",
            step.number,
            step.total,
            step.server,
            step.connections,
            progress.seconds,
            progress.rate,
            progress.errors
        );
        let _ = err.flush();
    }

    pub(super) fn clear(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// SIGINT, held back from the process.
pub(super) struct Interrupt {
    before: SigSet,
    arrived: SignalFd,
    /// Whether it has come.
    pub(super) has_come: bool,
}

impl Interrupt {
    /// Holds SIGINT back; `None` where the system does not let it be, and it ends the program as ever.
    pub(super) fn hold() -> Option<Self> {
        let wanted: SigSet = [Signal::SIGINT].into_iter().collect();
        let arrived = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok()?;
        let before = wanted.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()?;
        Some(Self {
            before,
            arrived,
            has_come: false,
        })
    }

    /// Looks whether it has come. From then on the next one ends the program.
    pub(super) fn look(&mut self) -> bool {
        if !self.has_come && matches!(self.arrived.read_signal(), Ok(Some(_))) {
            self.has_come = true;
            // It cannot fail with a mask that the kernel gave us.
            let _ = self.before.thread_set_mask();
        }
        self.has_come
    }
}
