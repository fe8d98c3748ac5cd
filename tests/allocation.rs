//! A lookup allocates nothing, once a connection has warmed up.
//!
//! A program of its own, because an allocator is counted for a whole process.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use postmapd::address::Delimiters;
use postmapd::answer::Map;
use postmapd::counters::Counters;
use postmapd::default_relay::DefaultRelay;
use postmapd::diagnostic::Findings;
use postmapd::peer::{Allowed, Peer};
use postmapd::protocol::Codec;
use postmapd::protocol::socketmap::Socketmap;
use postmapd::protocol::tcp_table::TcpTable;
use postmapd::routes::{Routes, Snapshot};
use postmapd::server::access::Visitor;
use postmapd::server::session;
use postmapd::server::stop::Stop;
use postmapd::table::Table;

/// Counts what one thread asks for.
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
// SAFETY: every call goes to the system's allocator as it came.
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

fn routes() -> Routes {
    let table = |map, text: &str| {
        let text = text.as_bytes().to_vec().into();
        Table::build(map, Path::new("t"), text, &mut Findings::default()).into()
    };
    Routes::new(Snapshot {
        generation: 1,
        relay_map: table(
            Map::Relayhost,
            "@one.test [relay1.test]:587\nann@one.test [relay2.test]:587\n@two.test\n@bad.test [\n",
        ),
        credentials: table(
            Map::Sasl,
            "@one.test user:password\n[relay1.test]:587 user:password\n",
        ),
        default: DefaultRelay::default(),
        delimiters: Delimiters::default(),
        allowed: Allowed::new([0, 102], []),
    })
}

/// Asks everything in turn, over and over, and says how often the server allocated after the first rounds.
fn allocations<C: Codec + Send + 'static>(codec: C, exchanges: &[(String, String)]) -> u64 {
    const WARM_UP: usize = 100;
    const COUNTED: usize = 2_000;
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            theirs.set_nonblocking(true).unwrap();
            let stream = tokio::net::UnixStream::from_std(theirs).unwrap();
            let peer = Peer::User {
                uid: 102,
                address: None,
            };
            let visitor = Visitor::new(peer, Arc::default());
            IS_COUNTED.set(true);
            let counters = Counters::timed();
            session::serve(stream, codec, visitor, &routes(), &counters, &Stop::default()).await;
            IS_COUNTED.set(false);
        });
    });
    let mut exchange = || {
        for (request, reply) in exchanges {
            ours.write_all(request.as_bytes()).unwrap();
            let mut got = vec![0; reply.len()];
            ours.read_exact(&mut got).unwrap();
            assert!(got == reply.as_bytes(), "{request}");
        }
    };
    (0..WARM_UP).for_each(|_| exchange());
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    (0..COUNTED).for_each(|_| exchange());
    let after = ALLOCATIONS.load(Ordering::SeqCst);
    drop(ours);
    server.join().unwrap();
    after - before
}

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
            "TEMP the entry for this key in the relay map has an error; see the log of postmapd",
        ),
        ("sasl x@one.test", "OK user:password"),
        ("sasl [relay1.test]:587", "OK user:password"),
        ("sasl x@two.test", "NOTFOUND "),
    ];
    let over_socketmap = over_socketmap.map(|(request, reply)| (netstring(request), netstring(reply)));
    assert_eq!(allocations(Socketmap, &over_socketmap), 0);
    let over_tcp_table = [
        ("get bob@one.test\n", "200 [relay1.test]:587\n"),
        ("get x%40two.test\n", "500 not found\n"),
    ];
    let over_tcp_table = over_tcp_table.map(|(request, reply)| (request.to_owned(), reply.to_owned()));
    assert_eq!(allocations(TcpTable::new(Map::Relayhost), &over_tcp_table), 0);
}
