//! What is answered: from the two tables, the default relay and who asks to an answer, and why it is that one.
//!
//! | module | what it has |
//! |---|---|
//! | [`address`] | envelope senders: folding, quoting, extension, null sender; the keys that Postfix would try |
//! | [`nexthop`] | `[host]:port` and its relatives: parsed, judged, returned as written |
//! | [`table`] | the grammar of the two files, the text in blocks and its compact index, and edits of the text |
//! | [`default_relay`] | the next hop and the credentials of senders without an entry |
//! | [`peer`] | who asks, and who may |
//! | [`suspicion`] | values that can be served and were nearly certainly not meant |
//! | [`history`] | what the tables said before the edits of the last minutes |
//! | [`routes`] | the snapshot (senders, next hops, credentials, default relay as one thing) and the pointer to it |
//! | [`explain`] | why a snapshot answers as it does |

pub mod address;
pub mod default_relay;
pub mod explain;
pub mod history;
pub mod nexthop;
pub mod peer;
pub mod routes;
pub mod suspicion;
pub mod table;
