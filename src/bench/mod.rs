//! Load on a server, and how long its replies take: what Postfix would do, many times at once.
//!
//! ```text
//! keys ─► questions, encoded, with their right replies ─► load ─► a run: counts, latencies, processor time ─► report, plot
//! ```
//!
//! A server of either protocol can be measured, ours or another: nothing here knows more of it than Postfix does. One
//! thread drives all connections ([`load`]), and nothing is encoded, allocated or printed between a reply and the next
//! request. What it says of itself stands beside what it says of the server, so that nobody takes the one for the other.
//!
//! Two servers are compared in alternation, A B B A, because what else a machine does changes within seconds: a ratio is
//! formed in each round, and the report has its median and its spread ([`compare`]).
//!
//! Failure: [`BenchError`] where nothing can be measured, a server that cannot be reached among them. Everything that
//! goes wrong afterwards is a figure of the report ([`tally`]).
//!
//! Limits: TCP and UNIX sockets without TLS, which neither protocol has. A credential is compared and never kept
//! outside memory that is wiped, and never printed.

mod compare;
mod connection;
mod cpu;
pub(crate) mod keys;
mod latency;
pub(crate) mod load;
mod number;
pub(crate) mod plot;
mod reply;
pub(crate) mod report;
mod tally;
pub(crate) mod target;

use std::ops::ControlFlow;

use thiserror::Error;

use keys::Questions;
use load::{Load, LoadError, Progress, Run};
use target::Target;

/// A server that is measured.
pub(crate) struct Server {
    /// Whom to ask.
    pub target: Target,
    /// What.
    pub questions: Questions,
    /// Its processes, if they are known.
    pub pids: Vec<u32>,
}

/// What is measured, in which order.
pub(crate) struct Plan {
    /// One server, or two that are compared.
    pub servers: Vec<Server>,
    /// What each of them is put through.
    pub load: Load,
    /// On how many connections, one number after the other.
    pub connections: Vec<usize>,
    /// How often.
    pub rounds: u32,
}

/// A run, and what it was a run of.
pub(crate) struct Measured {
    /// Which server, from 0.
    pub server: usize,
    /// Which round, from 1.
    pub round: u32,
    /// How many connections.
    pub connections: usize,
    /// What came out.
    pub run: Run,
}

/// Why there is no measurement.
#[derive(Debug, Error)]
#[error("{server}: {source}")]
pub struct BenchError {
    server: String,
    source: LoadError,
}

impl BenchError {
    /// Whether the server cannot be reached.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self.source, LoadError::Connect(_) | LoadError::NotInTime(_))
    }
}

/// A step of a plan, for somebody who watches.
pub(crate) struct Step<'a> {
    /// The server.
    pub server: &'a Target,
    /// How many connections.
    pub connections: usize,
    /// Which step of how many.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl Plan {
    /// Does all of it, or until `watch` breaks: then the last run is shorter, or is left out where nothing was measured.
    pub(crate) fn carry_out(
        &self,
        watch: &mut dyn FnMut(&Step<'_>, Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Measured>, BenchError> {
        let of =
            self.servers.len() * self.connections.len() * usize::try_from(self.rounds).unwrap_or(usize::MAX);
        let mut measured = Vec::with_capacity(of);
        for &connections in &self.connections {
            for round in 1..=self.rounds {
                let mut order: Vec<_> = self.servers.iter().enumerate().collect();
                if round % 2 == 0 {
                    order.reverse();
                }
                for (number, server) in order {
                    let step = Step {
                        server: &server.target,
                        connections,
                        number: measured.len() + 1,
                        of,
                    };
                    let mut is_stopped = false;
                    let run = load::run(server, &self.load, connections, &mut |progress| {
                        let whether = watch(&step, progress);
                        is_stopped |= whether.is_break();
                        whether
                    });
                    let run = run.map_err(|source| BenchError {
                        server: server.target.to_string(),
                        source,
                    })?;
                    if !is_stopped || run.tally.requests > 0 {
                        measured.push(Measured {
                            server: number,
                            round,
                            connections,
                            run,
                        });
                    }
                    if is_stopped {
                        return Ok(measured);
                    }
                }
            }
        }
        Ok(measured)
    }
}
