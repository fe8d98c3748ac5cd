//! Whether the thread that answers lookups lives: it is asked, by a message that it has to answer.
//!
//! A thread that hangs, or has so much to do that it does not come to it within [`DEADLINE`], has no pulse.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long the thread may take. A lookup waits as long then, and Postfix's own patience is 100 s.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// How many may ask at once; others wait their turn, within the deadline.
const ASKED_AT_ONCE: usize = 16;

/// The side that asks.
pub struct Pulse {
    ask: mpsc::Sender<oneshot::Sender<()>>,
}

/// The side that answers.
pub struct Heart {
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Both sides.
#[must_use]
pub fn pulse() -> (Pulse, Heart) {
    let (ask, asked) = mpsc::channel(ASKED_AT_ONCE);
    (Pulse { ask }, Heart { asked })
}

impl Pulse {
    /// Whether the other side answers in time.
    pub async fn beats(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let asked = async { self.ask.send(answer).await.is_ok() && answered.await.is_ok() };
        timeout(DEADLINE, asked).await.unwrap_or(false)
    }
}

impl Heart {
    /// Answers until nobody can ask any more. To be spawned where lookups are answered.
    pub async fn beat(mut self) {
        while let Some(answer) = self.asked.recv().await {
            // Whoever asked may have lost patience.
            let _ = answer.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pulse;

    #[test]
    fn only_a_thread_that_gets_to_it_has_a_pulse() {
        let clock = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_time().start_paused(true).build().unwrap()
        };
        let (asks, heart) = pulse();
        clock().block_on(async {
            assert!(!asks.beats().await, "nobody lets the heart beat");
            let beating = tokio::spawn(heart.beat());
            assert!(asks.beats().await);
            beating.abort();
            let _ = beating.await;
            assert!(!asks.beats().await, "it is gone");
        });
    }
}
