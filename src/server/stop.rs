//! The end of the server, as others ask for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bell::Bell;

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
