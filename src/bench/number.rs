//! Conversions between the integers that are counted and the fractions that are shown.

use std::time::Duration;

/// An integer as a fraction. Exact up to 2^53, which as nanoseconds is three months.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    reason = "nothing that is counted or timed here comes near 2^53"
)]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

/// The nearest integer; what is negative or no number is 0.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and that is what is wanted"
)]
pub(super) fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// An index or a length as a counter.
pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A duration in nanoseconds; five hundred years at most.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The quotient, or 0 where there is nothing to divide by.
pub(super) fn ratio(number: f64, by: f64) -> f64 {
    if by > 0.0 { number / by } else { 0.0 }
}
