//! Asks a server for relays with their logins, as fast as it answers, and checks each pair: both are found and of one
//! transaction, and never of an older one than in a reply before.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::{Client, Reply};
use super::random::Random;
use super::senders::{sender, transaction_of_login, transaction_of_next_hop};

/// The number of pairs in one write.
const BATCH: usize = 4;

/// The pairs that are asked for at least, however slow the machine is.
const MIN_PAIRS: u64 = 400;

/// What was wrong with the replies. All but `pairs` and `newest` must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) pairs: u64,
    /// The newest transaction.
    pub(crate) newest: u64,
    /// The relay of one transaction with the login of another.
    pub(crate) torn: u64,
    /// Not found, or cannot tell.
    pub(crate) not_answered: u64,
    /// Older than a reply before.
    pub(crate) older: u64,
}

impl Checked {
    /// Whether nothing was wrong.
    pub(crate) fn is_right(&self) -> bool {
        (self.torn, self.not_answered, self.older) == (0, 0, 0)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.newest = self.newest.max(other.newest);
        self.torn += other.torn;
        self.not_answered += other.not_answered;
        self.older += other.older;
    }

    /// Checks the pair of a sender whose rows all transactions change.
    fn check(&mut self, relay: &Reply, login: &Reply) {
        self.pairs += 1;
        let (Reply::Found(relay), Reply::Found(login)) = (relay, login) else {
            self.not_answered += 1;
            return;
        };
        let relay = transaction_of_next_hop(relay).unwrap();
        if Some(relay) != transaction_of_login(login) {
            self.torn += 1;
        }
        if relay < self.newest {
            self.older += 1;
        }
        self.newest = self.newest.max(relay);
    }
}

/// A thread that asks one server until it is stopped.
pub(crate) struct PairChecker {
    thread: JoinHandle<Checked>,
    stop: Arc<AtomicBool>,
    newest: Arc<AtomicU64>,
}

impl PairChecker {
    /// Starts asking for random senders of this many, with a pause after each batch.
    pub(crate) fn start(socket: PathBuf, senders: u64, pause: Duration) -> Self {
        let (stop, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (its_stop, its_newest) = (Arc::clone(&stop), Arc::clone(&newest));
        let thread = thread::spawn(move || {
            let (mut client, mut random) = (Client::connect(&socket), Random::new(18));
            let mut checked = Checked::default();
            while !its_stop.load(Ordering::Relaxed) || checked.pairs < MIN_PAIRS {
                let keys: [String; BATCH] = std::array::from_fn(|_| sender(random.below(senders)));
                let requests = keys
                    .iter()
                    .flat_map(|key| [("relayhost", key.as_str()), ("sasl", key)]);
                let replies = client.ask(&requests.collect::<Vec<_>>());
                for pair in replies.chunks_exact(2) {
                    checked.check(&pair[0], &pair[1]);
                }
                its_newest.store(checked.newest, Ordering::Relaxed);
                thread::sleep(pause);
            }
            checked
        });
        Self { thread, stop, newest }
    }

    /// The newest transaction of which an answer was.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(self) -> Checked {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
