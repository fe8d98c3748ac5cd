//! What each fuzz target does with its input, and the oracles that it compares with.
//!
//! This crate is for cargo-fuzz. The same files are a module of tests/fuzz_cases.rs, which replays the kept inputs by
//! `cargo test`, so nothing here may need libFuzzer.
//!
//! - [`targets`]: the names
//! - [`netstring`], [`tcp_table`], [`tables`], [`settings`], [`session`], [`editor`], [`generations`],
//!   [`transport`]: the bodies
//! - [`plain`]: a second, simple implementation of the contract, which shares no code with the program
//! - [`input`]: the encoding of inputs

pub mod editor;
pub mod generations;
pub mod input;
pub mod netstring;
pub mod plain;
pub mod session;
pub mod settings;
pub mod tables;
pub mod tcp_table;
pub mod transport;

/// The targets, by the names of their binaries and directories.
pub mod targets {
    pub use super::editor::editor;
    pub use super::generations::generations;
    pub use super::netstring::netstring;
    pub use super::session::session;
    pub use super::settings::settings;
    pub use super::tables::{credentials, relay_tls, relaymap};
    pub use super::tcp_table::tcp_table;
    pub use super::transport::transport;

    /// Runs one input. Panics where something is wrong.
    pub type Target = fn(&[u8]);

    /// Every target.
    pub const ALL: [(&str, Target); 10] = [
        ("netstring", netstring),
        ("tcp_table", tcp_table),
        ("relaymap", relaymap),
        ("credentials", credentials),
        ("relay_tls", relay_tls),
        ("transport", transport),
        ("settings", settings),
        ("session", session),
        ("editor", editor),
        ("generations", generations),
    ];
}
