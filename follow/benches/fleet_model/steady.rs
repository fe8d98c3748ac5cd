//! What a fleet costs all the time, and what a change costs.

use super::{Machine, SENDERS, SERVERS, points};

pub(crate) fn print(machine: Machine) {
    println!("#### All the time: a poll a second\n");
    println!("| servers | connections | memory for them | polls a second | processor | network |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for servers in SERVERS {
        let count = f64::from(servers);
        println!(
            "| {servers} | {servers} | {:.1} GB | {servers} | {:.1} % of a core | {:.1} Mbit/s |",
            count * points::CONNECTION_MEMORY / 1e9,
            count * points::POLL * 100.0,
            count * points::POLL_BYTES * 8.0 / 1e6,
        );
    }
    println!("\n#### A change of one sender: from the commit until the last server has it\n");
    println!(
        "| servers | senders | the change log: bytes, time | everything: bytes, time | everything, read within 1 s more |"
    );
    println!("|---:|---:|---|---|");
    for senders in SENDERS {
        for servers in SERVERS {
            let change = Reads {
                processor: points::WAKE_UP + points::CHANGE + points::POLL,
                bytes: points::CHANGE_BYTES,
            };
            let rows = f64::from(senders);
            let everything = Reads {
                processor: points::WAKE_UP + points::POLL + points::FIRST + rows * points::STREAM,
                bytes: rows * points::BYTES,
            };
            println!(
                "| {servers} | {senders} | {} | {} |",
                change.print(machine, servers, rows),
                everything.print(machine, servers, rows),
            );
        }
    }
    println!("\nA publication writes this much on each mail server:\n");
    for senders in SENDERS {
        println!(
            "- {senders} senders: {}",
            size(f64::from(senders) * points::BYTES)
        );
    }
}

/// Reads of all servers at the same time.
struct Reads {
    /// Of one of them, in seconds.
    processor: f64,
    bytes: f64,
}

impl Reads {
    /// Until the last one ends: the processor or the network limits them.
    fn time(&self, machine: Machine, servers: u32) -> f64 {
        let count = f64::from(servers);
        let processor = count * self.processor / machine.cores;
        processor
            .max(count * self.bytes / machine.network)
            .max(self.processor)
    }

    fn print(&self, machine: Machine, servers: u32, rows: f64) -> String {
        let bytes = self.bytes * f64::from(servers);
        let time = self.time(machine, servers) + rows * points::PUBLISH;
        format!("{}, {time:.2} s", size(bytes))
    }
}

fn size(bytes: f64) -> String {
    if bytes < 1e9 {
        format!("{:.1} MB", bytes / 1e6)
    } else {
        format!("{:.0} GB", bytes / 1e9)
    }
}
