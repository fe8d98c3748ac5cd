//! Servers with faults, with one thread for each connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use netstring::ReadNetstring as _;

/// What a faulty server does with a request.
pub(super) enum Action {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes, a few at a time.
    Pieces(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Sends nothing.
    Nothing,
    /// Waits, with all other connections, then sends these bytes.
    After(Duration, Vec<u8>),
}

use Action::{After, Close, Nothing, Pieces, Send};

/// Starts a socketmap server with this behaviour by the number of the request and its key, and returns its endpoint. It
/// ends with the test.
pub(super) fn socketmap(act: impl Fn(usize, &str) -> Action + std::marker::Send + Sync + 'static) -> String {
    let address = serve(move |stream, number, one_at_a_time| {
        let mut reader = netstring_reader(stream.try_clone().unwrap());
        while let Ok(payload) = reader.read_netstring() {
            let (_, key) = payload.split_once(' ').unwrap();
            if !perform(stream, one_at_a_time, &mut || {
                act(number.fetch_add(1, Ordering::SeqCst), key)
            }) {
                return;
            }
        }
    });
    format!("socketmap:inet:{address}")
}

/// Starts such a server for tcp_table; the key is encoded.
pub(super) fn tcp_table(act: impl Fn(usize, &str) -> Action + std::marker::Send + Sync + 'static) -> String {
    let address = serve(move |stream, number, one_at_a_time| {
        for line in BufReader::new(stream.try_clone().unwrap())
            .lines()
            .map_while(Result::ok)
        {
            let key = line.strip_prefix("get ").unwrap();
            if !perform(stream, one_at_a_time, &mut || {
                act(number.fetch_add(1, Ordering::SeqCst), key)
            }) {
                return;
            }
        }
    });
    format!("tcp:{address}")
}

fn netstring_reader(stream: TcpStream) -> crate::harness::client::Stream {
    crate::harness::client::Stream::Tcp(stream)
}

fn serve(
    connection: impl Fn(&TcpStream, &AtomicUsize, &Mutex<()>) + std::marker::Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shared = Arc::new((connection, AtomicUsize::new(0), Mutex::new(())));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (shared.0)(&stream, &shared.1, &shared.2));
        }
    });
    address
}

/// Returns whether the connection stays open.
fn perform(mut stream: &TcpStream, one_at_a_time: &Mutex<()>, act: &mut dyn FnMut() -> Action) -> bool {
    let alone = one_at_a_time.lock().unwrap();
    match act() {
        Send(bytes) => stream.write_all(&bytes).is_ok(),
        Pieces(bytes) => {
            stream.set_nodelay(true).unwrap();
            bytes.chunks(999).all(|piece| stream.write_all(piece).is_ok())
        }
        Close => false,
        Nothing => {
            drop(alone);
            let _ = stream.read_to_end(&mut Vec::new());
            false
        }
        After(time, bytes) => {
            thread::sleep(time);
            stream.write_all(&bytes).is_ok()
        }
    }
}
