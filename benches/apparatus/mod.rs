//! What the benchmarks measure with: made-up tables, the built server, `postmap`, and how a figure is written.

#![allow(dead_code, reason = "each benchmark uses its part of it")]

pub(crate) mod entries;
pub(crate) mod machine;
pub(crate) mod postmap;
pub(crate) mod relay_map;
pub(crate) mod server;
pub(crate) mod spread;

use std::error::Error;

/// What a benchmark ends with where it cannot go on, for a person.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
