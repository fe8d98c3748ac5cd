//! What the tests and the benchmark of fleets share: a PostgreSQL, mail servers, and clients. It uses no code of postmapd or
//! postmapd-follow, only their programs.

pub(crate) mod client;
#[path = "../../server/eventually.rs"]
mod eventually;
pub(crate) mod fleet;
pub(crate) mod mail_server;
pub(crate) mod pairs;
pub(crate) mod process;
#[path = "../../server/program.rs"]
mod program;
pub(crate) mod random;
pub(crate) mod senders;
pub(crate) mod sql;

pub(crate) use crate::database::processes::DEADLINE;
pub(crate) use eventually::eventually;
pub(crate) use program::POSTMAPD;

/// The program postmapd-follow.
pub(crate) const FOLLOW: &str = env!("CARGO_BIN_EXE_postmapd-follow");
