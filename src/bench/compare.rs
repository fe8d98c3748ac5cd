//! Two servers side by side: ratios of the second to the first, formed within a round.
//!
//! A single ratio says nothing on a machine that does other things, too. Its spread over the rounds says how much of it
//! to believe: a spread that holds 1 is no difference.

use serde::Serialize;

use super::Measured;

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

/// The second server to the first, with so many connections. A ratio is missing where there is nothing to divide by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Comparison {
    /// How many connections.
    pub connections: usize,
    /// Over how many rounds.
    pub rounds: usize,
    /// More is better.
    pub replies_per_second: Option<Spread>,
    /// Less is better, here and below.
    pub mean: Option<Spread>,
    /// Likewise.
    pub p50: Option<Spread>,
    /// Likewise.
    pub p90: Option<Spread>,
    /// Likewise.
    pub p99: Option<Spread>,
    /// Likewise.
    pub p99_9: Option<Spread>,
    /// Likewise.
    pub p99_99: Option<Spread>,
    /// Likewise.
    pub max: Option<Spread>,
    /// Likewise; missing where the processes are not known.
    pub server_cpu: Option<Spread>,
}

impl Spread {
    /// Of these ratios; those that are no numbers do not count.
    #[must_use]
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
#[must_use]
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
        let spread = |figure: &dyn Fn(&Measured) -> f64| {
            Spread::of(pairs.iter().map(|(first, second)| figure(second) / figure(first)))
        };
        Comparison {
            connections,
            rounds: pairs.len(),
            replies_per_second: spread(&|one| one.run.rate()),
            mean: spread(&|one| one.run.latency.figures().mean),
            p50: spread(&|one| one.run.latency.at(0.5)),
            p90: spread(&|one| one.run.latency.at(0.9)),
            p99: spread(&|one| one.run.latency.at(0.99)),
            p99_9: spread(&|one| one.run.latency.at(0.999)),
            p99_99: spread(&|one| one.run.latency.at(0.9999)),
            max: spread(&|one| one.run.latency.at(1.0)),
            server_cpu: spread(&|one| one.run.server_micros().unwrap_or(f64::NAN)),
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
