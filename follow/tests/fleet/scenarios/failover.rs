//! A failover that loses a commit, so that its revision comes again with other rows.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::apparatus::fleet::Fleet;
use crate::database::processes::run;

/// The first server is connected all the time. The second one is away between the two commits with the same revision.
/// Returns the time from the commit after the failover to the answers of both.
pub(crate) fn measure(senders: u64) -> Duration {
    let mut fleet = Fleet::start(2, senders);
    // The other database, which does not get the next commit.
    fleet.postgres.stop();
    let data = fleet.postgres.data();
    let other = fleet.postgres.sockets().join("other");
    run(Command::new("cp").arg("-a").arg(&data).arg(&other));
    fleet.postgres.start_again();
    fleet.reconnect();
    fleet.change_one(1, 1);
    let lost = revision(&mut fleet);
    fleet.wait_for_transaction(1, 1);
    fleet.servers[1].stop_follower();

    fleet.postgres.kill();
    fs::rename(&data, fleet.postgres.sockets().join("lost")).unwrap();
    fs::rename(&other, &data).unwrap();
    fleet.postgres.start_again();
    fleet.reconnect();
    let begun = Instant::now();
    fleet.change_one(2, 2);
    assert_eq!(revision(&mut fleet), lost, "the same revision with other rows");
    fleet.servers[1].start_follower();
    fleet.wait_for_transaction(2, 2);
    // The lost commit is gone everywhere.
    fleet.wait_for_transaction(1, 0);
    begun.elapsed()
}

fn revision(fleet: &mut Fleet) -> String {
    fleet.sql.value("SELECT revision FROM postmapd.state")
}
