//! A proxy from a loopback port to a UNIX socket that counts the bytes of both directions.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

pub(crate) struct Proxy {
    port: u16,
    bytes: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts it. Its threads end with the program.
    pub(crate) fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, bytes) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
        let its_bytes = Arc::clone(&bytes);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, Ok(server)) = (client.unwrap(), UnixStream::connect(&socket)) else {
                    continue;
                };
                client.set_nodelay(true).unwrap();
                let (client_again, server_again) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (bytes, other_bytes) = (Arc::clone(&its_bytes), Arc::clone(&its_bytes));
                thread::spawn(move || {
                    copy(client, &server, &bytes);
                    let _ = server.shutdown(Shutdown::Write);
                });
                thread::spawn(move || {
                    copy(server_again, &client_again, &other_bytes);
                    let _ = client_again.shutdown(Shutdown::Write);
                });
            }
        });
        Self { port, bytes }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

/// Copies until one side ends.
fn copy(mut from: impl Read, mut to: impl Write, bytes: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        bytes.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
