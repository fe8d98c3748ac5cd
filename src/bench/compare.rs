//! Two servers side by side: ratios of the second to the first, formed within a round.
//!
//! A single ratio says nothing on a machine that does other things, too. Its spread over the rounds says how much of it
//! to believe: a spread that holds 1 is no difference.

use serde::{Serialize, Serializer};

use super::Measured;
use super::load::Run;

/// A ratio over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

type Figure = fn(&Run) -> f64;

/// What is compared, by name. More replies a second are better, and less of all else. The processor time of the server
/// is no number where its processes are not known.
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

/// The second server to the first, with so many connections.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// How many connections.
    pub connections: usize,
    /// Over how many rounds.
    pub rounds: usize,
    /// The ratios of what is compared, by name. One is missing where there is nothing to divide by.
    #[serde(flatten, serialize_with = "as_map")]
    pub ratios: [(&'static str, Option<Spread>); FIGURES.len()],
}

/// Values by name, in this order.
pub(super) fn as_map<V: Serialize, S: Serializer>(
    named: &[(&'static str, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(named.iter().map(|(name, value)| (name, value)))
}

impl Spread {
    /// Of these ratios; those that are no numbers do not count.
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

/// A comparison for each number of connections, in the order in which they were measured.
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
