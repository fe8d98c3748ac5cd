//! postmapd: live lookup tables for Postfix.
//!
//! Postfix does two lookups for each mail that leaves by a relay: *which next hop does this envelope sender use*
//! (`sender_dependent_relayhost_maps`), and *which user and password does that next hop want*
//! (`smtp_sasl_password_maps`). This crate answers both from two text files and the environment, over Postfix's own
//! protocols. An edit of the files takes effect milliseconds after they are saved.
//!
//! # The path of a lookup
//!
//! ```text
//! bytes ─► protocol (frame, request) ─► session ─► map, search ─► snapshot (tables, rules) ─► answer ─► protocol (reply) ─► one write
//! ```
//!
//! A [`server::session`] reads what has arrived into a buffer. The decoder of a [`protocol`] parses requests from it: the
//! name of a map and a key. The session loads the active [`lookup::snapshot::Snapshot`] once for all of them, finds the
//! map ([`lookup::map`]), and checks whether the client, identified when it connected ([`server::access`]), may query
//! it. The map's search ([`lookup::search`]) derives the keys that Postfix would try on a `hash:` table
//! ([`lookup::address::LookupKeys`]) and finds the entry ([`lookup::table::Table`]); the rules between the tables
//! ([`lookup::rules`]) turn it into one of three answers ([`protocol::answer::Answer`]): found, not found, cannot tell.
//! The encoder of the protocol appends the reply, and one write sends all replies.
//!
//! # The path of an edit
//!
//! ```text
//! file changes ─► watch (a trigger) ─► debounce ─► read whole ─► decide ─► parse, validate ─► new snapshot ─► one pointer swap ─► the next lookup
//! ```
//!
//! [`source`] runs in a thread of its own with lower priority. A change triggers it; it waits until the files are quiet,
//! reads them whole, and parses them with the grammar of [`lookup::table`]. Unchanged text is shared with the active
//! snapshot ([`lookup::table::text`]). Valid content becomes a new snapshot in [`lookup::snapshot::ActiveSnapshot`]; errors
//! become [`diagnostics::Finding`]s in the log, and the old snapshot stays active.
//!
//! The two paths meet in that pointer. The first takes no lock and no channel that the second could hold up, and no
//! connection notices a reload.
//!
//! # Monitoring
//!
//! Lookups are counted in [`server::counters`]; the result of each reload is in [`source::reload_status`].
//! [`control::admin`] reads both, and explains answers of the active snapshot ([`lookup::explain`]), in the control thread ([`control`]) with sockets of its own, so that no request to it
//! delays a lookup.
//!
//! # The modules, from the bottom up
//!
//! Each module at the top level is a layer: it uses only layers below it, and no two modules use each other in a cycle
//! (`tests/layers.rs`). Items are `pub` for the tests, the fuzz targets, the benchmarks, the manual pages and postmapd-follow; all
//! else is private to the crate, so that the compiler reports what is unused.
//!
//! | layer | module | content |
//! |---|---|---|
//! | 0 | [`os`] | files, threads, memory, the sandbox, secrets, printable text |
//! | 1 | [`diagnostics`] | findings about a file or a setting: code, severity, place, what is wrong, what to do |
//! | 2 | [`net`] | sockets without a protocol: addresses, listeners (bound or activated), accept errors, the waker |
//! | 3 | [`protocol`] | socketmap and tcp_table, requests and answers, endpoints, and the client of `query --server` |
//! | 4 | [`lookup`] | maps, addresses, next hops, tables, the default relay, allowed clients; the snapshot, and explanations of its answers |
//! | 5 | [`config`] | settings: one definition each; flags, environment, `postmapd.toml`, secret files |
//! | 6 | [`source`] | the directory: watch, read, decide, evaluate, publish |
//! | 7 | [`server`] | listeners, connections, requests; limits, counters, the drain on shutdown |
//! | 8 | [`mod@bench`] | load on a server, and the latency of its replies |
//! | 8 | [`mod@probe`] | tries a relay as Postfix would use it; feature `probe` |
//! | 9 | [`postfix`] | the parameters that Postfix needs, the check of a live Postfix, the import of its tables |
//! | 10 | [`check`] | warnings about valid files |
//! | 11 | [`control`] | the control thread: signals, systemd, the admin listener |
//! | 12 | [`daemon`] | the server, assembled |
//! | 13 | [`cli`] | the commands |
//!
//! # Invariants
//!
//! 1. Found, not found and cannot tell are three answers. With *not found* for a password, Postfix sends without
//!    authenticating, so whatever is uncertain is *cannot tell*.
//! 2. A sender's next hop and login come from one snapshot.
//! 3. No reload touches a connection, and an idle connection is never closed.
//! 4. A bad file never replaces a good one.
//! 5. A credential is shown only as the answer to a peer that may query it ([`lookup::peer`]).
//! 6. Everything that a peer can make the server hold, wait for or repeat has a limit ([`server::limits`]).
//!
//! # Glossary
//!
//! | term | meaning |
//! |---|---|
//! | active | of a snapshot: lookups are answered from it |
//! | answer | found (a value), not found, or cannot tell; the latter is a temporary error to Postfix |
//! | client, peer | a process that connects; who it is to the kernel: a local user or a host |
//! | credentials | the file `postfix-sasl-password.cf` |
//! | default relay | the next hop of senders without another entry: `@*` in the relay map, `RELAY_HOST`, `DEFAULT_RELAY_HOST` |
//! | endpoint | protocol and address of a listener, as main.cf writes it |
//! | entry | a line of a table file with a key, and a value or none |
//! | envelope sender | the address of MAIL FROM; empty for bounces (null sender, `<>`) |
//! | excluded sender | a sender with an entry and no next hop: delivered directly |
//! | finding | an error or warning with a code, a place, and what to do |
//! | generation | the number of a snapshot |
//! | in flight | of mail: queued while its sender's next hop changed |
//! | login | a user and a password, written `user:password` |
//! | map | what Postfix queries by name: `relayhost`, `sasl`, `transport`, `tls` |
//! | moved sender | a sender whose next hop changed within the last minutes |
//! | next hop | where mail goes next: `[host]:port`, `host`, or a list of them; a relay |
//! | path walk | the links and directories on the way to a file, which are watched too |
//! | reload | reading the files again; *requested* by SIGHUP |
//! | relay map | the file `postfix-relaymap.cf` |
//! | route | the next hop of a sender, whether from the relay map, the default relay or main.cf |
//! | source of a directory | where a program that generates the directory has its content from (`source.json`) |
//! | secret | a map whose values only allowed peers may query; a value that is wiped after use |
//! | session | the server's side of a connection |
//! | snapshot | tables, default relay and settings as of one moment, immutable |
//! | socketmap, tcp_table | Postfix's two lookup protocols over sockets (socketmap_table(5), tcp_table(5)) |
//! | source | a file that is read: settings, a table, a part of the default relay |
//! | table | the parsed and indexed content of a table file |
//! | unprivileged | of a peer: it may not query secret maps |
//! | wildcard | a key for all subdomains (`@.domain`) or for all senders without another entry (`@*`) |

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod bench;
mod check;
pub mod cli;
pub mod config;
pub mod control;
mod daemon;
pub mod diagnostics;
pub mod lookup;
pub mod net;
pub mod os;
mod postfix;
#[cfg(feature = "probe")]
mod probe;
pub mod protocol;
pub mod server;
mod source;
