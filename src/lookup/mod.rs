//! Lookups: from the tables, the default relay and the peer to an answer and its explanation.
//!
//! | module | content |
//! |---|---|
//! | [`address`] | envelope senders: folding, quoting, extension, null sender; the keys that Postfix would try |
//! | [`nexthop`] | `[host]:port` and its variants: validation |
//! | [`tls_policy`] | how to speak TLS to a next hop: parsing, and the policy of those without one |
//! | [`suspicion`] | values that are valid but probably a mistake |
//! | [`table`] | the grammar of the files, the text in blocks and its index, and edits of the text |
//! | [`reason`] | the reasons for *cannot tell* |
//! | [`default_relay`] | the next hop and the credentials of senders without an entry |
//! | [`relay_tls`] | the service and the TLS policy of every next hop |
//! | [`peer`] | clients, and whether they may query secret maps |
//! | [`history`] | the tables before the edits of the last minutes |
//! | [`routing`] | where next hops come from, and what follows for credentials |
//! | [`snapshot`] | tables, default relay and settings as one value, and the pointer to the active one |
//! | [`rules`] | the rules that turn a hit or a miss into an answer |
//! | [`moved_senders`] | the login of a sender whose next hop has changed |
//! | [`rationale`] | why an answer is given |
//! | [`search`] | the search of a map |
//! | [`tls_search`] | the searches of the maps that depend on TLS |
//! | [`map`] | the maps, as data |
//! | [`explain`] | the explanation of an answer |
//!
//! A module uses only those above it in this list.

pub mod address;
pub mod default_relay;
pub mod directory_source;
pub(crate) mod explain;
pub(crate) mod history;
pub mod map;
mod moved_senders;
pub(crate) mod nexthop;
pub mod peer;
pub(crate) mod rationale;
pub(crate) mod reason;
pub mod relay_tls;
pub mod routing;
pub(crate) mod rules;
pub mod search;
pub mod snapshot;
pub(crate) mod suspicion;
pub mod table;
pub mod tls_policy;
mod tls_search;
