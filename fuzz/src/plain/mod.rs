//! A second, simple implementation of the contract: the oracle of the targets.
//!
//! Nothing here uses the program's parsers, saves memory or is fast. What both need and neither defines (case folding,
//! the text form of an IP address) comes from the library that defines it.

pub mod address;
pub mod framing;
pub mod key;
pub mod next_hop;
pub mod table;
pub mod tls;
