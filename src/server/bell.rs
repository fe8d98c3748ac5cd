//! How another thread makes the one that answers look up from its work.
//!
//! Whoever wants something leaves it where the thread that answers will find it, and rings.

use std::io;
use std::sync::Arc;

use mio::{Registry, Token, Waker};
use tracing::error;

/// The bell of one thread; clones ring the same.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Waker>);

impl Bell {
    /// The bell that is heard as an event with this token. A registry can have one.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self(Arc::new(Waker::new(registry, token)?)))
    }

    /// Rings. What was left before that is found.
    pub fn ring(&self) {
        // Of eventfd(2), nothing can fail here that did not fail before.
        if let Err(error) = self.0.wake() {
            error!("the thread that answers cannot be woken: {error}");
        }
    }
}
