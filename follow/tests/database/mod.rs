//! Databases that tests start in a temporary directory and stop when they are dropped.
//!
//! A test uses it with `mod database;` and starts a server of its own, because it may stop, freeze or break it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "each test binary uses a part of it, and a test ends where something fails"
)]

pub mod certificates;
pub mod follower;
pub mod mariadb;
pub mod one_sender;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod processes;
pub mod program;
pub mod proxy;
pub mod server;
