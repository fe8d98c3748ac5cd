//! Promise: a lookup allocates nothing, once a connection has warmed up.
//!
//! This is a separate program, because an allocator is counted for a whole process.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use postmapd::lookup::map::Maps;
use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use postmapd::config::Limits;
use postmapd::diagnostics::Findings;
use postmapd::lookup::peer::Allowed;
use postmapd::lookup::snapshot::{ActiveSnapshot, Snapshot};
use postmapd::lookup::table::Table;
use postmapd::net::address::Address;
use postmapd::net::bind::bind;
use postmapd::net::socket_file::SocketAccess;
use postmapd::protocol::endpoint::Endpoint;
use postmapd::server::Server;
use postmapd::server::counters::Counters;

/// Counts the allocations of one thread.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if IS_COUNTED.get() {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
    }
}

#[allow(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn routes() -> ActiveSnapshot {
    let table = |map, text: &str| {
        let text = text.as_bytes().to_vec().into();
        Table::build(map, Path::new("t"), text, &mut Findings::default()).into()
    };
    let relay_map = table(
        &RELAY_MAP,
        "@one.test [relay1.test]:587\nann@one.test [relay2.test]:587\n@two.test\n@bad.test [\n",
    );
    let credentials = table(
        &CREDENTIALS,
        "@one.test user:password\n[relay1.test]:587 user:password\n",
    );
    ActiveSnapshot::new(Snapshot {
        allowed: Allowed::new([rustix::process::getuid().as_raw()], []),
        ..Snapshot::new(relay_map, credentials)
    })
}

/// Sends all requests in turn, repeatedly, to a server that listens here, and returns how often the lookup thread
/// allocated after the first rounds.
fn allocations(endpoint: &str, exchanges: &[(String, String)]) -> u64 {
    const WARM_UP: usize = 100;
    const COUNTED: usize = 2_000;
    let endpoint = Endpoint::parse_listener(endpoint, &["relayhost", "sasl"]).unwrap();
    let access = SocketAccess {
        mode: 0o600,
        owner: None,
        group: None,
    };
    let listener = bind("", &endpoint.address, &access).unwrap().pop().unwrap();
    let address = listener.address().clone();
    let listeners = vec![(endpoint.protocol, listener)];
    let counters = Arc::new(Counters::new(Maps::SERVED, true));
    let server = Server::new(listeners, Arc::new(routes()), counters, Limits::default()).unwrap();
    let stop = server.stop();
    let server = thread::spawn(move || {
        IS_COUNTED.set(true);
        server.run(|| {}).unwrap();
        IS_COUNTED.set(false);
    });
    let mut client: Box<dyn Stream> = match address {
        Address::Inet(host, port) => Box::new(TcpStream::connect((host, port)).unwrap()),
        Address::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
    };
    let mut exchange = || {
        for (request, reply) in exchanges {
            client.write_all(request.as_bytes()).unwrap();
            let mut got = vec![0; reply.len()];
            client.read_exact(&mut got).unwrap();
            assert!(got == reply.as_bytes(), "{request}");
        }
    };
    (0..WARM_UP).for_each(|_| exchange());
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    (0..COUNTED).for_each(|_| exchange());
    let after = ALLOCATIONS.load(Ordering::SeqCst);
    stop.begin();
    server.join().unwrap();
    assert!(before > 0, "nothing is counted");
    after - before
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

#[test]
fn a_lookup_allocates_nothing() {
    let netstring = |text: &str| format!("{}:{text},", text.len());
    let over_socketmap = [
        ("relayhost Bob+x@One.test", "OK [relay1.test]:587"),
        ("relayhost ann@ONE.test", "OK [relay2.test]:587"),
        ("relayhost x@two.test", "NOTFOUND "),
        ("relayhost x@three.test", "NOTFOUND "),
        (
            "relayhost x@bad.test",
            "TEMP the relay map entry for this key is invalid; see the log of postmapd",
        ),
        ("sasl x@one.test", "OK user:password"),
        ("sasl [relay1.test]:587", "OK user:password"),
        ("sasl x@two.test", "NOTFOUND "),
    ];
    let over_socketmap = over_socketmap.map(|(request, reply)| (netstring(request), netstring(reply)));
    let directory = tempfile::tempdir().unwrap();
    let path = format!("socketmap:unix:{}/socket", directory.path().display());
    for endpoint in ["socketmap:inet:127.0.0.1:0", &path] {
        assert_eq!(allocations(endpoint, &over_socketmap), 0, "{endpoint}");
    }
    let over_tcp_table = [
        ("get bob@one.test\n", "200 [relay1.test]:587\n"),
        ("get x%40two.test\n", "500 not found\n"),
    ];
    let over_tcp_table = over_tcp_table.map(|(request, reply)| (request.to_owned(), reply.to_owned()));
    assert_eq!(allocations("tcp:127.0.0.1:0:relayhost", &over_tcp_table), 0);
}
