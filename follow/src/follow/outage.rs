//! A time in which something does not work, of which only the beginning and the end are logged.

use std::time::Duration;

use tokio::time::Instant;

/// An outage, if there is one at the moment.
#[derive(Default)]
pub(super) struct Outage(Option<Instant>);

impl Outage {
    /// Records a failure. Returns whether it is the first of an outage.
    pub(super) fn begin(&mut self) -> bool {
        let is_first = self.0.is_none();
        self.0.get_or_insert_with(Instant::now);
        is_first
    }

    /// Records a success. Returns how long the outage was that it ends, in whole milliseconds.
    pub(super) fn end(&mut self) -> Option<Duration> {
        let elapsed = self.0.take()?.elapsed();
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Some(Duration::from_millis(milliseconds))
    }
}
