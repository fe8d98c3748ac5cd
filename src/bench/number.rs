//! Conversions between integers, which are counted, and fractions, which are shown.

use std::time::Duration;

/// Converts an integer to a fraction. Exact up to 2^53, which in nanoseconds is three months.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    reason = "nothing that is counted or timed here comes near 2^53"
)]
pub(super) fn to_f64(number: u64) -> f64 {
    number as f64
}

/// Rounds to the nearest integer. Negative numbers and NaN become 0.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and that is what is wanted"
)]
pub(super) fn round(number: f64) -> u64 {
    number.round() as u64
}

/// Converts an index or a length to a counter.
pub(super) fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Converts a duration to nanoseconds, at most some five hundred years.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the quotient, or 0 if the divisor is not positive.
pub(super) fn ratio(number: f64, by: f64) -> f64 {
    if by > 0.0 { number / by } else { 0.0 }
}
