//! The output stream of the log, which never blocks a thread for long.
//!
//! A pipe and the journal's socket hold a limited number of lines. While one is full, the thread that answers lookups
//! drops its lines at once. Every other thread waits up to [`WRITE_TIMEOUT`] for room, and after one timeout all drop
//! their lines until there is room again. The first line that is written is followed by one with the number of dropped
//! lines.
//!
//! Limits: poll(2) says whether there is room. Another process that writes to the same pipe at the same moment may take
//! that room, and the write then blocks. moment may take it, so that a write waits after all.

use std::cell::Cell;
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for room.
const PATIENCE: Duration = Duration::from_secs(1);

/// The bytes that a write does not block for where poll(2) reports room: `PIPE_BUF` of pipe(7).
const PIECE: usize = 4096;

thread_local! {
    static WAITS: Cell<bool> = const { Cell::new(true) };
}

/// Makes the calling thread drop a log line where there is no room, instead of waiting.
pub(crate) fn never_wait() {
    WAITS.set(false);
}

/// An output stream of log lines.
pub struct Stream<W> {
    to: W,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Lines dropped since the last complete line.
    lost: u64,
    /// Whether a thread has waited in vain, and there has been no room since.
    is_stuck: bool,
    /// Whether the last write ended within a line.
    is_torn: bool,
}

impl<W: AsFd> Stream<W> {
    /// Creates a stream of lines to this file.
    pub fn new(to: W) -> Self {
        Self {
            to,
            state: Mutex::default(),
        }
    }

    /// Writes a line, or drops it. Returns the number of lines dropped before one that is written, and otherwise 0.
    fn put(&self, line: &[u8]) -> u64 {
        let waits_until = WAITS.get().then(|| Instant::now() + PATIENCE);
        loop {
            let left = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if self.has_room_within(Duration::ZERO) {
                    state.is_stuck = false;
                    return self.write(line, &mut state);
                }
                let left = waits_until.map(|until| until.saturating_duration_since(Instant::now()));
                state.is_stuck |= left.is_some_and(|left| left.is_zero());
                match left {
                    Some(left) if !state.is_stuck => left,
                    _ => {
                        state.lost += 1;
                        return 0;
                    }
                }
            };
            self.has_room_within(left);
        }
    }

    fn write(&self, line: &[u8], state: &mut State) -> u64 {
        let end_of_torn: &[u8] = if state.is_torn { b"\n" } else { b"" };
        for piece in [end_of_torn].into_iter().chain(line.chunks(PIECE)) {
            let mut piece = piece;
            while !piece.is_empty() {
                let written = if self.has_room_within(Duration::ZERO) {
                    write(&self.to, piece)
                } else {
                    Err(Errno::AGAIN)
                };
                match written {
                    Ok(length) => {
                        state.is_torn = true;
                        piece = piece.get(length..).unwrap_or_default();
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        state.lost += 1;
                        return 0;
                    }
                    // The reader has closed the stream: no line will be read.
                    Err(_) => return 0,
                }
            }
        }
        state.is_torn = false;
        mem::take(&mut state.lost)
    }

    /// Returns whether a write would not block, waiting for at most `time`. A closed stream does not block either.
    fn has_room_within(&self, time: Duration) -> bool {
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut asked = [PollFd::new(&self.to, PollFlags::OUT)];
        // A failure of poll(2) is left to the write to report.
        poll(&mut asked, Some(&time)).map_or_else(|error| error != Errno::INTR, |ready| ready > 0)
    }
}

impl<W: AsFd> Write for &Stream<W> {
    /// Writes one line, whole, or drops it. Never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = self.put(line);
        if lost > 0 {
            warn!(lost, "nobody read the log in time, and lines of it are lost");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: AsFd + 'a> MakeWriter<'a> for Stream<W> {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read, pipe};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{PATIENCE, PIECE, Stream, never_wait};

    fn streamed() -> (PipeReader, Stream<PipeWriter>) {
        let (reader, writer) = pipe().unwrap();
        (reader, Stream::new(writer))
    }

    /// Writes lines as the thread that answers lookups does, until one is dropped. Returns the number of lines written.
    fn fill(stream: &Stream<PipeWriter>, line: &[u8]) -> usize {
        thread::scope(|scope| {
            let filling = scope.spawn(|| {
                never_wait();
                let mut written = 0;
                while {
                    stream.put(line);
                    stream.state.lock().unwrap().lost == 0
                } {
                    written += 1;
                }
                written
            });
            filling.join().unwrap()
        })
    }

    /// Returns a stream without room for another line, and the number of bytes in its pipe.
    fn full() -> (PipeReader, Stream<PipeWriter>, usize) {
        let (reader, stream) = streamed();
        let written = fill(&stream, &[b'x'; PIECE]);
        assert!(written > 1);
        (reader, stream, written * PIECE)
    }

    fn read(from: &mut PipeReader, length: usize) -> Vec<u8> {
        let mut text = vec![0; length];
        from.read_exact(&mut text).unwrap();
        text
    }

    #[test]
    fn lines_are_written_whole_and_in_order() {
        let (mut reader, stream) = streamed();
        let long = [&vec![b'x'; 3 * PIECE][..], b"\n"].concat();
        for line in [b"one\n".as_slice(), &long, b"two\n"] {
            assert_eq!(stream.put(line), 0);
        }
        drop(stream);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_eq!(text, [b"one\n", &long[..], b"two\n"].concat());
    }

    #[test]
    fn who_may_not_wait_loses_a_line_at_once_and_the_next_that_gets_through_says_how_many() {
        let (mut reader, stream, written) = full();
        thread::scope(|scope| {
            scope.spawn(|| {
                never_wait();
                assert_eq!(stream.put(b"lost, too\n"), 0);
            });
        });
        read(&mut reader, written);
        assert_eq!(stream.put(b"new\n"), 2);
        assert_eq!(stream.put(b"newer\n"), 0);
        assert_eq!(read(&mut reader, 10), b"new\nnewer\n");
    }

    #[test]
    fn who_may_wait_gets_its_line_through_once_somebody_reads() {
        let (mut reader, stream, written) = full();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| stream.put(b"new\n"));
            read(&mut reader, written);
            assert_eq!(waiting.join().unwrap(), 1);
        });
        assert_eq!(read(&mut reader, 4), b"new\n");
    }

    #[test]
    fn nobody_waits_twice_for_a_reader_that_does_not_come() {
        let (mut reader, stream, written) = full();
        let begun = Instant::now();
        assert_eq!(stream.put(b"one\n"), 0);
        assert!(begun.elapsed() >= PATIENCE);
        let begun = Instant::now();
        for _ in 0..1000 {
            assert_eq!(stream.put(b"more\n"), 0);
        }
        assert!(begun.elapsed() < 100 * PATIENCE);
        read(&mut reader, written);
        assert_eq!(stream.put(b"new\n"), 1002);
    }

    #[test]
    fn a_line_of_which_only_a_part_has_room_ends_before_the_next() {
        let (mut reader, stream) = streamed();
        let long = vec![b'x'; 100 * PIECE];
        let begun = Instant::now();
        stream.put(&long);
        assert!(begun.elapsed() < Duration::from_secs(60));
        let is_torn = || {
            let state = stream.state.lock().unwrap();
            (state.is_torn, state.lost)
        };
        assert_eq!(is_torn(), (true, 1));
        let mut torn = vec![0; 100 * PIECE];
        let length = reader.read(&mut torn).unwrap();
        assert_eq!(stream.put(b"new\n"), 1);
        drop(stream);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(length + rest.len() < long.len());
        assert!(rest.ends_with(b"x\nnew\n") || rest == b"\nnew\n");
    }

    #[test]
    fn a_stream_that_is_closed_is_no_reason_to_wait() {
        let (reader, stream) = streamed();
        drop(reader);
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(stream.put(b"line\n"), 0);
        }
        assert!(begun.elapsed() < PATIENCE * 50);
    }
}
