//! The runtime of a thread that uses the database or serves requests.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Runtime};

/// Creates a runtime for the calling thread.
pub(super) fn create() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        // For names of hosts: one more than can wait for name servers that do not respond.
        .max_blocking_threads(2)
        .build()
}

/// Runs a future to its end, in a runtime of its own.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = create()?;
    let result = runtime.block_on(future);
    // A name may still be looked up.
    runtime.shutdown_background();
    Ok(result)
}
