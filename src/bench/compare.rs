//! Compares two servers: ratios of the second to the first, each within one round.
//!
//! A single ratio is not reliable on a machine that does other work. The spread over the rounds shows how reliable it
//! is: if it includes 1, there is no demonstrable difference.

use serde::{Serialize, Serializer};

use super::Measurement;
use super::load::Run;

/// The distribution of a ratio over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    /// The median; with an even number of ratios, the mean of the middle two.
    pub median: f64,
    /// The lowest ratio.
    pub min: f64,
    /// The highest ratio.
    pub max: f64,
}

type Metric = fn(&Run) -> f64;

/// The compared metrics, by name. A higher `replies_per_second` is better; of all others, a lower value. `server_cpu`
/// is NaN if the server's processes are unknown.
const METRICS: [(&str, Metric); 9] = [
    ("replies_per_second", Run::rate),
    ("mean", |run| run.latency.mean()),
    ("p50", |run| run.latency.quantile(0.5)),
    ("p90", |run| run.latency.quantile(0.9)),
    ("p99", |run| run.latency.quantile(0.99)),
    ("p99_9", |run| run.latency.quantile(0.999)),
    ("p99_99", |run| run.latency.quantile(0.9999)),
    ("max", |run| run.latency.quantile(1.0)),
    ("server_cpu", |run| {
        run.server_micros_per_reply().unwrap_or(f64::NAN)
    }),
];

/// The ratios of the second server to the first, for one number of connections.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// The number of connections.
    pub connections: usize,
    /// The number of rounds.
    pub rounds: usize,
    /// The ratios by metric. `None` if no round has a finite ratio.
    #[serde(flatten, serialize_with = "as_map")]
    pub ratios: [(&'static str, Option<Spread>); METRICS.len()],
}

/// Serializes named values as a map, in this order.
pub(super) fn as_map<V: Serialize, S: Serializer>(
    named: &[(&'static str, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(named.iter().map(|(name, value)| (name, value)))
}

impl Spread {
    /// Returns the spread of the finite ratios. `None` if there are none.
    pub(super) fn new(ratios: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut ratios: Vec<f64> = ratios.into_iter().filter(|ratio| ratio.is_finite()).collect();
        ratios.sort_by(f64::total_cmp);
        let (min, max) = (*ratios.first()?, *ratios.last()?);
        let upper = *ratios.get(ratios.len() / 2)?;
        let lower = *ratios.get((ratios.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min,
            max,
        })
    }
}

/// Returns a comparison for each number of connections, in the order of measurement.
pub(super) fn compare(measured: &[Measurement]) -> Vec<Comparison> {
    let mut numbers: Vec<usize> = Vec::new();
    for measurement in measured {
        if !numbers.contains(&measurement.connections) {
            numbers.push(measurement.connections);
        }
    }
    let compared = numbers.into_iter().map(|connections| {
        let runs_of = |server| {
            measured.iter().filter(move |measurement| {
                (measurement.server, measurement.connections) == (server, connections)
            })
        };
        let pairs: Vec<_> = runs_of(0)
            .filter_map(|first| Some((first, runs_of(1).find(|second| second.round == first.round)?)))
            .collect();
        let spread = |metric: Metric| {
            Spread::new(
                pairs
                    .iter()
                    .map(|(first, second)| metric(&second.run) / metric(&first.run)),
            )
        };
        Comparison {
            connections,
            rounds: pairs.len(),
            ratios: METRICS.map(|(name, metric)| (name, spread(metric))),
        }
    });
    compared.collect()
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn a_spread_ignores_ratios_that_are_not_finite() {
        let spread = Spread::new([2.0, f64::NAN, 1.0, f64::INFINITY, 4.0]).unwrap();
        assert_eq!(
            spread,
            Spread {
                median: 2.0,
                min: 1.0,
                max: 4.0
            }
        );
        assert!((Spread::new([1.0, 2.0]).unwrap().median - 1.5).abs() < 1e-9);
        assert!(Spread::new([f64::NAN]).is_none());
    }
}
