//! How long to wait before the next attempt: longer after each failure, and not at the same time as other hosts.

use std::time::Duration;

use crate::random;

/// Waits that double, each shortened at random by up to a half: many hosts lose one source at the same moment, and must not
/// return to it at the same moment.
pub(super) struct Backoff {
    /// The longest that the next wait can be.
    next: Duration,
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Starts with a wait between the half of `first` and `first`. No wait is longer than `max`.
    pub(super) const fn new([first, max]: [Duration; 2]) -> Self {
        Self {
            next: first,
            first,
            max,
        }
    }

    /// Returns the wait after a failure.
    pub(super) fn wait(&mut self) -> Duration {
        self.wait_with(random_number())
    }

    /// Returns the wait after a failure; with 0, half of the longest one.
    fn wait_with(&mut self, random: u32) -> Duration {
        let half = self.next / 2;
        self.next = self.next.saturating_mul(2).min(self.max);
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Starts again, after a success.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Returns a random part of a time.
pub(super) fn at_random(time: Duration) -> Duration {
    time.mul_f64(f64::from(random_number()) / f64::from(u32::MAX))
}

/// Returns a random number; 0 if the system has none.
fn random_number() -> u32 {
    let mut bytes = [0; 4];
    match random::fill(&mut bytes) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::Backoff;

    const FIRST: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_between_their_bounds_and_start_again_after_a_success() {
        for random in [0, 1, u32::MAX / 3, u32::MAX] {
            let mut backoff = Backoff::new([FIRST, MAX]);
            for _ in 0..2 {
                for longest in [200, 400, 800, 1000, 1000, 1000] {
                    let longest = Duration::from_millis(longest);
                    let wait = backoff.wait_with(random);
                    assert!(longest / 2 <= wait && wait <= longest, "{random}: {wait:?}");
                }
                backoff.reset();
            }
        }
        let [mut least, mut most] = [Backoff::new([FIRST, MAX]), Backoff::new([FIRST, MAX])];
        assert_eq!(least.wait_with(0), FIRST / 2);
        assert_eq!(most.wait_with(u32::MAX), FIRST);
    }

    #[test]
    fn hosts_do_not_wait_equally_long() {
        let waits: BTreeSet<Duration> = (0..20).map(|_| Backoff::new([FIRST, MAX]).wait()).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
