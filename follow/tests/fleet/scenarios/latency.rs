//! How long it takes from a commit until each server answers with what it wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::Durations;
use super::cost::processor_time_of_database;
use crate::apparatus::DEADLINE;
use crate::apparatus::client::{Client, Reply};
use crate::apparatus::fleet::Fleet;
use crate::apparatus::mail_server::MailServer;
use crate::apparatus::process::{memory, processor_time_of_threads};
use crate::apparatus::random::Random;
use crate::apparatus::senders::{change_one, login, next_hop, sender};

/// Between two rounds of requests. A measured time is too long by up to this, and by the time of a round.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) struct Size {
    pub(crate) servers: usize,
    pub(crate) senders: u64,
    pub(crate) changes: u64,
    /// Whether the database says that something has changed.
    pub(crate) notify: bool,
}

pub(crate) struct Measured {
    /// From before COMMIT to the reply with the new relay and login: one for each change and server.
    pub(crate) answers: Durations,
    /// Of the largest follower, at rest and the most, in bytes.
    pub(crate) follower_memory: (u64, u64),
    /// The processor time of a change, polls included: of the database, and of the followers and the servers together.
    pub(crate) processor: [Duration; 3],
}

/// Changes the relay and the login of one sender after another, each when all servers answer with the one before.
pub(crate) fn measure(size: &Size) -> Measured {
    let mut fleet = Fleet::start(size.servers, size.senders);
    if !size.notify {
        super::hints::remove_notify(&mut fleet.sql);
    }
    let mut clients: Vec<Client> = fleet.servers.iter().map(MailServer::client).collect();
    let mut random = Random::new(1);
    let mut answers = Vec::new();
    let before = processor(&mut fleet);
    for transaction in 1..=size.changes {
        // At any moment between two polls, and later than the shortest interval of publications.
        thread::sleep(Duration::from_millis(400) + random.duration(Duration::from_secs(1)));
        let number = random.below(size.senders);
        fleet.sql.run(&change_one(number, transaction));
        let begun = Instant::now();
        fleet.sql.run("COMMIT");
        let expected = [next_hop(transaction), login(transaction)];
        answers.extend(wait_for_pairs(&mut clients, &sender(number), &expected, begun));
    }
    let after = processor(&mut fleet);
    let changes = u32::try_from(size.changes).unwrap();
    let processor = [0, 1, 2].map(|part| after[part].saturating_sub(before[part]) / changes);
    let memory_of = |server: &mut MailServer| {
        let pid = server.follower().pid();
        (memory(pid, "status", "VmRSS"), memory(pid, "status", "VmHWM"))
    };
    let follower_memory = fleet.servers.iter_mut().map(memory_of).max().unwrap();
    Measured {
        answers: Durations::new(answers),
        follower_memory,
        processor,
    }
}

/// The processor time so far.
fn processor(fleet: &mut Fleet) -> [Duration; 3] {
    let database = processor_time_of_database(fleet.postgres.pid());
    let pids = fleet
        .servers
        .iter_mut()
        .map(|server| [server.follower().pid(), server.serve().pid()]);
    let [mut followers, mut servers] = [Duration::ZERO; 2];
    for [follower, serve] in pids {
        followers += processor_time_of_threads(follower);
        servers += processor_time_of_threads(serve);
    }
    [database, followers, servers]
}

/// Waits until all servers answer with this relay and login, and returns how long each took. A relay with another login
/// ends the test.
fn wait_for_pairs(
    clients: &mut [Client],
    key: &str,
    expected: &[String; 2],
    begun: Instant,
) -> Vec<Duration> {
    let expected = expected.each_ref().map(|value| Reply::found(value));
    let mut waiting: Vec<&mut Client> = clients.iter_mut().collect();
    let mut took = Vec::new();
    while !waiting.is_empty() {
        waiting.retain_mut(|client| {
            let pair = client.pair(key);
            let is_new = [pair[0] == expected[0], pair[1] == expected[1]];
            assert_eq!(is_new[0], is_new[1], "{key}: {pair:?}");
            if is_new[0] {
                took.push(begun.elapsed());
            }
            !is_new[0]
        });
        assert!(
            begun.elapsed() < DEADLINE,
            "{key}: {} servers are behind",
            waiting.len()
        );
        thread::sleep(PAUSE);
    }
    took
}

/// The same without a database and without followers: from before the swap of the link to the reply of each server. The
/// directories are those of followers that have ended.
pub(crate) fn floor(servers: usize, senders: u64, changes: u64) -> Durations {
    let mut fleet = Fleet::start(servers, senders);
    for server in &mut fleet.servers {
        server.stop_follower();
    }
    let mut clients: Vec<Client> = fleet.servers.iter().map(MailServer::client).collect();
    let mut answers = Vec::new();
    for transaction in 1..=changes {
        thread::sleep(Duration::from_millis(400));
        let generations: Vec<[PathBuf; 2]> = fleet
            .servers
            .iter()
            .map(|server| write_generation(&server.tables(), transaction))
            .collect();
        let begun = Instant::now();
        for [next, active] in generations {
            fs::rename(next, active).unwrap();
        }
        let expected = [next_hop(transaction), login(transaction)];
        answers.extend(wait_for_pairs(&mut clients, &sender(0), &expected, begun));
    }
    Durations::new(answers)
}

/// Writes the next generation, which differs in the first sender, and returns the link to it and the name that it replaces.
fn write_generation(tables: &Path, transaction: u64) -> [PathBuf; 2] {
    let (active, next) = (tables.join("..data"), tables.join("..data.next"));
    let name = format!("..{transaction:032x}");
    let directory = tables.join(&name);
    fs::create_dir(&directory).unwrap();
    for (file, old, new) in [
        (
            "postfix-relaymap.cf",
            next_hop(transaction - 1),
            next_hop(transaction),
        ),
        (
            "postfix-sasl-password.cf",
            login(transaction - 1),
            login(transaction),
        ),
        ("source.json", String::new(), String::new()),
    ] {
        let text = fs::read_to_string(active.join(file)).unwrap();
        let lines = text.split_inclusive('\n').map(|line| {
            if line.starts_with(&format!("{} ", sender(0))) || line.starts_with(&format!("{}\t", sender(0))) {
                line.replace(&old, &new)
            } else {
                line.to_owned()
            }
        });
        fs::write(directory.join(file), lines.collect::<String>()).unwrap();
    }
    std::os::unix::fs::symlink(name, &next).unwrap();
    [next, active]
}
