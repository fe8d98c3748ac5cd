//! Lookups: from the tables, the default relay and the peer to an answer and its explanation.
//!
//! | module | content |
//! |---|---|
//! | [`map`] | the maps, as data |
//! | [`search`] | the search of a map |
//! | [`address`] | envelope senders: folding, quoting, extension, null sender; the keys that Postfix would try |
//! | [`nexthop`] | `[host]:port` and its variants: validation |
//! | [`table`] | the grammar of the files, the text in blocks and its index, and edits of the text |
//! | [`default_relay`] | the next hop and the credentials of senders without an entry |
//! | [`peer`] | clients, and which maps they may query |
//! | [`suspicion`] | values that are valid but probably a mistake |
//! | [`history`] | the tables before the edits of the last minutes |
//! | [`snapshot`] | tables, default relay and settings as one value, and the pointer to the active one |
//! | [`routing`] | the rules that turn a hit or a miss into an answer |
//! | [`moved_senders`] | the login of a sender whose next hop has changed |
//! | [`reason`] | the reasons for *cannot tell* |
//! | [`explain`] | the explanation of an answer |

pub mod address;
pub mod default_relay;
pub(crate) mod explain;
pub(crate) mod history;
pub mod map;
mod moved_senders;
pub(crate) mod nexthop;
pub mod peer;
pub(crate) mod reason;
pub mod routing;
pub mod search;
pub mod snapshot;
pub(crate) mod suspicion;
pub mod table;
