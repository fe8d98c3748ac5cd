//! postmapd-follow: keeps the tables of postmapd in step with a database.
//!
//! Many mail servers have one source of relays and credentials. On each of them, postmapd-follow reads that source and
//! writes a directory, and `postmapd serve` answers from that directory. So the process that answers has no database
//! client, no TLS library and no network, and answers as before while the source is away.
//!
//! ```text
//! rows ─► one line each, or a bad row ─► a generation: a directory of files ─► one link is replaced ─► postmapd serve
//! ```
//!
//! | module | content |
//! |---|---|
//! | `random` | random numbers of the system |
//! | [`rows`] | rows of a table as lines of a file: exactly one entry for each row, or a bad row |
//! | [`settings`] | `follow.toml`, parsed and validated |
//! | [`schema`] | the tables of postmapd in PostgreSQL: the statements that create them |
//! | [`engine`] | what is asked of a database: its state, and its rows in one transaction; PostgreSQL, MariaDB and MySQL |
//! | [`directory`] | the directory: generations of files, one of which is active; what is found after a crash |
//! | [`dump`] | the tables as plain files, without generations |
//! | [`inspection`] | the rows of a read, counted and validated |
//! | [`load`] | the files of a directory as rows of the database |
//! | [`confinement`] | the rights that the program drops before it connects |
//! | [`status`] | what the program is doing |
//! | [`follow`] | the loop: connect, read, publish, wait |
//! | [`liveness`] | whether the thread of the loop is alive |
//! | [`admin`] | health, status and metrics over HTTP |
//! | [`systemd`] | notifications to systemd |
//! | [`cli`] | the commands |
//!
//! A module uses only those above it in this list (`tests/layers.rs` checks), and of the postmapd crate only what is public there:
//! the grammar of the files ([`postmapd::lookup::table`]), secrets, digests, the log and the sandbox ([`postmapd::os`]), places in
//! files ([`postmapd::diagnostics`]), addresses and listeners ([`postmapd::net`]), the HTTP server and the notifications of systemd
//! ([`postmapd::control`]), and suggestions for misspelt settings.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod admin;
pub mod cli;
pub mod confinement;
pub mod directory;
mod dump;
pub mod engine;
mod follow;
mod inspection;
mod liveness;
mod load;
mod random;
pub mod rows;
pub mod schema;
pub mod settings;
mod status;
mod systemd;
