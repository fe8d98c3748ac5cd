//! sd_notify(3): one datagram for each notification.
//!
//! A service manager that does not read cannot delay a lookup: sending waits in its task and blocks no thread. (The
//! crates for this protocol block, and most do not support abstract sockets.)

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

/// A notification to the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// The service is ready, after the start or after [`Notification::Reloading`]. With a status line.
    Ready(String),
    /// A requested reload has begun.
    Reloading,
    /// A status line.
    Status(String),
    /// The service is alive.
    Watchdog,
    /// The shutdown has begun.
    Stopping,
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(status) => write!(f, "READY=1\nSTATUS={status}"),
            Self::Reloading => {
                // The time tells the manager that this answers its own signal, and not an earlier one.
                let now = clock_gettime(ClockId::Monotonic);
                let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
                write!(f, "RELOADING=1\nMONOTONIC_USEC={microseconds}")
            }
            Self::Status(status) => write!(f, "STATUS={status}"),
            Self::Watchdog => f.write_str("WATCHDOG=1"),
            Self::Stopping => f.write_str("STOPPING=1"),
        }
    }
}

/// The socket of the service manager.
#[derive(Clone, Debug)]
pub struct NotifySocket {
    address: SocketAddr,
    /// Whether the last notification could not be sent.
    is_failing: bool,
}

impl NotifySocket {
    /// Returns the socket that `NOTIFY_SOCKET` names: a path, or an abstract name after `@`. `None` without the
    /// variable; an invalid value is logged.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        match address(&name) {
            Ok(address) => Some(Self {
                address,
                is_failing: false,
            }),
            Err(error) => {
                warn!(%error, "not notifying the service manager, because NOTIFY_SOCKET is invalid");
                None
            }
        }
    }

    /// Sends a notification, waiting for room. Of consecutive failures, the first is logged. Must be called within a runtime.
    pub async fn send(&mut self, notification: &Notification) {
        let sent = self.try_send(notification).await;
        if let (Err(error), false) = (&sent, self.is_failing) {
            warn!(%error, "cannot notify the service manager");
        }
        self.is_failing = sent.is_err();
    }

    async fn try_send(&self, notification: &Notification) -> io::Result<()> {
        // Connects each time, so that a new manager is found. Sending on a connected socket can be awaited.
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&self.address)?;
        let socket = tokio::net::UnixDatagram::from_std(socket)?;
        socket.send(notification.to_string().as_bytes()).await?;
        Ok(())
    }
}

fn address(name: &OsString) -> io::Result<SocketAddr> {
    match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        Some((b'/', _)) => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither an absolute path nor an abstract name (@NAME)",
        )),
    }
}

/// The moments at which to notify the service manager that the service is alive: twice in its watchdog timeout.
///
/// There are none without a timeout, or if it is set for another process (sd_watchdog_enabled(3)).
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// Begins them. Must be called within a runtime.
    #[must_use]
    pub fn from_environment() -> Self {
        Self(watchdog_interval().map(|every| {
            info!(interval = ?every, "watchdog notifications enabled");
            let mut watchdog = interval(every);
            watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
            watchdog
        }))
    }

    /// Waits for the next one; forever without a watchdog.
    pub async fn tick(&mut self) {
        match &mut self.0 {
            Some(watchdog) => {
                watchdog.tick().await;
            }
            None => pending().await,
        }
    }
}

/// Returns half of the timeout.
fn watchdog_interval() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    if env::var_os("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(u64::from(std::process::id()))
    {
        return None;
    }
    let half = Duration::from_micros(number("WATCHDOG_USEC")?) / 2;
    (!half.is_zero()).then_some(half)
}
