//! Where the log is written to: a stream that nobody reads holds nobody up.
//!
//! A pipe and the journal's socket have room for some lines. While one is full, the thread that answers lookups loses its
//! lines at once, and every other waits a second for room, but not again before there has been some. The first line
//! that gets through is followed by one that says how many were lost.
//!
//! Limits: whether there is room is what poll(2) says, and another process that writes to the same pipe at that very
//! moment may take it, so that a write waits after all.

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

/// So much can be written where poll(2) says that there is room: `PIPE_BUF` of pipe(7).
const PIECE: usize = 4096;

thread_local! {
    static WAITS: Cell<bool> = const { Cell::new(true) };
}

/// The calling thread never waits for room in the log.
pub(crate) fn never_wait() {
    WAITS.set(false);
}

/// A stream of lines.
pub struct Stream<W> {
    to: W,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Lines since the last one that was written whole.
    lost: u64,
    /// Somebody has waited in vain, and there has been no room since.
    is_stuck: bool,
    /// What was written last is the beginning of a line.
    is_torn: bool,
}

impl<W: AsFd> Stream<W> {
    /// A stream of lines to this file.
    pub fn new(to: W) -> Self {
        Self {
            to,
            state: Mutex::default(),
        }
    }

    /// Writes a line, or loses it. Gives the number of those that were lost before one that is written.
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
                    // Nobody will ever read it.
                    Err(_) => return 0,
                }
            }
        }
        state.is_torn = false;
        mem::take(&mut state.lost)
    }

    /// Whether a piece can be written, or will never be, without waiting for longer.
    fn has_room_within(&self, time: Duration) -> bool {
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut asked = [PollFd::new(&self.to, PollFlags::OUT)];
        // An error is one of the system, and the write will say so.
        poll(&mut asked, Some(&time)).map_or_else(|error| error != Errno::INTR, |ready| ready > 0)
    }
}

impl<W: AsFd> Write for &Stream<W> {
    /// One line, whole.
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

    /// Writes until there is no room, as the thread that answers does, and gives the number of lines that got through.
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

    /// Without room for another line, and with so many bytes in the pipe.
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
