//! Runs a program of Postfix (postconf, postmap) without a shell, with limits on time and output.
//!
//! Its output is a [`Secret`], because it may contain passwords. A program that prints nothing for too long, runs too
//! long or prints too much is killed, and its output is discarded. Standard error beyond its limit is read and
//! discarded, so that the program does not block.
//!
//! Limits: processes that the program has started are not killed.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::os::secret::Secret;

/// The directory of Postfix's programs, which the PATH of an unprivileged user often lacks.
const FALLBACK_DIRECTORY: &str = "/usr/sbin";

/// The size of a read, in bytes.
const READ_SIZE: usize = 64 << 10;

/// How many chunks may wait for the consumer.
const MAX_WAITING_CHUNKS: usize = 4;

/// How many bytes of standard error are kept.
const MAX_STDERR: usize = 64 << 10;

/// How often a program that has closed its output is checked for its exit.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The limits of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long the program may print nothing.
    pub idle_timeout: Duration,
    /// How long the program may run.
    pub total_timeout: Duration,
    /// How many bytes the program may print.
    pub max_output: usize,
}

/// Why a program has no usable output. Never repeats its output.
#[derive(Debug, Error)]
pub enum RunError {
    /// The program does not exist, or cannot be executed.
    #[error("{0}")]
    NotStarted(#[source] io::Error),
    /// The program printed nothing, or did not exit, within this time.
    #[error("did not finish within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// The program printed more than this number of bytes.
    #[error("printed more than {} MiB", .0 >> 20)]
    TooMuchOutput(usize),
}

/// A program that was not killed and has exited.
pub(super) struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Secret,
    /// Its standard error.
    pub stderr: String,
}

/// Runs the program `name` for the Postfix with this configuration directory, or with the default one. Looks for the
/// program in PATH, then in [`FALLBACK_DIRECTORY`].
pub(super) fn run(
    name: &str,
    config_directory: Option<&Path>,
    arguments: &[&str],
    limits: Limits,
) -> Result<Finished, RunError> {
    let directory = config_directory.map(|directory| [OsStr::new("-c"), directory.as_os_str()]);
    let start = |program: &Path| {
        Command::new(program)
            .args(directory.iter().flatten())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let mut child = start(Path::new(name))
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => start(&Path::new(FALLBACK_DIRECTORY).join(name)).map_err(|_| error),
            _ => Err(error),
        })
        .map_err(RunError::NotStarted)?;
    let result = read_until_exit(&mut child, limits);
    if result.is_err() {
        // Killing fails only if the program has just exited.
        let _ = child.kill();
        let _ = child.wait();
    }
    result
}

/// Reads both pipes until the program has exited.
fn read_until_exit(child: &mut Child, limits: Limits) -> Result<Finished, RunError> {
    let deadline = Instant::now() + limits.total_timeout;
    let remaining = || deadline.saturating_duration_since(Instant::now());
    let timeout_error = || {
        RunError::TimedOut(if remaining().is_zero() {
            limits.total_timeout
        } else {
            limits.idle_timeout
        })
    };
    let chunks = read_chunks(child.stdout.take());
    let stderr = read_beginning(child.stderr.take());
    let mut stdout = Secret::default();
    loop {
        match chunks.recv_timeout(limits.idle_timeout.min(remaining())) {
            Ok(chunk) => stdout.append(chunk.expose()),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => return Err(timeout_error()),
        }
        if stdout.len() > limits.max_output {
            return Err(RunError::TooMuchOutput(limits.max_output));
        }
    }
    let stderr = stderr
        .recv_timeout(limits.idle_timeout.min(remaining()))
        .map_err(|_| timeout_error())?;
    let until = deadline.min(Instant::now() + limits.idle_timeout);
    loop {
        if let Some(status) = child.try_wait().map_err(RunError::NotStarted)? {
            return Ok(Finished {
                status,
                stdout,
                stderr,
            });
        }
        if Instant::now() >= until {
            return Err(timeout_error());
        }
        thread::sleep(EXIT_POLL_INTERVAL);
    }
}

/// Reads a pipe in chunks on a thread of its own.
fn read_chunks(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Secret> {
    let (sender, receiver) = mpsc::sync_channel(MAX_WAITING_CHUNKS);
    thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        loop {
            let mut chunk = Secret::from(vec![0; READ_SIZE]);
            match pipe.read(chunk.expose_mut()) {
                Ok(0) => return,
                Ok(len) => {
                    chunk.truncate(len);
                    if sender.send(chunk).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Not reported: the reader sees truncated output.
                Err(_) => return,
            }
        }
    });
    receiver
}

/// Reads a pipe to its end on a thread of its own, and keeps the beginning.
fn read_beginning(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for chunk in read_chunks(pipe) {
            let room = MAX_STDERR.saturating_sub(kept.len());
            kept.extend(chunk.expose().iter().take(room));
        }
        let _ = sender.send(String::from_utf8_lossy(&kept).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Limits, RunError, run};

    const LIMITS: Limits = Limits {
        idle_timeout: Duration::from_millis(200),
        total_timeout: Duration::from_secs(10),
        max_output: 1 << 20,
    };

    fn sh(script: &str, limits: Limits) -> Result<(Option<i32>, Vec<u8>, String), RunError> {
        let finished = run("sh", None, &["-c", script], limits)?;
        Ok((
            finished.status.code(),
            finished.stdout.expose().to_vec(),
            finished.stderr,
        ))
    }

    #[test]
    fn the_output_and_the_exit_status_of_a_program_are_complete() {
        let patient = Limits {
            idle_timeout: Duration::from_secs(10),
            ..LIMITS
        };
        let (code, stdout, stderr) = sh("head -c 300000 /dev/zero; echo no >&2; exit 3", patient).unwrap();
        assert_eq!((code, stdout.len(), stderr.as_str()), (Some(3), 300_000, "no\n"));
        let (_, stdout, stderr) = sh("head -c 9000000 /dev/zero >&2; echo end", patient).unwrap();
        assert_eq!((stdout.as_slice(), stderr.len()), (&b"end\n"[..], 64 << 10));
        let nowhere = run("no-such-program-of-postfix", None, &[], patient);
        assert!(matches!(nowhere, Err(RunError::NotStarted(_))));
    }

    #[test]
    fn a_program_that_hangs_or_exceeds_a_limit_is_killed() {
        let started = Instant::now();
        for script in ["exec sleep 60", "exec sleep 60 >&-", "exec >&- 2>&-; sleep 60"] {
            let ended = sh(script, LIMITS);
            assert!(
                matches!(ended, Err(RunError::TimedOut(limit)) if limit == LIMITS.idle_timeout),
                "{script}"
            );
        }
        let brief = Limits {
            idle_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(1),
            ..LIMITS
        };
        let ended = sh("while :; do echo; sleep 0.1; done", brief);
        assert!(matches!(ended, Err(RunError::TimedOut(limit)) if limit == brief.total_timeout));
        let patient = Limits {
            idle_timeout: Duration::from_secs(10),
            ..LIMITS
        };
        assert!(matches!(sh("exec yes", patient), Err(RunError::TooMuchOutput(_))));
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
