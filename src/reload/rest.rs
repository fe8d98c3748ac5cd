//! When to read: once the files have come to rest and nobody writes to them, or after the patience has run out.

use std::time::{Duration, Instant};

use super::hints::{Hint, Hints};

/// How long nothing may happen before the files are read: enough for the second of two that are saved together.
const REST: Duration = Duration::from_millis(20);

/// How long one waits for that rest at most.
pub(super) const RESTLESS_AT_MOST: Duration = Duration::from_secs(1);

/// Waits until the files have come to rest and nobody writes to them. Whoever asks to read now waits for writers
/// only, and the end waits for nothing. Also says whether a writer took longer than the patience lasts.
pub(super) fn rest(
    hints: &Hints,
    mut noticed: Option<Hint>,
    patience: Duration,
    restless_at_most: Duration,
) -> (Option<Hint>, bool) {
    let latest = Instant::now() + restless_at_most;
    while let Some(hint @ (Hint::Changed | Hint::Reread)) = noticed {
        let open = hints.open_since();
        let until = match open {
            Some(since) => since + patience,
            None if hint == Hint::Reread => break,
            None => (Instant::now() + REST).min(latest),
        };
        let more = hints.take(until);
        noticed = noticed.max(more);
        if noticed > Some(hint) || Instant::now() < until {
            continue;
        }
        if open.is_some() {
            hints.forget_open();
            return (noticed, true);
        }
        // Somebody may have begun to write in the last moment, and be waited for from now on.
        if hints.open_since().is_none() {
            break;
        }
    }
    (noticed, false)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{Hint, Hints, rest};

    #[test]
    fn a_writer_that_begins_when_the_wait_ends_is_not_forgotten() {
        let hints = Hints::default();
        let name = OsStr::new("t.cf");
        // Of the writer: whether it is noted for certain, and how often it has closed the file.
        let (writing, closed, done) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    hints.written(name);
                    writing.store(true, Ordering::SeqCst);
                    thread::sleep(Duration::from_micros(200));
                    writing.store(false, Ordering::SeqCst);
                    closed.fetch_add(1, Ordering::SeqCst);
                    hints.closed(name);
                }
            });
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(1) {
                let restless_at_most = Duration::from_micros(500);
                let patience = Duration::from_secs(60);
                let (_, impatient) = rest(&hints, Some(Hint::Changed), patience, restless_at_most);
                assert!(!impatient);
                let before = closed.load(Ordering::SeqCst);
                let is_forgotten = writing.load(Ordering::SeqCst) && hints.open_since().is_none();
                let is_the_same = writing.load(Ordering::SeqCst) && closed.load(Ordering::SeqCst) == before;
                if is_forgotten && is_the_same {
                    done.store(true, Ordering::SeqCst);
                    panic!("somebody writes, and nobody knows any more");
                }
            }
            done.store(true, Ordering::SeqCst);
        });
    }
}
