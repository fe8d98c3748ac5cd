use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::{Duration, Instant, sleep};

use super::{End, serve};
use crate::address::Delimiters;
use crate::answer::Map;
use crate::counters::Counters;
use crate::default_relay::DefaultRelay;
use crate::diagnostic::Findings;
use crate::peer::{Allowed, Peer as Who};
use crate::protocol::socketmap::Socketmap;
use crate::protocol::tcp_table::TcpTable;
use crate::protocol::{Asked, Codec, Reply, Violation, netstring};
use crate::routes::{Routes, Snapshot};
use crate::server::access::Visitor;
use crate::server::limits::{REQUEST_DEADLINE, WRITE_AT, WRITE_DEADLINE};
use crate::server::stop::Stop;
use crate::table::Table;

/// A peer that sends its pieces one by one, closes, and keeps each write apart.
#[derive(Default)]
struct Peer {
    sends: VecDeque<Vec<u8>>,
    got: Vec<Vec<u8>>,
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.sends.pop_front() {
            let rest = piece.split_off(piece.len().min(into.remaining()));
            into.put_slice(&piece);
            if !rest.is_empty() {
                self.sends.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.got.push(bytes.to_vec());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The user that may ask everything.
const ALLOWED: u32 = 1;

fn visitor(uid: u32) -> Visitor {
    Visitor::new(Who::User { uid, address: None }, Arc::default())
}

fn routes() -> Routes {
    let text = b"@one.test [relay]:587\n@none.test\n@wrong.test [\n"
        .to_vec()
        .into();
    Routes::new(Snapshot {
        generation: 1,
        relay_map: Table::build(Map::Relayhost, Path::new("t"), text, &mut Findings::default()).into(),
        credentials: Table::empty(Map::Sasl).into(),
        default: DefaultRelay::default(),
        delimiters: Delimiters::default(),
        allowed: Allowed::new([ALLOWED], []),
    })
}

/// What comes back for these pieces, write by write.
fn exchange(codec: impl Codec, pieces: impl IntoIterator<Item = Vec<u8>>) -> (Vec<Vec<u8>>, End) {
    let mut peer = Peer {
        sends: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(),
        got: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let end = runtime.block_on(serve(
        &mut peer,
        codec,
        visitor(ALLOWED),
        &routes(),
        &Counters::default(),
        &Stop::default(),
    ));
    (peer.got, end)
}

fn count(byte: u8, bytes: &[u8]) -> usize {
    memchr::memchr_iter(byte, bytes).count()
}

/// A stream of requests, cut at every place that `cuts` says.
fn cut(stream: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = stream;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = later;
    }
    pieces
}

fn requests() -> impl Strategy<Value = Vec<String>> {
    let request = prop::sample::select(vec![
        "relayhost a@one.test",
        "relayhost a@none.test",
        "relayhost a@wrong.test",
        "sasl [relay]:587",
        "nosuchmap a@one.test",
        "",
        "relayhost ",
        "relayhost \"a, b:3\"@one.test",
    ]);
    prop::collection::vec(request.prop_map(ToOwned::to_owned), 1..12)
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same_replies_and_no_write_ends_within_one(
        requests in requests(),
        cuts in prop::collection::vec(1_usize..40, 1..20),
        broken in prop::sample::select(vec!["", "x", "07:", "3:abc;", "99999:"]),
    ) {
        let mut stream = BytesMut::new();
        for request in &requests {
            netstring::encode(&[request.as_bytes()], &mut stream);
        }
        stream.extend_from_slice(broken.as_bytes());
        let (whole, _) = exchange(Socketmap, [stream.to_vec()]);
        // All of it had arrived.
        prop_assert_eq!(whole.len(), 1);
        let (pieces, _) = exchange(Socketmap, cut(&stream, &cuts));
        for write in &pieces {
            let mut write = BytesMut::from(write.as_slice());
            while netstring::decode(&mut write, 1000).unwrap().is_some() {}
            prop_assert!(write.is_empty(), "a part of a reply: {:?}", write);
        }
        prop_assert_eq!(pieces.concat(), whole.concat());
        let mut all = BytesMut::from(whole.concat().as_slice());
        let replies = std::iter::from_fn(|| netstring::decode(&mut all, 1000).unwrap()).count();
        prop_assert_eq!(replies, requests.len() + usize::from(!broken.is_empty()));
    }

    #[test]
    fn any_split_of_lines_gives_the_same_replies_and_no_write_ends_within_one(
        requests in prop::collection::vec("(get |put )?(a@one.test|%41@ONE.test|%zz|x)\r?\n", 1..12),
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let stream = requests.concat();
        let (whole, _) = exchange(TcpTable::new(Map::Relayhost), [stream.clone().into_bytes()]);
        prop_assert_eq!(whole.len(), 1);
        let (pieces, _) = exchange(TcpTable::new(Map::Relayhost), cut(stream.as_bytes(), &cuts));
        prop_assert!(pieces.iter().all(|write| write.ends_with(b"\n")));
        prop_assert_eq!(pieces.concat(), whole.concat());
        prop_assert_eq!(count(b'\n', &whole.concat()), requests.len());
    }

    /// Whatever a peer sends, the session neither panics nor says more than it was asked.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(1_usize..40, 1..9)) {
        let (socketmap, _) = exchange(Socketmap, cut(&bytes, &cuts));
        prop_assert!(socketmap.len() <= 1 + count(b':', &bytes));
        let (lines, _) = exchange(TcpTable::new(Map::Sasl), cut(&bytes, &cuts));
        prop_assert!(count(b'\n', &lines.concat()) <= count(b'\n', &bytes));
    }
}

#[test]
fn a_peer_that_asks_a_lot_makes_the_server_hold_one_write_and_no_more() {
    let stream = "13:relayhost a@x,".repeat(3 * WRITE_AT / 10);
    let (writes, end) = exchange(Socketmap, [stream.clone().into_bytes()]);
    assert!(matches!(end, End::Closed));
    assert!(writes.iter().all(|write| write.len() < WRITE_AT + 100));
    let replies = count(b',', &writes.concat());
    assert_eq!(replies, stream.matches(',').count());
}

#[test]
fn broken_framing_is_answered_once_and_ends_the_session() {
    let (writes, end) = exchange(
        Socketmap,
        [b"20:relayhost a@one.test,x 20:relayhost a@one.test,".to_vec()],
    );
    assert!(matches!(end, End::Broken(_)));
    let text = String::from_utf8(writes.concat()).unwrap();
    assert!(
        text.starts_with("14:OK [relay]:587,") && text.contains(":PERM "),
        "{text}"
    );
    assert_eq!(text.matches(":OK").count(), 1);
}

/// Runs a session over an in-memory pipe, with a clock that jumps to the next deadline when nothing else happens.
fn with_clock<F: Future<Output = ()>>(client: impl FnOnce(DuplexStream) -> F) -> End {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(1000);
        let (routes, counters, stop) = (routes(), Counters::default(), Stop::default());
        // At the moment of a deadline, the session comes first.
        tokio::join!(
            biased;
            serve(theirs, Socketmap, visitor(ALLOWED), &routes, &counters, &stop),
            client(ours)
        )
        .0
    })
}

const REQUEST: &[u8] = b"20:relayhost a@one.test,";

#[test]
fn a_deadline_is_that_of_one_request_and_not_of_a_busy_connection() {
    let end = with_clock(async |mut client| {
        let (head, tail) = REQUEST.split_at(9);
        client.write_all(head).await.unwrap();
        // Always a request that has begun, and each is whole in time.
        for _ in 0..20 {
            sleep(REQUEST_DEADLINE / 10).await;
            client.write_all(tail).await.unwrap();
            client.write_all(head).await.unwrap();
            let mut reply = [0; 18];
            client.read_exact(&mut reply).await.unwrap();
        }
    });
    assert!(matches!(end, End::Closed), "{end:?}");
}

#[test]
fn a_request_that_does_not_end_ends_the_session_and_an_idle_one_never_does() {
    let end = with_clock(async |mut client| {
        sleep(REQUEST_DEADLINE * 1000).await;
        let begun = Instant::now();
        for c in REQUEST.iter().cycle() {
            // A byte now and then does not move the deadline.
            if client.write_all(&[*c]).await.is_err() {
                break;
            }
            sleep(REQUEST_DEADLINE / 5).await;
        }
        assert!(
            begun.elapsed() <= REQUEST_DEADLINE * 3 / 2,
            "{:?}",
            begun.elapsed()
        );
    });
    assert!(matches!(end, End::TooSlow), "{end:?}");
}

#[test]
fn a_peer_that_does_not_read_ends_its_session() {
    let end = with_clock(
        async |mut client| {
            while client.write_all(REQUEST).await.is_ok() {}
        },
    );
    assert!(matches!(end, End::TooSlow), "{end:?}");
}

const MOMENT: Duration = Duration::from_millis(2);

#[test]
fn a_request_counts_if_it_is_there_before_its_deadline_and_not_after_it() {
    let end_of = |takes: Duration| {
        with_clock(async |mut client| {
            let (head, tail) = REQUEST.split_at(1);
            client.write_all(head).await.unwrap();
            sleep(takes).await;
            // Where the session has ended, this fails.
            let _ = client.write_all(tail).await;
            let mut replies = Vec::new();
            client.shutdown().await.unwrap();
            client.read_to_end(&mut replies).await.unwrap();
            assert_eq!(replies.is_empty(), takes >= REQUEST_DEADLINE, "{takes:?}");
        })
    };
    assert!(matches!(
        end_of(REQUEST_DEADLINE.saturating_sub(MOMENT)),
        End::Closed
    ));
    assert!(matches!(end_of(REQUEST_DEADLINE), End::TooSlow));
    assert!(matches!(end_of(REQUEST_DEADLINE + MOMENT), End::TooSlow));
}

#[test]
fn replies_count_if_they_are_taken_before_their_deadline_and_not_after_it() {
    // More replies than the pipe holds, in one write.
    const REQUESTS: usize = 100;
    let end_of = |takes: Duration| {
        with_clock(async |client| {
            let (mut from, mut to) = tokio::io::split(client);
            let requests = REQUEST.repeat(REQUESTS);
            let ask = async {
                let _ = to.write_all(&requests).await;
                let _ = to.shutdown().await;
            };
            let read = async {
                sleep(takes).await;
                let mut replies = Vec::new();
                from.read_to_end(&mut replies).await.unwrap();
                count(b',', &replies)
            };
            let ((), replies) = tokio::join!(ask, read);
            assert_eq!(
                replies == REQUESTS,
                takes < WRITE_DEADLINE,
                "{takes:?}: {replies}"
            );
        })
    };
    assert!(matches!(
        end_of(WRITE_DEADLINE.saturating_sub(MOMENT)),
        End::Closed
    ));
    assert!(matches!(end_of(WRITE_DEADLINE), End::TooSlow));
    assert!(matches!(end_of(WRITE_DEADLINE + MOMENT), End::TooSlow));
}

/// Panics at a request that is not the protocol's.
struct Fragile(Socketmap);

impl Codec for Fragile {
    fn decode<'i>(&mut self, input: &'i mut [u8]) -> Result<Option<(Asked<'i>, usize)>, Violation> {
        assert!(!input.starts_with(b"x"), "as a defect might");
        self.0.decode(input)
    }

    fn encode(&mut self, reply: &Reply<'_>, output: &mut BytesMut) {
        self.0.encode(reply, output);
    }
}

#[test]
fn the_replies_of_a_session_that_panicked_go_to_nobody_else() {
    let fragile = |bytes: &[u8]| {
        let pieces = [bytes.to_vec()];
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            exchange(Fragile(Socketmap), pieces)
        }))
    };
    assert!(fragile(&[REQUEST, b"x"].concat()).is_err());
    let (writes, _) = fragile(b"20:relayhost a@none.tes,").unwrap();
    assert_eq!(writes, [b"9:NOTFOUND ,"]);
}
