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
//! bytes ─► protocol (frame, request) ─► session ─► routes: which map, which keys, which route ─► answer ─► protocol (reply) ─► one write
//! ```
//!
//! A [`server::session`] reads what has arrived into one buffer. A decoder of [`protocol`] cuts requests out of
//! it: a map and a key, nothing else. The session takes the present [`routes::Snapshot`] once for all of them, and
//! asks it first whether the peer, which was recognised when it connected ([`server::access`]), may ask this map.
//! The snapshot turns the key into the keys that Postfix would have tried on a `hash:` table
//! ([`address::SenderKeys`]), finds the entry ([`table::Table`]) and says one of three things
//! ([`answer::Answer`]): found, not found, cannot tell. The encoder of the same protocol appends the reply, and
//! when nothing more has arrived, one write sends them all.
//!
//! # The way of an edit
//!
//! ```text
//! file changes ─► watch (a hint, nothing more) ─► load (read whole, parse, judge) ─► a new snapshot ─► one pointer swap ─► the next lookup
//! ```
//!
//! [`reload`] runs on a thread of its own, which lets those that answer go first. It is told that something changed, waits until the files have come to
//! rest, reads them whole, and judges them with the grammar of [`table`]. What reads as before is shared with the
//! snapshot in force ([`table::text`]). What is right becomes a new snapshot and
//! replaces the old one in [`routes::Routes`]; what is wrong becomes [`diagnostic::Finding`]s in the log, and the
//! old snapshot stays.
//!
//! The two ways meet in one place, the pointer in [`routes::Routes`]. No lock and no channel stands on the first
//! way that the second could hold up, and no connection learns of a reload.
//!
//! # Who watches
//!
//! The way of a lookup leaves numbers in [`counters`], that of an edit leaves what came of it in the ledger
//! ([`reload::ledger`]). [`admin`] reads both, on the control thread ([`control`]) with sockets of its own, so that no
//! request there can hold up a lookup.
//!
//! # The rooms, from the ground floor up
//!
//! A module uses only modules below it.
//!
//! | floor | module | what lives there |
//! |---|---|---|
//! | 0 | [`secret`] | bytes that can be stored and sent, but not printed, and that are wiped when dropped |
//! | 0 | [`memory`] | what is freed, given back to the system |
//! | 0 | [`name_service`] | where names of users and hosts are looked up |
//! | 0 | [`log_stream`] | where the log is written to, without waiting for whoever reads it |
//! | 0 | [`background`] | threads that let those that answer go first |
//! | 0 | [`user_namespace`] | which users have a number of their own here |
//! | 0 | [`invisible`] | characters that cannot be seen, named by their code point |
//! | 0 | [`digest`] | digests of files, and such that give nothing away |
//! | 0 | [`address`] | envelope senders: folding, quoting, extension, null sender; the keys that Postfix would try |
//! | 0 | [`nexthop`] | `[host]:port` and its relatives: parsed, judged, returned as written |
//! | 0 | [`answer`] | the maps, and the three things that may be said about a key |
//! | 1 | [`whole_file`] | a file, read whole, as a secret |
//! | 1 | [`printable`] | text that others wrote, for a terminal and a log to show and not to obey |
//! | 1 | [`default_relay`] | the next hop and the credentials of senders without an entry |
//! | 1 | [`peer`] | who asks, and who may |
//! | 1 | [`protocol`] | socketmap and tcp_table over bytes, on both sides: no socket, no clock |
//! | 2 | [`diagnostic`] | a finding about a file or a setting: its kind ([`diagnostic::Code`]), severity, place, what is wrong, what to do |
//! | 2 | [`net`] | sockets without a protocol: addresses, listeners (bound or handed over), accept errors, the waker |
//! | 2 | [`confinement`] | the process locks itself: its user, capabilities, Landlock, a filter of system calls |
//! | 2 | [`replace_file`] | a file, locked, changed and replaced whole, or left as it was |
//! | 2 | [`counters`] | what the server counts while it answers |
//! | 3 | [`suspicion`] | values that can be served and were nearly certainly not meant |
//! | 3 | [`endpoint`] | `socketmap:inet:host:port` and its relatives, as main.cf writes them |
//! | 3 | [`table`] | the grammar of the two files, the text in blocks and its compact index, and edits of the text |
//! | 3 | [`service_manager`] | sockets that systemd hands over, and what it is told |
//! | 4 | [`config`] | flags, environment, `postmapd.toml` and secret files, checked |
//! | 4 | [`history`] | what the tables said before the edits of the last minutes |
//! | 4 | [`client`] | one question to a running server, as `query --server` asks it |
//! | 5 | [`routes`] | the snapshot (senders, next hops, credentials, default relay as one thing) and the pointer to it |
//! | 5 | [`postfix`] | the parameters that Postfix needs for all this, and what a live one has instead |
//! | 6 | [`explain`] | why a snapshot answers as it does |
//! | 6 | [`reload`] | notice, read, judge, publish or keep |
//! | 6 | [`server`] | listeners to connections to requests, with their limits, and the drain at the end |
//! | 6 | [`mod@bench`] | load on a server, and how long its replies take |
//! | 6 | [`check`] | what is worth a warning in files that can be served |
//! | 6 | [`import`] | the tables that Postfix has, as the two files |
//! | 7 | [`admin`] | health, status and metrics over HTTP, and the client that `status` is |
//! | 8 | [`control`] | the thread for signals, the service manager and the admin listener |
//! | 9 | [`daemon`] | the server, put together |
//! | 10 | [`cli`] | what a person types; a file for each command |
//!
//! # What holds everywhere
//!
//! 1. Found, not found and cannot tell are three things. *Not found* for a password makes Postfix send without
//!    authenticating, so whatever is unsure is *cannot tell*.
//! 2. A sender's next hop and credentials come from one snapshot.
//! 3. No reload touches a connection, and an idle connection is never closed.
//! 4. A bad file never replaces a good one.
//! 5. A credential is never printed except as the answer to whoever asks for it and may ([`peer`]).
//! 6. No peer can hurt another: what a peer can make the server hold, wait for or repeat has a limit
//!    ([`server::limits`]).

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod address;
pub mod admin;
pub mod answer;
pub mod background;
pub mod bench;
pub mod check;
pub mod cli;
pub mod client;
pub mod config;
pub mod confinement;
pub mod control;
pub mod counters;
pub mod daemon;
pub mod default_relay;
pub mod diagnostic;
pub mod digest;
pub mod endpoint;
pub mod explain;
pub mod history;
pub mod import;
pub mod invisible;
pub mod log_stream;
pub mod memory;
pub mod name_service;
pub mod net;
pub mod nexthop;
pub mod peer;
pub mod postfix;
pub mod printable;
pub mod protocol;
pub mod reload;
pub mod replace_file;
pub mod routes;
pub mod secret;
pub mod server;
pub mod service_manager;
pub mod suspicion;
pub mod table;
pub mod user_namespace;
pub mod whole_file;
