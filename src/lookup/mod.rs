//! What is answered: from the tables, the default relay and the peer to an answer, and why it is that one.
//!
//! | module | what it has |
//! |---|---|
//! | [`map`] | the maps, as data |
//! | [`search`] | how a map is searched |
//! | [`address`] | envelope senders: folding, quoting, extension, null sender; the keys that Postfix would try |
//! | [`nexthop`] | `[host]:port` and its relatives: parsed, judged, returned as written |
//! | [`table`] | the grammar of the files, the text in blocks and its compact index, and edits of the text |
//! | [`default_relay`] | the next hop and the credentials of senders without an entry |
//! | [`peer`] | who asks, and who may |
//! | [`suspicion`] | values that can be served and were nearly certainly not meant |
//! | [`history`] | what the tables said before the edits of the last minutes |
//! | [`snapshot`] | senders, next hops, credentials and default relay as one thing, and the pointer to it |
//! | [`routing`] | the rules by which a hit or a miss becomes an answer |
//! | [`moved_senders`] | the login of a sender whose next hop has changed |
//! | [`reason`] | why a lookup is answered *cannot tell* |
//! | [`explain`] | why a snapshot answers as it does |

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
