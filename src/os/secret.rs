//! Bytes that can be stored and sent, but not printed, and that are wiped when they are dropped.
//!
//! Every password, and every file that holds some, is a [`Secret`] from the moment it is read. The type has no
//! `Debug`, no `Display` and no serialisation, so that no log line, error or panic can format one:
//!
//! ```compile_fail
//! let secret = postmapd::os::secret::Secret::from(b"hunter2".to_vec());
//! println!("{secret:?}");
//! ```
//!
//! The bytes come out through [`Secret::expose`] and its like alone, which are easy to search for in review.
//!
//! Limits: the memory is wiped, not locked; the kernel may still have swapped it out. A copy made by whoever
//! calls [`Secret::expose`] is theirs to wipe.

use zeroize::Zeroize;

/// Bytes that are never printed and are wiped when dropped.
#[derive(Default)]
pub struct Secret {
    bytes: Vec<u8>,
}

impl Secret {
    /// An empty secret with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
        }
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes themselves, to be written to.
    #[must_use]
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends `more`. Where the room does not suffice, the bytes move to a larger place and the old one is wiped,
    /// which `Vec` by itself would leave behind readable.
    pub fn append(&mut self, more: &[u8]) {
        let needed = self.bytes.len().saturating_add(more.len());
        if needed > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(needed.max(self.bytes.capacity().saturating_mul(2)));
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(more);
    }

    /// Forgets everything from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if let Some(rest) = self.bytes.get_mut(len..) {
            rest.zeroize();
        }
        self.bytes.truncate(len);
    }

    /// Takes one line end off the end: LF, CR LF, or the CR of a line end that was cut in two, as the tables' lines end.
    pub fn strip_line_end(&mut self) {
        for end in [b"\n", b"\r"] {
            if self.bytes.ends_with(end) {
                self.truncate(self.bytes.len() - 1);
            }
        }
    }

    /// Takes the byte order mark of UTF-8 off the beginning. Returns whether there was one.
    pub fn strip_byte_order_mark(&mut self) -> bool {
        let Some(rest) = self.bytes.strip_prefix(b"\xEF\xBB\xBF") else {
            return false;
        };
        *self = Self::from(rest.to_vec());
        true
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Secret {}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn appending_past_the_capacity_keeps_every_byte() {
        let mut secret = Secret::with_capacity(2);
        for part in [&b"user"[..], b":", b"", b"password"] {
            secret.append(part);
        }
        assert!(secret.expose() == b"user:password");
        secret.truncate(4);
        assert!(secret.expose() == b"user");
    }

    #[test]
    fn one_line_end_and_one_byte_order_mark_are_taken_off() {
        for (text, value, had_mark) in [
            ("pw\n", "pw", false),
            ("pw\r\n", "pw", false),
            ("pw\r", "pw", false),
            ("\u{feff}pw\r\n", "pw", true),
            ("\u{feff}\u{feff}pw\n\n", "\u{feff}pw\n", true),
            ("\n", "", false),
            (" pw ", " pw ", false),
        ] {
            let mut secret = Secret::from(text.as_bytes().to_vec());
            assert_eq!(secret.strip_byte_order_mark(), had_mark);
            secret.strip_line_end();
            assert!(secret.expose() == value.as_bytes(), "{value}");
        }
    }
}
