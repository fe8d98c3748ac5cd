//! The file size limit of a process (RLIMIT_FSIZE).

use nix::sys::signal::{SigSet, Signal};

/// Blocks SIGXFSZ, so that a write beyond the file size limit (RLIMIT_FSIZE) fails with EFBIG and does not end the
/// process: an edit would leave a file with passwords behind, and a full log would end the server. Call it before a
/// second thread starts. Child processes get the signal again (std::process).
pub fn block_signal() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // This cannot fail for a signal that exists.
    let _ = signals.thread_block();
}
