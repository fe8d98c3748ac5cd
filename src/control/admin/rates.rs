//! Lookups a second: how many lookups there were within the last minute, from the counters of the server.
//!
//! A timer of the control thread reads the counters every [`INTERVAL`], so that a lookup costs nothing more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::View;
use crate::server::counters::{Counters, Outcome};

/// How often the counters are read.
const INTERVAL: Duration = Duration::from_secs(10);

/// The period that rates are about. It is longer by up to [`INTERVAL`], and shorter after the start.
const PERIOD: Duration = Duration::from_secs(60);

/// Numbers by map, and by outcome in the order of [`Outcome::ALL`].
type Lookups = Vec<[u64; Outcome::ALL.len()]>;

/// The counters at earlier times, the oldest first.
pub(crate) struct Rates(Mutex<VecDeque<(Instant, Lookups)>>);

/// What was counted lately.
pub(super) struct Recent {
    /// How long ago counting began.
    pub(super) period: Duration,
    /// The lookups since then, by map.
    pub(super) lookups: Lookups,
}

impl Rates {
    /// Starts with these counters.
    pub(crate) fn new(counters: &Counters) -> Self {
        Self(Mutex::new([(Instant::now(), read(counters))].into()))
    }

    fn record(&self, now: Instant, lookups: Lookups) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, lookups));
        // The oldest that remains is the last one before the period.
        while samples
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= PERIOD)
        {
            samples.pop_front();
        }
    }

    /// Returns what was counted within the last period.
    pub(super) fn recent(&self, counters: &Counters) -> Recent {
        self.difference(Instant::now(), read(counters))
    }

    fn difference(&self, now: Instant, lookups: Lookups) -> Recent {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, before)) = samples.front() else {
            return Recent {
                period: Duration::ZERO,
                lookups,
            };
        };
        let of_map = |(now, before): (&[u64; 4], &[u64; 4])| {
            let mut differences = *now;
            for (difference, before) in differences.iter_mut().zip(before) {
                *difference = difference.saturating_sub(*before);
            }
            differences
        };
        Recent {
            period: now.saturating_duration_since(*since),
            lookups: lookups.iter().zip(before).map(of_map).collect(),
        }
    }
}

fn read(counters: &Counters) -> Lookups {
    let maps = counters.maps().iter().enumerate();
    maps.map(|(map, _)| Outcome::ALL.map(|outcome| counters.lookups(map, outcome)))
        .collect()
}

/// Reads the counters until it is cancelled.
pub(crate) async fn keep_reading(view: Arc<View>) {
    let mut timer = interval(INTERVAL);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        view.rates.record(Instant::now(), read(&view.counters));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{INTERVAL, PERIOD, Rates};
    use crate::lookup::map::Maps;
    use crate::server::counters::Counters;

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let rates = Rates::new(&Counters::new(Maps::SERVED, false));
        let start = Instant::now();
        let counted = |number| vec![[number, 0, 0, 0]; 4];
        // One lookup a second, and then none.
        let mut now = start;
        for number in 1..=120 {
            now = start + Duration::from_secs(number);
            if number % INTERVAL.as_secs() == 0 {
                rates.record(now, counted(number));
            }
            let recent = rates.difference(now, counted(number));
            let seconds = recent.period.as_secs();
            assert!(seconds <= (PERIOD + INTERVAL).as_secs(), "{seconds} s");
            assert!(
                seconds >= number.min(PERIOD.as_secs()),
                "{seconds} s after {number} s"
            );
            assert!(
                recent.lookups[0][0].abs_diff(seconds) <= 1,
                "{:?}",
                recent.lookups
            );
        }
        for number in 1..=8 {
            rates.record(now + INTERVAL * number, counted(120));
        }
        let recent = rates.difference(now + INTERVAL * 8, counted(120));
        assert_eq!(recent.lookups, counted(0));
        assert!(rates.0.lock().unwrap().len() < 10);
    }
}
