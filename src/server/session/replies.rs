//! Encoded replies, of which no password stays behind in memory.
//!
//! A buffer is reused for the next replies, kept while the connection waits, and finally freed. What held credentials is wiped
//! after it was sent, when the buffer grows, and when it is dropped.
//!
//! Limits: copies in the kernel's socket buffers are out of reach.

use std::ops::Deref;

use bytes::BytesMut;
use zeroize::Zeroize;

use crate::protocol::answer::Answer;
use crate::protocol::{Codec, Reply};
use crate::server::limits::KEPT;

/// The most bytes that a protocol adds to a value.
const FRAME: usize = 64;

/// The most bytes into which a protocol encodes one byte of a value.
const ENCODED: usize = 3;

/// Encoded replies.
#[derive(Default)]
pub(super) struct Replies {
    bytes: BytesMut,
    /// How many bytes from the start may hold credentials, or held some before.
    secret: usize,
    /// How many bytes from the start are sent.
    sent: usize,
}

impl Replies {
    /// Appends a reply. `is_secret` says whether it may hold a credential.
    pub(super) fn add(&mut self, codec: &mut impl Codec, reply: &Reply<'_>, is_secret: bool) {
        let room = match reply {
            Reply::Answer(Answer::Found(value)) => value.expose().len().saturating_mul(ENCODED),
            // A reason; none is longer.
            _ => KEPT,
        };
        let needed = self.bytes.len().saturating_add(room).saturating_add(FRAME);
        if self.secret > 0 || is_secret {
            self.grow(needed);
        }
        codec.encode(reply, &mut self.bytes);
        if is_secret {
            // A reply that was too long for its protocol was truncated, not wiped.
            self.secret = needed.min(self.bytes.capacity());
        }
    }

    /// Wipes and drops all replies.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.wipe();
        if self.bytes.capacity() > KEPT {
            self.bytes = BytesMut::new();
        }
    }

    /// Marks this many more bytes as sent. They stay in place until the rest is sent too.
    pub(super) fn advance(&mut self, sent: usize) {
        self.sent = self.sent.saturating_add(sent);
    }

    /// Grows the buffer by hand: `BytesMut` would leave the old one readable.
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
