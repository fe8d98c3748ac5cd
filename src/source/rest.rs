//! When to read: once the files have come to rest and none is open for writing, or after a time at most.

use std::time::{Duration, Instant};

use super::hints::{Hint, Hints};

/// How long nothing may happen before the files are read: enough for the second of two that are saved together.
const REST: Duration = Duration::from_millis(20);

/// How long one waits for that rest at most.
pub(super) const RESTLESS_AT_MOST: Duration = Duration::from_secs(1);

/// Waits until the files have come to rest and none is open for writing. A request to read now waits for writers
/// only, and the end waits for nothing. A writer is waited for `together` at most, and in all no longer than that: its own
/// file is not read before it is closed, but the others are ([`super::waits`]).
pub(super) fn rest(
    hints: &Hints,
    mut noticed: Option<Hint>,
    together: Duration,
    restless_at_most: Duration,
) -> Option<Hint> {
    let begun = Instant::now();
    let latest = begun + restless_at_most;
    while let Some(hint @ (Hint::Changed | Hint::Reread)) = noticed {
        let now = Instant::now();
        if now >= begun + together {
            break;
        }
        let writer = hints.opened_after(now.checked_sub(together));
        let until = match writer {
            Some(opened) => (opened + together).min(begun + together),
            None if hint == Hint::Reread => break,
            None => (now + REST).min(latest),
        };
        let more = hints.take(until);
        noticed = noticed.max(more);
        if noticed > Some(hint) || Instant::now() < until {
            continue;
        }
        // A program may have begun to write in the last moment, and be waited for from now on.
        if hints.opened_after(Instant::now().checked_sub(together)).is_none() {
            break;
        }
    }
    noticed
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{Hint, Hints, REST, RESTLESS_AT_MOST, rest};
    use crate::source::hints::Place;

    fn place() -> Place {
        Place {
            directory: (1, 1),
            name: "t.cf".into(),
        }
    }

    #[test]
    fn a_writer_is_waited_for_until_it_closes_the_file() {
        let hints = Hints::default();
        hints.written(&place());
        thread::scope(|scope| {
            let closed = scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                let now = Instant::now();
                hints.closed(&place());
                now
            });
            let long = Duration::from_secs(60);
            for hint in [Hint::Changed, Hint::Reread] {
                assert_eq!(rest(&hints, Some(hint), long, RESTLESS_AT_MOST), Some(hint));
            }
            assert!(closed.join().unwrap() <= Instant::now());
        });
    }

    #[test]
    fn changes_within_a_moment_of_each_other_are_one() {
        let hints = Hints::default();
        hints.give(Hint::Changed);
        let begun = Instant::now();
        let long = Duration::from_secs(60);
        assert_eq!(
            rest(&hints, Some(Hint::Changed), long, RESTLESS_AT_MOST),
            Some(Hint::Changed)
        );
        assert!(begun.elapsed() >= REST);
        assert_eq!(hints.take(Instant::now()), None);
    }

    #[test]
    fn writers_without_end_are_waited_for_a_time_in_all() {
        let hints = Hints::default();
        let together = Duration::from_millis(200);
        hints.written(&place());
        let begun = Instant::now();
        assert_eq!(
            rest(&hints, Some(Hint::Changed), together, RESTLESS_AT_MOST),
            Some(Hint::Changed)
        );
        assert!(begun.elapsed() >= together);
        assert_eq!(hints.open().len(), 1);
        // It had its time, and holds up nothing else.
        let again = Instant::now();
        rest(
            &hints,
            Some(Hint::Reread),
            Duration::from_millis(1),
            RESTLESS_AT_MOST,
        );
        assert!(again.elapsed() < together);
    }
}
