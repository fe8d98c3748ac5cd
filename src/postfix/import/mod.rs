//! An existing Postfix set-up, as the two files and the settings that give the same answers.
//!
//! [`dump`] reads the tables that Postfix reads, and [`written`] those that stand in main.cf itself; [`convert`] makes the
//! files of them. Nothing is written here.

pub(crate) mod convert;
pub(crate) mod dump;
mod table;
pub(crate) mod written;
