//! Lookups a second and their outcomes, by map.

use std::time::Duration;

use crate::control::admin::age::age;
use crate::control::admin::rates::Rates;
use crate::server::counters::{Counters, Outcome};

/// The lookups of each map.
pub(super) struct Lookups {
    /// The period that the rates are about.
    pub(super) period: String,
    /// All lookups a second.
    pub(super) rate: String,
    /// How many got a temporary error within the period.
    pub(super) temporary_errors: u64,
    pub(super) maps: Vec<MapRow>,
}

/// The lookups of a map.
pub(super) struct MapRow {
    pub(super) name: &'static str,
    /// How many a second.
    pub(super) rate: String,
    pub(super) outcomes: Vec<OutcomeCell>,
}

/// The lookups with one outcome.
pub(super) struct OutcomeCell {
    /// A class of the style.
    pub(super) class: &'static str,
    pub(super) name: String,
    /// How many a second.
    pub(super) rate: String,
    /// How many since the start.
    pub(super) total: u64,
    /// Where its part of the bar begins, and how long it is, in thousandths.
    pub(super) bar_start: u64,
    pub(super) bar_length: u64,
}

impl Lookups {
    pub(super) fn new(rates: &Rates, counters: &Counters) -> Self {
        let recent = rates.recent(counters);
        // In the first moments, a few lookups would be a high rate.
        let period = recent.period.max(Duration::from_secs(1));
        let maps = counters.maps().iter().enumerate().zip(&recent.lookups);
        let rows = maps.map(|((number, map), recent)| {
            let all: u64 = recent.iter().sum();
            let mut bar_start = 0;
            let outcomes = Outcome::ALL.into_iter().zip(recent).map(|(outcome, recent)| {
                let bar_length = (recent * 1000).checked_div(all).unwrap_or_default();
                let cell = OutcomeCell {
                    class: outcome.label(),
                    name: outcome.label().replace('_', " "),
                    rate: per_second(*recent, period),
                    total: counters.lookups(number, outcome),
                    bar_start,
                    bar_length,
                };
                bar_start += bar_length;
                cell
            });
            MapRow {
                name: map.name,
                rate: per_second(all, period),
                outcomes: outcomes.collect(),
            }
        });
        Self {
            rate: per_second(recent.lookups.iter().flatten().sum(), period),
            temporary_errors: recent
                .lookups
                .iter()
                .filter_map(|outcomes| outcomes.get(Outcome::CannotTell as usize))
                .sum(),
            period: age(period.as_secs()),
            maps: rows.collect(),
        }
    }
}

/// Returns a rate with three digits, or 0.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn per_second(count: u64, period: Duration) -> String {
    let rate = count as f64 / period.as_secs_f64();
    match rate {
        _ if count == 0 => "0".to_owned(),
        ..0.01 => "< 0.01".to_owned(),
        ..10.0 => format!("{rate:.2}"),
        ..100.0 => format!("{rate:.1}"),
        _ => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::per_second;

    #[test]
    fn a_rate_has_three_digits() {
        for (count, seconds, rate) in [
            (0, 60, "0"),
            (1, 600, "< 0.01"),
            (1, 60, "0.02"),
            (90, 60, "1.50"),
            (3000, 60, "50.0"),
            (720_000, 60, "12000"),
        ] {
            assert_eq!(per_second(count, Duration::from_secs(seconds)), rate);
        }
    }
}
