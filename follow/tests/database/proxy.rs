//! A proxy that records what a client sends, and can cut the connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a proxy does with what the client sends.
#[derive(Clone)]
enum Target {
    /// It goes to this port of this host.
    Port(u16),
    /// The answer is this, whatever the client sends.
    Answer(&'static [u8]),
}

/// A proxy on 127.0.0.1, until the test ends.
pub struct Proxy {
    port: u16,
    sent: Arc<Mutex<Vec<u8>>>,
    quota: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts a proxy before a port of this host.
    pub fn before(port: u16) -> Self {
        Self::start(Target::Port(port))
    }

    /// Starts a server that answers what comes first with this, and reads what follows.
    pub fn answering(answer: &'static [u8]) -> Self {
        Self::start(Target::Answer(answer))
    }

    fn start(target: Target) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            sent: Arc::default(),
            quota: Arc::new(AtomicUsize::new(usize::MAX)),
        };
        let (sent, quota) = (proxy.sent.clone(), proxy.quota.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (target, sent, quota) = (target.clone(), sent.clone(), quota.clone());
                thread::spawn(move || serve(client, &target, &sent, &quota));
            }
        });
        proxy
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All that clients have sent.
    pub fn sent(&self) -> Vec<u8> {
        self.sent.lock().unwrap().clone()
    }

    /// Whether clients have sent these bytes.
    pub fn has_seen(&self, text: &[u8]) -> bool {
        self.sent().windows(text.len()).any(|window| window == text)
    }

    /// Passes so many bytes of the server on, and then ends the connection.
    pub fn cut_after(&self, bytes: usize) {
        self.quota.store(bytes, Ordering::SeqCst);
    }
}

fn serve(mut client: TcpStream, target: &Target, sent: &Mutex<Vec<u8>>, quota: &AtomicUsize) {
    let port = match target {
        Target::Port(port) => *port,
        Target::Answer(answer) => {
            let mut answer = Some(*answer);
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = client.read(&mut buffer) {
                sent.lock().unwrap().extend(&buffer[..length]);
                if let Some(answer) = answer.take() {
                    let _ = client.write_all(answer);
                }
            }
            return;
        }
    };
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut client, mut server) = (&client, &server);
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = client.read(&mut buffer) {
                sent.lock().unwrap().extend(&buffer[..length]);
                if server.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = server.shutdown(Shutdown::Both);
        });
        let (mut client, mut server) = (&client, &server);
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            let left = quota.load(Ordering::SeqCst);
            let passed = length.min(left);
            if left != usize::MAX {
                quota.store(left - passed, Ordering::SeqCst);
            }
            if client.write_all(&buffer[..passed]).is_err() || passed < length {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}
