//! STARTTLS for a fake SMTP server, by openssl(1).
//!
//! Before STARTTLS, it answers itself: it offers STARTTLS and AUTH, and records every AUTH command as sent in clear
//! text. After STARTTLS, `openssl s_server` decrypts, and the server behind it answers.
//!
//! Limits: one certificate for all connections, which cannot be verified, and one process for each connection. The
//! programs end with their connections, and on drop.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The timeout for openssl to listen.
const DEADLINE: Duration = Duration::from_secs(10);

/// A running front end. It stops on drop.
pub(crate) struct TlsProxy {
    address: SocketAddrV4,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    directory: tempfile::TempDir,
    behind: SocketAddr,
    connections: AtomicUsize,
    stopping: AtomicBool,
    in_clear_text: Mutex<Vec<String>>,
    children: Mutex<Vec<Child>>,
}

impl TlsProxy {
    /// Listens on that address, in front of the server at `behind`.
    pub(crate) fn start(host: Ipv4Addr, behind: SocketAddr) -> Self {
        Self::start_at(SocketAddrV4::new(host, 0), behind)
    }

    /// Listens on that address and port, for a caller with its own network namespace.
    pub(crate) fn start_at(address: SocketAddrV4, behind: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args([
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=relay.test",
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
            ])
            .current_dir(directory.path())
            .output()
            .expect("openssl, to try TLS with: apt-get install openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let listener = TcpListener::bind(address).unwrap();
        let address = SocketAddrV4::new(*address.ip(), listener.local_addr().unwrap().port());
        let shared = Arc::new(Shared {
            directory,
            behind,
            connections: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            in_clear_text: Mutex::default(),
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

    /// Every AUTH command received without TLS.
    pub(crate) fn auth_in_clear_text(&self) -> Vec<String> {
        self.shared.in_clear_text.lock().unwrap().clone()
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
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    writer.write_all(b"220 relay.test ESMTP\r\n")?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        match line.trim_end().to_ascii_uppercase().as_str() {
            "STARTTLS" => return encrypted(shared, stream),
            command if command.starts_with("EHLO ") => {
                writer.write_all(b"250-relay.test\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n")?;
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
    let mut openssl = s_server(shared.directory.path(), &path)?;
    let (plain_in, plain_out) = (openssl.stdin.take().unwrap(), openssl.stdout.take().unwrap());
    shared.children.lock().unwrap().push(openssl);
    let tls = connect_when_listening(&path)?;
    let behind = TcpStream::connect(shared.behind)?;
    behind.set_nodelay(true)?;
    // The client expects no second greeting.
    let mut greeting = String::new();
    let mut from_behind = BufReader::new(behind.try_clone()?);
    from_behind.read_line(&mut greeting)?;
    client.write_all(b"220 2.0.0 Ready to start TLS\r\n")?;

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

fn s_server(directory: &Path, path: &PathBuf) -> io::Result<Child> {
    Command::new("openssl")
        .args([
            "s_server", "-quiet", "-naccept", "1", "-cert", "cert.pem", "-key", "key.pem", "-unix",
        ])
        .arg(path)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
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
