//! `postmapd serve` on a directory of postmapd-follow, with the harness of its own tests.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test binary uses a part of it, and a test ends where something fails"
)]

#[path = "../../../tests/promises/harness/admin.rs"]
pub(crate) mod admin;
#[path = "../../../tests/promises/harness/client.rs"]
pub(crate) mod client;
#[path = "../../../tests/promises/harness/daemon.rs"]
pub(crate) mod daemon;
mod eventually;
mod program;

use daemon::DEADLINE;
pub(crate) use eventually::eventually;
pub(crate) use program::POSTMAPD;
