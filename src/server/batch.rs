//! A batch of connections that go through their steps together: all read, then all answer, then all write.
//!
//! The nearest instruction cache then loads the code of each step once per batch; with many connections a lookup takes 5 % less
//! time (benches/runtime.md).
//!
//! A panic in a step ends [`Batch::run`]. The batch remembers where it was: the caller ends the connection that panicked and
//! calls it again, and the other connections continue with the step that is due.
//!
//! Limits: a batch has at most [`BATCH`] connections, one for each of its buffers.

use super::limits::BATCH;
use super::session::IoBuffers;

/// The connections as a batch sees them. A connection that has ended is skipped in the steps that remain.
pub(super) trait Steps {
    /// Says that a connection is ready.
    type Event;
    /// What all requests of a batch are answered from.
    type Snapshot;

    /// The first step: reads. Returns the connection's number if there is something to answer.
    fn read(&mut self, event: Self::Event, buffers: &mut IoBuffers) -> Option<usize>;

    /// Returns the active snapshot, after all connections have read.
    fn snapshot(&self) -> Self::Snapshot;

    /// The second step: answers what was read.
    fn answer(&mut self, connection: usize, buffers: &mut IoBuffers, snapshot: &Self::Snapshot);

    /// The last step: sends the replies.
    fn write(&mut self, connection: usize, buffers: &mut IoBuffers);
}

/// The connections of a batch, and the step it is at. Its memory is reused.
pub(super) struct Batch {
    phase: Phase,
    /// The connections. Each uses the buffers at its index.
    members: Vec<usize>,
    /// The index that comes next in the second or third step.
    next: usize,
    buffers: Vec<IoBuffers>,
}

/// The step that comes next.
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
            buffers: (0..BATCH).map(|_| IoBuffers::default()).collect(),
        }
    }
}

impl Batch {
    /// Processes the connections of these events, in as many batches as it takes. Continues after a panic where that step was.
    pub(super) fn run<T: Steps>(&mut self, events: &mut impl Iterator<Item = T::Event>, steps: &mut T) {
        loop {
            match self.phase {
                Phase::Read => {
                    while let Some(buffers) = self.buffers.get_mut(self.members.len())
                        && let Some(event) = events.next()
                    {
                        self.members.extend(steps.read(event, buffers));
                    }
                    if self.members.is_empty() {
                        return;
                    }
                    self.phase = Phase::Answer;
                }
                Phase::Answer => {
                    // Loaded after all have read: a client that knows of an edit when it sends a request is answered by that edit.
                    let snapshot = steps.snapshot();
                    while let Some((connection, buffers)) = self.next() {
                        steps.answer(connection, buffers, &snapshot);
                    }
                    self.next = 0;
                    self.phase = Phase::Write;
                }
                Phase::Write => {
                    while let Some((connection, buffers)) = self.next() {
                        steps.write(connection, buffers);
                    }
                    self.next = 0;
                    self.members.clear();
                    self.phase = Phase::Read;
                }
            }
        }
    }

    /// Returns the connection that comes next in this step, and its buffers.
    #[inline]
    fn next(&mut self) -> Option<(usize, &mut IoBuffers)> {
        let permit = self.next;
        let connection = *self.members.get(permit)?;
        self.next += 1;
        Some((connection, self.buffers.get_mut(permit)?))
    }

    /// Lends buffers for a connection that is in no batch. Called between batches.
    pub(super) fn buffers(&mut self) -> Option<&mut IoBuffers> {
        self.buffers.first_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::{BATCH, Batch, IoBuffers, Steps};

    /// Records which connection was in which phase, and panics at the given places.
    #[derive(Default)]
    struct Noted {
        phases: BTreeMap<usize, Vec<&'static str>>,
        panics: BTreeSet<(usize, &'static str)>,
        /// The connection that runs.
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

    impl Steps for Noted {
        type Event = usize;
        type Snapshot = ();

        fn read(&mut self, connection: usize, _: &mut IoBuffers) -> Option<usize> {
            self.note(connection, "read");
            Some(connection)
        }

        fn snapshot(&self) {}

        fn answer(&mut self, connection: usize, _: &mut IoBuffers, (): &()) {
            self.note(connection, "answer");
        }

        fn write(&mut self, connection: usize, _: &mut IoBuffers) {
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
