//! Which sender a connection asks for the login of, from one request to the next.
//!
//! For one login, smtp(8) asks for the sender, then for the server's host name, then for the next hop, on one connection
//! and until one of them is found (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c). The login of a sender that has
//! moved depends on the next hop ([`Snapshot::login_at`]), which is the third request: the first two are answered *not
//! found*, and the third with the login of this sender there.
//!
//! A sender whose local part needs quotes is asked for twice, first with quotes, then without, which is one request here.
//!
//! Behind `proxy:`, one connection carries several SMTP clients, and a request for a host or a next hop does not say whose
//! it is. That shows when a second sender is asked for before the first has its answer. From then on the connection gets
//! *cannot tell* for senders that have moved, and for hosts and next hops, until no edit is remembered any more; the
//! logins of all other senders are answered as ever.
//!
//! Where an edit comes between the request for a sender and the last one for its login, and what was not found before it
//! would be found after it, the last answer is *cannot tell*: all are to be of one generation.
//!
//! Mail of the null sender, and all mail with `smtp_sender_dependent_authentication = no`, is asked for by host and next hop
//! alone; an edit between these two counts likewise. Where an edit that is remembered removed their login, mail may still be on its way there: *cannot tell*, and
//! not *not found*, with which it would leave without a login and be bounced.
//!
//! Limits: what is kept of a connection is one sender and one host, of [`MAX_KEPT`] bytes each. Requests that name no
//! sender (mail of the null sender, or `smtp_sender_dependent_authentication = no`) cannot be told from those of a sender
//! before them on a shared connection: behind `proxy:`, such mail may be given the login of a moved sender at the same
//! next hop. Nor does it show there that an edit came between two requests of one client: the second may be answered as of
//! after it.

use crate::lookup::address::SenderKeys;
use crate::lookup::map::Map;
use crate::lookup::reason;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::protocol::answer::Answer;

/// The longest sender or host that is kept, in bytes: Postfix takes no longer line from a client (`line_length_limit` in
/// postconf(5)).
pub(super) const MAX_KEPT: usize = 2048;

/// Where a connection is in asking for a login.
#[derive(Default)]
pub(super) struct Exchange {
    state: State,
    /// The keys of the sender that has not moved and of the host after it, where `state` says that there are any. The memory
    /// stays for the next.
    sender: Vec<u8>,
    host: Vec<u8>,
}

#[derive(Default)]
enum State {
    /// Nothing is asked for.
    #[default]
    Idle,
    /// A host was not found in this generation for mail whose sender is not asked for, so a next hop may follow.
    Host(u64),
    /// A sender that has not moved was not found, so a host and a next hop may follow.
    Unmoved(Unmoved),
    /// A sender that has moved was asked for.
    Moved(Box<Moved>),
    /// Several clients share the connection.
    Shared {
        /// Whether one of them has asked for a sender that has moved, so that any host or next hop may be for it.
        moved_is_open: bool,
    },
}

#[derive(Clone, Copy)]
struct Unmoved {
    /// The generation in which it was not found.
    generation: u64,
    /// Whether it was asked for with quotes: it comes once more, without.
    is_quoted: bool,
    has_host: bool,
}

/// The sender that has moved, and what was asked since.
struct Moved {
    /// As it was asked for last.
    sender: Vec<u8>,
    /// The host that was asked for after it.
    host: Option<Vec<u8>>,
    /// Whether it was asked for more often than a next hop was.
    is_asked_again: bool,
    /// Whether the next hop was asked for.
    is_answered: bool,
}

impl Exchange {
    /// The answer of `map` for `key`, the next request of the connection. `keys` and `scratch` lend their memory.
    #[inline]
    pub(super) fn answer<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        map: Map,
        key: &[u8],
        keys: &mut SenderKeys,
        scratch: &'s mut Scratch,
    ) -> Answer<'s> {
        let answer = snapshot.answer(map, key, keys, scratch);
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
        keys: &SenderKeys,
        answer: Answer<'s>,
    ) -> Answer<'s> {
        if snapshot.has_moved(keys) {
            return self.moved_sender(snapshot, key, keys);
        }
        let is_same = match &self.state {
            State::Unmoved(one) => one.is_quoted && !one.has_host && self.sender == keys.whole(),
            // The edit that moved it was forgotten meanwhile.
            State::Moved(moved) => moved.keys(snapshot).whole() == keys.whole(),
            State::Idle | State::Host(_) | State::Shared { .. } => false,
        };
        if is_same {
            self.state = State::Idle;
        }
        if answer != Answer::NotFound {
            // It is done; what was asked for before it may go on.
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
    fn moved_sender<'s>(&mut self, snapshot: &'s Snapshot, key: &[u8], keys: &SenderKeys) -> Answer<'s> {
        let shared = Answer::CannotTell(reason::SHARED_CONNECTION);
        match &mut self.state {
            _ if key.len() > MAX_KEPT => Answer::CannotTell(reason::NEXT_HOP_OF_ANOTHER_TIME),
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
            // Once its host was asked for, this is another client's: what comes next may be a host or a next hop.
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
        keys: &SenderKeys,
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
                        Answer::CannotTell(reason::LOGIN_OF_ANOTHER_TIME)
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
                    Answer::CannotTell(reason::NEXT_HOP_OF_ANOTHER_TIME)
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

/// The answer for a host or a next hop of mail whose sender is not asked for: the null sender's, and all mail with
/// `smtp_sender_dependent_authentication = no`. Nothing says whether its next hop changed.
fn without_sender<'s>(snapshot: &Snapshot, keys: &SenderKeys, answer: Answer<'s>) -> Answer<'s> {
    let is_unsure = answer == Answer::NotFound
        && !snapshot.history.is_empty()
        && snapshot.may_have_had_login(keys.whole_key());
    if is_unsure {
        Answer::CannotTell(reason::LOGIN_OF_ANOTHER_TIME)
    } else {
        answer
    }
}

impl Exchange {
    /// Whether what was not found before this request is not found now, so that the answers are of one generation.
    #[cold]
    fn is_still_not_found(&self, one: Unmoved, snapshot: &Snapshot) -> bool {
        let mut keys = SenderKeys::default();
        // One that is not kept has no bytes.
        let is_sender_not_found = !self.sender.is_empty()
            && snapshot.login_of(&self.sender, &mut keys) == Answer::NotFound
            && !snapshot.has_moved(&keys);
        is_sender_not_found && (!one.has_host || self.is_host_not_found(snapshot))
    }

    /// Whether the host that was not found before this request is not found now.
    #[cold]
    fn is_host_not_found(&self, snapshot: &Snapshot) -> bool {
        let mut keys = SenderKeys::default();
        !self.host.is_empty() && snapshot.login_of(&self.host, &mut keys) == Answer::NotFound
    }
}

/// Keeps the whole key, if it is not too long.
fn keep(into: &mut Vec<u8>, keys: &SenderKeys) {
    into.clear();
    if keys.whole().len() <= MAX_KEPT {
        into.extend_from_slice(keys.whole());
    }
}

impl Moved {
    fn keys(&self, snapshot: &Snapshot) -> SenderKeys {
        let mut keys = SenderKeys::default();
        keys.read(&self.sender, &snapshot.delimiters);
        keys
    }

    /// The answer for the host or the next hop that is asked for after the sender, and what the connection comes to then,
    /// if that is something else.
    #[cold]
    fn next_request<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        key: &[u8],
        keys: &SenderKeys,
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
