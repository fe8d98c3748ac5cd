//! Sockets to the hosts of the setting `source`.
//!
//! Each address of a name is tried. Without TLS, an address must be a loopback address whatever the name is: the name `localhost`
//! may lead anywhere.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::errors::hang;
use crate::engine::EngineErrorKind;
use crate::settings::Tls;
use crate::settings::source::Host;

/// The time without traffic after which the kernel asks whether the other end is there. The polls are more frequent by default.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Returns the host as the setting names it, for errors.
pub(super) fn name(host: &Host) -> String {
    match host {
        Host::Tcp(name, port) if name.contains(':') => format!("[{name}]:{port}"),
        Host::Tcp(name, port) => format!("{name}:{port}"),
        Host::Unix(directory, port) => socket(directory, *port).to_string_lossy().into_owned(),
    }
}

fn socket(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

/// Connects to a UNIX socket.
pub(super) async fn connect_unix(
    directory: &Path,
    port: u16,
    hang_after: Duration,
) -> Result<UnixStream, EngineErrorKind> {
    match timeout(hang_after, UnixStream::connect(socket(directory, port))).await {
        Ok(stream) => stream.map_err(|error| EngineErrorKind::Connect(error.to_string())),
        Err(_) => Err(hang(hang_after)),
    }
}

/// Returns the addresses of a name.
pub(super) async fn addresses(
    name: &str,
    port: u16,
    hang_after: Duration,
) -> Result<Vec<SocketAddr>, EngineErrorKind> {
    let no_address = |reason: String| EngineErrorKind::NoAddress(reason);
    let found = match timeout(hang_after, lookup_host((name, port))).await {
        Ok(found) => found.map_err(|error| no_address(error.to_string()))?,
        Err(_) => return Err(hang(hang_after)),
    };
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        return Err(no_address("the answer is empty".to_owned()));
    }
    Ok(addresses)
}

/// Connects to an address.
pub(super) async fn connect_tcp(
    address: SocketAddr,
    tls: Tls,
    hang_after: Duration,
) -> Result<TcpStream, EngineErrorKind> {
    if tls == Tls::Off && !is_loopback(address.ip()) {
        return Err(EngineErrorKind::PlainNetwork(address.ip().to_string()));
    }
    let stream = match timeout(hang_after, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(|error| EngineErrorKind::Connect(error.to_string()))?,
        Err(_) => return Err(hang(hang_after)),
    };
    // Without them, the connection works as well.
    let _ = stream.set_nodelay(true);
    let _ = set_socket_keepalive(&stream, true);
    let _ = set_tcp_keepidle(&stream, KEEPALIVE);
    Ok(stream)
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;

    use super::{connect_tcp, name};
    use crate::engine::EngineErrorKind;
    use crate::settings::Tls;
    use crate::settings::source::Host;

    async fn connect(address: SocketAddr) -> Result<(), EngineErrorKind> {
        let stream = connect_tcp(address, Tls::Off, Duration::from_secs(60)).await;
        stream.map(|_| ())
    }

    #[tokio::test]
    async fn without_tls_no_address_of_a_network_is_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(connect(SocketAddr::from(([127, 0, 0, 1], port))).await, Ok(()));
        // Some of them lead to this host too.
        for address in ["0.0.0.0", "192.0.2.1", "::", "2001:db8::1", "::ffff:192.0.2.1"] {
            let error = connect(SocketAddr::new(address.parse().unwrap(), port)).await;
            assert_eq!(error, Err(EngineErrorKind::PlainNetwork(address.to_owned())));
        }
    }

    #[test]
    fn a_host_in_an_error_is_that_of_the_settings() {
        for (host, expected) in [
            (Host::Tcp("db.test".to_owned(), 5432), "db.test:5432"),
            (Host::Tcp("2001:db8::1".to_owned(), 1), "[2001:db8::1]:1"),
            (
                Host::Unix("/run/postgresql".into(), 5432),
                "/run/postgresql/.s.PGSQL.5432",
            ),
        ] {
            assert_eq!(name(&host), expected);
        }
    }
}
