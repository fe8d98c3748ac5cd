//! The end of the server, as those who serve wait for it.
//!
//! A session waits for its peer or for the stop, at every lookup anew. Asking a [`CancellationToken`] each time would
//! take two locks that all sessions share. So a session leaves its waker once, and from then on looks at a flag.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio_util::sync::CancellationToken;

/// Whether the server stops; clones are of one thing.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    begun: AtomicBool,
    wakers: CancellationToken,
}

impl Stop {
    /// The server stops, from now on.
    pub fn begin(&self) {
        self.0.begun.store(true, Ordering::SeqCst);
        self.0.wakers.cancel();
    }

    /// Ends when the server stops. Whoever polls it must do so in one task only.
    pub async fn wait(&self) {
        let mut woken = pin!(self.0.wakers.cancelled());
        let mut waits = false;
        poll_fn(|context| {
            if self.0.begun.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            if waits {
                return Poll::Pending;
            }
            waits = true;
            woken.as_mut().poll(context)
        })
        .await;
    }
}
