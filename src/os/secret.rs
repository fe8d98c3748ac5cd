//! Bytes that can be stored and sent but not printed, and that are wiped when dropped.
//!
//! Every password, and every file that contains some, is a [`Secret`] from the moment it is read. The type has no
//! `Debug`, no `Display` and no serialization, so that no log line, error or panic can format one:
//!
//! ```compile_fail
//! let secret = postmapd::os::secret::Secret::from(b"hunter2".to_vec());
//! println!("{secret:?}");
//! ```
//!
//! Only [`Secret::expose`] and [`Secret::expose_mut`] give access to the bytes, which are easy to find in a review.
//!
//! Limits: the memory is wiped, not locked; the kernel may have swapped it out. A caller that copies the bytes must
//! wipe its copy.

use zeroize::Zeroize;

/// Bytes that are never printed and are wiped when dropped.
#[derive(Default)]
pub struct Secret {
    bytes: Vec<u8>,
}

impl Secret {
    /// Creates an empty secret with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
        }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes for writing.
    #[must_use]
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends `more`. Where the capacity does not suffice, the bytes move to a larger allocation and the old one is
    /// wiped, which `Vec` does not do.
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

    /// Wipes and removes everything from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if let Some(rest) = self.bytes.get_mut(len..) {
            rest.zeroize();
        }
        self.bytes.truncate(len);
    }

    /// Removes one line end from the end: LF, CR LF, or the CR of a line end that was cut in two, as in the tables.
    pub fn strip_line_end(&mut self) {
        for end in [b"\n", b"\r"] {
            if self.bytes.ends_with(end) {
                self.truncate(self.bytes.len() - 1);
            }
        }
    }

    /// Removes a UTF-8 byte order mark from the beginning. Returns whether there was one.
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
    fn one_line_end_and_one_byte_order_mark_are_removed() {
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
