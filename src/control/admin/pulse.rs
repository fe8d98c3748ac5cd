//! Whether the thread that answers lookups lives: it is asked, by a message that it has to answer.
//!
//! A thread that hangs, or has so much to do that it does not come to it within [`DEADLINE`], has no pulse.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::net::waker::Waker;

/// How long the thread may take. A lookup waits as long then, and Postfix's own patience is 100 s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// How many may ask at once; others wait their turn, within the deadline.
const ASKED_AT_ONCE: usize = 16;

/// The side that asks.
#[derive(Clone)]
pub(crate) struct Pulse {
    ask: mpsc::Sender<oneshot::Sender<()>>,
    waker: Waker,
}

/// The side that answers.
pub(crate) struct Heart {
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Both sides. This wakes the one that answers.
pub(crate) fn pulse(waker: Waker) -> (Pulse, Heart) {
    let (ask, asked) = mpsc::channel(ASKED_AT_ONCE);
    (Pulse { ask, waker }, Heart { asked })
}

impl Pulse {
    /// Whether the other side answers in time.
    pub(crate) async fn beats(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            if self.ask.send(answer).await.is_err() {
                return false;
            }
            self.waker.wake();
            answered.await.is_ok()
        };
        timeout(DEADLINE, asked).await.unwrap_or(false)
    }
}

impl Heart {
    /// Answers the requests so far. Called by the thread that answers lookups whenever it is woken.
    pub(crate) fn beat(&mut self) {
        while let Ok(answer) = self.asked.try_recv() {
            // The request may have timed out.
            let _ = answer.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    use super::{DEADLINE, Waker, pulse};

    #[test]
    fn only_a_thread_that_gets_to_it_has_a_pulse() {
        let clock = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_time().start_paused(true).build().unwrap()
        };
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let (asks, mut heart) = pulse(waker);
        clock().block_on(async {
            assert!(!asks.beats().await, "nobody lets the heart beat");
            let (beats, ()) = tokio::join!(asks.beats(), async {
                // It is asked by now, and woken.
                let mut events = Events::with_capacity(1);
                poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
                assert!(!events.is_empty());
                heart.beat();
            });
            assert!(beats);
            drop(heart);
            let begun = tokio::time::Instant::now();
            assert!(!asks.beats().await, "it is gone");
            assert!(begun.elapsed() < DEADLINE);
        });
    }
}
