use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::hints::{Hint, Hints};
use super::rest;

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
