//! Eight bytes at once, in one word: a quarter of what they cost one by one, and every lookup begins with them.
//!
//! Each byte of a word is worked on by itself: bytes of ASCII have their highest bit free, which is set before something
//! is taken from all of them, so that none borrows from the next, and which then says how the comparison came out.

/// How many there are in a word.
pub(super) const LANES: usize = size_of::<u64>();

/// The highest bit of each byte.
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; LANES]);

/// This byte, eight times.
const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; LANES])
}

/// One of the bytes is not visible ASCII, or a quote, or a backslash: they have to be read one by one.
#[derive(Debug, PartialEq)]
pub(super) struct NotPlain;

/// Folds eight plain bytes, and says where the last `@` among them is, if there is one.
#[inline]
pub(super) fn fold(bytes: &mut [u8; LANES]) -> Result<Option<usize>, NotPlain> {
    let word = u64::from_le_bytes(*bytes);
    let raised = word | HIGH_BITS;
    // The highest bit of each byte is set if the byte, as far as it is ASCII, is at least this one.
    let at_least = |byte| (raised - splat(byte)) & HIGH_BITS;
    // Likewise, if it is another one than this.
    let is_not = |byte| ((word ^ splat(byte) | HIGH_BITS) - splat(1)) & HIGH_BITS;
    if (word & HIGH_BITS) != 0 || (at_least(b'!') & is_not(b'"') & is_not(b'\\') & is_not(0x7f)) != HIGH_BITS
    {
        return Err(NotPlain);
    }
    let is_upper = at_least(b'A') & !at_least(b'Z' + 1);
    // 0x20 lies between a letter and its other case.
    *bytes = (word | is_upper >> 2).to_le_bytes();
    let is_at = !is_not(b'@') & HIGH_BITS;
    Ok((is_at != 0).then(|| LANES - 1 - is_at.leading_zeros() as usize / 8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LANES, NotPlain, fold};

    type Folded = ([u8; LANES], Option<usize>);

    fn bytewise(bytes: [u8; LANES]) -> Result<Folded, NotPlain> {
        let is_plain = |c: &u8| c.is_ascii_graphic() && !b"\"\\".contains(c);
        if !bytes.iter().all(is_plain) {
            return Err(NotPlain);
        }
        let at = bytes.iter().rposition(|c| *c == b'@');
        Ok((bytes.map(|c| c.to_ascii_lowercase()), at))
    }

    fn wordwise(mut bytes: [u8; LANES]) -> Result<Folded, NotPlain> {
        fold(&mut bytes).map(|at| (bytes, at))
    }

    #[test]
    fn every_byte_in_every_lane_is_folded_as_by_itself() {
        for place in 0..LANES {
            for byte in 0..=u8::MAX {
                for others in [b'a', b'Z', b'@', b'!', b'~'] {
                    let mut bytes = [others; LANES];
                    bytes[place] = byte;
                    assert_eq!(wordwise(bytes), bytewise(bytes), "{bytes:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_word_is_folded_as_its_single_bytes(bytes in any::<[u8; LANES]>(), plain in "[!-~]{8}") {
            prop_assert_eq!(wordwise(bytes), bytewise(bytes));
            let plain: [u8; LANES] = plain.as_bytes().try_into().unwrap();
            prop_assert_eq!(wordwise(plain), bytewise(plain));
        }
    }
}
