//! The parts shared by the benchmarks: generated tables, the built server, `postmap`, and the format of figures.

#![allow(dead_code, reason = "each benchmark uses its part of it")]

pub(crate) mod entries;
pub(crate) mod machine;
pub(crate) mod postmap;
pub(crate) mod relay_map;
pub(crate) mod server;
pub(crate) mod spread;

use std::error::Error;

/// An error message ends a benchmark.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
