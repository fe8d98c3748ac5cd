//! Every limit of the server in one place, each beside the limit of Postfix that it answers to.
//!
//! The sizes of requests and replies stand with their protocols: [`crate::protocol::socketmap::MAX_REQUEST`],
//! [`crate::protocol::socketmap::MAX_REPLY`], [`crate::protocol::tcp_table::MAX_REQUEST`],
//! [`crate::protocol::tcp_table::MAX_REPLY`]. How many connections there may be can be set ([`crate::config::Limits`]).
//! What holds for every listener stands with it: [`crate::net::bind::BACKLOG`], [`crate::net::accept::SHORTAGE_PAUSE`].
//!
//! What a connection can make the server hold is one read and the beginning of one request, and the replies of one
//! write and one more: some 64 KiB, for as long as a deadline lasts. A peer can have that as often as it may have
//! connections, and all peers together as often as there may be any ([`crate::server::connection_limiter`]): for a user that may
//! not ask for credentials, 160 MB; for all of them, twice that.

use std::time::Duration;

/// How long a request may take to arrive once its first byte has. Postfix's clients give up after 100 s
/// (`DICT_SOCKMAP_TIMEOUT`, `DICT_TCP_TIMEOUT`), so nobody waits for a reply to a slower one. Between requests
/// there is no deadline.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(100);

/// How long a peer may take to accept replies. Likewise.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(100);

/// How long the server waits for its sessions when it ends. Postfix asks again elsewhere or later.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// How many connections are served at once where nothing else is said; the kernel's queue holds the next ones. Postfix
/// has at most `default_process_limit` (100) processes a service that ask, each with one connection an endpoint: a
/// main.cf with both maps at one endpoint, and ten services in master.cf that deliver or route, comes to a thousand.
pub const CONNECTIONS: usize = 10_000;

/// No peer has more than one in so many of what those like it share, and those that may not ask for credentials share
/// one in so many of all. So that half of all is always left for Postfix, however many users are against it, and half
/// of that five times what it needs.
pub const SHARE: usize = 2;

/// Descriptors that are kept for everything but connections: two admin listeners with theirs (32 each), the files,
/// the listeners, the runtime, inotify.
pub const SPARE_DESCRIPTORS: usize = 128;

/// How much is read at a time, into a place that all connections share.
pub const READ_AT_ONCE: usize = 16 * 1024;

/// How many events the kernel tells at a time. Further connections come in the next round.
pub const EVENTS_AT_ONCE: usize = 256;

/// How many connections read together, then answer together, then write together, of those that have something to do. The
/// first of them waits for as many lookups more, a few microseconds, and all are served sooner.
pub const BATCH: usize = 16;

/// How large a buffer may be that a connection keeps while it waits, in bytes. One large request or batch shall not
/// cost its memory for as long as the connection lives; the requests of Postfix need no more.
pub const KEPT: usize = 1024;

/// At how many bytes of replies a write happens though more requests have arrived: what a peer that asks a lot
/// and reads slowly can make the server hold is this and one reply. Postfix waits for each reply before it asks on.
pub const WRITE_AT: usize = 16 * 1024;

/// After broken framing: how long, and for how many bytes, the rest of what the peer sends is read and thrown away.
/// Closing at once would make the kernel reset the connection, and the peer could lose the reply.
pub const LINGER: Duration = Duration::from_secs(1);
/// See [`LINGER`].
pub const LINGER_BYTES: usize = 1024 * 1024;

/// How many refused peers are remembered, so that the log has each once: their reasons, some 200 bytes each.
pub const REFUSALS_REMEMBERED: usize = 1024;
/// After how long they are forgotten, and the log has those that still come again.
pub const REFUSALS_FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);
