//! The liveness probe of the thread that answers lookups: a message that the thread has to answer.
//!
//! The thread is dead if it hangs, or is so busy that it does not answer within [`DEADLINE`].

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::net::waker::Waker;

/// How long an answer may take. A lookup waits as long then, and Postfix's timeout is 100 s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// The most probes in the queue; others wait for room, within the deadline.
const MAX_PENDING: usize = 16;

/// Sends probes.
#[derive(Clone)]
pub(crate) struct Probe {
    requests: mpsc::Sender<oneshot::Sender<()>>,
    waker: Waker,
}

/// Answers probes.
pub(crate) struct Responder {
    requests: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Creates a probe and its responder. `waker` wakes the thread of the responder.
pub(crate) fn probe(waker: Waker) -> (Probe, Responder) {
    let (requests, received) = mpsc::channel(MAX_PENDING);
    (Probe { requests, waker }, Responder { requests: received })
}

impl Probe {
    /// Returns whether the responder answers in time.
    pub(crate) async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            if self.requests.send(answer).await.is_err() {
                return false;
            }
            self.waker.wake();
            answered.await.is_ok()
        };
        timeout(DEADLINE, exchange).await.unwrap_or(false)
    }
}

impl Responder {
    /// Answers all probes so far. Called by the thread that answers lookups when it is woken.
    pub(crate) fn respond(&mut self) {
        while let Ok(answer) = self.requests.try_recv() {
            // The probe may have timed out.
            let _ = answer.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    use super::{DEADLINE, Waker, probe};

    #[test]
    fn only_a_thread_that_responds_in_time_is_alive() {
        let clock = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_time().start_paused(true).build().unwrap()
        };
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let (checker, mut responder) = probe(waker);
        clock().block_on(async {
            assert!(!checker.is_alive().await, "nothing responds");
            let (is_alive, ()) = tokio::join!(checker.is_alive(), async {
                // The probe is sent by now, and has woken the thread.
                let mut events = Events::with_capacity(1);
                poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
                assert!(!events.is_empty());
                responder.respond();
            });
            assert!(is_alive);
            drop(responder);
            let begun = tokio::time::Instant::now();
            assert!(!checker.is_alive().await, "the responder is dropped");
            assert!(begun.elapsed() < DEADLINE);
        });
    }
}
