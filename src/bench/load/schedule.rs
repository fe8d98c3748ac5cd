//! When requests are due, and which of them count.

use super::Load;
use crate::bench::number::{float, nanos, whole};

/// When what is due. Nanoseconds since the load began.
pub(super) struct Schedule {
    pub(super) warm_until: u64,
    pub(super) end: u64,
    /// Nanoseconds from one request to the next, and how many there are.
    pub(super) open: Option<(f64, u64)>,
}

impl Schedule {
    pub(super) fn of(load: &Load) -> Self {
        let warm_until = nanos(load.warm_up);
        let end = load
            .duration
            .map_or(u64::MAX, |duration| warm_until.saturating_add(nanos(duration)));
        let open = load.rate.map(|rate| {
            let between = 1e9 / rate;
            let until = |time: u64| whole((float(time) / between).ceil());
            let by_count = load
                .count
                .map_or(u64::MAX, |count| until(warm_until).saturating_add(count));
            (between, until(end).min(by_count))
        });
        Self {
            warm_until,
            end,
            open,
        }
    }

    /// When the n-th request of the open loop is due.
    pub(super) fn due(between: f64, number: u64) -> u64 {
        whole(float(number) * between)
    }
}
