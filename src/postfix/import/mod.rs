//! Converts the tables of an existing Postfix to the files and the settings that give the same answers.
//!
//! [`dump`] reads tables from files, [`mod@inline`] those that are written in main.cf itself, and [`convert`] turns their
//! entries into the files' lines; [`tls`] converts transports and TLS policies. Nothing here writes a file.

pub(crate) mod convert;
pub(crate) mod dump;
pub(crate) mod inline;
mod table;
pub(crate) mod tls;
