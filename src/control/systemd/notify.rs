//! sd_notify(3): one datagram for each thing that the service manager should know.
//!
//! A service manager that does not read cannot hold up a lookup: sending waits in its task and blocks no thread. (The
//! crates that speak this protocol block, and most do not know abstract sockets.)

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// What the service manager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The service does its work, at the start or after [`Notice::Reloading`]. With a line for people.
    Ready(String),
    /// It reads its files again because it was told to.
    Reloading,
    /// A line for people.
    Status(String),
    /// It lives.
    Watchdog,
    /// It is about to end.
    Stopping,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(status) => write!(f, "READY=1\nSTATUS={status}"),
            Self::Reloading => {
                // By this the manager knows that it is the answer to its own signal, and not to an earlier one.
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

/// Where the service manager listens.
#[derive(Clone, Debug)]
pub(super) struct NotifySocket {
    address: SocketAddr,
}

impl NotifySocket {
    /// The socket that `NOTIFY_SOCKET` names: a path, or with `@` in front an abstract name. `None` without the variable;
    /// where it names anything else, the log has it.
    pub(super) fn from_environment() -> Option<Self> {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        match address(&name) {
            Ok(address) => Some(Self { address }),
            Err(error) => {
                warn!("NOTIFY_SOCKET names no socket, so the service manager will hear nothing: {error}");
                None
            }
        }
    }

    /// Sends one notice, once there is room for it. Must be called within a runtime.
    pub(super) async fn send(&self, notice: &Notice) -> io::Result<()> {
        // Connected anew each time, so that a manager that was replaced is found. What is connected can be awaited.
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&self.address)?;
        let socket = tokio::net::UnixDatagram::from_std(socket)?;
        socket.send(notice.to_string().as_bytes()).await?;
        Ok(())
    }
}

fn address(name: &OsString) -> io::Result<SocketAddr> {
    match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        Some((b'/', _)) => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a path from / on nor an abstract name with @ in front",
        )),
    }
}

/// How often the service manager wants to hear that the service lives: half the time after which it acts.
///
/// `None` where it does not ask, or asks another process (sd_watchdog_enabled(3)).
pub(super) fn watchdog_interval() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    if env::var_os("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(u64::from(std::process::id()))
    {
        return None;
    }
    let half = Duration::from_micros(number("WATCHDOG_USEC")?) / 2;
    (!half.is_zero()).then_some(half)
}
