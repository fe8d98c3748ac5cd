//! The program ends before each operation in turn, and after that, the power may be lost.

use std::sync::Arc;

use proptest::prelude::*;

use super::faulty_disk::{Faults, LOSE_CONTENT, LOSSES, open, restart};
use super::{publish, seen, seen_after_start, temporary};
use crate::directory::{DirectoryErrorKind, Published};

/// Publishes and flushes states 2 and 3 after 1, with the end after `successes` operations. Returns the state whose
/// publication succeeded last, and the one whose flush did, or `None` if there was no end.
fn run_to_the_end(faults: &Arc<Faults>, successes: usize, is_end: bool) -> Option<(u64, u64)> {
    let mut directory = open(faults).unwrap();
    publish(&mut directory, 1).unwrap();
    directory.sync().unwrap();
    faults.fail_after(successes, is_end);
    let (mut published, mut flushed) = (1, 1);
    for number in [2, 3] {
        if publish(&mut directory, number).is_err() {
            break;
        }
        published = number;
        if directory.sync().is_err() {
            break;
        }
        flushed = number;
    }
    faults.has_failed().then_some((published, flushed))
}

#[test]
fn a_start_after_the_end_at_any_operation_and_any_loss_of_power_finds_a_whole_state() {
    let mut ends = 0;
    for losses in 0..LOSSES {
        for successes in 0.. {
            let temp = temporary();
            let faults = Faults::new(temp.path());
            let Some((published, flushed)) = run_to_the_end(&faults, successes, true) else {
                break;
            };
            ends += 1;
            faults.lose_power(losses);
            let place = format!("losses {losses}, {successes} operations, {published} published");
            let mut directory = restart(temp.path()).unwrap();
            let found = seen_after_start(temp.path()).expect(&place);
            // Without a loss of power, the last publication that succeeded, or the one that was about to.
            let oldest = if losses == 0 { published } else { flushed };
            assert!(
                (oldest..=published + 1).contains(&found),
                "{place}: found {found}"
            );
            assert_eq!(
                directory.active().and_then(|active| active.state.revision),
                Some(found)
            );
            publish(&mut directory, 9).expect(&place);
            directory.sync().expect(&place);
            assert_eq!(seen_after_start(temp.path()), Some(9), "{place}");
        }
    }
    assert!(ends > 8 * 25, "{ends}");
}

#[test]
fn the_end_at_any_operation_of_the_first_publication_leaves_nothing_or_a_whole_state() {
    for losses in 0..LOSSES {
        for successes in 0.. {
            let temp = temporary();
            let faults = Faults::new(temp.path());
            faults.fail_after(successes, true);
            let result = open(&faults).and_then(|mut directory| {
                publish(&mut directory, 1)?;
                directory.sync()
            });
            if !faults.has_failed() {
                result.unwrap();
                break;
            }
            faults.lose_power(losses);
            let mut directory = restart(temp.path()).unwrap();
            let found = seen(temp.path());
            assert!([None, Some(1)].contains(&found), "{found:?}");
            assert_eq!(directory.active().is_some(), found.is_some());
            publish(&mut directory, 2).unwrap();
            directory.sync().unwrap();
            assert_eq!(seen_after_start(temp.path()), Some(2));
        }
    }
}

#[test]
fn the_end_at_any_operation_of_a_start_leaves_a_whole_state() {
    for successes in 0.. {
        let temp = temporary();
        let faults = Faults::new(temp.path());
        // The program ends before state 2 is flushed, and the power is lost: state 1 is activated again.
        run_to_the_end(&faults, 9, true).unwrap();
        faults.lose_power(LOSE_CONTENT);
        faults.set_starting(true);
        faults.fail_after(successes, true);
        let result = open(&faults);
        if !faults.has_failed() {
            result.unwrap();
            assert!(successes > 3, "{successes}");
            break;
        }
        drop(result);
        let directory = restart(temp.path()).unwrap();
        assert_eq!(seen_after_start(temp.path()), Some(1));
        assert_eq!(
            directory.active().and_then(|active| active.state.revision),
            Some(1)
        );
    }
}

#[test]
fn an_operation_that_fails_once_changes_no_answer_and_the_next_publication_succeeds() {
    for successes in 0.. {
        let temp = temporary();
        let faults = Faults::new(temp.path());
        let mut directory = open(&faults).unwrap();
        publish(&mut directory, 1).unwrap();
        directory.sync().unwrap();
        faults.fail_after(successes, false);
        match publish(&mut directory, 2) {
            Ok(published) => {
                assert_eq!(published, Published::Changed);
                assert_eq!(seen(temp.path()), Some(2));
            }
            Err(error) => {
                assert!(matches!(error.kind, DirectoryErrorKind::System { .. }), "{error}");
                assert_eq!(seen_after_start(temp.path()), Some(1));
            }
        }
        let has_synced = directory.sync().is_ok();
        assert!(has_synced || faults.has_failed());
        if !faults.has_failed() {
            break;
        }
        publish(&mut directory, 3).unwrap();
        directory.sync().unwrap();
        assert_eq!(seen_after_start(temp.path()), Some(3));
    }
}

#[test]
fn a_state_that_cannot_be_flushed_leaves_the_one_before_for_a_start_after_a_loss_of_power() {
    for losses in 0..LOSSES {
        for successes in 0..6 {
            let temp = temporary();
            let faults = Faults::new(temp.path());
            let mut directory = open(&faults).unwrap();
            publish(&mut directory, 1).unwrap();
            directory.sync().unwrap();
            publish(&mut directory, 2).unwrap();
            faults.fail_after(successes, false);
            let error = directory.sync().unwrap_err();
            assert!(
                error.to_string().contains("cannot flush it to the disk"),
                "{error}"
            );
            drop(directory);
            faults.lose_power(losses);
            restart(temp.path()).unwrap();
            let found = seen_after_start(temp.path());
            assert!([Some(1), Some(2)].contains(&found), "{losses}: {found:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Publish(u64),
    Sync,
    /// The end after so many operations of the next publication, a loss of power, and a start.
    End(usize, u8),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (1..1000_u64).prop_map(Action::Publish),
        3 => Just(Action::Sync),
        2 => (0..30_usize, 0..LOSSES).prop_map(|(successes, losses)| Action::End(successes, losses)),
    ];
    prop::collection::vec(action, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_publications_and_ends_leaves_a_state_that_was_published(actions in actions()) {
        let temp = temporary();
        let mut faults = Faults::new(temp.path());
        let mut directory = Some(open(&faults).unwrap());
        // What a start may find: the state that was flushed last, and those after it.
        let mut possible = vec![None];
        for action in actions {
            let current = directory.as_mut().unwrap();
            match action {
                Action::Publish(number) => {
                    publish(current, number).unwrap();
                    prop_assert_eq!(seen(temp.path()), Some(number));
                    possible.push(Some(number));
                }
                Action::Sync => {
                    current.sync().unwrap();
                    possible = vec![seen(temp.path())];
                }
                Action::End(successes, losses) => {
                    faults.fail_after(successes, true);
                    let _ = publish(current, 1001).and_then(|_| current.sync());
                    possible.push(Some(1001));
                    drop(directory.take());
                    faults.lose_power(losses);
                    faults = Faults::new(temp.path());
                    faults.set_starting(true);
                    directory = Some(open(&faults).unwrap());
                    faults.set_starting(false);
                    let found = seen(temp.path());
                    prop_assert!(possible.contains(&found), "{:?} of {:?}", found, possible);
                    possible = vec![found];
                }
            }
        }
    }
}
