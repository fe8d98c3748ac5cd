//! Many followers that start at the same time.

use std::time::{Duration, Instant};

use super::cost::processor_time_of_database;
use crate::apparatus::eventually;
use crate::apparatus::fleet::Fleet;
use crate::apparatus::mail_server::MailServer;

pub(crate) struct Measured {
    /// The most connections of followers at one moment.
    pub(crate) connections: u64,
    /// From the start of the followers until all have confirmed their tables.
    pub(crate) settled: Duration,
    /// The processor time of the database in this time.
    pub(crate) database: Duration,
}

/// Followers with a directory start at once, without a `postmapd serve`.
pub(crate) fn measure(followers: usize, senders: u64) -> Measured {
    let mut fleet = Fleet::new(followers, senders);
    // The first start, which fills the directories, in groups.
    for group in fleet.servers.chunks_mut(10) {
        group.iter_mut().for_each(MailServer::start_follower);
        group
            .iter_mut()
            .for_each(crate::apparatus::fleet::wait_for_generation);
    }
    for server in &mut fleet.servers {
        server.kill_follower();
    }
    let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'";
    let connections = || fleet.sql.value(count).parse::<u64>().unwrap();
    eventually(connections, |connections| *connections == 0);
    let before = processor_time_of_database(fleet.postgres.pid());
    let begun = Instant::now();
    for server in &mut fleet.servers {
        server.start_follower();
    }
    let mut most = 0;
    eventually(
        || {
            most = most.max(fleet.sql.value(count).parse::<u64>().unwrap());
            let confirmed =
                |server: &&MailServer| server.follower_metric("postmapd_follow_connected ") == Some(1.0);
            fleet.servers.iter().filter(confirmed).count()
        },
        |confirmed| *confirmed == followers,
    );
    let settled = begun.elapsed();
    // One each. A login that took longer than `hang` may have left another one for a moment.
    eventually(
        || {
            let now: usize = fleet.sql.value(count).parse().unwrap();
            most = most.max(now as u64);
            now
        },
        |now| *now == followers,
    );
    Measured {
        connections: most,
        settled,
        database: processor_time_of_database(fleet.postgres.pid()).saturating_sub(before),
    }
}
