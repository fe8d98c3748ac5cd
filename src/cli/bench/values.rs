//! Parsers of option values: numbers in a range, shares, durations and map names.

use std::time::Duration;

pub(super) fn number<const MIN: usize, const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
        _ => Err(format!("not a number from {MIN} to {MAX}")),
    }
}

/// Returns a parser of numbers in this range.
pub(super) fn between(min: f64, max: f64) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("not a number from {min} to {max}")),
    }
}

/// Parses a number of seconds, or a number with a unit; a day at most.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .unwrap_or((text, 1.0));
    match number.trim().parse::<f64>() {
        Ok(number) if (0.0..=86_400.0).contains(&(number * unit)) => {
            Ok(Duration::from_secs_f64(number * unit))
        }
        _ => Err("not a duration of at most one day; write for example 500ms, 10s or 2m".into()),
    }
}

/// Parses a duration that is not zero.
pub(super) fn nonzero_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| {
        if time.is_zero() {
            Err("must be more than zero".into())
        } else {
            Ok(time)
        }
    })
}

/// Parses a map name that socketmap can carry: whitespace would end it.
pub(super) fn map_name(text: &str) -> Result<String, String> {
    if text.is_empty()
        || text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == ':')
    {
        return Err("a map name must not be empty, and must not contain whitespace or colons".into());
    }
    Ok(text.to_owned())
}
