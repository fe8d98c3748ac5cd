//! One connection, over any stream of bytes: read, answer, write, in order.
//!
//! All requests that have arrived are answered from one snapshot and in one write; a reply is never cut between
//! two. An idle connection waits for ever. Deadlines run only while a request has begun or a reply waits to be
//! written, and a peer that misses one is dropped without a word: the stream may be anywhere by then.
//!
//! Whether its peer may ask is looked up in the snapshot that answers.
//!
//! When the server stops, what has arrived is answered, and the connection is closed.

mod replies;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::access::Visitor;
use super::limits::{KEPT, LINGER, LINGER_BYTES, READ_AT_ONCE, REQUEST_DEADLINE, WRITE_AT, WRITE_DEADLINE};
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
        input: BytesMut::new(),
        longest_input: 0,
        output: Replies::default(),
        keys: SenderKeys::default(),
    };
    let (Ok(end) | Err(end)) = session.run(routes, counters, stop).await;
    match end {
        End::TooSlow => counters.broken(ProtocolError::Timeout),
        End::Closed if !session.input.is_empty() => counters.broken(ProtocolError::Truncated),
        End::Closed | End::Stopped | End::Broken(_) => {}
    }
    end
}

/// What [`Session::answer`] came to.
enum Progress {
    /// Every whole request is answered.
    Done,
    /// There are enough replies for one write, and perhaps more requests.
    Enough,
    /// The rest of the input is not the protocol. The reply that says so is in the output.
    Broken(Violation),
}

struct Session<S, C> {
    stream: S,
    codec: C,
    visitor: Visitor,
    input: BytesMut,
    /// How long the input has been since its memory was last let go.
    longest_input: usize,
    output: Replies,
    keys: SenderKeys,
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
            let mut batch = counters.batch();
            let progress = self.answer(routes, &mut batch);
            batch.end();
            let answered = !self.output.is_empty();
            self.write().await?;
            match progress {
                Progress::Enough => continue,
                Progress::Broken(violation) => {
                    self.linger().await;
                    return Ok(End::Broken(violation));
                }
                Progress::Done => {}
            }
            if self.input.is_empty() && self.longest_input > KEPT {
                self.input = BytesMut::new();
                self.keys = SenderKeys::default();
                self.longest_input = 0;
            }
            deadline = match deadline {
                _ if self.input.is_empty() => None,
                // The request that has begun is the one that had begun before.
                Some(running) if !answered => Some(running),
                _ => Some(Instant::now() + REQUEST_DEADLINE),
            };
            let read = self.read();
            let read = async {
                match deadline {
                    Some(at) => timeout_at(at, read).await.map_err(|_| End::TooSlow)?,
                    None => read.await,
                }
                .map_err(|_| End::Closed)
            };
            tokio::select! {
                // What has arrived counts before the stop.
                biased;
                read = read => if read? == 0 {
                    return Ok(End::Closed);
                },
                () = stopped.as_mut() => return Ok(End::Stopped),
            }
        }
    }

    /// Answers the whole requests in the input from one snapshot, and lets the snapshot go.
    fn answer(&mut self, routes: &Routes, batch: &mut Batch<'_>) -> Progress {
        if self.input.is_empty() {
            return Progress::Done;
        }
        let snapshot = routes.load();
        let mut answered = 0;
        let progress = loop {
            if self.output.len() >= WRITE_AT {
                break Progress::Enough;
            }
            let mut is_secret = false;
            let (reply, taken) = match self
                .codec
                .decode(self.input.get_mut(answered..).unwrap_or_default())
            {
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
                    let answer = snapshot.answer(map, key, &mut self.keys);
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
                    self.output.add(&mut self.codec, &reply, false);
                    break Progress::Broken(violation);
                }
            };
            self.output.add(&mut self.codec, &reply, is_secret);
            answered += taken;
        };
        if answered == self.input.len() {
            // Unlike advancing, this makes room at the front.
            self.input.clear();
        } else {
            self.input.advance(answered);
        }
        progress
    }

    /// Adds to the input what has arrived; 0 at the end of the stream.
    ///
    /// By way of the stack, so that a connection that waits holds no buffer of the size of a read.
    async fn read(&mut self) -> io::Result<usize> {
        poll_fn(|context| {
            let mut space = [MaybeUninit::uninit(); READ_AT_ONCE];
            let mut arrived = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut arrived))?;
            self.input.extend_from_slice(arrived.filled());
            self.longest_input = self.longest_input.max(self.input.len());
            Poll::Ready(Ok(arrived.filled().len()))
        })
        .await
    }

    async fn write(&mut self) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = self.write_what_fits().await.map_err(|_| End::Closed)?;
        let rest = self.output.get(sent..).unwrap_or_default();
        if !rest.is_empty() {
            let written = timeout(WRITE_DEADLINE, self.stream.write_all(rest)).await;
            written.map_err(|_| End::TooSlow)?.map_err(|_| End::Closed)?;
        }
        self.output.sent();
        Ok(())
    }

    /// Writes as much as the kernel takes without waiting, which is nearly always all. No clock is read for it.
    async fn write_what_fits(&mut self) -> io::Result<usize> {
        poll_fn(
            |context| match Pin::new(&mut self.stream).poll_write(context, &self.output) {
                Poll::Ready(sent) => Poll::Ready(sent),
                Poll::Pending => Poll::Ready(Ok(0)),
            },
        )
        .await
    }

    /// Lets the peer read the last reply: closes our half, and takes what it still sends, for a while.
    async fn linger(&mut self) {
        let _ = timeout(LINGER, async {
            self.stream.shutdown().await?;
            let mut taken = 0;
            while taken < LINGER_BYTES {
                self.input.clear();
                match self.read().await? {
                    0 => break,
                    more => taken += more,
                }
            }
            Ok::<(), io::Error>(())
        })
        .await;
    }
}

#[cfg(test)]
mod tests;
