//! What happens to a fleet: each with sizes, and with what was measured as its result. What must not happen ends the test.

pub(crate) mod bad_rows;
pub(crate) mod cost;
pub(crate) mod failover;
pub(crate) mod hints;
pub(crate) mod kills;
pub(crate) mod latency;
pub(crate) mod outages;
pub(crate) mod rejections;
pub(crate) mod restarts;
pub(crate) mod starts;
pub(crate) mod transfer;

use std::time::Duration;

/// Some durations, in ascending order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations(Vec<Duration>);

impl Durations {
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest duration that this many of 1000 do not exceed.
    pub(crate) fn quantile(&self, permille: usize) -> Duration {
        let rank = (self.0.len() * permille).div_ceil(1000).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }
}
