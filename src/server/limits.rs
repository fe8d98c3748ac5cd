//! The limits of the server, each beside the limit of Postfix that it corresponds to.
//!
//! The sizes of requests and replies are with their protocols: [`crate::protocol::socketmap::MAX_REQUEST`],
//! [`crate::protocol::socketmap::MAX_REPLY`], [`crate::protocol::tcp_table::MAX_REQUEST`],
//! [`crate::protocol::tcp_table::MAX_REPLY`]. Connection limits are settings ([`crate::config::Limits`]). The limits of every
//! listener are [`crate::net::bind::BACKLOG`] and [`crate::net::accept::SHORTAGE_PAUSE`].
//!
//! A connection can make the server hold one read, the beginning of one request, and the replies of one write plus one: some
//! 64 KiB, until a deadline passes. With the connection limits ([`crate::server::connection_limiter`]) this comes to 160 MB for
//! one unprivileged user, and twice that for all of them.

use std::time::Duration;

/// How long a request may take from its first byte to its last. Postfix's clients give up after 100 s
/// (`DICT_SOCKMAP_TIMEOUT`, `DICT_TCP_TIMEOUT`), so a later reply has no reader. Between requests there is no deadline.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(100);

/// How long a peer may take to read replies, for the same reason.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(100);

/// How long a shutdown waits for its sessions. Postfix retries elsewhere or later.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// The default limit for all connections; further ones wait in the kernel's queue. Postfix has at most `default_process_limit`
/// (100) processes of each service that queries, with one connection to each endpoint: a main.cf with both maps at one endpoint
/// and ten services in master.cf that deliver or route comes to a thousand.
pub const CONNECTIONS: usize = 10_000;

/// The share that is left to others: no peer has more than 1/`SHARE` of the connections of its class, and unprivileged peers have
/// no more than 1/`SHARE` of all. So half is always left for Postfix, and half of that is five times what it needs.
pub const SHARE: usize = 2;

/// Descriptors that are not for connections: two admin listeners with their connections (32 each), files, listeners, the
/// runtime, inotify.
pub const SPARE_DESCRIPTORS: usize = 128;

/// The size of a read, in bytes. The buffer is shared by all connections.
pub const READ_AT_ONCE: usize = 16 * 1024;

/// How many events one poll returns. Further ones follow in the next round.
pub const EVENTS_AT_ONCE: usize = 256;

/// How many connections of a batch read together, then answer together, then write together. The first of them waits a few
/// microseconds longer, and each takes less time in all.
pub const BATCH: usize = 16;

/// The largest buffer that a connection keeps while it waits, in bytes. Postfix's requests need no more; one large request must
/// not cost its memory for as long as the connection lives.
pub const KEPT: usize = 1024;

/// At how many bytes replies are written although further requests have arrived: a peer that sends much and reads slowly makes
/// the server hold this much and one reply. Postfix waits for each reply before it sends the next request.
pub const WRITE_AT: usize = 16 * 1024;

/// How long input is read and discarded after a framing error. Closing at once would make the kernel reset the connection, and
/// the peer could lose the reply.
pub const LINGER: Duration = Duration::from_secs(1);
/// How many bytes are read and discarded at most; see [`LINGER`].
pub const LINGER_BYTES: usize = 1024 * 1024;

/// How many refused peers are remembered, so that each is logged once: their reasons, some 200 bytes each.
pub const REFUSALS_REMEMBERED: usize = 1024;
/// After how long they are forgotten, and logged again if they still come.
pub const REFUSALS_FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);
