//! Every limit of the server in one place, each beside the limit of Postfix that it answers to.
//!
//! The sizes of requests and replies stand with their protocols: [`crate::protocol::socketmap::MAX_REQUEST`],
//! [`crate::protocol::socketmap::MAX_REPLY`], [`crate::protocol::tcp_table::MAX_REQUEST`],
//! [`crate::protocol::tcp_table::MAX_REPLY`].

use std::time::Duration;

/// How long a request may take to arrive once its first byte has. Postfix's clients give up after 100 s
/// (`DICT_SOCKMAP_TIMEOUT`, `DICT_TCP_TIMEOUT`), so nobody waits for a reply to a slower one. Between requests
/// there is no deadline.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(100);

/// How long a peer may take to accept replies. Likewise.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(100);

/// How long the server waits for its sessions when it ends. Postfix asks again elsewhere or later.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// How many connections are served at once; the kernel's queue holds the next ones. Postfix has at most
/// `default_process_limit` (100) processes a service that ask, each with one connection an endpoint.
pub const CONNECTIONS: usize = 10_000;

/// Descriptors that are kept for everything but connections: files, listeners, the runtime, inotify.
pub const SPARE_DESCRIPTORS: usize = 64;

/// The listen queue that is asked for; the kernel cuts it to `net.core.somaxconn`. Rust's default of 128 makes a
/// burst of connects wait for the retransmission of a SYN, a second and more.
pub const BACKLOG: u32 = 4096;

/// How much is read at a time. On the stack: an idle connection holds none of it.
pub const READ_AT_ONCE: usize = 16 * 1024;

/// How large a buffer may be that a connection keeps while it waits, in bytes. One large request or batch shall not
/// cost its memory for as long as the connection lives; the requests of Postfix need no more.
pub const KEPT: usize = 1024;

/// At how many bytes of replies a write happens though more requests have arrived: what a peer that asks a lot
/// and reads slowly can make the server hold is this and one reply.
pub const WRITE_AT: usize = 64 * 1024;

/// After broken framing: how long, and for how many bytes, the rest of what the peer sends is read and thrown away.
/// Closing at once would make the kernel reset the connection, and the peer could lose the reply.
pub const LINGER: Duration = Duration::from_secs(1);
/// See [`LINGER`].
pub const LINGER_BYTES: usize = 1024 * 1024;

/// How long accepting pauses where the machine is short of descriptors or memory.
pub const SHORTAGE_PAUSE: Duration = Duration::from_millis(200);

/// How many refused peers are remembered, so that the log has each once: their reasons, some 200 bytes each.
pub const REFUSALS_REMEMBERED: usize = 1024;
/// After how long they are forgotten, and the log has those that still come again.
pub const REFUSALS_FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);
