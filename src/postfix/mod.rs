//! Postfix's side: the settings that it needs for postmapd, and what a live one has instead.
//!
//! - [`command`]: `postconf` commands, quoted for a shell
//! - [`program`]: a program of Postfix, run with limits of time and output
//! - [`live`]: a live Postfix, read through its own postconf
//! - [`reach`]: how Postfix reaches the server, and whether a table in main.cf is ours
//! - [`wanted`]: the parameters that it needs: the one list from which everything else comes
//! - [`stricter`]: what main.cf has that is stricter, so that no line of ours weakens it
//! - [`paste`]: that list as text to paste
//! - [`table_list`]: the tables of a parameter, against the one that is wanted
//! - [`verdict`]: what is said about one value
//! - [`judge`]: one value of a wanted parameter: does it do, and if not, why
//! - [`obstacles`]: parameters that postmapd does not need, and that defeat it or leak a password where they are set
//! - [`verbose`]: services that write passwords into the log
//! - [`check`]: a live Postfix as a whole: which service reads what, and every finding with the command that fixes it
//!
//! Nothing here changes a Postfix. No finding quotes a value: `static:user:password` is one, too.

pub(crate) mod check;
pub(crate) mod command;
pub(crate) mod import;
mod judge;
pub(crate) mod live;
mod obstacles;
pub(crate) mod paste;
mod program;
pub(crate) mod reach;
pub(crate) mod stricter;
pub(crate) mod table_list;
mod verbose;
mod verdict;
pub(crate) mod wanted;
