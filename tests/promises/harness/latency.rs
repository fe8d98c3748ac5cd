//! Compares the time of lookups during an activity with their time without it in the same run.

use std::time::{Duration, Instant};

/// The number of lookups, made one after another. Their median is compared: an occasional disturbance of the machine
/// does not change it, and an activity that delays lookups does.
const LOOKUPS: usize = 300;

/// How many times longer lookups may take during the activity.
const FACTOR: u32 = 10;

/// The median time of lookups without any activity.
pub(crate) struct Baseline(Duration);

impl Baseline {
    /// Measures the median. `lookup` fails the test where it gets no answer.
    pub(crate) fn measure(mut lookup: impl FnMut()) -> Self {
        median(&mut lookup);
        Self(median(&mut lookup))
    }

    /// Fails the test where lookups take longer now. Measures up to three times, because other programs may disturb it.
    #[track_caller]
    pub(crate) fn expect_no_delay(&self, beside: &str, mut lookup: impl FnMut()) {
        let mut best = Duration::MAX;
        for _ in 0..3 {
            best = best.min(median(&mut lookup));
            if best <= FACTOR * self.0 {
                return;
            }
        }
        panic!(
            "beside {beside}, a lookup takes {best:?}, and {:?} without",
            self.0
        );
    }
}

fn median(lookup: &mut impl FnMut()) -> Duration {
    let mut took: Vec<Duration> = (0..LOOKUPS)
        .map(|_| {
            let begun = Instant::now();
            lookup();
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[LOOKUPS / 2]
}
