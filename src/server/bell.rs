//! What other threads have to say to the one that answers: that there is something to do ([`Bell`]), and that the server
//! stops ([`Stop`]).
//!
//! A thread leaves what it wants where the one that answers will find it, and rings.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Whether the server stops; clones are of one thing.
#[derive(Clone, Debug)]
pub struct Stop {
    begun: Arc<AtomicBool>,
    bell: Bell,
}

impl Stop {
    pub(super) fn new(bell: Bell) -> Self {
        Self {
            begun: Arc::default(),
            bell,
        }
    }

    /// The server stops, from now on.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.bell.ring();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
}
