//! A batch of turns that go through their phases together: all read, then all answer, then all write.
//!
//! So the processor's nearest cache has to take in the code of each phase once for all of them, and with many connections
//! a lookup takes a twentieth less (benches/runtime.md).
//!
//! A panic in a turn ends [`Batch::run`]. The batch knows which turn comes next in which phase, so that the caller, who
//! ends the connection that panicked, runs it again, and all others go on as if nothing had been.
//!
//! Limits: a batch holds no more turns than there are desks, [`BATCH`].

use super::limits::BATCH;
use super::session::Desk;

/// The connections, as a batch sees them. One that has ended since its first phase has nothing to do in the others.
pub(super) trait Turns {
    /// What says that a connection has something to do.
    type Event;
    /// What all of a batch are answered from.
    type Snapshot;

    /// The first phase: reads. Returns the number of the connection if there is something to answer.
    fn read(&mut self, event: Self::Event, desk: &mut Desk) -> Option<usize>;

    /// Returns what is current now, after all have read.
    fn snapshot(&self) -> Self::Snapshot;

    /// The second phase: answers what was read.
    fn answer(&mut self, connection: usize, desk: &mut Desk, snapshot: &Self::Snapshot);

    /// The last phase: sends the replies.
    fn write(&mut self, connection: usize, desk: &mut Desk);
}

/// The turns of a batch, and how far they are. Its memory stays for the next batch.
pub(super) struct Batch {
    phase: Phase,
    /// The connections whose turns they are. Each has the desk of its place.
    members: Vec<usize>,
    /// The place that comes next in this phase, of the second and the third.
    next: usize,
    desks: Vec<Desk>,
}

/// What the turns of a batch do next.
#[derive(Clone, Copy)]
enum Phase {
    Read,
    Answer,
    Write,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            phase: Phase::Read,
            members: Vec::with_capacity(BATCH),
            next: 0,
            desks: (0..BATCH).map(|_| Desk::default()).collect(),
        }
    }
}

impl Batch {
    /// Gives every connection of these events its turn, in as many batches as it takes. Continues where a panic has ended
    /// it, if one has.
    pub(super) fn run<T: Turns>(&mut self, events: &mut impl Iterator<Item = T::Event>, turns: &mut T) {
        loop {
            match self.phase {
                Phase::Read => {
                    while let Some(desk) = self.desks.get_mut(self.members.len())
                        && let Some(event) = events.next()
                    {
                        self.members.extend(turns.read(event, desk));
                    }
                    if self.members.is_empty() {
                        return;
                    }
                    self.phase = Phase::Answer;
                }
                Phase::Answer => {
                    // From after all have read: a client that knows of an edit when it asks is answered by it.
                    let snapshot = turns.snapshot();
                    while let Some((connection, desk)) = self.next() {
                        turns.answer(connection, desk, &snapshot);
                    }
                    self.next = 0;
                    self.phase = Phase::Write;
                }
                Phase::Write => {
                    while let Some((connection, desk)) = self.next() {
                        turns.write(connection, desk);
                    }
                    self.next = 0;
                    self.members.clear();
                    self.phase = Phase::Read;
                }
            }
        }
    }

    /// Returns the connection that comes next in this phase, and its desk.
    #[inline]
    fn next(&mut self) -> Option<(usize, &mut Desk)> {
        let place = self.next;
        let connection = *self.members.get(place)?;
        self.next += 1;
        Some((connection, self.desks.get_mut(place)?))
    }

    /// Lends a desk for a turn that is in no batch. None is under way.
    pub(super) fn desk(&mut self) -> Option<&mut Desk> {
        self.desks.first_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::{BATCH, Batch, Desk, Turns};

    /// Notes which connection was in which phase, and panics where it is told to.
    #[derive(Default)]
    struct Noted {
        phases: BTreeMap<usize, Vec<&'static str>>,
        panics: BTreeSet<(usize, &'static str)>,
        /// Whose turn it is.
        current: usize,
        ended: BTreeSet<usize>,
    }

    impl Noted {
        fn note(&mut self, connection: usize, phase: &'static str) {
            if self.ended.contains(&connection) {
                return;
            }
            self.current = connection;
            self.phases.entry(connection).or_default().push(phase);
            assert!(!self.panics.contains(&(connection, phase)), "as a defect might");
        }
    }

    impl Turns for Noted {
        type Event = usize;
        type Snapshot = ();

        fn read(&mut self, connection: usize, _: &mut Desk) -> Option<usize> {
            self.note(connection, "read");
            Some(connection)
        }

        fn snapshot(&self) {}

        fn answer(&mut self, connection: usize, _: &mut Desk, (): &()) {
            self.note(connection, "answer");
        }

        fn write(&mut self, connection: usize, _: &mut Desk) {
            self.note(connection, "write");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever panics in whatever phase, each other connection has each phase once, in order, and each that panics
        /// has none after it.
        #[test]
        fn a_panic_in_any_phase_takes_no_phase_from_another(
            connections in 0..3 * BATCH,
            panics in prop::collection::btree_set((0..3 * BATCH, prop::sample::select(vec!["read", "answer", "write"])), 0..8),
        ) {
            let mut noted = Noted { panics: panics.clone(), ..Noted::default() };
            let mut batch = Batch::default();
            let mut events = 0..connections;
            while catch_unwind(AssertUnwindSafe(|| batch.run(&mut events, &mut noted))).is_err() {
                noted.ended.insert(noted.current);
            }
            for connection in 0..connections {
                let mut expected = Vec::new();
                for phase in ["read", "answer", "write"] {
                    expected.push(phase);
                    if panics.contains(&(connection, phase)) {
                        break;
                    }
                }
                prop_assert_eq!(&noted.phases[&connection], &expected);
            }
            prop_assert!(batch.members.is_empty());
        }
    }
}
