//! Ctrl-C while a measurement runs: the first ends it, and what was measured so far is reported; the second ends the
//! program.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

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
