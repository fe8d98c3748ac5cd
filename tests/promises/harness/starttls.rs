//! TLS for a fake SMTP server, by openssl(1).
//!
//! Before TLS, it answers itself: it offers AUTH, STARTTLS too unless [`Offer`] says otherwise, and records every AUTH
//! command as sent in clear text. From then on `openssl s_server` decrypts, and the server behind it answers.
//!
//! Limits: at most two certificates, of which the name in the client's SNI chooses one, and one process for each
//! connection. The programs end with their connections, and on drop.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::certificates::{Certificate, self_signed};
use super::daemon::spawn;

/// The timeout for openssl to listen.
const DEADLINE: Duration = Duration::from_secs(60);

/// How TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// By the STARTTLS command.
    Starttls,
    /// With the first byte of the connection.
    Implicit,
    /// By the STARTTLS command, which is missing in the reply to EHLO: a server in the middle has removed it.
    Stripped,
    /// Never: STARTTLS is in the reply to EHLO, but is rejected for now.
    Rejected,
}

/// The certificates of a server.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) shown: Certificate,
    /// Shown instead to a client that sends this name (SNI).
    pub(crate) by_name: Option<(String, Certificate)>,
    /// The certificate of a CA, of which each client must show a certificate.
    pub(crate) client_authority: Option<PathBuf>,
}

/// A client that has greeted before TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeted {
    pub(crate) from: IpAddr,
    /// The argument of EHLO.
    pub(crate) name: String,
}

impl From<Certificate> for Identity {
    fn from(shown: Certificate) -> Self {
        Self {
            shown,
            by_name: None,
            client_authority: None,
        }
    }
}

/// A running front end. It stops on drop.
pub(crate) struct TlsProxy {
    address: SocketAddrV4,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    directory: tempfile::TempDir,
    behind: SocketAddr,
    offer: Offer,
    identity: Identity,
    connections: AtomicUsize,
    stopping: AtomicBool,
    in_clear_text: Mutex<Vec<String>>,
    greeted: Mutex<Vec<Greeted>>,
    children: Mutex<Vec<Child>>,
}

impl TlsProxy {
    /// Listens on that address, in front of the server at `behind`, with STARTTLS and a certificate that cannot be
    /// verified.
    pub(crate) fn start(host: Ipv4Addr, behind: SocketAddr) -> Self {
        Self::start_at(SocketAddrV4::new(host, 0), behind)
    }

    /// Listens on that address and port, for a caller with its own network namespace.
    pub(crate) fn start_at(address: SocketAddrV4, behind: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let identity = self_signed(directory.path(), "relay.test").into();
        Self::serve(directory, address, behind, Offer::Starttls, identity)
    }

    /// Listens on that address and port, with TLS as described.
    pub(crate) fn start_with(
        address: SocketAddrV4,
        behind: SocketAddr,
        offer: Offer,
        identity: impl Into<Identity>,
    ) -> Self {
        Self::serve(
            tempfile::tempdir().unwrap(),
            address,
            behind,
            offer,
            identity.into(),
        )
    }

    fn serve(
        directory: tempfile::TempDir,
        address: SocketAddrV4,
        behind: SocketAddr,
        offer: Offer,
        identity: Identity,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = SocketAddrV4::new(*address.ip(), listener.local_addr().unwrap().port());
        let shared = Arc::new(Shared {
            directory,
            behind,
            offer,
            identity,
            connections: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            in_clear_text: Mutex::default(),
            greeted: Mutex::default(),
            children: Mutex::default(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().flatten() {
                    if shared.stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    let shared = Arc::clone(&shared);
                    // The client detects a broken connection.
                    thread::spawn(move || drop(connection(&shared, stream)));
                }
            }
        });
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// `[host]:port`, as a next hop is written.
    pub(crate) fn next_hop(&self) -> String {
        format!("[{}]:{}", self.address.ip(), self.address.port())
    }

    /// The number of connections with TLS so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Every AUTH command received without TLS.
    pub(crate) fn auth_in_clear_text(&self) -> Vec<String> {
        self.shared.in_clear_text.lock().unwrap().clone()
    }

    /// Every EHLO command received without TLS.
    pub(crate) fn greeted(&self) -> Vec<Greeted> {
        self.shared.greeted.lock().unwrap().clone()
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // This connection wakes the thread that waits in accept(2).
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        for child in self.shared.children.lock().unwrap().iter_mut() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn connection(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if shared.offer == Offer::Implicit {
        return encrypted(shared, stream);
    }
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let extensions: &[u8] = if shared.offer == Offer::Stripped {
        b"250-relay.test\r\n250 AUTH PLAIN LOGIN\r\n"
    } else {
        b"250-relay.test\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n"
    };
    writer.write_all(b"220 relay.test ESMTP\r\n")?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        match line.trim_end().to_ascii_uppercase().as_str() {
            "STARTTLS" if shared.offer == Offer::Rejected => {
                writer.write_all(b"454 4.7.0 TLS not available due to temporary reason\r\n")?;
            }
            "STARTTLS" => return encrypted(shared, stream),
            command if command.starts_with("EHLO ") => {
                let name = line.trim_end()["EHLO ".len()..].to_owned();
                let from = stream.peer_addr()?.ip();
                shared.greeted.lock().unwrap().push(Greeted { from, name });
                writer.write_all(extensions)?;
            }
            "QUIT" => return writer.write_all(b"221 2.0.0 Bye\r\n"),
            command => {
                if command.starts_with("AUTH") {
                    shared.in_clear_text.lock().unwrap().push(line.clone());
                }
                writer.write_all(b"530 5.7.0 Must issue a STARTTLS command first\r\n")?;
            }
        }
        line.clear();
    }
    Ok(())
}

/// Connects the client through openssl to the server behind.
fn encrypted(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    let number = shared.connections.fetch_add(1, Ordering::SeqCst);
    let path = shared.directory.path().join(format!("tls-{number}"));
    let mut openssl = s_server(&shared.identity, &path)?;
    let (plain_in, plain_out) = (openssl.stdin.take().unwrap(), openssl.stdout.take().unwrap());
    shared.children.lock().unwrap().push(openssl);
    let tls = connect_when_listening(&path)?;
    let behind = TcpStream::connect(shared.behind)?;
    behind.set_nodelay(true)?;
    let mut from_behind = BufReader::new(behind.try_clone()?);
    if shared.offer != Offer::Implicit {
        // The client expects no second greeting.
        let mut greeting = String::new();
        from_behind.read_line(&mut greeting)?;
        client.write_all(b"220 2.0.0 Ready to start TLS\r\n")?;
    }

    let inward = copy(client.try_clone()?, tls.try_clone()?);
    let outward = copy(tls.try_clone()?, client.try_clone()?);
    let up = copy(plain_out, behind.try_clone()?);
    let down = copy(from_behind, plain_in);
    // When either end closes, both directions end.
    drop(inward.join());
    drop(tls.shutdown(Shutdown::Both));
    drop(behind.shutdown(Shutdown::Both));
    drop(outward.join());
    drop(client.shutdown(Shutdown::Both));
    for thread in [up, down] {
        drop(thread.join());
    }
    Ok(())
}

fn s_server(identity: &Identity, path: &Path) -> io::Result<Child> {
    let mut command = Command::new("openssl");
    command
        .args(["s_server", "-quiet", "-naccept", "1", "-unix"])
        .arg(path);
    let Certificate { chain, key } = &identity.shown;
    command.arg("-cert").arg(chain).arg("-key").arg(key);
    if let Some((name, Certificate { chain, key })) = &identity.by_name {
        command.args(["-servername", name]);
        command.arg("-cert2").arg(chain).arg("-key2").arg(key);
    }
    if let Some(authority) = &identity.client_authority {
        command.args(["-Verify", "1", "-verify_return_error", "-CAfile"]);
        command.arg(authority);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    spawn(&mut command)
}

/// Connects to openssl, which prints nothing when it is ready: retries until the deadline.
fn connect_when_listening(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                drop(fs::remove_file(path));
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn copy(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..read]).and_then(|()| to.flush()).is_err() {
                break;
            }
        }
    })
}
