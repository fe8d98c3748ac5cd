//! Any sequence of changes and faults.

use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::sleep;

use super::source::Content;
use super::{World, until};

/// What happens to the source, the disk or the program.
#[derive(Clone, Debug)]
enum Event {
    /// A change, recorded or not, with this number of senders.
    Change(bool, u64),
    /// Another state with an earlier revision.
    FailOver(u64),
    Hint,
    Cut,
    GoAway,
    ComeBack,
    FailAfter(usize),
    ReadTime(u64),
    BlockDisk,
    FreeDisk,
    Restart,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<bool>(), 0..6_u64).prop_map(|(recorded, senders)| Event::Change(recorded, senders)),
        1 => (0..3_u64).prop_map(Event::FailOver),
        2 => Just(Event::Hint),
        1 => Just(Event::Cut),
        1 => Just(Event::GoAway),
        2 => Just(Event::ComeBack),
        1 => (0..8_usize).prop_map(Event::FailAfter),
        1 => (0..400_u64).prop_map(Event::ReadTime),
        1 => Just(Event::BlockDisk),
        2 => Just(Event::FreeDisk),
        1 => Just(Event::Restart),
        6 => (0..2000_u64).prop_map(Event::Wait),
    ]
}

/// Checks that the directory has one state of the source, whole.
fn check(world: &World) {
    if let Some(files) = world.files() {
        assert!(world.source.all_files().contains(&files), "{files:?}");
    }
}

async fn play(world: &World, events: &[Event]) {
    let foreign_file = world.directory.path().join("postfix-sasl-password.cf");
    let free_disk = || {
        if fs::read_link(&foreign_file).is_err() {
            let _ = fs::remove_file(&foreign_file);
        }
    };
    let (mut number, source) = (1, &world.source);
    for event in events {
        number += 1;
        match event {
            Event::Change(true, senders) => source.change_on(Content::new(number, *senders)),
            Event::Change(false, senders) => source.change(Content::new(number, *senders)),
            Event::FailOver(back) => {
                let revision = source.revision().saturating_sub(*back);
                source.replace(revision, Content::new(number, 3));
            }
            Event::Hint => source.hint(),
            Event::Cut => source.cut(),
            Event::GoAway => source.go_away(),
            Event::ComeBack => source.come_back(),
            Event::FailAfter(rows) => source.fail_after(*rows),
            Event::ReadTime(milliseconds) => source.set_read_time(Duration::from_millis(*milliseconds)),
            Event::BlockDisk => {
                let _ = fs::remove_file(&foreign_file);
                fs::write(&foreign_file, "a local file\n").unwrap();
            }
            Event::FreeDisk => free_disk(),
            Event::Restart => {}
            Event::Wait(milliseconds) => {
                for _ in 0..10 {
                    sleep(Duration::from_millis(milliseconds / 10)).await;
                    check(world);
                }
            }
        }
        check(world);
    }
    free_disk();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_directory_always_has_a_state_of_the_source_and_finally_the_last(
        events in proptest::collection::vec(event(), 1..40)
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(Content::new(1, 3));
            world.allow_empty = true;
            let parts: Vec<&[Event]> = events.split(|event| matches!(event, Event::Restart)).collect();
            for part in &parts {
                world.follow(async |world, _| play(world, part).await).await;
                check(&world);
            }
            world.source.come_back();
            world
                .follow(async |world, status| {
                    world.until_current().await;
                    until(|| world.is_active(&status)).await;
                    // And it stays.
                    sleep(Duration::from_secs(5)).await;
                    assert!(world.is_current());
                })
                .await;
        });
    }
}
