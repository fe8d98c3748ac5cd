//! What idle followers cost the database, and themselves.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::apparatus::FOLLOW;
use crate::apparatus::fleet::Fleet;
use crate::apparatus::process::{
    memory, processor_time, processor_time_of_ended_children, processor_time_of_threads,
};
use crate::database::processes::children;

pub(crate) struct Measured {
    /// The share of a processor that the processes of the database use for all followers.
    pub(crate) database: f64,
    /// The same with no follower.
    pub(crate) database_alone: f64,
    /// The share of a processor that a follower uses.
    pub(crate) follower: f64,
    /// The memory of the largest follower in bytes.
    pub(crate) follower_memory: u64,
    /// The private memory of the database's process for a follower in bytes.
    pub(crate) backend_memory: u64,
    /// The size of both files in bytes.
    pub(crate) text: u64,
    /// The size of the program in bytes.
    pub(crate) program: u64,
}

pub(crate) fn measure(servers: usize, senders: u64, time: Duration) -> Measured {
    let mut fleet = Fleet::start(servers, senders);
    // The work of the start, such as autovacuum, is none of the followers.
    thread::sleep(time / 2);
    let postgres = fleet.postgres.pid();
    let followers: Vec<u32> = fleet
        .servers
        .iter_mut()
        .map(|server| server.follower().pid())
        .collect();
    let database = share(time, || processor_time_of_database(postgres));
    let all = share(time, || {
        followers.iter().map(|pid| processor_time_of_threads(*pid)).sum()
    });
    let backends = fleet
        .sql
        .run("SELECT pid FROM pg_stat_activity WHERE usename = 'reader'");
    let backend_memory = backends
        .iter()
        .map(|row| memory(row[0].parse().unwrap(), "smaps_rollup", "Pss_Anon"));
    let backend_memory = backend_memory.max().unwrap();
    let follower_memory = followers
        .iter()
        .map(|pid| memory(*pid, "status", "VmRSS"))
        .max()
        .unwrap();
    let tables = fleet.servers[0].tables();
    let size = |file: &str| fs::metadata(tables.join(file)).unwrap().len();
    let text = size("postfix-relaymap.cf") + size("postfix-sasl-password.cf");
    for server in &mut fleet.servers {
        server.stop_follower();
    }
    thread::sleep(Duration::from_millis(500));
    Measured {
        database,
        database_alone: share(time, || processor_time_of_database(postgres)),
        follower: all / servers as f64,
        follower_memory,
        backend_memory,
        text,
        program: fs::metadata(FOLLOW).unwrap().len(),
    }
}

/// The processor time of the server and of all its processes.
pub(crate) fn processor_time_of_database(postgres: u32) -> Duration {
    let children: Duration = children(postgres).into_iter().map(processor_time).sum();
    children + processor_time(postgres) + processor_time_of_ended_children(postgres)
}

fn share(time: Duration, used: impl Fn() -> Duration) -> f64 {
    let before = used();
    thread::sleep(time);
    used().saturating_sub(before).as_secs_f64() / time.as_secs_f64()
}
