//! Base64 (RFC 4648) for AUTH, without a copy of the secret that is not wiped.

use crate::os::secret::Secret;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the bytes in base64, with padding.
pub(super) fn append(bytes: &[u8], to: &mut Secret) {
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| chunk.get(index).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |index: u32| {
            if index as usize > chunk.len() {
                return b'=';
            }
            let position = (bits >> (18 - 6 * index)) & 63;
            ALPHABET.get(position as usize).copied().unwrap_or_default()
        };
        to.append(&[digit(0), digit(1), digit(2), digit(3)]);
    }
}

#[cfg(test)]
mod tests {
    use super::append;
    use crate::os::secret::Secret;

    /// The test vectors of RFC 4648, section 10, and bytes that use the whole alphabet.
    #[test]
    fn the_encoding_is_that_of_the_standard() {
        for (bytes, encoded) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xff\xbf", "+/+/"),
            (b"\0user\0pw", "AHVzZXIAcHc="),
        ] {
            let mut to = Secret::with_capacity(16);
            append(bytes, &mut to);
            assert!(to.expose() == encoded.as_bytes(), "{encoded}");
        }
    }
}
