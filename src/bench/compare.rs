//! Compares two servers: ratios of the second to the first, each within one round.
//!
//! A single ratio is not reliable on a machine that does other work. The spread over the rounds shows how reliable it
//! is: if it includes 1, there is no demonstrable difference.

use serde::{Serialize, Serializer};

use super::Measured;
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

type Figure = fn(&Run) -> f64;

/// The compared metrics, by name. A higher `replies_per_second` is better; of all others, a lower value. `server_cpu`
/// is NaN if the server's processes are unknown.
const FIGURES: [(&str, Figure); 9] = [
    ("replies_per_second", Run::rate),
    ("mean", |run| run.latency.mean()),
    ("p50", |run| run.latency.at(0.5)),
    ("p90", |run| run.latency.at(0.9)),
    ("p99", |run| run.latency.at(0.99)),
    ("p99_9", |run| run.latency.at(0.999)),
    ("p99_99", |run| run.latency.at(0.9999)),
    ("max", |run| run.latency.at(1.0)),
    ("server_cpu", |run| run.server_micros().unwrap_or(f64::NAN)),
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
    pub ratios: [(&'static str, Option<Spread>); FIGURES.len()],
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
    pub(super) fn of(ratios: impl IntoIterator<Item = f64>) -> Option<Self> {
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
pub(super) fn compare(measured: &[Measured]) -> Vec<Comparison> {
    let mut numbers: Vec<usize> = Vec::new();
    for one in measured {
        if !numbers.contains(&one.connections) {
            numbers.push(one.connections);
        }
    }
    let compared = numbers.into_iter().map(|connections| {
        let of = |server| {
            measured
                .iter()
                .filter(move |one| (one.server, one.connections) == (server, connections))
        };
        let pairs: Vec<_> = of(0)
            .filter_map(|first| Some((first, of(1).find(|second| second.round == first.round)?)))
            .collect();
        let spread = |figure: Figure| {
            Spread::of(
                pairs
                    .iter()
                    .map(|(first, second)| figure(&second.run) / figure(&first.run)),
            )
        };
        Comparison {
            connections,
            rounds: pairs.len(),
            ratios: FIGURES.map(|(name, figure)| (name, spread(figure))),
        }
    });
    compared.collect()
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn a_spread_is_that_of_the_numbers_among_the_ratios() {
        let spread = Spread::of([2.0, f64::NAN, 1.0, f64::INFINITY, 4.0]).unwrap();
        assert_eq!(
            spread,
            Spread {
                median: 2.0,
                min: 1.0,
                max: 4.0
            }
        );
        assert!((Spread::of([1.0, 2.0]).unwrap().median - 1.5).abs() < 1e-9);
        assert!(Spread::of([f64::NAN]).is_none());
    }
}
