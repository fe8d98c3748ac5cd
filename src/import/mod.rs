//! An existing Postfix set-up, as the two files and the settings that give the same answers.
//!
//! [`dump`] reads the tables that Postfix reads, [`convert`] makes the files of them. Nothing is written here.

pub mod convert;
pub mod dump;
