//! The decision on its own, and together with files that exist in this test alone, in random orders of what can happen
//! to them.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Decision, Next, Outcome, Role, Seen, Timing, Trigger, Verdict};
use crate::lookup::table::spec::ValueKind;

const ROLES: [Role; 5] = [
    Role::Settings,
    Role::Table(ValueKind::NextHop),
    Role::Table(ValueKind::Login),
    Role::Secret,
    Role::Secret,
];

const TIMING: Timing = Timing {
    grace: Duration::from_secs(5),
    patience: Duration::from_secs(30),
};

/// How often the sources are looked at though nothing is heard.
const POLL: Duration = Duration::from_secs(10);

/// What a source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Text {
    /// The source is missing, or has not one byte.
    Empty,
    Good(u8),
    /// It can be used, with a warning.
    Odd(u8),
    Bad(u8),
    /// A part of something.
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

/// A source, and what was done to it.
#[derive(Clone, Debug)]
struct File {
    text: Text,
    written_since: Option<Instant>,
    /// Whether it is touched all the time.
    is_busy: bool,
    is_untouched: bool,
}

/// Files, a clock and a log, and what the thread does around the decision, as plainly as possible.
struct World {
    now: Instant,
    files: Vec<File>,
    decision: Decision,
    /// What is active, and whether the tables in it belong together.
    active: Vec<Text>,
    is_unpaired: bool,
    generation: usize,
    /// Whether what was judged last was rejected.
    is_rejected: bool,
    /// What the log has of the findings of what was read last, and of what is active.
    logged: HashSet<(usize, Text)>,
    logged_of_active: HashSet<(usize, Text)>,
    /// How often the log was told of each wait, and since when it lasts.
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
            is_untouched: true,
        };
        let mut decision = Decision::new(ROLES.to_vec(), digests, HashSet::new());
        let is_news = decision.take_news(lines(&findings));
        assert!(is_news.iter().all(|is_news| *is_news));
        let verdict = decision.judged(errors(&texts).len(), matters(&texts));
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
        file.is_untouched = false;
        self.read(Trigger::Change);
    }

    /// Puts a whole file in place, by rename.
    fn save(&mut self, file: usize, text: Text) {
        self.change(file, |file, _| {
            file.text = text;
            file.written_since = None;
        });
    }

    fn seen(&self) -> Vec<Seen> {
        let seen = |file: &File| Seen {
            content: if file.is_busy { 9999 } else { file.text.digest() },
            is_empty: file.text == Text::Empty,
            is_unsettled: file.is_busy,
            steady: file.is_busy.then(|| file.text.digest()),
            written_since: file.written_since,
            is_untouched: file.is_untouched && !file.is_busy,
        };
        self.files.iter().map(seen).collect()
    }

    fn read(&mut self, trigger: Trigger) {
        let Outcome {
            next,
            is_held,
            awaited,
        } = self.decision.read(&self.seen(), trigger, TIMING, self.now);
        for file in &mut self.files {
            file.is_untouched = true;
            // As the thread does, which forgets such writers.
            if file
                .written_since
                .is_some_and(|since| since + TIMING.patience <= self.now)
            {
                file.written_since = None;
            }
        }
        for wait in &awaited {
            *self.reported.entry(wait.source).or_default() += usize::from(wait.is_news);
        }
        self.reported
            .retain(|file, _| awaited.iter().any(|wait| wait.source == *file));
        assert!(
            self.reported.values().all(|reports| *reports <= 1),
            "a wait is reported once"
        );
        match next {
            Next::Unchanged { is_return, .. } => {
                assert!(!is_return || self.is_rejected, "a return is said once");
                self.is_rejected = false;
                if is_return {
                    self.logged.clone_from(&self.logged_of_active);
                }
            }
            Next::StillRejected { .. } | Next::Wait => {}
            Next::Judge => self.judge(&is_held, trigger),
        }
    }

    fn judge(&mut self, is_held: &[bool], trigger: Trigger) {
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
        let is_news = self.decision.take_news(lines(&findings));
        if trigger == Trigger::Request {
            self.logged.clear();
        }
        for (finding, is_news) in findings.iter().zip(is_news) {
            assert_eq!(
                is_news,
                !self.logged.contains(finding),
                "each finding is logged once"
            );
        }
        self.logged = findings.iter().copied().collect();
        let verdict = self.decision.judged(errors_now.len(), matters(&texts));
        self.is_rejected = verdict == Verdict::Reject;
        match verdict {
            Verdict::Apply { is_unpaired } => {
                let was_valid = errors(&self.active).is_empty();
                assert!(
                    errors_now.is_empty() || !was_valid,
                    "a bad file replaces no good one"
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

    /// Lets the time pass, with a reading whenever one is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadline = self.decision.deadline(TIMING, self.now);
            assert!(
                deadline.is_none_or(|deadline| deadline > self.now),
                "no reading is due again at once"
            );
            let next = deadline.into_iter().fold(self.now + POLL, Instant::min);
            if next > end {
                break;
            }
            self.now = next;
            self.read(Trigger::Poll);
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

fn matters(texts: &[Text]) -> Vec<bool> {
    texts.iter().map(|text| *text != Text::Empty).collect()
}

fn good(number: u8) -> Vec<Text> {
    vec![Text::Good(number); ROLES.len()]
}

const MAP: usize = 1;
const LOGINS: usize = 2;

#[test]
fn a_good_file_is_applied_at_once_and_a_bad_one_never() {
    let mut world = World::start(good(0));
    world.save(MAP, Text::Good(1));
    assert_eq!(world.active[MAP], Text::Good(1));
    world.save(MAP, Text::Bad(2));
    // Nor does a good one beside it: both may belong together.
    world.save(LOGINS, Text::Good(2));
    world.has_tables(Text::Good(1), Text::Good(0));
    world.save(MAP, Text::Good(3));
    world.has_tables(Text::Good(3), Text::Good(2));
    assert_eq!(world.generation, 3);
}

#[test]
fn the_text_before_a_rejected_one_is_a_return_and_publishes_nothing() {
    let mut world = World::start(good(0));
    world.save(MAP, Text::Bad(1));
    let seen = {
        world.files[MAP].text = Text::Good(0);
        world.seen()
    };
    let next = world.decision.read(&seen, Trigger::Poll, TIMING, world.now).next;
    let is_return = Next::Unchanged {
        is_return: true,
        is_reload: true,
    };
    assert_eq!(next, is_return);
    assert_eq!(world.generation, 1);
}

#[test]
fn at_a_start_with_two_errors_fixing_one_of_them_has_its_effect() {
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
fn a_file_that_vanishes_is_empty_after_the_grace_whatever_is_requested_and_one_that_returns_never_was() {
    let mut world = World::start(good(0));
    world.save(MAP, Text::Empty);
    for _ in 0..4 {
        world.pass(Duration::from_secs(1));
        world.read(Trigger::Request);
        assert_eq!(world.active[MAP], Text::Good(0));
    }
    world.save(MAP, Text::Good(1));
    assert_eq!(world.active[MAP], Text::Good(1));
    world.save(MAP, Text::Empty);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.active[MAP], Text::Empty);
}

#[test]
fn the_grace_begins_with_the_last_change_of_the_file_itself() {
    for file in [MAP, LOGINS] {
        let other = MAP + LOGINS - file;
        let mut world = World::start(good(0));
        world.save(file, Text::Empty);
        // It is cut first, and then removed.
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
fn a_file_that_returns_is_applied_at_once_with_the_edit_of_the_other() {
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
fn others_wait_two_seconds_for_a_file_that_is_written_and_are_then_no_pair_with_it() {
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
    // Nor is it a pair where the file turns out to be as it was.
    world.change(MAP, |file, now| file.written_since = Some(now));
    world.save(LOGINS, Text::Good(2));
    world.pass(Duration::from_secs(3));
    assert!(world.is_unpaired);
    world.save(MAP, Text::Good(1));
    assert!(!world.is_unpaired);
}

#[test]
fn a_table_that_is_only_touched_stays_a_pair_with_the_other_and_an_empty_relay_map_moves_nobody() {
    for (text, is_busy) in [(Text::Good(0), true), (Text::Empty, false)] {
        let mut world = World::start(good(0));
        world.change(MAP, |file, _| (file.text, file.is_busy) = (text, is_busy));
        world.save(LOGINS, Text::Good(1));
        world.pass(Duration::from_secs(3));
        assert_eq!((world.active[LOGINS], world.is_unpaired), (Text::Good(1), false));
    }
    // But one that had another text meanwhile is no pair with it, nor are credentials that are gone.
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
fn a_program_that_never_closes_a_file_is_not_waited_for_longer_than_the_patience() {
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
fn a_file_that_was_empty_already_holds_up_nothing_when_it_is_touched() {
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
    assert_eq!(world.decision.take_news(vec![warning]), [false]);
}

#[test]
fn a_file_that_is_always_changing_held_open_or_emptied_again_and_again_holds_up_no_other_and_is_reported_once()
 {
    type Act = fn(&mut World);
    // Each with the seconds after which it is reported.
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
fn a_request_reads_no_half_of_a_file_and_believes_in_no_error() {
    let mut world = World::start(good(0));
    world.change(MAP, |file, now| {
        file.text = Text::Torn(1);
        file.written_since = Some(now);
    });
    world.read(Trigger::Request);
    assert_eq!(world.active, good(0));
    world.save(MAP, Text::Good(1));
    assert_eq!(world.active[MAP], Text::Good(1));
    // Neither does a directory that cannot be read, or a file in its place, however long it lasts.
    for file in [MAP, LOGINS] {
        world.save(file, Text::Bad(1));
    }
    for _ in 0..60 {
        world.pass(Duration::from_secs(60));
        world.read(Trigger::Request);
        world.has_tables(Text::Good(1), Text::Good(0));
    }
}

#[test]
fn a_file_that_was_empty_for_a_moment_is_not_believed_because_judging_another_took_long() {
    let mut world = World::start(good(0));
    world.files[MAP].text = Text::Empty;
    world.save(LOGINS, Text::Good(1));
    // The next reading comes after the grace, and by then the file is as it was.
    world.now += Duration::from_secs(20);
    world.save(MAP, Text::Good(0));
    world.has_tables(Text::Good(0), Text::Good(1));
    assert_eq!(world.generation, 2);
}

#[test]
fn what_is_saved_together_is_one_version() {
    let mut world = World::start(good(0));
    for file in [MAP, LOGINS, 3, 4] {
        world.files[file].text = Text::Good(1);
    }
    world.save(0, Text::Good(1));
    assert_eq!((world.active.clone(), world.generation), (good(1), 2));
}

#[test]
fn what_was_read_before_is_judged_again_on_request_alone() {
    let unchanged = |is_reload| Next::Unchanged {
        is_return: false,
        is_reload,
    };
    let rejected = |is_reload| Next::StillRejected { is_reload };
    let cases = [
        (
            Text::Good(1),
            [unchanged(false), unchanged(true), Next::Judge],
            Verdict::Same,
        ),
        (
            Text::Bad(1),
            [rejected(false), rejected(true), Next::Judge],
            Verdict::Reject,
        ),
    ];
    for (text, expected, verdict) in cases {
        let mut world = World::start(good(0));
        world.save(MAP, text);
        let triggers = [Trigger::Poll, Trigger::Change, Trigger::Request];
        for (trigger, next) in triggers.into_iter().zip(expected) {
            let seen = world.seen();
            let outcome = world.decision.read(&seen, trigger, TIMING, world.now);
            assert_eq!(outcome.next, next);
        }
        let errors = usize::from(!text.is_valid());
        assert_eq!(world.decision.judged(errors, vec![true; ROLES.len()]), verdict);
    }
}

/// Something that happens to a file, or to all.
#[derive(Clone, Copy, Debug)]
enum Event {
    Save(usize, Text),
    /// A program opens a file and has written a part of it.
    Begin(usize, u8),
    /// It writes on.
    Write(usize, u8),
    /// It closes the file.
    Close(usize, Text),
    Vanish(usize),
    Busy(usize, bool),
    Request,
    Pass(Duration),
    /// The clock goes on while the thread does not: the machine was suspended.
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
            // Closing a file, or a new one in its place: it is whole, and no program writes to it.
            Event::Save(file, text) | Event::Close(file, text) => self.save(file, text),
            Event::Begin(file, part) => self.change(file, |file, now| {
                file.text = Text::Torn(part);
                file.written_since.get_or_insert(now);
            }),
            Event::Write(file, part) => {
                // A program that was waited for long enough has its file used as it is, and begins anew.
                if self.files[file].written_since.is_some() {
                    self.change(file, |file, _| file.text = Text::Torn(part));
                }
            }
            Event::Vanish(file) => self.save(file, Text::Empty),
            Event::Busy(file, is_busy) => self.change(file, |file, _| file.is_busy = is_busy),
            Event::Request => self.read(Trigger::Request),
            Event::Pass(time) => self.pass(time),
            Event::Jump(time) => {
                self.now += time;
                self.read(Trigger::Poll);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// In any order of changes, torn writes, losses, returns, errors, repairs, requests and leaps of the clock: a bad
    /// file replaces no good one, nothing is published twice, each finding is logged once and each wait reported once (all
    /// asserted on the way), and once it is quiet, what the files have is active if it is right, and otherwise what was.
    #[test]
    fn whatever_happens_the_last_good_content_is_active_in_time(
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
        world.pass(TIMING.grace + POLL);
        let now: Vec<Text> = world.files.iter().map(|file| file.text).collect();
        if errors(&now).is_empty() {
            prop_assert_eq!(&world.active, &now);
            prop_assert!(!world.is_unpaired);
        } else if !errors(&world.active).is_empty() {
            // There was never a good one: the newest bad one, so that each repair has its effect.
            prop_assert_eq!(&world.active, &now);
        }
        // And then nothing more comes of it.
        let generation = world.generation;
        world.pass(Duration::from_secs(120));
        prop_assert_eq!(world.generation, generation);
    }
}
