//! Threads that let those that answer go first.

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tracing::debug;

/// Lets the threads that answer go first where they and the calling thread want the same processor: what it does may
/// take longer then, and no lookup does.
pub(crate) fn yield_to_lookups() {
    const NICENESS: i32 = 10;
    if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        debug!("the thread {name} goes on at the usual priority: {error}");
    }
}
