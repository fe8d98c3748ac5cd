//! The encoding of inputs.

/// The longest input after expansion.
const LONGEST: usize = 140_000;

/// The byte that begins a run: `FE`, the byte, and its count in two more. Without it, a fuzzer would hardly reach a
/// limit of 30 000 or 65 535 bytes, and every input that does would be as long.
const RUN: u8 = 0xFE;

/// Expands the runs of an input.
pub fn expand(data: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(data.len());
    let mut rest = data;
    while let [first, after @ ..] = rest {
        match after {
            [byte, high, low, after @ ..] if *first == RUN => {
                let times = usize::from(u16::from_be_bytes([*high, *low]));
                if text.len() + times <= LONGEST {
                    text.resize(text.len() + times, *byte);
                }
                rest = after;
            }
            _ => {
                text.push(*first);
                rest = after;
            }
        }
    }
    text
}

/// The first line of an input without its end, and what follows it.
pub fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|c| *c == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

/// A number from a byte: a digit is its value, so that inputs can be written by hand.
pub fn number(byte: u8) -> usize {
    usize::from(if byte.is_ascii_digit() { byte - b'0' } else { byte })
}
