//! The line on a terminal that shows how many relays have been tried.

use std::io::{self, IsTerminal, Write};

/// A line that each update overwrites.
pub(super) struct ProgressLine {
    total: usize,
    is_terminal: bool,
}

impl ProgressLine {
    /// Creates it. It is shown on a terminal alone.
    pub(super) fn new(total: usize) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            total,
            is_terminal: io::stderr().is_terminal() && !is_dumb,
        }
    }

    /// Shows the number of relays that have been tried.
    pub(super) fn show(&self, done: usize) {
        if self.is_terminal && done < self.total {
            let mut stderr = io::stderr().lock();
            // Without a progress line, the results are the same.
            let _ = write!(stderr, "\r\x1b[K{done} of {} relays tried", self.total);
            let _ = stderr.flush();
        }
    }

    /// Removes the line, for other output.
    pub(super) fn clear(&self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
