//! Eight letters at once, in one word: a quarter of what they cost one by one, and every lookup begins with them.
//!
//! Each byte of a word is worked on by itself: bytes of ASCII have their highest bit free, which is set before something
//! is taken from all of them, so that none borrows from the next, and which then says how the comparison came out.

/// How many there are in a word.
pub(super) const AT_ONCE: usize = size_of::<u64>();

/// The highest bit of each byte.
const HIGHEST: u64 = u64::from_ne_bytes([0x80; AT_ONCE]);

/// This byte, eight times.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; AT_ONCE])
}

/// One of the letters is not visible ASCII, or a quote, or a backslash: they have to be read one by one.
#[derive(Debug, PartialEq)]
pub(super) struct NotPlain;

/// Folds eight plain letters, and says where the last `@` among them is, if there is one.
#[inline]
pub(super) fn fold(letters: &mut [u8; AT_ONCE]) -> Result<Option<usize>, NotPlain> {
    let word = u64::from_le_bytes(*letters);
    let raised = word | HIGHEST;
    // The highest bit of each byte is set if the byte, as far as it is ASCII, is at least this one.
    let at_least = |byte| (raised - each(byte)) & HIGHEST;
    // Likewise, if it is another one than this.
    let is_not = |byte| ((word ^ each(byte) | HIGHEST) - each(1)) & HIGHEST;
    if (word & HIGHEST) != 0 || (at_least(b'!') & is_not(b'"') & is_not(b'\\') & is_not(0x7f)) != HIGHEST {
        return Err(NotPlain);
    }
    let is_upper = at_least(b'A') & !at_least(b'Z' + 1);
    // 0x20 lies between a letter and its other case.
    *letters = (word | is_upper >> 2).to_le_bytes();
    let is_at = !is_not(b'@') & HIGHEST;
    Ok((is_at != 0).then(|| AT_ONCE - 1 - is_at.leading_zeros() as usize / 8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{AT_ONCE, NotPlain, fold};

    type Folded = ([u8; AT_ONCE], Option<usize>);

    fn one_by_one(letters: [u8; AT_ONCE]) -> Result<Folded, NotPlain> {
        let is_plain = |c: &u8| c.is_ascii_graphic() && !b"\"\\".contains(c);
        if !letters.iter().all(is_plain) {
            return Err(NotPlain);
        }
        let at = letters.iter().rposition(|c| *c == b'@');
        Ok((letters.map(|c| c.to_ascii_lowercase()), at))
    }

    fn at_once(mut letters: [u8; AT_ONCE]) -> Result<Folded, NotPlain> {
        fold(&mut letters).map(|at| (letters, at))
    }

    #[test]
    fn every_byte_in_every_place_is_what_it_is_by_itself() {
        for place in 0..AT_ONCE {
            for byte in 0..=u8::MAX {
                for others in [b'a', b'Z', b'@', b'!', b'~'] {
                    let mut letters = [others; AT_ONCE];
                    letters[place] = byte;
                    assert_eq!(at_once(letters), one_by_one(letters), "{letters:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_letters_are_what_they_are_one_by_one(letters in any::<[u8; AT_ONCE]>(), plain in "[!-~]{8}") {
            prop_assert_eq!(at_once(letters), one_by_one(letters));
            let plain: [u8; AT_ONCE] = plain.as_bytes().try_into().unwrap();
            prop_assert_eq!(at_once(plain), one_by_one(plain));
        }
    }
}
