//! What the server counts, for the metrics of the admin listener.
//!
//! Each counter is an atomic, incremented without a lock, an allocation or a system call: a few instructions a lookup. Reads of
//! several counters are not atomic together; so the buckets of the histogram are read before its sum, never after.
//!
//! Labels are the variants of the types here and the names of maps, so no label can hold what a peer sent.
//!
//! Reading the clock costs more than all the rest (50 ns for two readings, of 7 µs for a whole request). So it is read only with
//! an admin listener ([`Counters::new`]), and once for all requests that are answered in one write: each counts with the time of
//! the whole batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::lookup::map::Maps;
use crate::protocol::FramingError;
use crate::protocol::answer::Answer;

/// The outcome of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A value was found.
    Found,
    /// The key has no value, for certain.
    NotFound,
    /// It is not known whether the key has a value.
    CannotTell,
    /// The peer may not query the map.
    Refused,
}

/// Why a connection or a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The map does not exist.
    NoSuchMap,
    /// The request is not a lookup.
    NotARequest,
    /// The peer's user may not query the map.
    User,
    /// The peer's address is not in an allowed network.
    Network,
    /// The peer has reached its connection limit.
    Connections,
}

/// How a peer violated the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The length of a netstring is invalid.
    Length,
    /// A netstring does not end in a comma.
    Terminator,
    /// A request is too long.
    TooLong,
    /// The peer closed the connection within a request.
    Truncated,
    /// A request did not arrive, or a reply was not read, in time.
    Timeout,
}

impl Outcome {
    /// All outcomes, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Found, Self::NotFound, Self::CannotTell, Self::Refused];

    /// Returns the label of the metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::CannotTell => "cannot_tell",
            Self::Refused => "refused",
        }
    }
}

impl Reason {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [Self; 5] = [
        Self::NoSuchMap,
        Self::NotARequest,
        Self::User,
        Self::Network,
        Self::Connections,
    ];

    /// Returns the label of the metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoSuchMap => "no_such_map",
            Self::NotARequest => "not_a_request",
            Self::User => "user",
            Self::Network => "network",
            Self::Connections => "connections",
        }
    }
}

impl ProtocolError {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Self; 5] = [
        Self::Length,
        Self::Terminator,
        Self::TooLong,
        Self::Truncated,
        Self::Timeout,
    ];

    /// Returns the label of the metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Terminator => "terminator",
            Self::TooLong => "too_long",
            Self::Truncated => "truncated",
            Self::Timeout => "timeout",
        }
    }
}

impl From<&FramingError> for ProtocolError {
    fn from(violation: &FramingError) -> Self {
        match violation {
            FramingError::Length => Self::Length,
            FramingError::Terminator => Self::Terminator,
            FramingError::TooLong => Self::TooLong,
        }
    }
}

/// A counter that only grows.
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of the latency histogram's buckets, in nanoseconds. A lookup takes 1 to 3 µs undisturbed; slower ones waited
/// for memory or a processor, or were part of a large batch.
pub const BOUNDS: [u64; 14] = [
    1_000,
    2_000,
    4_000,
    8_000,
    16_000,
    32_000,
    64_000,
    128_000,
    256_000,
    512_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// All counters of a server.
pub struct Counters {
    maps: Maps,
    /// By map number and outcome.
    lookups: Box<[[Counter; Outcome::ALL.len()]]>,
    refusals: [Counter; Reason::ALL.len()],
    protocol_errors: [Counter; ProtocolError::ALL.len()],
    connections: Counter,
    disconnections: Counter,
    is_timed: bool,
    /// By bucket; the last has no bound.
    latencies: [Counter; BOUNDS.len() + 1],
    /// The sum of all latencies, in nanoseconds.
    latency_sum: Counter,
}

/// The latency histogram.
pub struct Latencies {
    /// Lookups by bucket of [`BOUNDS`], and one bucket more without a bound.
    pub counts: [u64; BOUNDS.len() + 1],
    /// The sum of all latencies, in nanoseconds.
    pub nanoseconds: u64,
}

impl Counters {
    /// Creates the counters of a server of these maps, all zero. `is_timed` says whether latencies are measured.
    #[must_use]
    pub fn new(maps: Maps, is_timed: bool) -> Self {
        Self {
            maps,
            lookups: maps.iter().map(|_| Default::default()).collect(),
            refusals: Default::default(),
            protocol_errors: Default::default(),
            connections: Counter::default(),
            disconnections: Counter::default(),
            is_timed,
            latencies: Default::default(),
            latency_sum: Counter::default(),
        }
    }

    /// Returns the maps that are counted: those that the server has.
    #[inline]
    #[must_use]
    pub fn maps(&self) -> Maps {
        self.maps
    }

    /// Begins a batch: the requests that are answered in one write.
    #[must_use]
    #[inline]
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            counters: self,
            begun: self.is_timed.then(Instant::now),
            lookups: 0,
        }
    }

    /// Counts a refused connection, or a refused request that names no map.
    pub fn refused(&self, reason: Reason) {
        add(&self.refusals, reason as usize, 1);
    }

    /// Counts a protocol violation.
    pub fn broken(&self, error: ProtocolError) {
        add(&self.protocol_errors, error as usize, 1);
    }

    /// Counts a connection until the returned value is dropped.
    #[must_use]
    pub fn connected(self: &Arc<Self>) -> Connected {
        self.connections.add(1);
        Connected(Arc::clone(self))
    }

    /// Returns how many lookups in the map with this number had this outcome.
    #[must_use]
    pub fn lookups(&self, map: usize, outcome: Outcome) -> u64 {
        let of_map = self.lookups.get(map);
        of_map.map_or(0, |counters| get(counters, outcome as usize))
    }

    /// Returns how often something was refused for this reason.
    #[must_use]
    pub fn refusals(&self, reason: Reason) -> u64 {
        get(&self.refusals, reason as usize)
    }

    /// Returns how often the protocol was violated in this way.
    #[must_use]
    pub fn protocol_errors(&self, error: ProtocolError) -> u64 {
        get(&self.protocol_errors, error as usize)
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        // In this order the difference may be one too high for a moment, and is never negative.
        let gone = self.disconnections.get();
        self.connections.get().saturating_sub(gone)
    }

    /// Returns the latency histogram.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        Latencies {
            counts: std::array::from_fn(|bucket| get(&self.latencies, bucket)),
            nanoseconds: self.latency_sum.get(),
        }
    }

    fn took(&self, nanoseconds: u64, lookups: u64) {
        let bucket = BOUNDS.iter().position(|bound| nanoseconds <= *bound);
        self.latency_sum.add(nanoseconds.saturating_mul(lookups));
        add(&self.latencies, bucket.unwrap_or(BOUNDS.len()), lookups);
    }
}

/// The requests that are answered in one write.
pub struct Batch<'c> {
    counters: &'c Counters,
    begun: Option<Instant>,
    lookups: u64,
}

impl Batch<'_> {
    /// Returns the maps that the server has.
    #[inline]
    #[must_use]
    pub fn maps(&self) -> Maps {
        self.counters.maps
    }

    /// Counts an answer of the map with this number ([`Maps::named`]).
    #[inline]
    pub fn answered(&mut self, map: usize, answer: &Answer<'_>) {
        self.lookups += 1;
        self.count(
            map,
            match answer {
                Answer::Found(_) => Outcome::Found,
                Answer::NotFound => Outcome::NotFound,
                Answer::CannotTell(_) => Outcome::CannotTell,
            },
        );
    }

    /// Counts a refused lookup.
    pub fn refused(&mut self, map: usize, reason: Reason) {
        self.lookups += 1;
        self.count(map, Outcome::Refused);
        self.counters.refused(reason);
    }

    /// Counts a refused request that names no map.
    pub fn refused_request(&mut self, reason: Reason) {
        self.counters.refused(reason);
    }

    /// Counts a violation that ends the connection, before the peer learns of it.
    pub fn broken(&self, error: ProtocolError) {
        self.counters.broken(error);
    }

    /// Ends the batch: its replies are ready to be written.
    #[inline]
    pub fn end(self) {
        if let Some(begun) = self.begun
            && self.lookups > 0
        {
            let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.counters.took(nanoseconds, self.lookups);
        }
    }

    #[inline]
    fn count(&self, map: usize, outcome: Outcome) {
        if let Some(of_map) = self.counters.lookups.get(map) {
            add(of_map, outcome as usize, 1);
        }
    }
}

/// Counts an open connection until it is dropped.
pub struct Connected(Arc<Counters>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.disconnections.add(1);
    }
}

#[inline]
fn add(counters: &[Counter], number: usize, more: u64) {
    if let Some(counter) = counters.get(number) {
        counter.add(more);
    }
}

fn get(counters: &[Counter], number: usize) -> u64 {
    counters.get(number).map_or(0, Counter::get)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{BOUNDS, Counters, Outcome, ProtocolError, Reason};
    use crate::lookup::map::Maps;
    use crate::protocol::answer::{Answer, Value};

    const RELAYHOST: usize = 0;
    const SASL: usize = 1;

    #[test]
    fn every_label_has_a_number_of_its_own() {
        let counters = Counters::new(Maps::SERVED, false);
        let mut batch = counters.batch();
        batch.answered(RELAYHOST, &Answer::Found(Value::new(b"v")));
        for _ in 0..2 {
            batch.answered(SASL, &Answer::NotFound);
        }
        batch.refused(SASL, Reason::User);
        batch.end();
        let lookups = |map| Outcome::ALL.map(|outcome| counters.lookups(map, outcome));
        assert_eq!(lookups(RELAYHOST), [1, 0, 0, 0]);
        assert_eq!(lookups(SASL), [0, 2, 0, 1]);
        for (times, reason) in Reason::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.refused(reason));
        }
        assert_eq!(
            Reason::ALL.map(|reason| counters.refusals(reason)),
            [0, 1, 3, 3, 4]
        );
        for (times, error) in ProtocolError::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.broken(error));
        }
        let errors = ProtocolError::ALL.map(|error| counters.protocol_errors(error));
        assert_eq!(errors, [0, 1, 2, 3, 4]);
        assert_eq!(counters.latencies().counts.iter().sum::<u64>(), 0, "not timed");
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_is_not_too_small() {
        let counters = Counters::new(Maps::SERVED, true);
        for (nanoseconds, lookups) in [(0, 1), (1_000, 1), (1_001, 1), (2_000_000_000, 3)] {
            counters.took(nanoseconds, lookups);
        }
        let latencies = counters.latencies();
        assert_eq!(latencies.counts[..3], [2, 1, 0]);
        assert_eq!(latencies.counts[BOUNDS.len()], 3);
        assert_eq!(latencies.nanoseconds, 6_000_002_001);
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn each_lookup_of_a_batch_counts_with_the_time_of_all() {
        let counters = Counters::new(Maps::SERVED, true);
        let mut batch = counters.batch();
        (0..5).for_each(|_| batch.answered(RELAYHOST, &Answer::NotFound));
        batch.end();
        counters.batch().end();
        let latencies = counters.latencies();
        let filled: Vec<u64> = latencies.counts.into_iter().filter(|count| *count > 0).collect();
        assert_eq!(filled, [5]);
        assert_eq!(latencies.nanoseconds % 5, 0);
    }

    #[test]
    fn a_connection_counts_while_it_lives() {
        let counters = Arc::new(Counters::new(Maps::SERVED, false));
        let one = counters.connected();
        let two = counters.connected();
        assert_eq!(counters.connections(), 2);
        drop(one);
        assert_eq!(counters.connections(), 1);
        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _connected = two;
            panic!("as a session may");
        }));
        assert!(gone.is_err());
        assert_eq!(counters.connections(), 0);
    }
}
