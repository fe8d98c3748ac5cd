//! postmapd: live lookup tables for Postfix.
//!
//! Postfix asks two questions for each mail that leaves by a relay: *which next hop does this envelope sender
//! use* (`sender_dependent_relayhost_maps`) and *which user and password does that next hop want*
//! (`smtp_sasl_password_maps`). This crate answers both from two text files and the environment, over Postfix's
//! own protocols, and an edit of the files is in force milliseconds after they are saved.
//!
//! # The way of a lookup
//!
//! ```text
//! bytes ─► protocol (frame, request) ─► session ─► snapshot: which map, which keys, which route ─► answer ─► protocol (reply) ─► one write
//! ```
//!
//! A [`server::session`] reads what has arrived into one buffer. A decoder of [`protocol`] cuts requests out of
//! it: the name of a map and a key, nothing else. The session takes the present [`lookup::snapshot::Snapshot`] once for
//! all of them, and asks it first whether there is this map ([`lookup::map`]) and whether the peer, which was recognised
//! when it connected ([`server::access`]), may ask it. The map's search ([`lookup::search`]) turns the key into the keys
//! that Postfix would have tried on a `hash:` table ([`lookup::address::SenderKeys`]), finds the entry
//! ([`lookup::table::Table`]), and the rules between the tables ([`lookup::routing`]) make one of three things of it
//! ([`protocol::answer::Answer`]): found, not found, cannot tell. The encoder of the same protocol appends the reply, and
//! when nothing more has arrived, one write sends them all.
//!
//! # The way of an edit
//!
//! ```text
//! file changes ─► watch (a hint, nothing more) ─► load (read whole, parse, judge) ─► a new snapshot ─► one pointer swap ─► the next lookup
//! ```
//!
//! [`source`] runs on a thread of its own, which lets those that answer go first. It is told that something changed, waits until the files have come to
//! rest, reads them whole, and judges them with the grammar of [`lookup::table`]. What reads as before is shared with the
//! snapshot in force ([`lookup::table::text`]). What is right becomes a new snapshot and
//! replaces the old one in [`lookup::snapshot::ActiveSnapshot`]; what is wrong becomes [`diagnostics::Finding`]s in the log, and the
//! old snapshot stays.
//!
//! The two ways meet in one place, the pointer in [`lookup::snapshot::ActiveSnapshot`]. No lock and no channel stands on the first
//! way that the second could hold up, and no connection learns of a reload.
//!
//! # Who watches
//!
//! The way of a lookup leaves numbers in [`server::counters`], that of an edit leaves its result in the reload status
//! ([`source::reload_status`]). [`control::admin`] reads both, on the control thread ([`control`]) with sockets of its own, so that no
//! request there can hold up a lookup.
//!
//! # The rooms, from the ground floor up
//!
//! A room uses only rooms below it, which `tests/rooms.rs` checks. What is `pub` is there for the tests, the fuzz targets, the
//! benchmarks and the manual pages; all else is private to the crate, so that the compiler names what nothing uses any
//! more.
//!
//! | floor | room | what is in it |
//! |---|---|---|
//! | 0 | [`os`] | files, threads, memory, the sandbox; secrets and text as they are shown |
//! | 1 | [`diagnostics`] | findings about a file or a setting: kind, severity, place, what is wrong, what to do |
//! | 2 | [`net`] | sockets without a protocol: addresses, listeners (bound or handed over), accept errors, the waker |
//! | 3 | [`protocol`] | socketmap and tcp_table over bytes, requests and the three answers, endpoints, and the client of `query --server` |
//! | 4 | [`lookup`] | the maps as data, addresses, next hops, tables, the default relay, who may ask; the snapshot of all that, and why it answers as it does |
//! | 5 | [`config`] | flags, environment, `postmapd.toml` and secret files, checked; one definition a setting |
//! | 6 | [`source`] | where the tables come from: notice, read, judge, decide, publish or keep |
//! | 7 | [`server`] | connections to requests, with their limits, what is counted, and the drain at the end |
//! | 8 | [`mod@bench`] | load on a server, and how long its replies take |
//! | 9 | [`postfix`] | the parameters that Postfix needs for all this, what a live one has instead, and the import of its tables |
//! | 10 | [`check`] | what is worth a warning in files that can be served |
//! | 11 | [`control`] | the thread for signals, systemd and the admin listener: health, status, metrics |
//! | 12 | [`daemon`] | the server, put together |
//! | 13 | [`cli`] | what a person types; a file for each command |
//!
//! # What holds everywhere
//!
//! 1. Found, not found and cannot tell are three things. *Not found* for a password makes Postfix send without
//!    authenticating, so whatever is unsure is *cannot tell*.
//! 2. A sender's next hop and credentials come from one snapshot.
//! 3. No reload touches a connection, and an idle connection is never closed.
//! 4. A bad file never replaces a good one.
//! 5. A credential is never printed except as the answer to a peer that may ask for it ([`lookup::peer`]).
//! 6. No peer can hurt another: what a peer can make the server hold, wait for or repeat has a limit
//!    ([`server::limits`]).

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod bench;
mod check;
pub mod cli;
pub mod config;
mod control;
mod daemon;
pub mod diagnostics;
pub mod lookup;
pub mod net;
pub mod os;
mod postfix;
pub mod protocol;
pub mod server;
mod source;
