//! Replies on their way to the peer, of which no password stays behind in memory.
//!
//! A buffer is used again for the next replies, kept while the connection waits, and given back to the allocator in the
//! end. So what held credentials is wiped when it was sent, when it moves to a larger place, and when it is dropped.
//!
//! Limits: what the kernel holds until the peer has read it is the kernel's.

use std::ops::Deref;

use bytes::BytesMut;
use zeroize::Zeroize;

use crate::protocol::answer::Answer;
use crate::protocol::{Codec, Reply};
use crate::server::limits::KEPT;

/// The most bytes that a protocol puts around a value.
const FRAME: usize = 64;

/// The most bytes that it makes of one byte of the value.
const ENCODED: usize = 3;

/// Encoded replies.
#[derive(Default)]
pub(super) struct Replies {
    bytes: BytesMut,
    /// How many bytes, from the first, may be of credentials, or may have been before something took their place.
    secret: usize,
    /// How many bytes, from the first, are sent.
    sent: usize,
}

impl Replies {
    /// Appends a reply, which may hold a credential or not.
    pub(super) fn add(&mut self, codec: &mut impl Codec, reply: &Reply<'_>, is_secret: bool) {
        let room = match reply {
            Reply::Answer(Answer::Found(value)) => value.expose().len().saturating_mul(ENCODED),
            // A line that says why; none is longer.
            _ => KEPT,
        };
        let needed = self.bytes.len().saturating_add(room).saturating_add(FRAME);
        if self.secret > 0 || is_secret {
            self.grow(needed);
        }
        codec.encode(reply, &mut self.bytes);
        if is_secret {
            // A reply that turned out too long for its protocol was taken back, but not wiped.
            self.secret = needed.min(self.bytes.capacity());
        }
    }

    /// Forgets all of them.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.wipe();
        if self.bytes.capacity() > KEPT {
            self.bytes = BytesMut::new();
        }
    }

    /// Forgets that there were this many bytes more: they are sent. Until the rest is, they stay where they are.
    pub(super) fn advance(&mut self, sent: usize) {
        self.sent = self.sent.saturating_add(sent);
    }

    /// Moves to a larger place by itself: the buffer by itself would leave the old one readable.
    fn grow(&mut self, needed: usize) {
        if needed <= self.bytes.capacity() {
            return;
        }
        let mut larger = BytesMut::with_capacity(needed.max(self.bytes.capacity().saturating_mul(2)));
        larger.extend_from_slice(&self.bytes);
        let secret = self.secret;
        self.wipe();
        self.bytes = larger;
        self.secret = secret;
    }

    #[inline]
    fn wipe(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        if self.secret > 0 {
            if let Some(secret) = self.bytes.spare_capacity_mut().get_mut(..self.secret) {
                secret.zeroize();
            }
            self.secret = 0;
        }
    }
}

impl Deref for Replies {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.wipe();
    }
}
