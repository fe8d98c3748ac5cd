//! The database is killed, stopped or frozen: no answer changes, and a change after its return is followed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Durations;
use crate::apparatus::client::{Client, Reply};
use crate::apparatus::eventually;
use crate::apparatus::fleet::Fleet;
use crate::apparatus::mail_server::MailServer;
use crate::apparatus::random::Random;
use crate::apparatus::senders::{login, next_hop, sender};

/// How the database is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    /// All its processes end at once.
    Killed,
    /// An administrator stops it.
    Stopped,
    /// All its processes stop without ending, so that connections remain and nothing answers.
    Frozen,
}

pub(crate) const OUTAGES: [Outage; 3] = [Outage::Killed, Outage::Stopped, Outage::Frozen];

pub(crate) struct Measured {
    /// The number of replies during the outage, all of which were as before.
    pub(crate) replies: usize,
    /// The replies before and during the outage.
    pub(crate) before: Durations,
    pub(crate) during: Durations,
    /// From the beginning of the outage to the line in the log of the last server.
    pub(crate) logged: Duration,
    /// From the commit after the return to the answer of the last server.
    pub(crate) answered: Duration,
    /// The most lines that a follower logged because of the outage.
    pub(crate) lines: usize,
}

/// The database is away for this long, and for as long as the followers need to notice.
pub(crate) fn measure(outage: Outage, servers: usize, senders: u64, away: Duration) -> Measured {
    let mut fleet = Fleet::start(servers, senders);
    let before = ask_for(&fleet, senders, away);
    let logs: Vec<String> = fleet.servers.iter().map(MailServer::follower_log).collect();
    let asker = Asker::start(&fleet, senders);
    let begun = Instant::now();
    match outage {
        Outage::Killed => fleet.postgres.kill(),
        Outage::Stopped => fleet.postgres.stop(),
        Outage::Frozen => fleet.postgres.freeze(),
    }
    for (server, log) in fleet.servers.iter().zip(&logs) {
        eventually(
            || server.follower_log(),
            |now| now.len() > log.len() && now.ends_with('\n'),
        );
    }
    let logged = begun.elapsed();
    thread::sleep(away.saturating_sub(begun.elapsed()));
    let during = asker.stop();
    let lines = fleet.servers.iter().zip(&logs).map(|(server, log)| {
        let now = server.follower_log();
        now[log.len()..].lines().count()
    });
    let lines = lines.max().unwrap();
    if outage == Outage::Frozen {
        fleet.postgres.thaw();
    } else {
        fleet.postgres.start_again();
        fleet.reconnect();
    }
    let begun = Instant::now();
    fleet.change_one(0, 1);
    fleet.wait_for_transaction(0, 1);
    let answered = begun.elapsed();
    Measured {
        replies: during.count(),
        before,
        during,
        logged,
        answered,
        lines,
    }
}

fn ask_for(fleet: &Fleet, senders: u64, time: Duration) -> Durations {
    let asker = Asker::start(fleet, senders);
    thread::sleep(time);
    asker.stop()
}

/// Asks all servers in turn until it is stopped. Another reply than those of the first transaction ends the test.
struct Asker {
    thread: JoinHandle<Vec<Duration>>,
    stop: Arc<AtomicBool>,
}

impl Asker {
    fn start(fleet: &Fleet, senders: u64) -> Self {
        let mut clients: Vec<Client> = fleet.servers.iter().map(MailServer::client).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let its_stop = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let expected = [next_hop(0), login(0)].map(|value| Reply::found(&value));
            let (mut random, mut took) = (Random::new(5), Vec::new());
            while !its_stop.load(Ordering::Relaxed) {
                for client in &mut clients {
                    let key = sender(random.below(senders));
                    let begun = Instant::now();
                    let pair = client.pair(&key);
                    took.push(begun.elapsed());
                    assert_eq!(pair, expected, "{key}");
                }
                thread::sleep(Duration::from_millis(1));
            }
            took
        });
        Self { thread, stop }
    }

    fn stop(self) -> Durations {
        self.stop.store(true, Ordering::Relaxed);
        Durations::new(self.thread.join().unwrap())
    }
}
