//! The scheduling priority of threads.

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tracing::debug;

/// Lowers the priority of the calling thread to nice level 10, so that threads that answer lookups run first where
/// processors are short. Logs a failure at level debug, and changes nothing then.
pub(crate) fn lower_thread_priority() {
    const NICENESS: i32 = 10;
    if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        debug!(thread = %name, %error, "cannot lower the priority of a thread");
    }
}
