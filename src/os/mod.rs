//! What the program asks of the operating system, and text and bytes as they are shown, kept and compared.
//!
//! | module | what it has |
//! |---|---|
//! | [`secret`] | bytes that can be stored and sent, but not printed, and that are wiped when dropped |
//! | [`memory`] | what is freed, given back to the system |
//! | [`name_service`] | where names of users and hosts are looked up |
//! | [`log_stream`] | the stream of the log, which never waits for its reader |
//! | [`background`] | threads that let those that answer go first |
//! | [`user_namespace`] | which users have a number of their own here |
//! | [`invisible`] | characters that cannot be seen, named by their code point |
//! | [`printable`] | text that others wrote, for a terminal and a log to show and not to obey |
//! | [`digest`] | digests of files, and such that give nothing away |
//! | [`whole_file`] | a file, read whole, as a secret |
//! | [`replace_file`] | a file, locked, changed and replaced whole, or left as it was |
//! | [`confinement`] | the process locks itself: its user, capabilities, Landlock, a filter of system calls |

pub(crate) mod background;
pub mod confinement;
pub(crate) mod digest;
pub mod invisible;
pub(crate) mod log_stream;
pub(crate) mod memory;
pub(crate) mod name_service;
pub mod printable;
pub(crate) mod replace_file;
pub mod secret;
pub(crate) mod user_namespace;
pub(crate) mod whole_file;
