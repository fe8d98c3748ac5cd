//! zlib (RFC 1950) and deflate (RFC 1951) with the fixed codes, and the two checksums.
//!
//! A match is looked for at given distances only: enough for a drawing, and a page instead of a crate or six.

/// The longest match.
const LONGEST: usize = 258;
/// The shortest.
const SHORTEST: usize = 3;

struct Bits {
    bytes: Vec<u8>,
    held: u32,
    number: u32,
}

impl Bits {
    /// The lowest `number` bits, the lowest first.
    fn put(&mut self, bits: u32, number: u32) {
        self.held |= bits << self.number;
        self.number += number;
        while self.number >= 8 {
            let [byte, ..] = self.held.to_le_bytes();
            self.bytes.push(byte);
            self.held >>= 8;
            self.number -= 8;
        }
    }

    /// A Huffman code: its highest bit first.
    fn code(&mut self, code: u32, number: u32) {
        self.put(code.reverse_bits() >> (32 - number), number);
    }

    /// A literal or a length, in the fixed code.
    fn symbol(&mut self, symbol: u32) {
        match symbol {
            0..=143 => self.code(0x30 + symbol, 8),
            144..=255 => self.code(0x190 + symbol - 144, 9),
            256..=279 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }
}

/// A length or a distance as its symbol, counted from that of the least, its extra bits, and how many there are.
/// `group` is how many symbols share a number of extra bits.
fn symbol(value: u32, least: u32, group: u32) -> (u32, u32, u32) {
    let over = value - least;
    if over < 2 * group {
        return (over, 0, 0);
    }
    let extra = over.ilog2() - group.ilog2();
    (extra * group + (over >> extra), over & ((1 << extra) - 1), extra)
}

/// The bytes as a zlib stream, with matches at these distances, each of 32768 at most.
pub(super) fn zlib(bytes: &[u8], distances: &[usize]) -> Vec<u8> {
    let mut bits = Bits {
        bytes: vec![0x78, 0x01],
        held: 0,
        number: 0,
    };
    // The last block, with the fixed codes.
    bits.put(0b011, 3);
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let length = |distance: usize| {
            let earlier = at.checked_sub(distance).and_then(|start| bytes.get(start..));
            let same =
                earlier.map(|earlier| rest.iter().zip(earlier).take(LONGEST).take_while(|(a, b)| a == b));
            (same.map_or(0, Iterator::count), distance)
        };
        let usable = distances
            .iter()
            .copied()
            .filter(|distance| (1..=32_768).contains(distance));
        let longest = usable.map(length).max_by_key(|(length, _)| *length);
        match longest {
            Some((length, distance)) if length >= SHORTEST => {
                let number = |number: usize| u32::try_from(number).unwrap_or_default();
                // The longest has a symbol of its own.
                let (code, extra, width) = match length {
                    LONGEST => (28, 0, 0),
                    _ => symbol(number(length), 3, 4),
                };
                bits.symbol(257 + code);
                bits.put(extra, width);
                let (code, extra, width) = symbol(number(distance), 1, 2);
                bits.code(code, 5);
                bits.put(extra, width);
                at += length;
            }
            _ => {
                bits.symbol(rest.first().copied().unwrap_or_default().into());
                at += 1;
            }
        }
    }
    bits.symbol(256);
    bits.put(0, 7);
    bits.bytes.extend(adler32(bytes).to_be_bytes());
    bits.bytes
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    // So many additions of at most 255 stay below 2^32.
    for piece in bytes.chunks(5552) {
        for byte in piece {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65_521;
        b %= 65_521;
    }
    (b << 16) | a
}

/// The checksum of a chunk.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::{adler32, crc32, symbol};

    #[test]
    fn the_checksums_are_those_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn symbols_are_those_of_the_tables_of_rfc_1951() {
        for (length, right) in [
            (3, (0, 0, 0)),
            (10, (7, 0, 0)),
            (12, (8, 1, 1)),
            (19, (12, 0, 2)),
            (257, (27, 30, 5)),
        ] {
            assert_eq!(symbol(length, 3, 4), right, "{length}");
        }
        for (distance, right) in [
            (1, (0, 0, 0)),
            (4, (3, 0, 0)),
            (5, (4, 0, 1)),
            (5761, (24, 1664, 11)),
            (32_768, (29, 8191, 13)),
        ] {
            assert_eq!(symbol(distance, 1, 2), right, "{distance}");
        }
    }
}
