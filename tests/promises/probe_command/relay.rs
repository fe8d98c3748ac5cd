//! Relays that follow a script, right or wrong.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

pub(super) const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A relay that treats each connection in the same way, and records each line that it reads. It stops on drop.
pub(super) struct Scripted {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    is_stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Scripted {
    pub(super) fn start(script: impl Fn(&mut Client) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (lines, is_stopping) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let script = Arc::new(script);
        let acceptor = thread::spawn({
            let (lines, is_stopping) = (Arc::clone(&lines), Arc::clone(&is_stopping));
            move || {
                for stream in listener.incoming().flatten() {
                    if is_stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let (lines, script) = (Arc::clone(&lines), Arc::clone(&script));
                    // A client that closes the connection ends the script.
                    thread::spawn(move || drop(script(&mut Client::new(stream, lines))));
                }
            }
        });
        Self {
            address,
            lines,
            is_stopping,
            acceptor: Some(acceptor),
        }
    }

    pub(super) fn next_hop(&self) -> String {
        format!("[{}]:{}", self.address.ip(), self.address.port())
    }

    /// All lines that clients have sent.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // This connection wakes the thread that waits in accept(2).
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

/// A connection of a client.
pub(super) struct Client {
    reader: BufReader<TcpStream>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Client {
    fn new(stream: TcpStream, lines: Arc<Mutex<Vec<String>>>) -> Self {
        Self {
            reader: BufReader::new(stream),
            lines,
        }
    }

    pub(super) fn send(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(text.as_ref())
    }

    /// Reads a line, and returns it; fails where the client has closed the connection.
    pub(super) fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        self.lines.lock().unwrap().push(line.clone());
        Ok(line)
    }

    /// Waits for a byte, and reads it without recording it.
    pub(super) fn byte(&mut self) -> io::Result<()> {
        self.reader.read_exact(&mut [0])
    }

    /// Reads and records until the client closes the connection.
    pub(super) fn read_on(&mut self) -> io::Result<()> {
        loop {
            self.line()?;
        }
    }
}

/// A relay that sends nothing.
pub(super) fn silent() -> Scripted {
    Scripted::start(Client::read_on)
}

/// A relay that greets so, and then reads.
pub(super) fn greeting(text: impl Into<Vec<u8>>) -> Scripted {
    let text = text.into();
    Scripted::start(move |client| {
        client.send(&text)?;
        client.read_on()
    })
}

/// A relay that replies to EHLO so, to AUTH so, and to QUIT.
pub(super) fn replying(ehlo: &'static str, auth: &'static str) -> Scripted {
    Scripted::start(move |client| {
        client.send("220 relay.test ESMTP\r\n")?;
        loop {
            let line = client.line()?;
            match line.split_whitespace().next().unwrap_or_default() {
                "EHLO" => client.send(ehlo)?,
                "AUTH" => client.send(auth)?,
                "QUIT" => return client.send("221 2.0.0 Bye\r\n"),
                _ => client.send("502 5.5.2 unknown\r\n")?,
            }
        }
    })
}

/// A next hop at which no server listens.
pub(super) fn closed_port() -> String {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    format!("[{HOST}]:{}", listener.local_addr().unwrap().port())
}
