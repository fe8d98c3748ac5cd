//! The format of figures: the median of some runs with the minimum and the maximum, three digits each.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// The median of some values, the minimum and the maximum.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |at: usize| values.get(at).copied().unwrap_or_default();
        Self {
            median: f64::midpoint(at(values.len().saturating_sub(1) / 2), at(values.len() / 2)),
            least: at(0),
            greatest: at(values.len().saturating_sub(1)),
        }
    }

    /// In a unit, three digits each.
    pub(crate) fn show(self, unit: f64, name: &str) -> String {
        let digits = |value: f64| Digits(value / unit);
        let (median, least, greatest) = (digits(self.median), digits(self.least), digits(self.greatest));
        format!("{median}{name} ({least}..{greatest})")
    }

    /// Seconds, in the unit that suits the median.
    pub(crate) fn time(self) -> String {
        match self.median {
            ..1e-3 => self.show(1e-6, " µs"),
            1e-3..1.0 => self.show(1e-3, " ms"),
            _ => self.show(1.0, " s"),
        }
    }
}

/// A number with three significant digits.
pub(crate) struct Digits(pub(crate) f64);

impl Display for Digits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let decimals = match self.0 {
            99.95.. => 0,
            9.995.. => 1,
            _ => 2,
        };
        write!(f, "{:.decimals$}", self.0)
    }
}

/// `1000000` as `1 000 000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
