//! Digests of files: they tell two contents apart without showing them.
//!
//! Of a file without credentials the digest is SHA-256, as sha256sum(1) prints it. Of a file with credentials that
//! would give too much away: with the digest of `@example.com user:password`, passwords can be tried until one fits.
//! There it is HMAC-SHA-256 with a random key that this process creates at its start and never shows: it says whether
//! the file has changed, and nothing else.

use std::fmt::Write;
use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};

/// Returns the SHA-256 of a text in pieces, as `sha256:` and hexadecimal digits.
#[must_use]
pub fn plain<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    pieces.into_iter().for_each(|piece| digest.update(piece));
    to_text("sha256:", &digest.finalize())
}

/// Returns the HMAC-SHA-256 of a text in pieces that may contain a credential, as `hmac-sha256:` and hexadecimal
/// digits. `None` where the system provides no random numbers.
pub(crate) fn keyed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    keyed_with(process_key()?, pieces)
}

/// Returns the digest of [`keyed`] with this key, for a file that another process compares. Keep the key as secret as the
/// text. `None` never occurs: HMAC takes a key of any length.
pub fn keyed_with<'a>(key: &[u8], pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let mut digest = KeyedDigest::new(key)?;
    pieces.into_iter().for_each(|piece| digest.update(piece));
    Some(digest.finish())
}

/// The digest of [`keyed_with`] of a text of which there is never more than a piece in memory.
pub struct KeyedDigest {
    hmac: Hmac<Sha256>,
}

impl KeyedDigest {
    /// Starts the digest of an empty text. `None` never occurs: HMAC takes a key of any length.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        let hmac = Hmac::new_from_slice(key).ok()?;
        Some(Self { hmac })
    }

    /// Adds the next piece of the text.
    pub fn update(&mut self, piece: &[u8]) {
        self.hmac.update(piece);
    }

    /// Returns the digest, as `hmac-sha256:` and hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        to_text("hmac-sha256:", &self.hmac.finalize().into_bytes())
    }
}

fn process_key() -> Option<&'static [u8]> {
    static KEY: OnceLock<Option<[u8; 32]>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut key = [0; 32];
        let filled = getrandom(&mut key, GetRandomFlags::empty());
        (filled == Ok(key.len())).then_some(key)
    });
    key.as_ref().map(<[u8; 32]>::as_slice)
}

fn to_text(kind: &str, digest: &[u8]) -> String {
    let mut text = kind.to_owned();
    for byte in digest {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{KeyedDigest, keyed, keyed_with, plain};

    #[test]
    fn the_plain_digest_is_sha256() {
        // The example of FIPS 180-4.
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(plain([&b"abc"[..]]), expected);
        assert_eq!(plain([&b"a"[..], b"", b"bc"]), expected);
    }

    #[test]
    fn the_digest_with_a_given_key_is_hmac_sha256() {
        // Test case 2 of RFC 4231.
        let expected = "hmac-sha256:5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let text = [&b"what do ya want "[..], b"for nothing?"];
        assert_eq!(keyed_with(b"Jefe", text).unwrap(), expected);
        let mut digest = KeyedDigest::new(b"Jefe").unwrap();
        text.concat().iter().for_each(|byte| digest.update(&[*byte]));
        assert_eq!(digest.finish(), expected);
    }

    #[test]
    fn the_keyed_digest_depends_on_a_secret_key() {
        let digest = keyed([&b"abc"[..]]).unwrap();
        assert_eq!(Some(&digest), keyed([&b"a"[..], b"bc"]).as_ref());
        assert_ne!(Some(&digest), keyed([&b"abd"[..]]).as_ref());
        let (kind, digits) = digest.split_once(':').unwrap();
        assert_eq!((kind, digits.len()), ("hmac-sha256", 64));
        // HMAC with an empty key, which anyone can compute.
        assert!(!digits.starts_with("fd7adb15"));
    }
}
