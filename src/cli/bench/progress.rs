//! How far a measurement has come, for whoever waits at a terminal.

use std::io::{self, IsTerminal, Write};

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
        // Nobody misses a line of progress.
        let _ = write!(
            err,
            "\r\x1b[K{}/{}  {}  {} connections  {:.1} s  {:.0} replies/s  {} errors",
            step.number,
            step.of,
            step.server,
            step.connections,
            progress.seconds,
            progress.rate,
            progress.faults
        );
        let _ = err.flush();
    }

    pub(super) fn clear(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
