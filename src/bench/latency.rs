//! A histogram that records every latency from a nanosecond to an hour, with three significant digits.

use hdrhistogram::{CreationError, Histogram};

use super::number::{ratio, to_f64, to_u64};

const MAX_NANOS: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// The number of percentiles from 0 to 50 %, from 50 to 75 %, from 75 to 87.5 %, and so on: that of other tools.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The names and values of a summary.
pub(crate) type Figures = [(&'static str, f64); 9];

/// A latency that a share of the replies did not exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percentile {
    /// The latency, in microseconds.
    pub micros: f64,
    /// The share of the replies, from 0 to 1.
    pub share: f64,
    /// The number of replies that were not slower.
    pub count: u64,
}

/// A distribution of latencies.
#[derive(Clone)]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
    /// The sum, in nanoseconds. It gives an exact mean, unlike the histogram.
    sum: u128,
}

impl Latency {
    /// Creates an empty histogram. Fails only if the bounds above are invalid.
    pub(crate) fn new() -> Result<Self, CreationError> {
        Ok(Self {
            histogram: Histogram::new_with_bounds(1, MAX_NANOS, SIGNIFICANT_DIGITS)?,
            sum: 0,
        })
    }

    /// Records a latency, in nanoseconds.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos);
        self.sum += u128::from(nanos);
    }

    /// Adds the latencies of `other`.
    pub(crate) fn append(&mut self, other: &Self) {
        // Fails only if the bounds of the histograms differ.
        let _ = self.histogram.add(&other.histogram);
        self.sum += other.sum;
    }

    /// Returns the number of recorded latencies.
    pub(crate) fn len(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether no latency was recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// Returns the latency, in microseconds, that this share of the replies did not exceed. 0 if nothing was recorded.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        // The histogram returns the upper end of a cell, which may exceed the slowest reply.
        to_f64(self.histogram.value_at_quantile(share).min(self.histogram.max())) / 1e3
    }

    /// Returns the mean, in microseconds.
    pub(crate) fn mean(&self) -> f64 {
        let sum = u64::try_from(self.sum).unwrap_or(u64::MAX);
        ratio(to_f64(sum), to_f64(self.len())) / 1e3
    }

    /// Returns the lowest latency, in microseconds. 0 if nothing was recorded.
    fn min(&self) -> f64 {
        to_f64(self.histogram.min()) / 1e3
    }

    /// Returns the standard deviation, in microseconds.
    pub(crate) fn stddev(&self) -> f64 {
        self.histogram.stdev() / 1e3
    }

    /// Returns a summary: named figures, in microseconds.
    pub(crate) fn figures(&self) -> Figures {
        [
            ("min", self.min()),
            ("mean", self.mean()),
            ("stddev", self.stddev()),
            ("p50", self.quantile(0.5)),
            ("p90", self.quantile(0.9)),
            ("p99", self.quantile(0.99)),
            ("p99_9", self.quantile(0.999)),
            ("p99_99", self.quantile(0.9999)),
            ("max", self.quantile(1.0)),
        ]
    }

    /// Returns the latencies at percentiles that are closer to each other near 100 %. The last one has the slowest reply.
    /// Empty if nothing was recorded.
    pub(crate) fn percentiles(&self) -> Vec<Percentile> {
        let mut percentiles = Vec::new();
        if self.is_empty() {
            return percentiles;
        }
        let mut rest = 1.0;
        while percentiles
            .last()
            .is_none_or(|last: &Percentile| last.count < self.len())
        {
            // Half of the distance to 100 %.
            for tick in 0..TICKS_PER_HALF_DISTANCE {
                let tick = f64::from(tick) / f64::from(2 * TICKS_PER_HALF_DISTANCE);
                let percentile = self.percentile(1.0 - rest * (1.0 - tick));
                percentiles.push(percentile);
                if percentile.count == self.len() {
                    break;
                }
            }
            rest /= 2.0;
        }
        percentiles.push(self.percentile(1.0));
        percentiles
    }

    fn percentile(&self, share: f64) -> Percentile {
        let value = self.histogram.value_at_quantile(share);
        Percentile {
            micros: self.quantile(share),
            share,
            count: self.histogram.count_between(0, value),
        }
    }

    /// Returns the numbers of buckets and of sub-buckets of the histogram.
    pub(crate) fn buckets(&self) -> (usize, usize) {
        let buckets = usize::from(self.histogram.buckets());
        (buckets, self.histogram.distinct_values() * 2 / (buckets + 1))
    }

    /// Returns points of the distribution, `steps` for each nine: the share of slower replies as its negative power of
    /// ten (1 is the slowest tenth, 2 the slowest hundredth), and the latency in microseconds. The curve ends at a
    /// single reply.
    pub(crate) fn curve(&self, steps: usize) -> Vec<(f64, f64)> {
        let nines = to_f64(self.len().max(1)).log10();
        let step = 1.0 / to_f64(to_u64(steps.max(1)));
        let mut points = Vec::new();
        let mut power = 0.0;
        while power < nines {
            points.push((power, self.quantile(1.0 - 10_f64.powf(-power))));
            power += step;
        }
        points.push((nines, self.quantile(1.0)));
        points
    }
}

#[cfg(test)]
mod tests {
    use super::{Latency, to_f64};

    #[test]
    fn figures_match_the_recorded_latencies() {
        let mut latency = Latency::new().unwrap();
        assert!(latency.figures().iter().all(|(_, micros)| *micros == 0.0));
        for micros in 1..=1000 {
            latency.record(micros * 1000);
        }
        for ((name, micros), right) in latency.figures().into_iter().zip([
            ("min", 1.0),
            ("mean", 500.5),
            // The root of (1000² - 1) / 12.
            ("stddev", 288.675),
            ("p50", 500.0),
            ("p90", 900.0),
            ("p99", 990.0),
            ("p99_9", 999.0),
            ("p99_99", 1000.0),
            ("max", 1000.0),
        ]) {
            assert_eq!(name, right.0);
            assert!((micros - right.1).abs() <= right.1 / 1000.0, "{name} {micros}");
        }
        let percentiles = latency.percentiles();
        for percentile in &percentiles {
            let not_slower = (1..=1000)
                .filter(|micros| f64::from(*micros) <= percentile.micros)
                .count();
            assert_eq!(percentile.count, not_slower as u64, "{percentile:?}");
            assert!(
                to_f64(percentile.count) >= percentile.share * 1000.0,
                "{percentile:?}"
            );
        }
        assert!(percentiles.is_sorted_by(|a, b| a.share < b.share && a.micros <= b.micros));
        let last = percentiles.last().unwrap();
        assert_eq!((last.share, last.count), (1.0, 1000));
        let curve = latency.curve(10);
        assert_eq!(curve.len(), 31);
        assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
    }
}
