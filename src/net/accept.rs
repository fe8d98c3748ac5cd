//! What errors of accept(2) come to.
//!
//! Some are about one connection, which is gone: the next call may succeed at once. All others mean that the system lacks
//! something (descriptors, memory): the kernel's queue holds the connections, and to call again at once would only burn
//! processor time, so accepting pauses. The log has that once in an hour however often a peer brings it about.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tracing::debug;

/// How long accepting pauses where the machine is short of descriptors or memory.
pub(crate) const SHORTAGE_PAUSE: Duration = Duration::from_millis(200);

/// How soon the log has again that the machine is short, or that a peer has too many connections.
pub(crate) const SAID_AGAIN: Duration = Duration::from_secs(60 * 60);

/// The errors of accepting at listeners that one thread serves.
#[derive(Default)]
pub(crate) struct AcceptErrors {
    logged_at: Option<Instant>,
}

impl AcceptErrors {
    /// How long to wait before accepting again; `None` if only this connection failed. Calls `log` where the error is to
    /// be logged.
    pub(crate) fn pause(&mut self, error: &io::Error, log: impl FnOnce()) -> Option<Duration> {
        if is_of_the_peer(error) {
            debug!("a peer went away before it was accepted: {error}");
            return None;
        }
        if self.logged_at.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
            log();
            self.logged_at = Some(Instant::now());
        }
        Some(SHORTAGE_PAUSE)
    }
}

/// Whether accepting failed because of one connection, which is gone, and the next may do better at once. On Linux,
/// accept(2) also reports an error of the network that the connection had by then.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
        )
    )
}

#[cfg(test)]
mod tests {
    use super::{AcceptErrors, SHORTAGE_PAUSE};
    use rustix::io::Errno;

    #[test]
    fn only_a_shortage_pauses_and_the_log_has_it_once() {
        let (mut errors, mut logged) = (AcceptErrors::default(), 0);
        for (error, pause) in [
            (Errno::CONNABORTED, None),
            (Errno::MFILE, Some(SHORTAGE_PAUSE)),
            (Errno::HOSTUNREACH, None),
            (Errno::NOMEM, Some(SHORTAGE_PAUSE)),
            (Errno::INVAL, Some(SHORTAGE_PAUSE)),
        ] {
            assert_eq!(errors.pause(&error.into(), || logged += 1), pause, "{error}");
        }
        assert_eq!(logged, 1);
    }
}
