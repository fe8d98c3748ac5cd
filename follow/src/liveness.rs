//! The liveness probe of the thread that follows the source: a message that it has to answer.
//!
//! It answers between two steps of its work. Writing and flushing large tables is one step, so [`DEADLINE`] is long.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most probes in the queue; others wait for room, within the deadline.
const MAX_PENDING: usize = 16;

/// Sends probes.
#[derive(Clone)]
pub(crate) struct Probe(mpsc::Sender<oneshot::Sender<()>>);

/// Answers probes.
pub(crate) struct Responder(mpsc::Receiver<oneshot::Sender<()>>);

/// Creates a probe and its responder.
pub(crate) fn probe() -> (Probe, Responder) {
    let (requests, received) = mpsc::channel(MAX_PENDING);
    (Probe(requests), Responder(received))
}

impl Probe {
    /// Returns whether the responder answers in time.
    pub(crate) async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let exchange = async { self.0.send(answer).await.is_ok() && answered.await.is_ok() };
        timeout(DEADLINE, exchange).await.unwrap_or(false)
    }
}

impl Responder {
    /// Answers probes, until there can be no more.
    pub(crate) async fn respond(&mut self) {
        while let Some(answer) = self.0.recv().await {
            // The probe may have timed out.
            let _ = answer.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::probe;

    #[tokio::test(start_paused = true)]
    async fn only_a_thread_that_responds_is_alive() {
        let (checker, mut responder) = probe();
        assert!(!checker.is_alive().await, "nothing responds");
        tokio::select! {
            is_alive = checker.is_alive() => assert!(is_alive),
            () = responder.respond() => panic!("there is still a probe"),
        }
        drop(responder);
        assert!(!checker.is_alive().await, "the responder is gone");
    }
}
