//! Interfaces to the operating system, and how text and bytes are shown, kept and compared.
//!
//! | module | contents |
//! |---|---|
//! | [`secret`] | bytes that can be stored and sent but not printed, wiped when dropped |
//! | [`allocator`] | returns freed memory to the system |
//! | [`name_service`] | the sources of user, group and host names |
//! | [`log`] | the log: its formats, its filter, and panics |
//! | [`log_stream`] | the output stream of the log, which never blocks a thread for long |
//! | [`priority`] | the scheduling priority of threads |
//! | [`process_usage`] | memory, processor time and descriptors of this process |
//! | [`user_namespace`] | the users that the kernel does not tell apart |
//! | [`invisible`] | invisible characters, named by their code point |
//! | [`printable`] | untrusted text, escaped for terminals and logs |
//! | [`digest`] | digests of files, plain or keyed |
//! | [`version_id`] | identifies a version of a file by its metadata |
//! | [`whole_file`] | reads a file whole, as a secret |
//! | [`replace_file`] | locks, edits and replaces a file whole, or leaves it unchanged |
//! | [`size_limit`] | writes beyond the file size limit |
//! | [`sandbox`] | restricts the process: its user, capabilities, Landlock, seccomp |

pub(crate) mod allocator;
pub mod digest;
pub mod invisible;
pub mod log;
pub(crate) mod log_stream;
pub mod name_service;
pub mod printable;
pub(crate) mod priority;
pub(crate) mod process_usage;
pub(crate) mod replace_file;
pub mod sandbox;
pub mod secret;
pub mod size_limit;
pub(crate) mod user_namespace;
pub(crate) mod version_id;
pub mod whole_file;
