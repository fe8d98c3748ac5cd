//! One connection, over any stream of bytes: read, answer, write, in order.
//!
//! All requests that have arrived are answered from one snapshot and in one write; a reply is never cut between
//! two. An idle connection waits for ever. Deadlines run only while a request has begun or a reply waits to be
//! written, and a peer that misses one is dropped without a word: the stream may be anywhere by then.
//!
//! Whether its peer may ask is looked up in the snapshot that answers.
//!
//! What answering needs, the sessions of a thread share (the desk): a connection that waits holds no memory for it, and
//! the processor's caches hold one desk and not one for each connection. Only what does not fit into one turn is kept: the
//! beginning of a request, and replies that the kernel does not take.
//!
//! When the server stops, what has arrived is answered, and the connection is closed.

mod replies;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::access::Visitor;
use super::limits::{LINGER, LINGER_BYTES, READ_AT_ONCE, REQUEST_DEADLINE, WRITE_AT, WRITE_DEADLINE};
use super::stop::Stop;
use crate::address::SenderKeys;
use crate::answer::{Answer, Map};
use crate::counters::{Batch, Counters, ProtocolError};
use crate::protocol::{Asked, Codec, Reply, Violation};
use crate::routes::Routes;
use replies::Replies;

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// The peer closed, or reset, the connection.
    Closed,
    /// The server stops.
    Stopped,
    /// The framing was broken.
    Broken(Violation),
    /// A deadline passed.
    TooSlow,
}

/// Serves one connection to its end.
pub async fn serve<S, C>(
    stream: S,
    codec: C,
    visitor: Visitor,
    routes: &Routes,
    counters: &Counters,
    stop: &Stop,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Codec,
{
    let mut session = Session {
        stream,
        codec,
        visitor,
        waiting: BytesMut::new(),
        is_more: false,
        unsent: Replies::default(),
    };
    let (Ok(end) | Err(end)) = session.run(routes, counters, stop).await;
    match end {
        End::TooSlow => counters.broken(ProtocolError::Timeout),
        End::Closed if !session.waiting.is_empty() => counters.broken(ProtocolError::Truncated),
        End::Closed | End::Stopped | End::Broken(_) => {}
    }
    end
}

/// One connection. While it waits for a request it has no memory but this.
struct Session<S, C> {
    stream: S,
    codec: C,
    visitor: Visitor,
    /// What has arrived and is not answered.
    waiting: BytesMut,
    /// Whether that begins with more than a part of one request.
    is_more: bool,
    /// Replies that the kernel did not take at once.
    unsent: Replies,
}

/// What a thread needs to answer and no connection needs while it waits. Each session that answers has it for that long.
#[derive(Default)]
struct Desk {
    keys: SenderKeys,
    replies: Replies,
}

thread_local! {
    /// Where a thread reads to, and its desk.
    static DESK: RefCell<(Box<[u8]>, Desk)> =
        RefCell::new((vec![0; READ_AT_ONCE].into_boxed_slice(), Desk::default()));
}

/// What [`Session::answer`] came to.
enum Progress {
    /// Every whole request is answered.
    Done,
    /// There are enough replies for one write, and perhaps more requests.
    Enough,
    /// The rest of the input is not the protocol. The reply that says so is among the replies.
    Broken(Violation),
}

/// What a session that only reads, answers and writes leaves to whoever has a clock: replies that are not sent, a request
/// that has begun, or the end of one that had.
struct Turn {
    /// Whether requests were answered last.
    answered: bool,
    /// How the peer broke the protocol, which it is told in the last reply.
    broken: Option<Violation>,
}

impl<S, C> Session<S, C>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Codec,
{
    async fn run(&mut self, routes: &Routes, counters: &Counters, stop: &Stop) -> Result<End, End> {
        let mut stopped = pin!(stop.wait());
        // When the request that has begun to arrive must be there.
        let mut deadline = None;
        loop {
            let turn = poll_fn(|context| {
                match self.poll_turn(context, routes, counters, deadline.is_some()) {
                    // What has arrived counts before the stop.
                    Poll::Pending => stopped.as_mut().poll(context).map(|()| Err(End::Stopped)),
                    turn @ Poll::Ready(_) => turn,
                }
            });
            let turn = match deadline {
                Some(at) => timeout_at(at, turn).await.map_err(|_| End::TooSlow)??,
                None => turn.await?,
            };
            self.write_the_rest().await?;
            if let Some(violation) = turn.broken {
                self.linger().await;
                return Ok(End::Broken(violation));
            }
            deadline = match deadline {
                _ if self.waiting.is_empty() => None,
                // The request that has begun is the one that had begun before.
                Some(running) if !turn.answered => Some(running),
                _ => Some(Instant::now() + REQUEST_DEADLINE),
            };
        }
    }

    /// Reads, answers and writes, until there is nothing to read (for which it waits) or a clock is needed. `has_deadline`
    /// says that one runs.
    fn poll_turn(
        &mut self,
        context: &mut Context<'_>,
        routes: &Routes,
        counters: &Counters,
        has_deadline: bool,
    ) -> Poll<Result<Turn, End>> {
        DESK.with_borrow_mut(|(space, desk)| {
            loop {
                let mut arrived = ReadBuf::new(space);
                if !self.is_more {
                    let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut arrived));
                    if read.is_err() || arrived.filled().is_empty() {
                        return Poll::Ready(Err(End::Closed));
                    }
                }
                let turn = if self.waiting.is_empty() {
                    let arrived = arrived.filled_mut();
                    let (turn, taken) = self.exchange(arrived, desk, context, routes, counters)?;
                    self.waiting
                        .extend_from_slice(arrived.get(taken..).unwrap_or_default());
                    turn
                } else {
                    // Taken out, so that its memory goes with the last of it.
                    let mut waiting = mem::take(&mut self.waiting);
                    waiting.extend_from_slice(arrived.filled());
                    let (turn, taken) = self.exchange(&mut waiting, desk, context, routes, counters)?;
                    if taken < waiting.len() {
                        waiting.advance(taken);
                        self.waiting = waiting;
                    }
                    turn
                };
                let is_begun = !self.is_more && !self.waiting.is_empty();
                if has_deadline || is_begun || turn.broken.is_some() || !self.unsent.is_empty() {
                    return Poll::Ready(Ok(turn));
                }
            }
        })
    }

    /// Answers the whole requests in `input`, sends the replies as far as the kernel takes them without waiting, which is
    /// nearly always all, and says how many bytes of the input are answered.
    fn exchange(
        &mut self,
        input: &mut [u8],
        desk: &mut Desk,
        context: &mut Context<'_>,
        routes: &Routes,
        counters: &Counters,
    ) -> Result<(Turn, usize), End> {
        // A session that panicked has left its own.
        desk.replies.clear();
        let mut batch = counters.batch();
        let (progress, taken) = self.answer(input, desk, routes, &mut batch);
        batch.end();
        self.is_more = matches!(progress, Progress::Enough);
        let turn = Turn {
            answered: !desk.replies.is_empty(),
            broken: match progress {
                Progress::Broken(violation) => Some(violation),
                Progress::Done | Progress::Enough => None,
            },
        };
        if turn.answered {
            let sent = match Pin::new(&mut self.stream).poll_write(context, &desk.replies) {
                Poll::Ready(sent) => sent.map_err(|_| End::Closed)?,
                Poll::Pending => 0,
            };
            if sent == desk.replies.len() {
                desk.replies.clear();
            } else {
                self.unsent = mem::take(&mut desk.replies);
                self.unsent.advance(sent);
            }
        }
        Ok((turn, taken))
    }

    /// Answers the whole requests in `input` from one snapshot, and lets the snapshot go. Says how many bytes they have.
    fn answer(
        &mut self,
        input: &mut [u8],
        desk: &mut Desk,
        routes: &Routes,
        batch: &mut Batch<'_>,
    ) -> (Progress, usize) {
        let snapshot = routes.load();
        let mut answered = 0;
        let progress = loop {
            if desk.replies.len() >= WRITE_AT {
                break Progress::Enough;
            }
            let mut is_secret = false;
            let (reply, taken) = match self.codec.decode(input.get_mut(answered..).unwrap_or_default()) {
                Ok(None) => break Progress::Done,
                Ok(Some((Asked::Lookup { map, .. }, taken)))
                    if !snapshot.allowed.may_ask(map, self.visitor.peer()) =>
                {
                    batch.refused(map, self.visitor.kind_of_refusal());
                    let reason = self.visitor.refuse();
                    debug!(%map, "refused: {reason}");
                    (Reply::NotAllowed(reason), taken)
                }
                Ok(Some((Asked::Lookup { map, key }, taken))) => {
                    let answer = snapshot.answer(map, key, &mut desk.keys);
                    debug!(%map, key = %key.escape_ascii(), outcome = answer.outcome(), "lookup");
                    batch.answered(map, &answer);
                    is_secret = map == Map::Sasl && matches!(answer, Answer::Found(_));
                    (Reply::Answer(answer), taken)
                }
                Ok(Some((Asked::Refused(refusal), taken))) => {
                    debug!(%refusal, "refused");
                    batch.refused_request(refusal.into());
                    (Reply::Refused(refusal), taken)
                }
                Err(violation) => {
                    batch.broken((&violation).into());
                    let reply = Reply::Broken(&violation);
                    desk.replies.add(&mut self.codec, &reply, false);
                    break Progress::Broken(violation);
                }
            };
            desk.replies.add(&mut self.codec, &reply, is_secret);
            answered += taken;
            if answered == input.len() {
                break Progress::Done;
            }
        };
        (progress, answered)
    }

    /// Writes what the kernel did not take at once, within its deadline.
    async fn write_the_rest(&mut self) -> Result<(), End> {
        if !self.unsent.is_empty() {
            let written = timeout(WRITE_DEADLINE, self.stream.write_all(&self.unsent)).await;
            written.map_err(|_| End::TooSlow)?.map_err(|_| End::Closed)?;
            self.unsent = Replies::default();
        }
        Ok(())
    }

    /// Lets the peer read the last reply: closes our half, and takes what it still sends, for a while.
    async fn linger(&mut self) {
        let _ = timeout(LINGER, async {
            self.stream.shutdown().await?;
            let mut taken = 0;
            while taken < LINGER_BYTES {
                match self.read_in_vain().await? {
                    0 => break,
                    more => taken += more,
                }
            }
            Ok::<(), io::Error>(())
        })
        .await;
    }

    /// Takes what has arrived, and says how many bytes they were; 0 at the end of the stream.
    async fn read_in_vain(&mut self) -> io::Result<usize> {
        poll_fn(|context| {
            let mut space = [MaybeUninit::uninit(); READ_AT_ONCE];
            let mut arrived = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut arrived))?;
            Poll::Ready(Ok(arrived.filled().len()))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
