//! Tests [`Decision`] alone, and with simulated files in random orders of events.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Action, Cause, Decision, Outcome, Role, SourceState, Timing, Verdict};
use crate::lookup::table::spec::ValueKind;

const ROLES: [Role; 5] = [
    Role::Settings,
    Role::Table(ValueKind::NextHop),
    Role::Table(ValueKind::Login),
    Role::Secret,
    Role::Secret,
];

const TIMING: Timing = Timing {
    empty_grace: Duration::from_secs(5),
    writer_timeout: Duration::from_secs(30),
};

/// The poll interval.
const POLL: Duration = Duration::from_secs(10);

/// The content of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Text {
    /// The source is missing or has no byte.
    Empty,
    Good(u8),
    /// Valid, with a warning.
    Odd(u8),
    Bad(u8),
    /// An incomplete text.
    Torn(u8),
}

impl Text {
    fn digest(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Good(number) => 1000 + u64::from(number),
            Self::Bad(number) => 2000 + u64::from(number),
            Self::Torn(number) => 3000 + u64::from(number),
            Self::Odd(number) => 4000 + u64::from(number),
        }
    }

    fn is_valid(self) -> bool {
        matches!(self, Self::Empty | Self::Good(_) | Self::Odd(_))
    }

    fn has_finding(self) -> bool {
        !matches!(self, Self::Empty | Self::Good(_))
    }
}

/// A simulated source.
#[derive(Clone, Debug)]
struct File {
    text: Text,
    written_since: Option<Instant>,
    /// Whether it is touched continuously.
    is_busy: bool,
    is_unchanged: bool,
}

/// Simulates files, clock, log, and the reload thread around the decision.
struct World {
    now: Instant,
    files: Vec<File>,
    decision: Decision,
    /// The active texts, and whether the tables may not belong together.
    active: Vec<Text>,
    is_unpaired: bool,
    generation: usize,
    /// Whether the last evaluated sources were rejected.
    is_rejected: bool,
    /// The logged findings of the last read, and of the active texts.
    logged: HashSet<(usize, Text)>,
    logged_of_active: HashSet<(usize, Text)>,
    /// How often each wait was logged, and when it began.
    reported: HashMap<usize, usize>,
}

impl World {
    fn start(texts: Vec<Text>) -> Self {
        let findings = findings(&texts);
        let digests = texts.iter().map(|text| text.digest()).collect();
        let file = |text: &Text| File {
            text: *text,
            written_since: None,
            is_busy: false,
            is_unchanged: true,
        };
        let mut decision = Decision::new(ROLES.to_vec(), digests, HashSet::new());
        let is_new = decision.take_unlogged(lines(&findings));
        assert!(is_new.iter().all(|is_new| *is_new));
        let verdict = decision.after_evaluation(errors(&texts).len(), true, loss_changes_answers(&texts));
        assert_eq!(verdict, Verdict::Apply { is_unpaired: false });
        Self {
            now: Instant::now(),
            files: texts.iter().map(file).collect(),
            decision,
            active: texts,
            is_unpaired: false,
            generation: 1,
            is_rejected: false,
            logged: findings.iter().copied().collect(),
            logged_of_active: findings.iter().copied().collect(),
            reported: HashMap::new(),
        }
    }

    fn change(&mut self, file: usize, change: impl FnOnce(&mut File, Instant)) {
        let now = self.now;
        let file = &mut self.files[file];
        change(file, now);
        file.is_unchanged = false;
        self.read(Cause::Change);
    }

    /// Replaces a file by a complete one, by rename.
    fn save(&mut self, file: usize, text: Text) {
        self.change(file, |file, _| {
            file.text = text;
            file.written_since = None;
        });
    }

    fn seen(&self) -> Vec<SourceState> {
        let seen = |file: &File| SourceState {
            content: if file.is_busy { 9999 } else { file.text.digest() },
            is_empty: file.text == Text::Empty,
            is_unsettled: file.is_busy,
            steady: file.is_busy.then(|| file.text.digest()),
            written_since: file.written_since,
            is_unchanged: file.is_unchanged && !file.is_busy,
        };
        self.files.iter().map(seen).collect()
    }

    fn read(&mut self, cause: Cause) {
        let Outcome {
            action,
            is_held,
            awaited,
        } = self.decision.after_read(&self.seen(), cause, TIMING, self.now);
        for file in &mut self.files {
            file.is_unchanged = true;
            // As the reload thread does.
            if file
                .written_since
                .is_some_and(|since| since + TIMING.writer_timeout <= self.now)
            {
                file.written_since = None;
            }
        }
        for wait in &awaited {
            *self.reported.entry(wait.source).or_default() += usize::from(wait.is_new);
        }
        self.reported
            .retain(|file, _| awaited.iter().any(|wait| wait.source == *file));
        assert!(
            self.reported.values().all(|reports| *reports <= 1),
            "a wait is reported once"
        );
        match action {
            Action::Unchanged { is_return, .. } => {
                assert!(!is_return || self.is_rejected, "a return is logged once");
                self.is_rejected = false;
                if is_return {
                    self.logged.clone_from(&self.logged_of_active);
                }
            }
            Action::StillRejected { .. } | Action::Wait => {}
            Action::Evaluate => self.evaluate(&is_held, cause),
        }
    }

    fn evaluate(&mut self, is_held: &[bool], cause: Cause) {
        let texts: Vec<Text> = self
            .files
            .iter()
            .zip(is_held)
            .zip(&self.active)
            .map(|((file, is_held), active)| if *is_held { *active } else { file.text })
            .collect();
        for (file, is_held) in self.files.iter().zip(is_held) {
            assert!(
                *is_held || !file.is_busy && file.written_since.is_none(),
                "what is not whole is not used"
            );
        }
        let (findings, errors_now) = (findings(&texts), errors(&texts));
        let is_new = self.decision.take_unlogged(lines(&findings));
        if cause == Cause::Request {
            self.logged.clear();
        }
        for (finding, is_new) in findings.iter().zip(is_new) {
            assert_eq!(
                is_new,
                !self.logged.contains(finding),
                "each finding is logged once"
            );
        }
        self.logged = findings.iter().copied().collect();
        let verdict = self
            .decision
            .after_evaluation(errors_now.len(), true, loss_changes_answers(&texts));
        self.is_rejected = verdict == Verdict::Reject;
        match verdict {
            Verdict::Apply { is_unpaired } => {
                let was_valid = errors(&self.active).is_empty();
                assert!(
                    errors_now.is_empty() || !was_valid,
                    "no invalid file replaces a valid one"
                );
                assert!(
                    texts != self.active || self.is_unpaired && !is_unpaired,
                    "nothing is published twice"
                );
                self.active = texts;
                self.is_unpaired = is_unpaired;
                self.generation += 1;
                self.logged_of_active.clone_from(&self.logged);
            }
            Verdict::Same => assert_eq!(texts, self.active),
            Verdict::Reject => assert!(!errors_now.is_empty()),
        }
    }

    #[track_caller]
    fn has_tables(&self, map: Text, logins: Text) {
        assert_eq!((self.active[MAP], self.active[LOGINS]), (map, logins));
    }

    /// Advances the clock, and reads whenever a read is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadline = self.decision.deadline(TIMING, self.now);
            assert!(
                deadline.is_none_or(|deadline| deadline > self.now),
                "no read is due again at once"
            );
            let next = deadline.into_iter().fold(self.now + POLL, Instant::min);
            if next > end {
                break;
            }
            self.now = next;
            self.read(Cause::Poll);
        }
        self.now = end;
    }
}

fn findings(texts: &[Text]) -> Vec<(usize, Text)> {
    let all = texts.iter().copied().enumerate();
    all.filter(|(_, text)| text.has_finding()).collect()
}

fn errors(texts: &[Text]) -> Vec<(usize, Text)> {
    let all = texts.iter().copied().enumerate();
    all.filter(|(_, text)| !text.is_valid()).collect()
}

fn lines(findings: &[(usize, Text)]) -> Vec<String> {
    findings.iter().map(|finding| format!("{finding:?}")).collect()
}

fn loss_changes_answers(texts: &[Text]) -> Vec<bool> {
    texts.iter().map(|text| *text != Text::Empty).collect()
}

fn good(number: u8) -> Vec<Text> {
    vec![Text::Good(number); ROLES.len()]
}

const MAP: usize = 1;
const LOGINS: usize = 2;

#[test]
fn a_valid_file_is_applied_at_once_and_an_invalid_one_never() {
    let mut world = World::start(good(0));
    world.save(MAP, Text::Good(1));
    assert_eq!(world.active[MAP], Text::Good(1));
    world.save(MAP, Text::Bad(2));
    // Nor is a valid file beside it applied: both may belong together.
    world.save(LOGINS, Text::Good(2));
    world.has_tables(Text::Good(1), Text::Good(0));
    world.save(MAP, Text::Good(3));
    world.has_tables(Text::Good(3), Text::Good(2));
    assert_eq!(world.generation, 3);
}

#[test]
fn restoring_the_active_text_after_a_rejected_one_publishes_nothing() {
    let mut world = World::start(good(0));
    world.save(MAP, Text::Bad(1));
    let seen = {
        world.files[MAP].text = Text::Good(0);
        world.seen()
    };
    let action = world
        .decision
        .after_read(&seen, Cause::Poll, TIMING, world.now)
        .action;
    let is_return = Action::Unchanged {
        is_return: true,
        is_reload: true,
    };
    assert_eq!(action, is_return);
    assert_eq!(world.generation, 1);
}

#[test]
fn after_a_start_with_two_errors_fixing_one_takes_effect() {
    let mut texts = good(0);
    (texts[MAP], texts[LOGINS]) = (Text::Bad(1), Text::Bad(1));
    let mut world = World::start(texts);
    world.save(MAP, Text::Good(2));
    assert_eq!(world.active[MAP], Text::Good(2));
    world.save(LOGINS, Text::Good(2));
    world.save(LOGINS, Text::Bad(3));
    assert_eq!(world.active[LOGINS], Text::Good(2));
}

#[test]
fn a_missing_file_is_empty_only_after_the_grace_period_even_if_a_reload_is_requested() {
    let mut world = World::start(good(0));
    world.save(MAP, Text::Empty);
    for _ in 0..4 {
        world.pass(Duration::from_secs(1));
        world.read(Cause::Request);
        assert_eq!(world.active[MAP], Text::Good(0));
    }
    world.save(MAP, Text::Good(1));
    assert_eq!(world.active[MAP], Text::Good(1));
    world.save(MAP, Text::Empty);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.active[MAP], Text::Empty);
}

#[test]
fn the_grace_period_starts_with_the_last_change_of_the_file() {
    for file in [MAP, LOGINS] {
        let other = MAP + LOGINS - file;
        let mut world = World::start(good(0));
        world.save(file, Text::Empty);
        // First truncated, then removed.
        world.pass(Duration::from_millis(2500));
        world.save(file, Text::Empty);
        for number in 1..5 {
            world.pass(Duration::from_secs(1));
            world.save(other, Text::Good(number));
        }
        assert_eq!(
            (world.active[file], world.active[other]),
            (Text::Good(0), Text::Good(4))
        );
        world.pass(Duration::from_millis(1001));
        assert_eq!(world.active[file], Text::Empty);
    }
}

#[test]
fn a_file_that_reappears_is_applied_at_once_with_the_edit_of_the_other() {
    let mut world = World::start(good(0));
    world.save(MAP, Text::Empty);
    world.save(LOGINS, Text::Good(1));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.active, good(0));
    world.save(MAP, Text::Good(1));
    world.has_tables(Text::Good(1), Text::Good(1));
    assert_eq!(world.generation, 2);
}

#[test]
fn other_files_wait_two_seconds_for_a_writer_and_are_then_unpaired() {
    let mut world = World::start(good(0));
    world.change(MAP, |file, now| {
        file.text = Text::Torn(0);
        file.written_since = Some(now);
    });
    world.save(LOGINS, Text::Good(1));
    world.save(0, Text::Good(1));
    assert_eq!(world.generation, 1);
    world.pass(Duration::from_secs(3));
    assert_eq!(
        (world.active[0], world.active[LOGINS]),
        (Text::Good(1), Text::Good(1))
    );
    assert_eq!((world.active[MAP], world.is_unpaired), (Text::Good(0), true));
    world.save(MAP, Text::Good(1));
    assert_eq!((world.active[MAP], world.is_unpaired), (Text::Good(1), false));
    // Still unpaired if the writer leaves the file unchanged.
    world.change(MAP, |file, now| file.written_since = Some(now));
    world.save(LOGINS, Text::Good(2));
    world.pass(Duration::from_secs(3));
    assert!(world.is_unpaired);
    world.save(MAP, Text::Good(1));
    assert!(!world.is_unpaired);
}

#[test]
fn a_touched_table_stays_paired_and_an_empty_relay_map_moves_no_sender() {
    for (text, is_busy) in [(Text::Good(0), true), (Text::Empty, false)] {
        let mut world = World::start(good(0));
        world.change(MAP, |file, _| (file.text, file.is_busy) = (text, is_busy));
        world.save(LOGINS, Text::Good(1));
        world.pass(Duration::from_secs(3));
        assert_eq!((world.active[LOGINS], world.is_unpaired), (Text::Good(1), false));
    }
    // But a table that had another text meanwhile is unpaired, and so are missing credentials.
    for (file, text, is_busy) in [(MAP, Text::Good(9), true), (LOGINS, Text::Empty, false)] {
        let mut world = World::start(good(0));
        world.change(file, |file, _| (file.text, file.is_busy) = (text, is_busy));
        world.save(MAP + LOGINS - file, Text::Good(1));
        world.pass(Duration::from_secs(3));
        assert!(world.is_unpaired);
    }
}

#[test]
fn the_secrets_of_the_default_relay_are_held_together() {
    let mut world = World::start(good(0));
    world.change(4, |file, now| {
        file.text = Text::Torn(0);
        file.written_since = Some(now);
    });
    world.save(3, Text::Good(1));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.active, good(0));
    world.save(4, Text::Good(1));
    assert_eq!((world.active[3], world.active[4]), (Text::Good(1), Text::Good(1)));
}

#[test]
fn a_program_that_never_closes_a_file_is_waited_for_until_the_writer_timeout() {
    let mut world = World::start(good(0));
    world.change(MAP, |file, now| {
        file.text = Text::Good(1);
        file.written_since = Some(now);
    });
    world.pass(Duration::from_millis(29_999));
    assert_eq!(world.active[MAP], Text::Good(0));
    world.pass(Duration::from_millis(2));
    assert_eq!(world.active[MAP], Text::Good(1));
}

#[test]
fn touching_a_file_that_was_empty_already_delays_nothing() {
    let mut texts = good(0);
    texts[MAP] = Text::Empty;
    let started = World::start(texts);
    let mut emptied = World::start(good(0));
    emptied.save(MAP, Text::Empty);
    emptied.pass(Duration::from_secs(6));
    for mut world in [started, emptied] {
        world.save(MAP, Text::Empty);
        world.save(LOGINS, Text::Good(1));
        assert_eq!(world.active[LOGINS], Text::Good(1));
    }
}

#[test]
fn a_warning_of_the_active_configuration_is_not_logged_again_after_a_rejected_edit() {
    let mut world = World::start(good(0));
    world.save(MAP, Text::Odd(1));
    world.save(MAP, Text::Bad(1));
    world.save(MAP, Text::Odd(1));
    let warning = format!("{:?}", (MAP, Text::Odd(1)));
    assert_eq!(world.decision.take_unlogged(vec![warning]), [false]);
}

#[test]
fn a_file_that_is_always_changing_open_or_emptied_delays_no_other_and_is_reported_once() {
    type Act = fn(&mut World);
    // Each with the seconds after which the wait is reported.
    let ways: [(Act, u64); 3] = [
        (|world| world.change(MAP, |file, _| file.is_busy = true), 3),
        (
            |world| {
                world.change(MAP, |file, now| {
                    file.text = Text::Torn(1);
                    file.written_since.get_or_insert(now);
                });
            },
            3,
        ),
        (|world| world.save(MAP, Text::Empty), 6),
    ];
    for (disturb, reported_after) in ways {
        let mut world = World::start(good(0));
        disturb(&mut world);
        world.save(LOGINS, Text::Good(1));
        world.save(0, Text::Good(1));
        for seconds in 1..25 {
            disturb(&mut world);
            world.pass(Duration::from_secs(1));
            let others = Text::Good(u8::from(seconds >= 2));
            assert_eq!(
                world.active,
                [others, Text::Good(0), others, Text::Good(0), Text::Good(0)]
            );
            // More than one report fails the test at once.
            assert_eq!(world.reported.get(&MAP) == Some(&1), seconds >= reported_after);
        }
        world.change(MAP, |file, _| file.is_busy = false);
        world.save(MAP, Text::Good(1));
        assert_eq!(world.active[MAP], Text::Good(1));
        assert_eq!(world.reported, HashMap::new());
    }
}

#[test]
fn a_requested_reload_applies_neither_a_half_written_nor_an_unreadable_file() {
    let mut world = World::start(good(0));
    world.change(MAP, |file, now| {
        file.text = Text::Torn(1);
        file.written_since = Some(now);
    });
    world.read(Cause::Request);
    assert_eq!(world.active, good(0));
    world.save(MAP, Text::Good(1));
    assert_eq!(world.active[MAP], Text::Good(1));
    // Nor an unreadable directory, or a file in its place, however long that lasts.
    for file in [MAP, LOGINS] {
        world.save(file, Text::Bad(1));
    }
    for _ in 0..60 {
        world.pass(Duration::from_secs(60));
        world.read(Cause::Request);
        world.has_tables(Text::Good(1), Text::Good(0));
    }
}

#[test]
fn a_file_empty_for_a_moment_is_not_applied_when_evaluating_another_takes_long() {
    let mut world = World::start(good(0));
    world.files[MAP].text = Text::Empty;
    world.save(LOGINS, Text::Good(1));
    // The next read is after the grace period, and by then the file has its text again.
    world.now += Duration::from_secs(20);
    world.save(MAP, Text::Good(0));
    world.has_tables(Text::Good(0), Text::Good(1));
    assert_eq!(world.generation, 2);
}

#[test]
fn files_that_are_saved_together_are_applied_together() {
    let mut world = World::start(good(0));
    for file in [MAP, LOGINS, 3, 4] {
        world.files[file].text = Text::Good(1);
    }
    world.save(0, Text::Good(1));
    assert_eq!((world.active.clone(), world.generation), (good(1), 2));
}

#[test]
fn unchanged_sources_are_evaluated_again_only_on_request() {
    let unchanged = |is_reload| Action::Unchanged {
        is_return: false,
        is_reload,
    };
    let rejected = |is_reload| Action::StillRejected { is_reload };
    let cases = [
        (
            Text::Good(1),
            [unchanged(false), unchanged(true), Action::Evaluate],
            Verdict::Same,
        ),
        (
            Text::Bad(1),
            [rejected(false), rejected(true), Action::Evaluate],
            Verdict::Reject,
        ),
    ];
    for (text, expected, verdict) in cases {
        let mut world = World::start(good(0));
        world.save(MAP, text);
        let all_causes = [Cause::Poll, Cause::Change, Cause::Request];
        for (cause, action) in all_causes.into_iter().zip(expected) {
            let seen = world.seen();
            let outcome = world.decision.after_read(&seen, cause, TIMING, world.now);
            assert_eq!(outcome.action, action);
        }
        let errors = usize::from(!text.is_valid());
        assert_eq!(
            world
                .decision
                .after_evaluation(errors, true, vec![true; ROLES.len()]),
            verdict
        );
    }
}

/// An event that affects a file, or all files.
#[derive(Clone, Copy, Debug)]
enum Event {
    Save(usize, Text),
    /// A program opens a file and writes a part of it.
    Begin(usize, u8),
    /// It continues to write.
    Write(usize, u8),
    /// It closes the file.
    Close(usize, Text),
    Vanish(usize),
    Busy(usize, bool),
    Request,
    Pass(Duration),
    /// The clock advances without the thread: the machine was suspended.
    Jump(Duration),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let file = 0..ROLES.len();
    let text = prop_oneof![
        4 => (0_u8..4).prop_map(Text::Good),
        2 => (0_u8..2).prop_map(Text::Odd),
        2 => (0_u8..3).prop_map(Text::Bad),
        1 => Just(Text::Empty),
    ];
    let event = prop_oneof![
        4 => (file.clone(), text.clone()).prop_map(|(file, text)| Event::Save(file, text)),
        2 => (file.clone(), 0_u8..3).prop_map(|(file, part)| Event::Begin(file, part)),
        1 => (file.clone(), 0_u8..3).prop_map(|(file, part)| Event::Write(file, part)),
        2 => (file.clone(), text).prop_map(|(file, text)| Event::Close(file, text)),
        2 => file.clone().prop_map(Event::Vanish),
        1 => (file, any::<bool>()).prop_map(|(file, is_busy)| Event::Busy(file, is_busy)),
        1 => Just(Event::Request),
        4 => (1_u64..8_000).prop_map(|millis| Event::Pass(Duration::from_millis(millis))),
        1 => (1_u64..100).prop_map(|minutes| Event::Jump(Duration::from_secs(minutes * 60))),
    ];
    prop::collection::vec(event, 1..60)
}

impl World {
    fn happens(&mut self, event: Event) {
        match event {
            // A closed or replaced file is complete, and no program writes to it.
            Event::Save(file, text) | Event::Close(file, text) => self.save(file, text),
            Event::Begin(file, part) => self.change(file, |file, now| {
                file.text = Text::Torn(part);
                file.written_since.get_or_insert(now);
            }),
            Event::Write(file, part) => {
                // After the writer timeout the file is used as it is, and further writes start a new wait.
                if self.files[file].written_since.is_some() {
                    self.change(file, |file, _| file.text = Text::Torn(part));
                }
            }
            Event::Vanish(file) => self.save(file, Text::Empty),
            Event::Busy(file, is_busy) => self.change(file, |file, _| file.is_busy = is_busy),
            Event::Request => self.read(Cause::Request),
            Event::Pass(time) => self.pass(time),
            Event::Jump(time) => {
                self.now += time;
                self.read(Cause::Poll);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// In any order of edits, torn writes, losses, errors, fixes, requests and jumps of the clock: no invalid file
    /// replaces a valid one, nothing is published twice, and each finding and each wait is logged once (all asserted on
    /// the way). After the last event, the files are active if they are valid; otherwise the last valid texts are.
    #[test]
    fn in_any_order_of_events_the_last_valid_content_becomes_active(
        first in prop::collection::vec(prop_oneof![3 => Just(Text::Good(0)), 1 => Just(Text::Odd(0)), 1 => Just(Text::Bad(0)), 1 => Just(Text::Empty)], ROLES.len()),
        events in events(),
    ) {
        let mut world = World::start(first);
        for event in events {
            world.happens(event);
        }
        for file in 0..ROLES.len() {
            let File { text, written_since, is_busy, .. } = world.files[file];
            if is_busy {
                world.change(file, |file, _| file.is_busy = false);
            }
            if written_since.is_some() {
                world.save(file, text);
            }
        }
        world.pass(TIMING.empty_grace + POLL);
        let now: Vec<Text> = world.files.iter().map(|file| file.text).collect();
        if errors(&now).is_empty() {
            prop_assert_eq!(&world.active, &now);
            prop_assert!(!world.is_unpaired);
        } else if !errors(&world.active).is_empty() {
            // There was never a valid text: the newest one is active, so that each fix takes effect.
            prop_assert_eq!(&world.active, &now);
        }
        // After that, nothing changes any more.
        let generation = world.generation;
        world.pass(Duration::from_secs(120));
        prop_assert_eq!(world.generation, generation);
    }
}
