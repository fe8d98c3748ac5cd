//! How long lookups take beside something, compared with how long they took in the same run without it.

use std::time::{Duration, Instant};

/// Of so many lookups, one after the other, the one in the middle counts: what happens to the machine now and then does
/// not, and what makes lookups wait for something does.
const LOOKUPS: usize = 300;

/// How many times longer they may take.
const FACTOR: u32 = 10;

/// How long they take while nothing else happens.
pub(crate) struct Quiet(Duration);

impl Quiet {
    /// Measures that, with a lookup that fails the test where it is not answered.
    pub(crate) fn measure(mut lookup: impl FnMut()) -> Self {
        median(&mut lookup);
        Self(median(&mut lookup))
    }

    /// Fails the test where they take longer now. Other programs have three chances to leave the machine alone.
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
