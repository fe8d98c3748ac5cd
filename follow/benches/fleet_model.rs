//! A model of what a fleet costs one database, and a simulation of its return after an outage. It runs no database: its
//! constants are the measured points of `../benches/fleet.md`, which explains the formulae. Every run prints the same.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark prints what it computes, with few digits"
)]

#[path = "fleet_model/steady.rs"]
mod steady;
#[path = "fleet_model/storm.rs"]
mod storm;

use storm::{Outcome, Policy, Storm};

/// The measured points, in seconds of processor time of the database, and in bytes (benches/fleet.md, "Points").
mod points {
    /// The state, asked for once.
    pub(crate) const POLL: f64 = 23e-6;
    /// A connection up to its first poll, with TLS and SCRAM.
    pub(crate) const CONNECT: f64 = 6.5e-3;
    /// A read of one changed sender.
    pub(crate) const CHANGE: f64 = 0.62e-3;
    /// A notification, for each connection that waits for it.
    pub(crate) const WAKE_UP: f64 = 7e-6;
    /// A read of everything until its first row.
    pub(crate) const FIRST: f64 = 3e-3;
    /// The same for each sender, if the database sorts the rows, which it does without an index in their order.
    pub(crate) const SORT: f64 = 1.0e-6;
    /// A read of everything, for each sender, while rows come.
    pub(crate) const STREAM: f64 = 0.5e-6;
    /// A read of everything, for each sender.
    pub(crate) const BYTES: f64 = 121.0;
    /// A poll and its reply, with 120 bytes of headers.
    pub(crate) const POLL_BYTES: f64 = 455.0;
    /// A read of one changed sender, with 400 bytes of headers.
    pub(crate) const CHANGE_BYTES: f64 = 2160.0;
    /// The private memory of a connection in the database.
    pub(crate) const CONNECTION_MEMORY: f64 = 2.1e6;
    /// A mail server, from the rows to the answer, for each sender.
    pub(crate) const PUBLISH: f64 = 0.3e-6;
}

/// The machine of the database.
#[derive(Clone, Copy)]
struct Machine {
    cores: f64,
    /// In bytes a second.
    network: f64,
    /// The setting max_connections.
    connections: u32,
}

const MACHINE: Machine = Machine {
    cores: 4.0,
    network: 125e6,
    connections: 5000,
};

const SERVERS: [u32; 4] = [20, 200, 2_000, 10_000];
/// The fleets whose return is simulated.
const STORMS: [u32; 4] = [20, 200, 1_000, 2_000];
const SENDERS: [u32; 2] = [20_000, 1_000_000];

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("Prints a model of large fleets: cargo bench --package postmapd-follow --bench fleet_model");
        return;
    }
    println!(
        "A database with {} cores and {} Mbit/s.\n",
        MACHINE.cores,
        MACHINE.network * 8.0 / 1e6
    );
    steady::print(MACHINE);
    print_storms();
    print_databases();
}

fn print_storms() {
    println!("\n#### After an outage of the database\n");
    println!(
        "| servers | senders | what the followers do | all are back after | failed attempts | most connections |"
    );
    println!("|---:|---:|---|---:|---:|---:|");
    for senders in SENDERS {
        for servers in STORMS {
            for policy in Policy::ALL {
                let outcome = Storm::new(MACHINE, servers, senders, policy).run();
                print_outcome(servers, senders, policy, &outcome);
            }
        }
    }
}

fn print_outcome(servers: u32, senders: u32, policy: Policy, outcome: &Outcome) {
    let back = outcome.all_back.map_or_else(
        || format!("not within an hour: {} of them", outcome.back),
        |seconds| format!("{seconds:.1} s"),
    );
    println!(
        "| {servers} | {senders} | {} | {back} | {} | {} |",
        policy.name(),
        outcome.failures,
        outcome.most_connections
    );
}

/// How many databases a full read by all servers needs to end within five minutes.
fn print_databases() {
    println!(
        "\n#### Databases (a primary or standbys) until all servers have read everything within 5 minutes\n"
    );
    println!("| servers | senders | by processor | by network | by connections (500 each) | databases |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for senders in SENDERS {
        for servers in SERVERS {
            let (count, rows) = (f64::from(servers), f64::from(senders));
            let work = points::CONNECT + points::FIRST + rows * points::STREAM;
            let by_processor = (count * work / MACHINE.cores / 300.0).ceil();
            let by_network = (count * rows * points::BYTES / MACHINE.network / 300.0).ceil();
            let by_connections = (count / 500.0).ceil();
            let all = by_processor.max(by_network).max(by_connections);
            println!("| {servers} | {senders} | {by_processor} | {by_network} | {by_connections} | {all} |");
        }
    }
}
