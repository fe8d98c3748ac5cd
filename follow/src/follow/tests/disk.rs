//! Errors of the disk, and bad rows.

use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::source::{Call, Content, Source};
use super::{INTERVAL, World, count, gaps, until};
use crate::directory::DirectoryErrorKind;
use crate::follow::active_tables::{CHECK_INTERVAL, DISK_WAITS};
use crate::status::Outcome;

#[tokio::test(start_paused = true)]
async fn tables_that_cannot_be_written_are_read_again_after_waits_and_logged_once() {
    let world = World::new(Content::new(1, 3));
    let foreign_file = world.directory.path().join("postfix-relaymap.cf");
    world
        .follow(async |world, status| {
            world.until_current().await;
            let before = world.files();
            fs::remove_file(&foreign_file).unwrap();
            fs::write(&foreign_file, "a local file\n").unwrap();
            let reads = world.source.reads().len();
            world.source.change(Content::new(2, 3));
            sleep(Duration::from_secs(300)).await;
            assert_eq!(world.files(), before);
            let report = status.report();
            assert!(report.is_connected);
            assert!(
                report.error().unwrap().contains("not from postmapd-follow"),
                "{report:?}"
            );
            let waits = gaps(&world.source.reads()[reads..]);
            assert!((10..60).contains(&waits.len()), "{waits:?}");
            assert!(
                waits.iter().all(|wait| *wait >= Duration::from_millis(500)),
                "{waits:?}"
            );
            assert_eq!(
                count(&report, Outcome::Failed),
                u64::try_from(waits.len() + 1).unwrap()
            );
            fs::remove_file(&foreign_file).unwrap();
            let taken = world.until_current().await;
            assert!(taken <= DISK_WAITS[1] + INTERVAL, "{taken:?}");
            until(|| status.report().error().is_none()).await;
        })
        .await;
    assert_eq!(
        world.log.with("cannot be written").len(),
        1,
        "{:?}",
        world.log.lines()
    );
    assert_eq!(world.log.with("can be written again away=").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn files_that_another_program_has_removed_are_restored_also_while_the_source_is_away() {
    let world = World::new(Content::new(1, 3));
    let path = |name: &str| world.directory.path().join(name);
    let removals: [&[&str]; 4] = [
        &["postfix-relaymap.cf"],
        &["..data"],
        &["..data/postfix-sasl-password.cf"],
        &[
            "..data/postfix-relaymap.cf",
            "..data/postfix-sasl-password.cf",
            "..data/source.json",
            "..data/digest-key",
            "postfix-relaymap.cf",
            "postfix-sasl-password.cf",
            "source.json",
            "..data",
        ],
    ];
    let changes: [fn(&Source); 3] = [
        |_| {},
        Source::go_away,
        |source| {
            source.refuse_logins();
            source.cut();
        },
    ];
    world
        .follow(async |world, status| {
            world.until_current().await;
            for change in changes {
                change(&world.source);
                // The waits after a refused login are the longest now.
                sleep(Duration::from_secs(300)).await;
                for names in removals {
                    for name in names {
                        fs::remove_file(path(name)).unwrap();
                    }
                    let is_there =
                        || path("postfix-relaymap.cf").exists() && path("postfix-sasl-password.cf").exists();
                    let taken = until(|| is_there() && world.is_current()).await;
                    assert!(taken <= CHECK_INTERVAL * 2, "{names:?}: {taken:?}");
                }
                assert_eq!(world.source.reads().len(), 1);
                world.source.come_back();
                world.source.accept_logins();
                until(|| status.report().is_connected).await;
            }
            // Changes are merged as before.
            world.source.change_on(Content::new(2, 3));
            world.until_current().await;
            until(|| status.report().error().is_none()).await;
        })
        .await;
    let restored = world
        .log
        .with("WARN files of the directory had been removed or changed");
    assert_eq!(restored.len(), 12, "{:?}", world.log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_emptied_in_place_is_unreadable_until_the_source_is_back() {
    let world = World::new(Content::new(1, 3));
    let relay = world.directory.path().join("postfix-relaymap.cf");
    world
        .follow(async |world, status| {
            world.until_current().await;
            for outage in 1..3 {
                world.source.go_away();
                until(|| !status.report().is_connected).await;
                fs::write(&relay, "").unwrap();
                let taken = until(|| !relay.exists()).await;
                assert!(taken <= CHECK_INTERVAL * 2, "{taken:?}");
                sleep(Duration::from_secs(300)).await;
                assert!(relay.is_symlink() && !relay.exists());
                assert_eq!(world.log.with("ERROR files of the directory").len(), outage);
                world.source.come_back();
                world.until_current().await;
                until(|| relay.exists() && status.report().error().is_none()).await;
            }
        })
        .await;
    let lines = world.log.with("no whole copy is left");
    assert_eq!(lines.len(), 2, "{:?}", world.log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_was_replaced_ends_the_loop_and_one_that_is_missing_does_not() {
    for is_away in [false, true] {
        let world = World::new(Content::new(1, 3));
        let path = world.directory.path();
        let elsewhere = path.with_extension("elsewhere");
        world
            .follow(async |world, _| {
                world.until_current().await;
            })
            .await;
        if is_away {
            world.source.go_away();
        }
        let (mut follower, _) = world.start();
        let steps = async {
            sleep(Duration::from_secs(10)).await;
            fs::rename(path, &elsewhere).unwrap();
            sleep(Duration::from_secs(300)).await;
            // The same one is used again.
            fs::rename(&elsewhere, path).unwrap();
            sleep(Duration::from_secs(60)).await;
            fs::rename(path, &elsewhere).unwrap();
            sleep(Duration::from_secs(10)).await;
            fs::create_dir(path).unwrap();
            sleep(CHECK_INTERVAL * 2).await;
        };
        let error = tokio::select! {
            Err(error) = follower.run() => error,
            () = steps => panic!("the loop goes on"),
        };
        assert!(matches!(error.kind, DirectoryErrorKind::Replaced), "{error}");
        assert_eq!(fs::read_dir(path).unwrap().count(), 0);
        let lines = world.log.with("cannot be written");
        assert_eq!(lines.len(), 2, "{:?}", world.log.lines());
        assert!(
            lines
                .iter()
                .all(|line| line.contains("does not exist; create it")),
            "{lines:?}"
        );
        assert_eq!(world.log.with("can be written again").len(), 1);
        fs::remove_dir_all(elsewhere).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn tables_that_cannot_be_flushed_are_active_and_flushed_later_without_a_read() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, status| {
            world.until_current().await;
            until(|| status.report().confirmed.is_some()).await;
            // With the name of a generation, and no directory.
            let foreign_file = world.directory.path().join(format!("..{}", "a".repeat(32)));
            fs::write(&foreign_file, "").unwrap();
            world.source.change(Content::new(2, 3));
            world.until_current().await;
            until(|| !world.log.with("cannot be written").is_empty()).await;
            sleep(Duration::from_secs(120)).await;
            assert!(world.log.with("can be written again").is_empty());
            assert_eq!(world.source.reads().len(), 2);
            fs::remove_file(&foreign_file).unwrap();
            until(|| !world.log.with("can be written again").is_empty()).await;
            assert_eq!(world.source.reads().len(), 2);
            assert_eq!(status.report().error(), None);
        })
        .await;
    assert_eq!(
        world.log.with("cannot be written").len(),
        1,
        "{:?}",
        world.log.lines()
    );
}

#[tokio::test(start_paused = true)]
async fn changes_that_do_not_fit_the_active_files_lead_to_a_read_of_everything() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, status| {
            world.until_current().await;
            let generation = fs::canonicalize(world.directory.path().join("..data")).unwrap();
            // One line less, which neither its length nor its time shows.
            let file = generation.join("postfix-relaymap.cf");
            let modified = fs::metadata(&file).unwrap().modified().unwrap();
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, text.replacen('\n', " ", 1)).unwrap();
            let edited = fs::File::options().append(true).open(&file).unwrap();
            edited.set_modified(modified).unwrap();
            world.source.change_on(Content::new(2, 3));
            let taken = world.until_current().await;
            assert!(taken <= DISK_WAITS[0] + INTERVAL * 2, "{taken:?}");
            assert_eq!(count(&status.report(), Outcome::Failed), 1);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_row_is_logged_once_without_its_value_and_again_after_it_was_good() {
    let good = Content::new(1, 3);
    let bad = |number: u64| {
        let mut content = Content::new(number, 3);
        content.relay.insert("@s1.test".to_owned(), "[hunter2".to_owned());
        content
    };
    let world = World::new(bad(1));
    // Publishes content whose file has an invalid entry for the key.
    let publish = async |world: &World, content: Content| {
        world.source.change_on(content);
        let reads = world.source.reads().len();
        until(|| world.source.reads().len() > reads).await;
        sleep(INTERVAL).await;
    };
    world
        .follow(async |world, status| {
            until(|| status.report().tables.is_some_and(|tables| tables.bad_rows == 1)).await;
            publish(world, bad(2)).await;
            world.source.cut();
            sleep(INTERVAL * 3).await;
            publish(world, bad(3)).await;
            assert_eq!(world.log.with("bad row;").len(), 1, "{:?}", world.log.lines());
            publish(world, good.clone()).await;
            assert_eq!(status.report().tables.unwrap().bad_rows, 0);
            publish(world, bad(4)).await;
        })
        .await;
    let lines = world.log.with("WARN bad row;");
    assert_eq!(lines.len(), 2, "{:?}", world.log.lines());
    for part in [
        "table=\"relay\"",
        "row=2",
        "key=\"@s1.test\"",
        "column=nexthop",
        "reason=",
    ] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    assert!(world.log.with("hunter2").is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_many_bad_rows_some_are_logged_and_their_number() {
    let mut content = Content::new(1, 50);
    content
        .relay
        .values_mut()
        .for_each(|value| *value = "[bad".to_owned());
    let world = World::new(content);
    world
        .follow(async |world, status| {
            until(|| status.report().tables.is_some()).await;
            world.source.cut();
            sleep(INTERVAL * 3).await;
        })
        .await;
    assert_eq!(world.log.with("bad row;").len(), 20);
    assert_eq!(
        world
            .log
            .with("more bad rows than those in the log bad_rows=50")
            .len(),
        1,
        "{:?}",
        world.log.lines()
    );
}

#[tokio::test(start_paused = true)]
async fn files_are_flushed_after_a_second_without_a_change_and_while_changes_go_on_after_ten() {
    let world = World::new(Content::new(1, 3));
    let generations = || {
        let names = fs::read_dir(world.directory.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.len() > 30).count()
    };
    world
        .follow(async |world, _| {
            world.until_current().await;
            // A flush leaves the active generation alone.
            let taken = until(|| generations() == 1).await;
            assert!(taken <= INTERVAL * 2, "{taken:?}");
            world.source.change_on(Content::new(2, 3));
            world.until_current().await;
            assert_eq!(generations(), 2);
            until(|| generations() == 1).await;
            let mut flushed_after = Vec::new();
            let begun = Instant::now();
            for number in 3..60 {
                world.source.change_on(Content::new(number, 3));
                world.source.hint();
                world.until_current().await;
                sleep(Duration::from_millis(500)).await;
                if generations() == 1 {
                    flushed_after.push(begun.elapsed());
                }
            }
            let first = *flushed_after.first().expect("a flush");
            assert!(
                first > Duration::from_secs(8) && first < Duration::from_secs(13),
                "{first:?}"
            );
            // What asks for the state is not the flush.
            let asked = world.source.times(|call| call == Call::State).len();
            sleep(Duration::from_secs(30)).await;
            let more = world.source.times(|call| call == Call::State).len() - asked;
            assert!(more < 40, "{more}");
        })
        .await;
}
