//! When the program is ready, and how lags are counted.

use std::time::{Duration, SystemTime};

use tokio::time::advance;

use super::{LAG_BOUNDS, Lag, Outcome, Status, Tables};
use crate::engine::State;

const STALE_AFTER: Duration = Duration::from_secs(60);

fn state() -> State {
    State {
        revision: Some(1),
        version: "a".to_owned(),
        committed: SystemTime::now(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_program_is_ready_while_the_active_tables_are_confirmed() {
    let status = Status::new("postgres://u@db.test/mail".to_owned(), None);
    let reason = || status.report().not_ready_reason(STALE_AFTER);
    assert_eq!(
        reason().unwrap(),
        "no tables are active, and the source has not been read"
    );
    status.disconnected(&"db.test: away");
    assert!(reason().unwrap().ends_with(": db.test: away"));
    status.published(Outcome::Changed, state(), Tables::default());
    assert_eq!(reason(), None);
    advance(STALE_AFTER).await;
    assert_eq!(reason(), None);
    // An error does not end it at once.
    status.disconnected(&"db.test: away again");
    assert_eq!(reason(), None);
    advance(Duration::from_secs(1)).await;
    assert_eq!(
        reason().unwrap(),
        "the active tables were last confirmed 1m 1s ago (setting stale_after: 1m): db.test: away again"
    );
    status.confirmed();
    assert_eq!(reason(), None);
    assert_eq!(status.report().error(), None);
    assert!(status.report().last_error.is_some());
}

#[test]
fn a_lag_is_counted_at_the_first_bound_that_it_does_not_exceed() {
    let mut lag = Lag::default();
    let milliseconds = [0, 25, 26, 600_000, 600_001];
    for each in milliseconds {
        lag.add(Duration::from_millis(each));
    }
    let mut expected = [0; LAG_BOUNDS.len() + 1];
    (expected[0], expected[1], expected[10], expected[11]) = (2, 1, 1, 1);
    assert_eq!(lag.counts, expected);
    assert_eq!(lag.sum, Duration::from_millis(milliseconds.iter().sum()));
}

#[test]
fn a_commit_in_the_future_by_the_clock_of_another_host_has_no_lag() {
    let status = Status::new("postgres://u@db.test/mail".to_owned(), None);
    status.confirmed();
    let future = State {
        committed: SystemTime::now() + Duration::from_secs(3600),
        ..state()
    };
    status.published(Outcome::Changed, future, Tables::default());
    assert_eq!(
        (status.report().lag.counts[0], status.report().lag.sum),
        (1, Duration::ZERO)
    );
}
