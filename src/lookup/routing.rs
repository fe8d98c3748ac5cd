//! Where next hops come from, and the policy that follows: *credentials need a route*.

use crate::lookup::reason;
use crate::protocol::answer::Answer;

/// Where the next hops of senders come from. Decides about the credentials of a sender without a next hop here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// From postmapd: there is a relay map file, even an empty one, or a default relay. Mail of the sender is delivered
    /// directly, and its credentials are withheld.
    Postmapd,
    /// From main.cf, by the setting `next_hops`: the credentials are answered.
    MainCf,
    /// There is neither, possibly because a file was lost: *cannot tell*.
    Unknown,
}

impl Routing {
    /// Applies the policy *credentials need a route* to a sender with these credentials and no next hop here. Without a
    /// route Postfix would offer them to the recipient's own server. If the route is unknown, so are the credentials.
    pub(super) fn credentials_without_next_hop(
        self,
        credentials: Answer<'_>,
        is_excluded: impl FnOnce() -> bool,
    ) -> Answer<'_> {
        match self {
            Self::Postmapd => Answer::NotFound,
            Self::Unknown => Answer::CannotTell(reason::NO_ROUTING),
            Self::MainCf if is_excluded() => Answer::NotFound,
            Self::MainCf => credentials,
        }
    }
}
