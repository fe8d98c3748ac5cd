//! MariaDB as the source, with real servers.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

#[path = "../database/mod.rs"]
mod database;

mod failures;
mod follower;
mod guides;
#[path = "../server/program.rs"]
mod postmapd;
mod program;
mod rows;
mod snapshots;
mod tls;
