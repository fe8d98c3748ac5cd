//! The stream, codec and client of a connection: from complete requests to replies.
//!
//! Holds no input and no reply; the session does.

use std::io::{self, ErrorKind};

use tracing::debug;

use super::replies::Replies;
use super::{SessionEnd, Stream};
use crate::lookup::address::LookupKeys;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::protocol::answer::Answer;
use crate::protocol::{Codec, FramingError, Reply, Request};
use crate::server::access::Client;
use crate::server::counters::{Batch, Reason};
use crate::server::exchange::Exchange;
use crate::server::limits::WRITE_AT;

/// The stream, the codec, and the client.
pub(super) struct Channel<S, C> {
    pub(super) stream: S,
    pub(super) codec: C,
    pub(super) client: Client,
    pub(super) exchange: Exchange,
}

/// How far [`Channel::answer`] came.
#[derive(Clone, Copy)]
pub(super) enum Progress {
    /// Every complete request is answered.
    Done,
    /// There are enough replies for one write, and there may be more requests.
    Enough,
    /// The rest of the input is invalid. The last of the replies says so.
    Broken(FramingError),
}

impl<S: Stream, C: Codec> Channel<S, C> {
    /// Answers the complete requests in `input`. Returns the result, and how many bytes they had.
    pub(super) fn answer(
        &mut self,
        input: &mut [u8],
        keys: &mut LookupKeys,
        scratch: &mut Scratch,
        replies: &mut Replies,
        snapshot: &Snapshot,
        batch: &mut Batch<'_>,
    ) -> (Progress, usize) {
        let mut answered = 0;
        let progress = loop {
            if replies.len() >= WRITE_AT {
                break Progress::Enough;
            }
            let mut is_secret = false;
            let no_such_map: String;
            let (reply, taken) = match self.codec.decode(input.get_mut(answered..).unwrap_or_default()) {
                Ok(None) => break Progress::Done,
                Ok(Some((Request::Lookup { map: name, key }, taken))) => {
                    let reply = match batch.maps().named(name) {
                        Some((number, map))
                            if map.may_be_queried_by(self.client.peer(), &snapshot.allowed) =>
                        {
                            let answer = self.exchange.answer(snapshot, map, key, keys, scratch);
                            debug!(%map, key = %key.escape_ascii(), outcome = answer.outcome(), "lookup");
                            batch.answered(number, &answer);
                            is_secret = map.is_secret() && matches!(answer, Answer::Found(_));
                            Reply::Answer(answer)
                        }
                        Some((number, _)) => {
                            batch.refused(number, self.client.kind_of_refusal());
                            refused(self.client.refuse())
                        }
                        None => {
                            no_such_map = batch.maps().no_such_map();
                            batch.refused_request(Reason::NoSuchMap);
                            refused(&no_such_map)
                        }
                    };
                    (reply, taken)
                }
                Ok(Some((Request::Invalid, taken))) => {
                    batch.refused_request(Reason::NotARequest);
                    (refused(NOT_A_LOOKUP), taken)
                }
                Err(violation) => {
                    batch.broken((&violation).into());
                    let reply = Reply::FramingError(&violation);
                    replies.add(&mut self.codec, &reply, false);
                    break Progress::Broken(violation);
                }
            };
            replies.add(&mut self.codec, &reply, is_secret);
            answered += taken;
            if answered == input.len() {
                break Progress::Done;
            }
        };
        (progress, answered)
    }

    /// Sends as much of these replies as the kernel takes, nearly always all of it, and returns how many bytes.
    pub(super) fn send(&mut self, replies: &Replies) -> Result<usize, SessionEnd> {
        if replies.is_empty() {
            return Ok(0);
        }
        match self.stream.write(replies) {
            Ok(sent) => Ok(sent),
            Err(error) => ignore_would_block(&error).map(|()| 0),
        }
    }
}

/// The reply to a request that is no lookup.
const NOT_A_LOOKUP: &str = "this is not a lookup request";

/// Returns the reply to a request that is refused for this reason.
fn refused(reason: &str) -> Reply<'_> {
    debug!(%reason, "request refused");
    Reply::Refused(reason)
}

/// Ignores the error that means waiting. Any other ends the session.
pub(super) fn ignore_would_block(error: &io::Error) -> Result<(), SessionEnd> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(()),
        _ => Err(SessionEnd::Closed),
    }
}
