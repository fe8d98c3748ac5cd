//! The runtime of a thread that uses the database or serves requests.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use super::error::Error;

/// Creates a runtime for the calling thread.
pub(super) fn create() -> Result<Runtime, Error> {
    Builder::new_current_thread()
        .enable_all()
        // For names of hosts: one more than can wait for name servers that do not respond.
        .max_blocking_threads(2)
        .build()
        .map_err(Error::system("cannot start the runtime"))
}

/// Runs a future to its end, in a runtime of its own.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = create()?;
    let result = runtime.block_on(future);
    // A name may still be looked up.
    runtime.shutdown_background();
    Ok(result)
}
