//! Wakes a thread that polls, from any other thread.
//!
//! The waking thread first stores its message where the other finds it.

use std::io;
use std::sync::Arc;

use mio::{Registry, Token};
use tracing::error;

/// Wakes one thread. Clones wake the same thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Creates a waker with this token. A registry can have only one.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self(Arc::new(mio::Waker::new(registry, token)?)))
    }

    /// Wakes the thread. Writes made before this call are visible to it.
    pub fn wake(&self) {
        // eventfd(2) has no error here that its creation would not have had.
        if let Err(error) = self.0.wake() {
            error!(%error, "cannot wake the event loop");
        }
    }
}
