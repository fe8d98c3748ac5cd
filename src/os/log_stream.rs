//! The output stream of the log, which never blocks a thread for long.
//!
//! A pipe and the journal's socket hold a limited number of lines. While one is full, the thread that answers lookups
//! drops its lines at once. Every other thread waits up to [`WRITE_TIMEOUT`] for room, and after one timeout all drop
//! their lines until there is room again. The first line that is written is followed by one with the number of dropped
//! lines.
//!
//! Limits: poll(2) says whether there is room. Another process that writes to the same pipe at the same moment may take
//! that room, and the write then blocks.

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
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The bytes that a write does not block for where poll(2) reports room: `PIPE_BUF` of pipe(7).
const CHUNK_SIZE: usize = 4096;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(true) };
}

/// Makes the calling thread drop a log line where there is no room, instead of waiting.
pub(crate) fn never_block() {
    MAY_BLOCK.set(false);
}

/// An output stream of log lines.
pub struct LogStream<W> {
    output: W,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Lines dropped since the last complete line.
    lost: u64,
    /// Whether a thread has waited in vain, and there has been no room since.
    is_blocked: bool,
    /// Whether the last write ended within a line.
    is_mid_line: bool,
}

impl<W: AsFd> LogStream<W> {
    /// Creates a stream of lines to this file.
    pub fn new(output: W) -> Self {
        Self {
            output,
            state: Mutex::default(),
        }
    }

    /// Writes a line, or drops it. Returns the number of lines dropped before one that is written, and otherwise 0.
    fn write_line(&self, line: &[u8]) -> u64 {
        let deadline = MAY_BLOCK.get().then(|| Instant::now() + WRITE_TIMEOUT);
        loop {
            let remaining = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if self.is_writable_within(Duration::ZERO) {
                    state.is_blocked = false;
                    return self.write(line, &mut state);
                }
                let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                state.is_blocked |= remaining.is_some_and(|remaining| remaining.is_zero());
                match remaining {
                    Some(remaining) if !state.is_blocked => remaining,
                    _ => {
                        state.lost += 1;
                        return 0;
                    }
                }
            };
            self.is_writable_within(remaining);
        }
    }

    fn write(&self, line: &[u8], state: &mut State) -> u64 {
        let line_end: &[u8] = if state.is_mid_line { b"\n" } else { b"" };
        for chunk in [line_end].into_iter().chain(line.chunks(CHUNK_SIZE)) {
            let mut chunk = chunk;
            while !chunk.is_empty() {
                let written = if self.is_writable_within(Duration::ZERO) {
                    write(&self.output, chunk)
                } else {
                    Err(Errno::AGAIN)
                };
                match written {
                    Ok(length) => {
                        state.is_mid_line = true;
                        chunk = chunk.get(length..).unwrap_or_default();
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
        state.is_mid_line = false;
        mem::take(&mut state.lost)
    }

    /// Returns whether a write would not block, waiting for at most `time`. A closed stream does not block either.
    fn is_writable_within(&self, time: Duration) -> bool {
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut poll_fds = [PollFd::new(&self.output, PollFlags::OUT)];
        // A failure of poll(2) is left to the write to report.
        poll(&mut poll_fds, Some(&time)).map_or_else(|error| error != Errno::INTR, |ready| ready > 0)
    }
}

impl<W: AsFd> Write for &LogStream<W> {
    /// Writes one line, whole, or drops it. Never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = self.write_line(line);
        if lost > 0 {
            warn!(lost, "log messages lost, because the log output was blocked");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: AsFd + 'a> MakeWriter<'a> for LogStream<W> {
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

    use super::{CHUNK_SIZE, LogStream, WRITE_TIMEOUT, never_block};

    fn pipe_stream() -> (PipeReader, LogStream<PipeWriter>) {
        let (reader, writer) = pipe().unwrap();
        (reader, LogStream::new(writer))
    }

    /// Writes lines as the thread that answers lookups does, until one is dropped. Returns the number of lines written.
    fn fill(stream: &LogStream<PipeWriter>, line: &[u8]) -> usize {
        thread::scope(|scope| {
            let filling = scope.spawn(|| {
                never_block();
                let mut written = 0;
                while {
                    stream.write_line(line);
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
    fn full_pipe_stream() -> (PipeReader, LogStream<PipeWriter>, usize) {
        let (reader, stream) = pipe_stream();
        let written = fill(&stream, &[b'x'; CHUNK_SIZE]);
        assert!(written > 1);
        (reader, stream, written * CHUNK_SIZE)
    }

    fn read(from: &mut PipeReader, length: usize) -> Vec<u8> {
        let mut text = vec![0; length];
        from.read_exact(&mut text).unwrap();
        text
    }

    #[test]
    fn lines_are_written_whole_and_in_order() {
        let (mut reader, stream) = pipe_stream();
        let long = [&vec![b'x'; 3 * CHUNK_SIZE][..], b"\n"].concat();
        for line in [b"one\n".as_slice(), &long, b"two\n"] {
            assert_eq!(stream.write_line(line), 0);
        }
        drop(stream);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_eq!(text, [b"one\n", &long[..], b"two\n"].concat());
    }

    #[test]
    fn a_thread_that_never_blocks_drops_a_line_at_once_and_the_next_line_reports_the_number() {
        let (mut reader, stream, written) = full_pipe_stream();
        thread::scope(|scope| {
            scope.spawn(|| {
                never_block();
                assert_eq!(stream.write_line(b"lost, too\n"), 0);
            });
        });
        read(&mut reader, written);
        assert_eq!(stream.write_line(b"new\n"), 2);
        assert_eq!(stream.write_line(b"newer\n"), 0);
        assert_eq!(read(&mut reader, 10), b"new\nnewer\n");
    }

    #[test]
    fn a_thread_that_may_block_writes_its_line_once_there_is_room() {
        let (mut reader, stream, written) = full_pipe_stream();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| stream.write_line(b"new\n"));
            read(&mut reader, written);
            assert_eq!(waiting.join().unwrap(), 1);
        });
        assert_eq!(read(&mut reader, 4), b"new\n");
    }

    #[test]
    fn no_thread_waits_again_while_the_log_is_not_read() {
        let (mut reader, stream, written) = full_pipe_stream();
        let begun = Instant::now();
        assert_eq!(stream.write_line(b"one\n"), 0);
        assert!(begun.elapsed() >= WRITE_TIMEOUT);
        let begun = Instant::now();
        for _ in 0..1000 {
            assert_eq!(stream.write_line(b"more\n"), 0);
        }
        assert!(begun.elapsed() < 100 * WRITE_TIMEOUT);
        read(&mut reader, written);
        assert_eq!(stream.write_line(b"new\n"), 1002);
    }

    #[test]
    fn a_line_with_room_for_only_a_part_ends_before_the_next() {
        let (mut reader, stream) = pipe_stream();
        let long = vec![b'x'; 100 * CHUNK_SIZE];
        let begun = Instant::now();
        stream.write_line(&long);
        assert!(begun.elapsed() < Duration::from_secs(60));
        let is_mid_line = || {
            let state = stream.state.lock().unwrap();
            (state.is_mid_line, state.lost)
        };
        assert_eq!(is_mid_line(), (true, 1));
        let mut torn = vec![0; 100 * CHUNK_SIZE];
        let length = reader.read(&mut torn).unwrap();
        assert_eq!(stream.write_line(b"new\n"), 1);
        drop(stream);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(length + rest.len() < long.len());
        assert!(rest.ends_with(b"x\nnew\n") || rest == b"\nnew\n");
    }

    #[test]
    fn a_closed_stream_does_not_block() {
        let (reader, stream) = pipe_stream();
        drop(reader);
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(stream.write_line(b"line\n"), 0);
        }
        assert!(begun.elapsed() < WRITE_TIMEOUT * 50);
    }
}
