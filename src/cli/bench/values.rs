//! The values of the options: numbers in their bounds, shares, times and a map's name.

use std::time::Duration;

pub(super) fn number<const LEAST: usize, const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(number) if (LEAST..=MOST).contains(&number) => Ok(number),
        _ => Err(format!("it is no number from {LEAST} to {MOST}")),
    }
}

/// Reads a number within these bounds.
pub(super) fn between(least: f64, most: f64) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("it is no number from {least} to {most}")),
    }
}

/// A number of seconds, or one with a unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .unwrap_or((text, 1.0));
    match number.trim().parse::<f64>() {
        Ok(number) if (0.0..=86_400.0).contains(&(number * unit)) => {
            Ok(Duration::from_secs_f64(number * unit))
        }
        _ => Err("it is no time up to a day; write 500ms, 10s or 2m".into()),
    }
}

/// Likewise, and more than none.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| {
        if time.is_zero() {
            Err("no time is too little".into())
        } else {
            Ok(time)
        }
    })
}

/// A map's name as socketmap can carry it: the first blank ends it.
pub(super) fn map_name(text: &str) -> Result<String, String> {
    if text.is_empty()
        || text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == ':')
    {
        return Err("a map's name has neither blanks nor colons".into());
    }
    Ok(text.to_owned())
}
