//! Followers and the database are killed while each transaction changes every row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::apparatus::fleet::{Fleet, connect};
use crate::apparatus::pairs::{Checked, PairChecker};
use crate::apparatus::random::Random;
use crate::apparatus::senders::{change_all, transaction_of_next_hop};
use crate::apparatus::sql::Sql;
use crate::apparatus::{DEADLINE, eventually};

pub(crate) struct Size {
    pub(crate) senders: u64,
    pub(crate) kills: u32,
    /// Between two transactions.
    pub(crate) pause: Duration,
}

pub(crate) struct Measured {
    pub(crate) checked: Checked,
    /// The number of transactions that were committed.
    pub(crate) transactions: u64,
    /// From the last start after a kill to the answer with the last commit.
    pub(crate) last_commit_answered: Duration,
}

/// Kills the follower of one server at random moments.
pub(crate) fn kill_followers(size: &Size) -> Measured {
    let mut fleet = Fleet::start(1, size.senders);
    let writer = Writer::start(connect(&fleet.postgres), size.pause);
    let checker = check(&fleet, 0, size);
    let mut random = Random::new(2);
    for _ in 0..size.kills {
        // There is something to publish. Every second one is not given the time to read everything.
        let committed = writer.committed();
        eventually(|| writer.committed(), |now| *now > committed);
        let span = Duration::from_millis(if random.below(2) == 0 { 30 } else { 300 });
        thread::sleep(random.duration(span));
        fleet.servers[0].kill_follower();
        fleet.servers[0].start_follower();
    }
    let begun = Instant::now();
    let mut sql = writer.stop();
    finish(&mut sql, vec![checker], begun)
}

/// Kills all processes of the database at random moments.
pub(crate) fn kill_database(size: &Size) -> Measured {
    let mut fleet = Fleet::start(2, size.senders);
    let mut checkers = vec![check(&fleet, 0, size), check(&fleet, 1, size)];
    let (mut random, mut committed) = (Random::new(3), 0);
    let mut begun = Instant::now();
    for _ in 0..size.kills {
        let writer = Writer::start_after(connect(&fleet.postgres), size.pause, committed);
        if random.below(2) == 0 {
            eventually(|| writer.committed(), |now| *now > committed);
        }
        thread::sleep(random.duration(Duration::from_millis(2500)));
        fleet.postgres.kill();
        committed = writer.wait_for_the_end();
        // Changes of the servers must not depend on how long it is away.
        thread::sleep(random.duration(Duration::from_millis(500)));
        fleet.postgres.start_again();
        begun = Instant::now();
        // Each of them follows again before the next kill every second time.
        if random.below(2) == 0 {
            let newest = newest(&mut connect(&fleet.postgres));
            for checker in &checkers {
                eventually(|| checker.newest(), |answered| *answered >= newest);
            }
        }
    }
    fleet.reconnect();
    let first = checkers.remove(0);
    let mut measured = finish(&mut fleet.sql, vec![first], begun);
    measured.checked.add(checkers.remove(0).stop());
    measured
}

fn check(fleet: &Fleet, server: usize, size: &Size) -> PairChecker {
    PairChecker::start(
        fleet.servers[server].socket(),
        size.senders,
        Duration::from_millis(1),
    )
}

/// Waits until the last commit is answered, and stops.
fn finish(sql: &mut Sql, checkers: Vec<PairChecker>, begun: Instant) -> Measured {
    let transactions = newest(sql);
    for checker in &checkers {
        eventually(|| checker.newest(), |answered| *answered >= transactions);
    }
    let last_commit_answered = begun.elapsed();
    let mut checked = Checked::default();
    for checker in checkers {
        checked.add(checker.stop());
    }
    Measured {
        checked,
        transactions,
        last_commit_answered,
    }
}

/// The last transaction that the database has.
fn newest(sql: &mut Sql) -> u64 {
    transaction_of_next_hop(&sql.value("SELECT min(nexthop) FROM postmapd.relay")).unwrap()
}

/// A thread that changes every row in each transaction.
struct Writer {
    thread: JoinHandle<(Sql, u64)>,
    committed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    fn start(sql: Sql, pause: Duration) -> Self {
        Self::start_after(sql, pause, 0)
    }

    /// Starts with the transaction after this one. It ends when the connection does.
    fn start_after(mut sql: Sql, pause: Duration, last: u64) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(last)));
        let (its_stop, its_committed) = (Arc::clone(&stop), Arc::clone(&committed));
        let thread = thread::spawn(move || {
            let mut transaction = last;
            while !its_stop.load(Ordering::Relaxed) {
                // A number is used once, also if it is unknown whether its commit succeeded.
                transaction += 1;
                let changed = sql.try_run(&change_all(transaction));
                if changed.and_then(|_| sql.try_run("COMMIT")).is_err() {
                    break;
                }
                its_committed.store(transaction, Ordering::Relaxed);
                thread::sleep(pause);
            }
            (sql, transaction)
        });
        Self {
            thread,
            committed,
            stop,
        }
    }

    /// The last transaction that was committed for certain.
    fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    fn stop(self) -> Sql {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().0
    }

    /// Waits until the connection has ended, and returns the last number.
    fn wait_for_the_end(self) -> u64 {
        let begun = Instant::now();
        while !self.thread.is_finished() {
            assert!(begun.elapsed() < DEADLINE, "the connection remains");
            thread::sleep(Duration::from_millis(2));
        }
        self.thread.join().unwrap().1
    }
}
