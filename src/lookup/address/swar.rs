//! SIMD within a register: folds eight bytes in one word. Every lookup starts with it, and it takes a quarter of the
//! time of single bytes.
//!
//! Each byte is a lane. ASCII leaves its highest bit free: that bit is set before a subtraction from all lanes, so that
//! no lane borrows from the next, and then holds the result of the comparison.

/// The number of bytes in a word.
pub(in crate::lookup) const LANES: usize = size_of::<u64>();

/// The highest bit of each byte.
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; LANES]);

/// Returns a word with `byte` in each lane.
const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; LANES])
}

/// A byte is not visible ASCII, or a quote, or a backslash: the address must be parsed byte by byte.
#[derive(Debug, PartialEq)]
pub(super) struct NotPlain;

/// Folds eight plain bytes, and returns the index of the last `@` among them, if there is one.
#[inline]
pub(super) fn fold(bytes: &mut [u8; LANES]) -> Result<Option<usize>, NotPlain> {
    let word = u64::from_le_bytes(*bytes);
    let raised = word | HIGH_BITS;
    // Sets the highest bit of each lane whose byte, if it is ASCII, is at least `byte`.
    let at_least = |byte| (raised - splat(byte)) & HIGH_BITS;
    // Sets the highest bit of each lane whose byte differs from `byte`.
    let is_not = |byte| ((word ^ splat(byte) | HIGH_BITS) - splat(1)) & HIGH_BITS;
    if (word & HIGH_BITS) != 0 || (at_least(b'!') & is_not(b'"') & is_not(b'\\') & is_not(0x7f)) != HIGH_BITS
    {
        return Err(NotPlain);
    }
    let is_upper = at_least(b'A') & !at_least(b'Z' + 1);
    // Upper and lower case of a letter differ in bit 0x20.
    *bytes = (word | is_upper >> 2).to_le_bytes();
    let is_at = !is_not(b'@') & HIGH_BITS;
    Ok((is_at != 0).then(|| LANES - 1 - is_at.leading_zeros() as usize / 8))
}

/// The lanes of a word that have some byte, from the first to the last.
pub(in crate::lookup) struct Lanes(u64);

impl Lanes {
    /// Finds `byte` in these bytes.
    #[inline]
    pub(in crate::lookup) fn of(bytes: [u8; LANES], byte: u8) -> Self {
        let differs = u64::from_le_bytes(bytes) ^ splat(byte);
        // Sets the highest bit of each lane that is not zero; no lane carries into the next.
        let is_not = ((differs & !HIGH_BITS) + !HIGH_BITS) | differs;
        Self(!is_not & HIGH_BITS)
    }
}

impl Iterator for Lanes {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let found = (self.0 != 0).then(|| self.0.trailing_zeros() as usize / 8);
        // Clears the lowest bit.
        self.0 &= self.0.wrapping_sub(1);
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LANES, Lanes, NotPlain, fold};

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
    fn every_byte_is_folded_alike_in_every_lane() {
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
        fn the_lanes_with_a_byte_are_those_where_it_is(bytes in prop::array::uniform8(0x2d_u8..0x30), any in any::<[u8; LANES]>()) {
            for bytes in [bytes, any, any.map(|c| c | 0x80), bytes.map(|c| c ^ 0x80)] {
                for byte in [b'.', 0xae, 0, 0x80, 0xff] {
                    let expected: Vec<usize> = (0..LANES).filter(|lane| bytes[*lane] == byte).collect();
                    prop_assert_eq!(Lanes::of(bytes, byte).collect::<Vec<_>>(), expected);
                }
            }
        }

        #[test]
        fn any_word_is_folded_as_its_single_bytes(bytes in any::<[u8; LANES]>(), plain in "[!-~]{8}") {
            prop_assert_eq!(wordwise(bytes), bytewise(bytes));
            let plain: [u8; LANES] = plain.as_bytes().try_into().unwrap();
            prop_assert_eq!(wordwise(plain), bytewise(plain));
        }
    }
}
