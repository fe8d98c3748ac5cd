//! When to read: after changes have stopped and no file is open for writing, or after a maximum time.

use std::time::{Duration, Instant};

use super::reload_queue::{ReloadQueue, Trigger};

/// How long nothing may change before the files are read: enough for the second of two files that are saved together.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// The longest wait for that, even if changes never stop.
pub(super) const DEBOUNCE_MAX: Duration = Duration::from_secs(1);

/// Waits until changes have stopped and no file is open for writing. After lost events, when a writer may be unknown,
/// changes must have stopped for longer. A requested reload waits for known writers only, a shutdown for nothing.
///
/// `writer_wait` limits the wait for one writer, and the wait for all: an open file itself is read after it is closed, but
/// the other files are not held up any longer ([`super::waits`]).
pub(super) fn debounce(
    queue: &ReloadQueue,
    mut pending: Option<Trigger>,
    writer_wait: Duration,
    debounce_max: Duration,
) -> Option<Trigger> {
    let begun = Instant::now();
    let debounce_end = begun + debounce_max;
    while let Some(last @ (Trigger::Changed | Trigger::Reload)) = pending {
        let now = Instant::now();
        if now >= begun + writer_wait {
            break;
        }
        let writer = queue.last_writer_since(now.checked_sub(writer_wait));
        let until = match writer {
            Some(opened) => (opened + writer_wait).min(begun + writer_wait),
            None if last == Trigger::Reload => break,
            None => match queue.incomplete_until() {
                Some(until) => until.min(begun + writer_wait),
                None => (now + DEBOUNCE).min(debounce_end),
            },
        };
        let more = queue.wait(until);
        pending = pending.max(more);
        if pending > Some(last) || Instant::now() < until {
            continue;
        }
        // A program may have opened a file just now; then wait for it.
        if queue
            .last_writer_since(Instant::now().checked_sub(writer_wait))
            .is_none()
        {
            break;
        }
    }
    pending
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{DEBOUNCE, DEBOUNCE_MAX, ReloadQueue, Trigger, debounce};
    use crate::source::reload_queue::WatchedName;

    fn name() -> WatchedName {
        WatchedName {
            directory: (1, 1),
            name: "t.cf".into(),
        }
    }

    #[test]
    fn a_reload_waits_until_a_writer_closes_the_file() {
        let queue = ReloadQueue::default();
        queue.writer_started(&name());
        thread::scope(|scope| {
            let closed = scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                let now = Instant::now();
                queue.writer_finished(&name());
                now
            });
            let long = Duration::from_secs(60);
            for trigger in [Trigger::Changed, Trigger::Reload] {
                assert_eq!(debounce(&queue, Some(trigger), long, DEBOUNCE_MAX), Some(trigger));
            }
            assert!(closed.join().unwrap() <= Instant::now());
        });
    }

    #[test]
    fn changes_in_quick_succession_cause_one_reload() {
        let queue = ReloadQueue::default();
        queue.notify(Trigger::Changed);
        let begun = Instant::now();
        let long = Duration::from_secs(60);
        assert_eq!(
            debounce(&queue, Some(Trigger::Changed), long, DEBOUNCE_MAX),
            Some(Trigger::Changed)
        );
        assert!(begun.elapsed() >= DEBOUNCE);
        assert_eq!(queue.wait(Instant::now()), None);
    }

    #[test]
    fn after_lost_events_changes_must_have_stopped_for_longer() {
        let queue = ReloadQueue::default();
        queue.events_lost();
        let quiet_at = queue.incomplete_until().unwrap();
        let changed = Some(Trigger::Changed);
        assert_eq!(
            debounce(&queue, changed, Duration::from_secs(60), DEBOUNCE_MAX),
            changed
        );
        assert!(Instant::now() >= quiet_at);
        // But other files do not wait for longer than for a writer.
        queue.events_lost();
        let begun = Instant::now();
        assert_eq!(debounce(&queue, changed, DEBOUNCE, DEBOUNCE_MAX), changed);
        assert!(begun.elapsed() < DEBOUNCE_MAX);
    }

    #[test]
    fn a_writer_that_never_closes_delays_a_reload_for_a_limited_time() {
        let queue = ReloadQueue::default();
        let writer_wait = Duration::from_millis(200);
        queue.writer_started(&name());
        let begun = Instant::now();
        assert_eq!(
            debounce(&queue, Some(Trigger::Changed), writer_wait, DEBOUNCE_MAX),
            Some(Trigger::Changed)
        );
        assert!(begun.elapsed() >= writer_wait);
        assert_eq!(queue.writers().len(), 1);
        // Its time is over, so it delays nothing else.
        let again = Instant::now();
        debounce(
            &queue,
            Some(Trigger::Reload),
            Duration::from_millis(1),
            DEBOUNCE_MAX,
        );
        assert!(again.elapsed() < writer_wait);
    }
}
