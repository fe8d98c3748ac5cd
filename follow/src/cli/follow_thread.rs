//! The thread of `run` that follows the source.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use postmapd::control::admin::http::CancellationToken;
use tokio::time::timeout;

use super::error::Error;
use super::runtime;
use crate::engine::any::AnyEngine;
use crate::follow::Follower;
use crate::liveness::Responder;

/// The thread, which follows the source until [`FollowThread::stop`].
pub(super) struct FollowThread {
    thread: JoinHandle<Result<(), Error>>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl FollowThread {
    pub(super) fn start(mut follower: Follower<AnyEngine>, mut responder: Responder) -> Result<Self, Error> {
        let [stop, ended] = [CancellationToken::new(), CancellationToken::new()];
        let (stopped, end) = (stop.clone(), ended.clone());
        let follow = move || {
            // Dropped at the end of the thread, also after a panic.
            let _end = end.drop_guard();
            let runtime = runtime::create()?;
            let result = runtime.block_on(async {
                tokio::select! {
                    () = stopped.cancelled() => Ok(()),
                    Err(error) = follower.run() => Err(error.into()),
                    // There is always a probe.
                    () = responder.respond() => Ok(()),
                }
            });
            // A name may still be looked up.
            runtime.shutdown_background();
            result
        };
        let thread = thread::Builder::new()
            .name("follow".into())
            .spawn(follow)
            .map_err(Error::system("cannot start the thread that follows the source"))?;
        Ok(Self { thread, stop, ended })
    }

    /// Waits until the thread has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Stops the thread: a publication ends as a whole, and anything else now. Returns whether it ended within this time.
    pub(super) async fn stop(&self, limit: Duration) -> bool {
        self.stop.cancel();
        timeout(limit, self.ended()).await.is_ok()
    }

    /// Returns the error of a thread that has ended.
    pub(super) fn join(self) -> Result<(), Error> {
        // The panic hook has logged where.
        self.thread.join().unwrap_or(Err(Error::Panicked))
    }
}
