//! Locks on directories and files, and deferred signals.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::{ReplaceError, ReplaceErrorKind};

/// How long to wait for a lock.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The opened file. Some file systems (NFS) lock only files that are open for writing; there the lock on the directory
/// must suffice.
pub(super) enum Opened {
    Locked(Flock<File>),
    Unlocked(File),
}

impl Opened {
    /// Returns the file, locked or not.
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Locked(lock) => lock,
            Self::Unlocked(file) => file,
        }
    }
}

/// Locks a directory or a file, waiting for other programs. Returns the file unlocked where it does not support locks.
pub(super) fn lock(file: File, path: &Path) -> Result<Result<Flock<File>, (File, Errno)>, ReplaceError> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    let mut file = file;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Ok(lock)),
            Err((same, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < deadline => file = same,
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                return Err(ReplaceErrorKind::Locked.at(path));
            }
            Err(unsupported) => return Ok(Err(unsupported)),
        }
        thread::sleep(LOCK_POLL_INTERVAL);
    }
}

/// Blocks signals that would end the process until it is dropped: those of users and service managers, of timers that
/// another program left running, and of the processor time limit (RLIMIT_CPU).
pub(super) struct DeferredSignals {
    before: Option<SigSet>,
}

impl DeferredSignals {
    pub(super) fn new() -> Self {
        let fatal = [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGALRM,
            Signal::SIGVTALRM,
            Signal::SIGPROF,
            Signal::SIGXCPU,
            Signal::SIGIO,
            Signal::SIGPWR,
            Signal::SIGSTKFLT,
        ];
        let fatal: SigSet = fatal.into_iter().collect();
        Self {
            before: fatal.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok(),
        }
    }
}

impl Drop for DeferredSignals {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Restoring a mask that the kernel returned does not fail.
            let _ = before.thread_set_mask();
        }
    }
}
