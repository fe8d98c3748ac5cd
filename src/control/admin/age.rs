//! Ages for people.

use std::time::Duration;

use humantime::format_duration;

/// Returns an age in seconds as text, such as `2h 5m`: exact below an hour, else to the minute, or to the hour after a day.
#[must_use]
pub fn age(seconds: u64) -> String {
    let rounded = match seconds {
        0..3600 => seconds,
        3600..86_400 => seconds - seconds % 60,
        _ => seconds - seconds % 3600,
    };
    format_duration(Duration::from_secs(rounded)).to_string()
}
