//! Numbers as text. No number has a separator of thousands, so that `awk` and `sort` can read it.

use crate::bench::number::{ratio, round, to_f64};

/// Formats a count with its noun.
pub(super) fn plural(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Formats a number, rounded to an integer.
pub(crate) fn whole(number: f64) -> String {
    round(number).to_string()
}

/// Formats a share in percent. Only exactly all are 100 %, and only none are 0 %.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let percent = 100.0 * ratio(to_f64(part), to_f64(whole));
    let decimals = match percent {
        percent if part == 0 || part == whole || (1.0..99.0).contains(&percent) => 0,
        percent if (0.1..99.9).contains(&percent) => 1,
        _ => 4,
    };
    format!("{percent:.decimals$} %")
}

/// Formats microseconds with three digits and a unit.
pub(crate) fn format_micros(micros: f64) -> String {
    let (number, unit) = match micros {
        micros if micros < 999.5 => (micros, "µs"),
        micros if micros < 999_500.0 => (micros / 1e3, "ms"),
        micros => (micros / 1e6, "s"),
    };
    let decimals = match number {
        number if number < 9.995 => 2,
        number if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

/// Formats microseconds as one field of a table, without a space before the unit.
pub(super) fn field_micros(micros: f64) -> String {
    format_micros(micros).replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::{field_micros, format_micros, percent, whole};

    #[test]
    fn latencies_have_three_digits_and_a_unit() {
        for (micros, shown) in [
            (0.0, "0.00 µs"),
            (9.994, "9.99 µs"),
            (83.14, "83.1 µs"),
            (999.4, "999 µs"),
            (999.6, "1.00 ms"),
            (12_345.0, "12.3 ms"),
            (1_500_000.0, "1.50 s"),
        ] {
            assert_eq!(format_micros(micros), shown);
            assert_eq!(field_micros(micros), shown.replace(' ', ""));
        }
        assert_eq!(whole(1_234_567.4), "1234567");
    }

    #[test]
    fn only_all_are_100_percent_and_only_none_are_0() {
        for (part, shown) in [
            (0, "0 %"),
            (1, "0.0010 %"),
            (999, "1.0 %"),
            (25_000, "25 %"),
            (99_500, "99.5 %"),
            (99_999, "99.9990 %"),
            (100_000, "100 %"),
        ] {
            assert_eq!(percent(part, 100_000), shown);
        }
        assert_eq!(percent(0, 0), "0 %");
    }
}
