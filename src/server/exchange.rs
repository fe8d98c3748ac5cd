//! Tracks which sender's login a connection asks for, over several requests.
//!
//! For one login, smtp(8) sends up to three requests on one connection, until one is found: for the sender, for the server's
//! host name, and for the next hop (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c). The login of a sender that has moved
//! depends on the next hop ([`Snapshot::login_at`]), which is the third request: the first two are answered *not found*, and
//! the third with this sender's login at that next hop.
//!
//! A sender whose local part needs quotes is requested twice, first with quotes, then without. Here that is one request.
//!
//! Behind `proxy:`, one connection carries the requests of several SMTP clients, and a request for a host or a next hop does not
//! say which client it is from. This becomes visible when a second sender is requested before the first is answered. From then
//! on the connection gets *cannot tell* for moved senders, hosts and next hops, until no edit is remembered any more; logins of
//! all other senders are answered as usual.
//!
//! If an edit takes effect between the request for a sender and the last request for its login, and what was not found before
//! would be found now, the last answer is *cannot tell*: all answers have to come from one generation.
//!
//! Mail of the null sender, and all mail with `smtp_sender_dependent_authentication = no`, requests host and next hop only; an
//! edit between the two is handled in the same way. Where a remembered edit has removed their login, mail may still be on its
//! way there: *cannot tell*, because with *not found* it would be sent without a login and bounce.
//!
//! Limits: a connection keeps one sender and one host, of at most [`MAX_KEPT`] bytes each. On a shared connection, requests
//! without a sender cannot be told from those of the sender before them: behind `proxy:`, such mail may get the login of a moved
//! sender at the same next hop. Nor can an edit between two requests of one client be detected there: the second may be answered
//! from after it.

use crate::lookup::address::LookupKeys;
use crate::lookup::map::Map;
use crate::lookup::reason;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::protocol::answer::Answer;

/// The longest sender or host that is kept, in bytes. Postfix accepts no longer line from a client (`line_length_limit` in
/// postconf(5)).
pub(super) const MAX_KEPT: usize = 2048;

/// Where a connection is in asking for a login.
#[derive(Default)]
pub(super) struct Exchange {
    state: State,
    /// The keys of the unmoved sender and of the host after it, where `state` says that there are any. The memory is reused.
    sender: Vec<u8>,
    host: Vec<u8>,
}

#[derive(Default)]
enum State {
    /// No login is being asked for.
    #[default]
    Idle,
    /// A host was not found in this generation for mail without a sender, so a next hop may follow.
    Host(u64),
    /// A sender that has not moved was not found, so a host and a next hop may follow.
    Unmoved(Unmoved),
    /// A sender that has moved was requested.
    Moved(Box<Moved>),
    /// Several clients share the connection.
    Shared {
        /// Whether one of them has requested a moved sender, so that any host or next hop may be for it.
        moved_is_open: bool,
    },
}

#[derive(Clone, Copy)]
struct Unmoved {
    /// The generation in which it was not found.
    generation: u64,
    /// Whether it was requested with quotes: the request without them follows.
    is_quoted: bool,
    has_host: bool,
}

/// A sender that has moved, and what was requested since.
struct Moved {
    /// As in the last request.
    sender: Vec<u8>,
    /// The host that was requested after it.
    host: Option<Vec<u8>>,
    /// Whether the sender was requested more often than a next hop.
    is_asked_again: bool,
    /// Whether the next hop was requested.
    is_answered: bool,
}

impl Exchange {
    /// Returns the answer of `map` for `key`, the next request of the connection. `keys` and `scratch` lend their memory.
    #[inline]
    pub(super) fn answer<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        map: Map,
        key: &[u8],
        keys: &mut LookupKeys,
        scratch: &'s mut Scratch,
    ) -> Answer<'s> {
        let answer = map.answer(snapshot, key, keys, scratch);
        if map != Map::SASL {
            answer
        } else if keys.is_sender() {
            self.sender(snapshot, key, keys, answer)
        } else {
            self.host_or_next_hop(snapshot, key, keys, answer)
        }
    }

    fn sender<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        key: &[u8],
        keys: &LookupKeys,
        answer: Answer<'s>,
    ) -> Answer<'s> {
        if snapshot.has_moved(keys) {
            return self.moved_sender(snapshot, key, keys);
        }
        let is_same = match &self.state {
            State::Unmoved(one) => one.is_quoted && !one.has_host && self.sender == keys.whole(),
            // The edit that moved it has been forgotten since.
            State::Moved(moved) => moved.keys(snapshot).whole() == keys.whole(),
            State::Idle | State::Host(_) | State::Shared { .. } => false,
        };
        if is_same {
            self.state = State::Idle;
        }
        if answer != Answer::NotFound {
            // This sender's login is settled; an earlier request may still be under way.
            return answer;
        }
        self.state = match &self.state {
            State::Idle | State::Host(_) => {
                keep(&mut self.sender, keys);
                State::Unmoved(Unmoved {
                    generation: snapshot.generation,
                    is_quoted: key.starts_with(b"\""),
                    has_host: false,
                })
            }
            State::Unmoved(_) => State::Shared { moved_is_open: false },
            State::Moved(_) => State::Shared { moved_is_open: true },
            State::Shared { moved_is_open } => State::Shared {
                moved_is_open: *moved_is_open,
            },
        };
        answer
    }

    #[cold]
    fn moved_sender<'s>(&mut self, snapshot: &'s Snapshot, key: &[u8], keys: &LookupKeys) -> Answer<'s> {
        let shared = Answer::CannotTell(reason::SHARED_CONNECTION);
        match &mut self.state {
            _ if key.len() > MAX_KEPT => Answer::CannotTell(reason::NEXT_HOP_CHANGED),
            State::Unmoved(one) if !one.is_quoted || one.has_host || self.sender != keys.whole() => {
                self.state = State::Shared { moved_is_open: false };
                shared
            }
            State::Idle | State::Host(_) | State::Unmoved(_) => {
                self.state = State::Moved(Box::new(Moved {
                    sender: key.to_vec(),
                    host: None,
                    is_asked_again: false,
                    is_answered: false,
                }));
                Answer::NotFound
            }
            // After a request for its host, this one is another client's: the next may be for a host or a next hop.
            State::Moved(moved)
                if moved.keys(snapshot).whole() == keys.whole()
                    && (moved.host.is_none() || moved.is_answered) =>
            {
                let is_without_quotes = moved.sender.starts_with(b"\"") && !key.starts_with(b"\"");
                moved.is_asked_again |= !moved.is_answered && !is_without_quotes;
                moved.is_answered = false;
                moved.host = None;
                key.clone_into(&mut moved.sender);
                Answer::NotFound
            }
            State::Moved(_) => {
                self.state = State::Shared { moved_is_open: true };
                shared
            }
            State::Shared { .. } => shared,
        }
    }

    fn host_or_next_hop<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        key: &[u8],
        keys: &LookupKeys,
        answer: Answer<'s>,
    ) -> Answer<'s> {
        match &mut self.state {
            State::Idle => {
                let answer = without_sender(snapshot, keys, answer);
                if answer == Answer::NotFound {
                    keep(&mut self.host, keys);
                    self.state = State::Host(snapshot.generation);
                }
                answer
            }
            State::Host(generation) => {
                let is_edited = *generation != snapshot.generation;
                self.state = State::Idle;
                match without_sender(snapshot, keys, answer) {
                    Answer::NotFound if is_edited && !self.is_host_not_found(snapshot) => {
                        Answer::CannotTell(reason::LOGIN_REMOVED)
                    }
                    answer => answer,
                }
            }
            State::Unmoved(one) if answer == Answer::NotFound && !one.has_host => {
                one.has_host = true;
                keep(&mut self.host, keys);
                answer
            }
            State::Unmoved(one) => {
                let one = *one;
                self.state = State::Idle;
                if one.generation == snapshot.generation || self.is_still_not_found(one, snapshot) {
                    answer
                } else {
                    Answer::CannotTell(reason::NEXT_HOP_CHANGED)
                }
            }
            State::Moved(moved) => {
                let (next, answer) = moved.next_request(snapshot, key, keys);
                if let Some(next) = next {
                    self.state = next;
                }
                answer
            }
            State::Shared { moved_is_open } => {
                *moved_is_open &= !snapshot.history.is_empty();
                if *moved_is_open {
                    Answer::CannotTell(reason::SHARED_CONNECTION)
                } else {
                    without_sender(snapshot, keys, answer)
                }
            }
        }
    }
}

/// Returns the answer for a host or a next hop of mail without a sender: the null sender's, and all mail with
/// `smtp_sender_dependent_authentication = no`. Whether its next hop has changed is unknown.
fn without_sender<'s>(snapshot: &Snapshot, keys: &LookupKeys, answer: Answer<'s>) -> Answer<'s> {
    let is_unsure = answer == Answer::NotFound
        && !snapshot.history.is_empty()
        && snapshot.may_have_had_login(keys.whole_key());
    if is_unsure {
        Answer::CannotTell(reason::LOGIN_REMOVED)
    } else {
        answer
    }
}

impl Exchange {
    /// Whether what was not found before this request is not found now either, so that all answers are of one generation.
    #[cold]
    fn is_still_not_found(&self, one: Unmoved, snapshot: &Snapshot) -> bool {
        let mut keys = LookupKeys::default();
        // A key that was too long to be kept is empty.
        let is_sender_not_found = !self.sender.is_empty()
            && snapshot.login_for(&self.sender, &mut keys) == Answer::NotFound
            && !snapshot.has_moved(&keys);
        is_sender_not_found && (!one.has_host || self.is_host_not_found(snapshot))
    }

    /// Whether the host that was not found before this request is not found now either.
    #[cold]
    fn is_host_not_found(&self, snapshot: &Snapshot) -> bool {
        let mut keys = LookupKeys::default();
        !self.host.is_empty() && snapshot.login_for(&self.host, &mut keys) == Answer::NotFound
    }
}

/// Keeps the key, if it is not too long.
fn keep(into: &mut Vec<u8>, keys: &LookupKeys) {
    into.clear();
    if keys.whole().len() <= MAX_KEPT {
        into.extend_from_slice(keys.whole());
    }
}

impl Moved {
    fn keys(&self, snapshot: &Snapshot) -> LookupKeys {
        let mut keys = LookupKeys::default();
        keys.parse(&self.sender, &snapshot.delimiters);
        keys
    }

    /// Returns the answer for the host or the next hop that follows the sender, and the state that follows if that changes.
    #[cold]
    fn next_request<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        key: &[u8],
        keys: &LookupKeys,
    ) -> (Option<State>, Answer<'s>) {
        let shared = State::Shared { moved_is_open: true };
        if self.is_answered || key.len() > MAX_KEPT {
            return (Some(shared), Answer::CannotTell(reason::SHARED_CONNECTION));
        }
        let Some(host) = &self.host else {
            // An entry for the host would hide the one for the next hop.
            self.host = Some(keys.whole().to_vec());
            return (None, Answer::NotFound);
        };
        let sender = self.keys(snapshot);
        let login = if !self.is_asked_again || snapshot.had_next_hop(&sender, keys.whole_key()) {
            snapshot.login_at(&sender, host.as_slice().into(), keys.whole_key())
        } else {
            // It may be another client's host.
            Answer::CannotTell(reason::SHARED_CONNECTION)
        };
        let next = match login {
            _ if !self.is_asked_again => Some(State::Idle),
            Answer::CannotTell(_) => Some(shared),
            _ => None,
        };
        self.is_answered = true;
        (next, login)
    }
}

#[cfg(test)]
mod tests;
