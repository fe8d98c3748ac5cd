//! Puts load on a server and measures its replies: the lookups of many Postfix processes at once.
//!
//! ```text
//! keys ─► requests with expected replies ─► load ─► a run: counts, latencies, CPU time ─► report, plot
//! ```
//!
//! Any server of either protocol can be measured: nothing here knows more about it than Postfix does. One thread drives
//! all connections ([`load`]), and encodes, allocates and prints nothing between a reply and the next request. The
//! report shows the generator's own limits beside the server's figures, so that the two are not confused.
//!
//! Two servers are compared in alternation, A B B A, because other work of the machine changes within seconds. Each
//! round gives a ratio; the report has the median and the spread of the ratios ([`compare`]).
//!
//! Failure: [`BenchError`] if nothing can be measured, for example because a server cannot be reached. Later errors are
//! figures of the report ([`tally`]).
//!
//! Limits: TCP and UNIX sockets without TLS, which neither protocol has. A credential is compared, never printed, and
//! only kept in memory that is wiped.

mod compare;
mod connection;
mod cpu;
pub(crate) mod keys;
mod latency;
pub(crate) mod load;
pub(crate) mod machine;
mod number;
pub(crate) mod plot;
mod reply;
pub(crate) mod report;
mod tally;
pub(crate) mod target;

use std::sync::atomic::AtomicBool;

use thiserror::Error;

use keys::RequestSet;
use load::{Load, LoadError, Progress, Run};
use target::Target;

/// A server to measure.
pub(crate) struct Server {
    /// Its endpoint and map.
    pub target: Target,
    /// The requests to send.
    pub requests: RequestSet,
    /// Its processes, for their CPU time. Empty if they are unknown.
    pub pids: Vec<u32>,
}

/// What to measure, in which order.
pub(crate) struct Plan {
    /// One server, or two to compare.
    pub servers: Vec<Server>,
    /// The load on each server.
    pub load: Load,
    /// The numbers of connections to measure, in order.
    pub connections: Vec<usize>,
    /// How often to measure each server with each number of connections.
    pub rounds: u32,
}

/// A run, with its server, round and number of connections.
pub(crate) struct Measurement {
    /// The index of the server in [`Plan::servers`].
    pub server: usize,
    /// The round, from 1.
    pub round: u32,
    /// The number of connections.
    pub connections: usize,
    /// The result.
    pub run: Run,
}

/// Why nothing can be measured.
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
        matches!(self.source, LoadError::Connect(_) | LoadError::ConnectTimeout(_))
    }
}

/// The run of a plan that is in progress, for display.
pub(crate) struct Step<'a> {
    /// The server.
    pub server: &'a Target,
    /// The number of connections.
    pub connections: usize,
    /// The number of the run, from 1.
    pub number: usize,
    /// The number of runs of the plan.
    pub total: usize,
}

impl Plan {
    /// Returns the number of runs.
    pub(crate) fn runs(&self) -> usize {
        let rounds = usize::try_from(self.rounds).unwrap_or(usize::MAX);
        (self.servers.len() * self.connections.len()).saturating_mul(rounds)
    }

    /// Measures everything, or until `interrupted` is set. Then the last run is shorter, or left out if it measured no requests.
    pub(crate) fn run(
        &self,
        interrupted: &AtomicBool,
        show: &mut dyn FnMut(&Step<'_>, Progress),
    ) -> Result<Vec<Measurement>, BenchError> {
        let mut measured = Vec::new();
        for &connections in &self.connections {
            for round in 1..=self.rounds {
                let mut order: Vec<_> = self.servers.iter().enumerate().collect();
                if round % 2 == 0 {
                    order.reverse();
                }
                for (index, server) in order {
                    let step = Step {
                        server: &server.target,
                        connections,
                        number: measured.len() + 1,
                        total: self.runs(),
                    };
                    let run = load::run(server, &self.load, connections, interrupted, &mut |progress| {
                        show(&step, progress);
                    });
                    let run = run.map_err(|source| BenchError {
                        server: server.target.to_string(),
                        source,
                    })?;
                    let Some(run) = run else {
                        return Ok(measured);
                    };
                    let is_complete = run.is_complete;
                    measured.push(Measurement {
                        server: index,
                        round,
                        connections,
                        run,
                    });
                    if !is_complete {
                        return Ok(measured);
                    }
                }
            }
        }
        Ok(measured)
    }
}
