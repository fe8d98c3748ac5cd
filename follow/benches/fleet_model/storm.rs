//! The return of a database: all followers connect again. Steps of 50 ms, in which the work in progress shares the
//! processors and the network equally.

use super::{Machine, points};

/// In seconds.
const STEP: f64 = 0.05;
const HOUR: f64 = 3600.0;

/// The setting `hang`.
const HANG: f64 = 2.0;

/// The longest deadline of a connection and of the first row, if deadlines grow.
const LONGEST_CONNECT: f64 = 10.0;
const LONGEST_READ: f64 = 60.0;

/// The longest pause before the next attempt.
const LONGEST_PAUSE: f64 = 1.0;

/// What a follower does once it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// It reads everything, and the database sorts the rows. A connection and the first row must come within `hang`.
    Sorted,
    /// It reads everything in the order of the index, with the same deadlines.
    Everything,
    /// The same with deadlines that double after each failure.
    Growing,
    /// It compares the version, which has not changed.
    Compare,
    /// The same with deadlines that double after each failure.
    ComparePatiently,
    /// It compares the version, which has changed, and reads the change log, with deadlines that double.
    Changes,
}

impl Policy {
    pub(crate) const ALL: [Self; 6] = [
        Self::Sorted,
        Self::Everything,
        Self::Growing,
        Self::Compare,
        Self::ComparePatiently,
        Self::Changes,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sorted => "read everything, sorted",
            Self::Everything => "read everything",
            Self::Growing => "read everything, with deadlines that grow",
            Self::Compare => "compare the version: equal",
            Self::ComparePatiently => "the same, with deadlines that grow",
            Self::Changes => "compare the version, read the change log, with deadlines that grow",
        }
    }

    /// After this many failures, in seconds.
    fn deadline(self, failures: u32, longest: f64) -> f64 {
        match self {
            Self::Sorted | Self::Everything | Self::Compare => HANG,
            Self::Growing | Self::ComparePatiently | Self::Changes => {
                (HANG * 2_f64.powi(failures.min(20).cast_signed())).min(longest)
            }
        }
    }
}

pub(crate) struct Outcome {
    /// In seconds, if that is within an hour.
    pub(crate) all_back: Option<f64>,
    pub(crate) back: u32,
    pub(crate) failures: u64,
    pub(crate) most_connections: u32,
}

/// What the database still has to do for a connection, in seconds of a processor and in bytes.
#[derive(Clone, Copy)]
struct Work {
    /// Before the first reply.
    first: f64,
    /// Afterwards.
    stream: f64,
    bytes: f64,
    /// When it was asked for.
    begun: f64,
}

#[derive(Clone, Copy)]
enum Follower {
    Pausing { until: f64 },
    Connecting(Work),
    Reading(Work),
    Back,
}

pub(crate) struct Storm {
    machine: Machine,
    senders: f64,
    policy: Policy,
    followers: Vec<Follower>,
    failures_of: Vec<u32>,
    /// What the database does for connections that have ended: it notices that when it sends the first row.
    abandoned: Vec<f64>,
    random: u64,
    failures: u64,
}

impl Storm {
    pub(crate) fn new(machine: Machine, servers: u32, senders: u32, policy: Policy) -> Self {
        let mut storm = Self {
            machine,
            senders: f64::from(senders),
            policy,
            followers: Vec::new(),
            failures_of: vec![0; servers as usize],
            abandoned: Vec::new(),
            random: 18,
            failures: 0,
        };
        // Each is somewhere in the longest pause between two attempts.
        storm.followers = (0..servers)
            .map(|_| Follower::Pausing {
                until: storm.uniform(),
            })
            .collect();
        storm
    }

    /// A number from 0 to 1 (SplitMix64).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn run(mut self) -> Outcome {
        let (mut now, mut most) = (0.0, 0);
        loop {
            most = most.max(self.connections());
            let back = self
                .followers
                .iter()
                .filter(|follower| matches!(follower, Follower::Back))
                .count();
            let is_over = back == self.followers.len();
            if is_over || now >= HOUR {
                return Outcome {
                    all_back: is_over.then_some(now),
                    back: u32::try_from(back).unwrap_or(u32::MAX),
                    failures: self.failures,
                    most_connections: most,
                };
            }
            self.begin(now);
            self.work(now);
            now += STEP;
        }
    }

    fn connections(&self) -> u32 {
        let pausing = self
            .followers
            .iter()
            .filter(|follower| matches!(follower, Follower::Pausing { .. }));
        u32::try_from(self.followers.len() - pausing.count() + self.abandoned.len()).unwrap_or(u32::MAX)
    }

    /// Begins what is due. A connection above max_connections fails at once.
    fn begin(&mut self, now: f64) {
        let mut connections = self.connections();
        for number in 0..self.followers.len() {
            let next = match self.followers.get(number) {
                Some(Follower::Pausing { until }) if *until <= now => {
                    connections += 1;
                    if connections > self.machine.connections {
                        connections -= 1;
                        self.pause(number, now)
                    } else {
                        Follower::Connecting(Work {
                            first: points::CONNECT,
                            stream: 0.0,
                            bytes: points::POLL_BYTES,
                            begun: now,
                        })
                    }
                }
                _ => continue,
            };
            if let Some(follower) = self.followers.get_mut(number) {
                *follower = next;
            }
        }
    }

    fn read(&self, now: f64) -> Work {
        let (first, stream, bytes) = match self.policy {
            Policy::Sorted => (
                points::FIRST + self.senders * points::SORT,
                self.senders * points::STREAM,
                self.senders * points::BYTES,
            ),
            Policy::Everything | Policy::Growing => (
                points::FIRST,
                self.senders * points::STREAM,
                self.senders * points::BYTES,
            ),
            Policy::Compare | Policy::ComparePatiently => (points::POLL, 0.0, points::POLL_BYTES),
            Policy::Changes => (points::POLL + points::CHANGE, 0.0, points::CHANGE_BYTES),
        };
        Work {
            first,
            stream,
            bytes,
            begun: now,
        }
    }

    /// The pause after a failure: it doubles, and its second half is random.
    fn pause(&mut self, number: usize, now: f64) -> Follower {
        self.failures += 1;
        let failures = self.failures_of.get_mut(number).map_or(1, |failures| {
            *failures += 1;
            *failures
        });
        let longest = (0.1 * 2_f64.powi(failures.min(20).cast_signed())).min(LONGEST_PAUSE);
        Follower::Pausing {
            until: now + longest * (0.5 + self.uniform() / 2.0),
        }
    }

    /// Divides the processors and the network of a step.
    fn work(&mut self, now: f64) {
        let (mut computing, mut sending) = (self.abandoned.len(), 0_usize);
        for follower in &self.followers {
            if let Follower::Connecting(work) | Follower::Reading(work) = follower {
                computing += usize::from(work.first > 0.0 || work.stream > 0.0);
                sending += usize::from(work.first <= 0.0 && work.bytes > 0.0);
            }
        }
        let mut processor = (self.machine.cores * STEP / computing.max(1) as f64).min(STEP);
        // Small work leaves the rest of its share to the others within the step.
        let mut budget = self.machine.cores * STEP;
        let network = self.machine.network * STEP / sending.max(1) as f64;
        for remaining in &mut self.abandoned {
            *remaining -= processor;
            budget -= processor;
        }
        self.abandoned.retain(|remaining| *remaining > 0.0);
        let mut left = computing.saturating_sub(self.abandoned.len());
        for number in 0..self.followers.len() {
            let Some(follower) = self.followers.get(number).copied() else {
                continue;
            };
            let (Follower::Connecting(mut work) | Follower::Reading(mut work)) = follower else {
                continue;
            };
            let is_computing = work.first > 0.0 || work.stream > 0.0;
            if is_computing {
                processor = (budget / left.max(1) as f64).clamp(0.0, STEP);
                left = left.saturating_sub(1);
            }
            budget -= advance(&mut work, processor, network);
            let next = self.after(number, follower, work, now + STEP);
            if let Some(follower) = self.followers.get_mut(number) {
                *follower = next;
            }
        }
    }

    fn after(&mut self, number: usize, follower: Follower, work: Work, now: f64) -> Follower {
        let is_done = work.first <= 0.0 && work.stream <= 0.0 && work.bytes <= 0.0;
        let is_connecting = matches!(follower, Follower::Connecting(_));
        let failures = self.failures_of.get(number).copied().unwrap_or_default();
        let longest = if is_connecting {
            LONGEST_CONNECT
        } else {
            LONGEST_READ
        };
        let deadline = self.policy.deadline(failures, longest);
        if is_done && is_connecting {
            Follower::Reading(self.read(now))
        } else if is_done {
            if let Some(failures) = self.failures_of.get_mut(number) {
                *failures = 0;
            }
            Follower::Back
        } else if work.first > 0.0 && now - work.begun > deadline {
            self.abandoned.push(work.first);
            self.pause(number, now)
        } else if is_connecting {
            Follower::Connecting(work)
        } else {
            Follower::Reading(work)
        }
    }
}

/// Does what a share of a step allows, and returns the processor time that it took.
fn advance(work: &mut Work, processor: f64, network: f64) -> f64 {
    let first = work.first.min(processor);
    work.first -= first;
    if work.first > 0.0 {
        return first;
    }
    let stream = work.stream.min(processor - first);
    work.stream -= stream;
    work.bytes -= network;
    first + stream
}
