//! The contract once more, in the plainest way: the oracle of the targets.
//!
//! Nothing here uses the product's parsers, allocates sparingly or is fast. What both need and neither defines (case
//! folding, the text form of an IP address) comes from the library that defines it.

pub mod address;
pub mod framing;
pub mod key;
pub mod next_hop;
pub mod table;
