//! Classifies errors of accept(2).
//!
//! Some concern a single connection, which is closed: the next call may succeed at once. All others mean a shortage of
//! the system (descriptors, memory): the connections stay in the kernel's queue, and calling again at once would only
//! waste processor time, so accepting pauses. That is logged at most once an hour, however often a peer causes it.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tracing::debug;

/// How long accepting pauses on a shortage of descriptors or memory.
pub(crate) const SHORTAGE_PAUSE: Duration = Duration::from_millis(200);

/// The shortest time between two log messages about a shortage, or about the connection limit of one peer.
pub(crate) const LOG_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The accept errors of the listeners that one thread serves.
#[derive(Default)]
pub(crate) struct AcceptErrors {
    logged_at: Option<Instant>,
}

impl AcceptErrors {
    /// Returns how long to pause before the next accept(2); `None` if only this connection failed. Calls `log` at most once in
    /// [`LOG_INTERVAL`].
    pub(crate) fn pause_after(&mut self, error: &io::Error, log: impl FnOnce()) -> Option<Duration> {
        if is_peer_error(error) {
            debug!(%error, "client disconnected before it was accepted");
            return None;
        }
        if self.logged_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            log();
            self.logged_at = Some(Instant::now());
        }
        Some(SHORTAGE_PAUSE)
    }
}

/// Whether accepting failed for this connection only, so that the next call may succeed at once. On Linux, accept(2)
/// also reports network errors that are already pending on the new connection.
fn is_peer_error(error: &io::Error) -> bool {
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
    fn only_a_shortage_pauses_and_it_is_logged_once() {
        let (mut errors, mut logged) = (AcceptErrors::default(), 0);
        for (error, pause) in [
            (Errno::CONNABORTED, None),
            (Errno::MFILE, Some(SHORTAGE_PAUSE)),
            (Errno::HOSTUNREACH, None),
            (Errno::NOMEM, Some(SHORTAGE_PAUSE)),
            (Errno::INVAL, Some(SHORTAGE_PAUSE)),
        ] {
            assert_eq!(
                errors.pause_after(&error.into(), || logged += 1),
                pause,
                "{error}"
            );
        }
        assert_eq!(logged, 1);
    }
}
