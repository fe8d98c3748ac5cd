//! The terminal while a measurement runs: a progress line, and Ctrl-C.
//!
//! Ctrl-C ends the measurement, and what was measured so far is reported; a second one ends the program.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{process, thread};

use nix::sys::signal::{SigSet, Signal};

use super::super::count_of;
use super::EXIT_INTERRUPTED;
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

/// Catches SIGINT. The first sets the flag that this returns, at any time. The second ends the program, even if that is
/// waiting in a system call. Where the system has no thread for this, the first one does.
pub(super) fn catch_interrupt() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let signals: SigSet = [Signal::SIGINT].into_iter().collect();
    let flag = Arc::clone(&interrupted);
    let wait = move || {
        if signals.wait().is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
        // Not by the signal itself: a shell script starts a background job with SIGINT ignored.
        if signals.wait().is_ok() {
            process::exit(EXIT_INTERRUPTED.into());
        }
    };
    // The thread inherits the mask, and waits for what is blocked.
    let is_blocked = signals.thread_block().is_ok();
    if is_blocked && thread::Builder::new().spawn(wait).is_err() {
        let _ = signals.thread_unblock();
    }
    interrupted
}
