//! Wakes a thread that waits for events, from any other.
//!
//! A thread leaves what it wants where the one that is woken finds it, and wakes it.

use std::io;
use std::sync::Arc;

use mio::{Registry, Token};
use tracing::error;

/// Wakes one thread; clones wake the same.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// A waker whose event has this token. A registry can have one.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self(Arc::new(mio::Waker::new(registry, token)?)))
    }

    /// Wakes the thread. What was written before is visible to it.
    pub fn wake(&self) {
        // Of eventfd(2), nothing can fail here that did not fail before.
        if let Err(error) = self.0.wake() {
            error!("the thread that answers cannot be woken: {error}");
        }
    }
}
