//! The reasons for *cannot tell* that do not belong to one table ([`crate::lookup::table::spec`]).

use crate::protocol::answer::Reason;

/// The default relay could not be read.
pub(crate) const DEFAULT_UNREADABLE: Reason =
    Reason::new("the default relay cannot be read; see the log of postmapd");

/// The credentials of the default relay could not be read, or are a user without a password or the reverse.
pub(crate) const DEFAULT_CREDENTIALS_UNREADABLE: Reason = Reason::new(
    "the credentials of the default relay cannot be read or are incomplete; see the log of postmapd",
);

/// The sender has credentials, but it is not known where its mail goes.
pub(crate) const NO_ROUTING: Reason = Reason::new(
    "there is no relay map and no default relay, so it is unknown which server can get this password; see next_hops \
     in postmapd.toml(5)",
);

/// The sender's next hop changed lately, and it is not known to have had this one.
pub(crate) const NEXT_HOP_CHANGED: Reason = Reason::new(
    "the next hop of this sender changed recently, and its login for this one is unknown; the next delivery attempt \
     uses the new next hop",
);

/// The login of this next hop was removed lately, and it is not known for which sender it is looked up.
pub(crate) const LOGIN_REMOVED: Reason = Reason::new(
    "the login of this next hop was removed recently, and mail may still be on its way there; the next delivery \
     attempt uses the new next hop",
);

/// The sender's next hop or login has changed, and the file with the other one is not active yet.
pub(crate) const FILE_PENDING: Reason = Reason::new(
    "this sender has a new next hop or login, and the file with the other one is still changing; see the log of \
     postmapd",
);

/// The sender's next hop changed lately, and several SMTP clients share this connection.
pub(crate) const SHARED_CONNECTION: Reason = Reason::new(
    "the next hop of this sender changed recently, and its login cannot be determined on a connection that several \
     SMTP clients share; remove the proxy: prefix of this map",
);

/// `RELAY_TLS` could not be read, or is invalid.
pub(crate) const DEFAULT_TLS_UNREADABLE: Reason =
    Reason::new("RELAY_TLS cannot be read or has an error; see the log of postmapd");

/// The elements of a list of next hops need different services.
pub(crate) const MIXED_TLS: Reason = Reason::new(
    "the next hops of this sender need different TLS services, and Postfix can use only one; see the log of postmapd",
);

/// The level of a next hop does not demand TLS, and the connection begins with it.
pub(crate) const WEAK_TLS: Reason =
    Reason::new("the TLS entry for this next hop cannot be used with implicit TLS; see the log of postmapd");

/// The TLS of a next hop was not evaluated.
pub(crate) const NO_TLS: Reason = Reason::new("it is not known how to speak TLS to this next hop");
