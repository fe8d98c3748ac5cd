//! Tables that become empty.

use std::time::Duration;

use tokio::time::sleep;

use super::source::Content;
use super::{INTERVAL, World, count, until};
use crate::status::Outcome;

fn without_logins(number: u64) -> Content {
    Content {
        credentials: [].into(),
        ..Content::new(number, 3)
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_has_become_empty_is_refused_and_that_is_logged_once() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, status| {
            world.until_current().await;
            let before = world.files();
            let reads = world.source.reads().len();
            world.source.replace(2, without_logins(2));
            sleep(Duration::from_secs(30)).await;
            // And again with another version, and after a new connection.
            world.source.replace(3, without_logins(3));
            sleep(Duration::from_secs(30)).await;
            world.source.cut();
            sleep(Duration::from_secs(30)).await;
            assert_eq!(world.files(), before);
            // It is not read again and again: once for each version, and once for a connection.
            assert_eq!(world.source.reads().len() - reads, 3);
            let report = status.report();
            assert_eq!(count(&report, Outcome::Refused), 3);
            assert!(
                report
                    .error()
                    .unwrap()
                    .contains("the table credentials has no rows"),
                "{report:?}"
            );
            assert!(report.not_ready_reason(Duration::from_secs(60)).is_some());
            world.source.replace(4, Content::new(4, 3));
            world.until_current().await;
            until(|| status.report().error().is_none()).await;
            // The next time is logged again.
            world.source.replace(5, without_logins(5));
            sleep(INTERVAL * 2).await;
        })
        .await;
    let lines = world
        .log
        .with("a table has become empty; keeping the active tables table=\"credentials\"");
    assert_eq!(lines.len(), 2, "{:?}", world.log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_table_whose_keys_are_all_invalid_is_refused_also_as_the_first_one() {
    let swapped = |number| Content {
        relay: [("[r.test]:587".to_owned(), "@s.test".to_owned())].into(),
        ..Content::new(number, 3)
    };
    let mut world = World::new(swapped(1));
    // Not an empty table, which could be meant.
    world.allow_empty = true;
    world
        .follow(async |world, status| {
            sleep(Duration::from_secs(30)).await;
            assert_eq!(world.files(), None);
            let report = status.report();
            let error = report.error().unwrap();
            assert!(
                error.contains("every row of the table relay is invalid"),
                "{error}"
            );
            world.source.change(Content::new(2, 3));
            world.until_current().await;
            world.source.change(swapped(3));
            sleep(Duration::from_secs(30)).await;
            assert_eq!(world.files(), Some(Content::new(2, 3).files()));
        })
        .await;
    let lines = world.log.with("the key of every row of a table is invalid");
    assert_eq!(lines.len(), 2, "{:?}", world.log.lines());
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_emptied_as_the_source_has_recorded_is_published() {
    let world = World::new(Content::new(1, 3));
    let current = async |world: &World, _| world.until_current().await;
    world.follow(current).await;
    world.source.change_on(without_logins(2));
    // While the program did not run.
    world.follow(current).await;
    world.source.change_on(Content::new(3, 3));
    world
        .follow(async |world, status| {
            world.until_current().await;
            // While it ran.
            world.source.change_on(without_logins(4));
            world.until_current().await;
            world.source.change_on(Content::new(5, 3));
            world.until_current().await;
            // While there was no connection.
            world.source.go_away();
            until(|| !status.report().is_connected).await;
            world.source.change_on(without_logins(6));
            world.source.come_back();
            world.until_current().await;
            // More rows leave than a failover may take away.
            world.source.change_on(Content::default());
            world.until_current().await;
        })
        .await;
    assert!(world.log.with("empty").is_empty(), "{:?}", world.log.lines());
}

#[tokio::test(start_paused = true)]
async fn another_database_without_rows_is_refused_after_a_restart_too() {
    let world = World::new(Content::new(1, 3));
    world.follow(async |world, _| world.until_current().await).await;
    let before = world.files();
    world.source.replace(1, Content::default());
    world
        .follow(async |world, status| {
            until(|| count(&status.report(), Outcome::Refused) > 0).await;
            sleep(INTERVAL * 5).await;
            assert_eq!(world.files(), before);
            assert!(status.report().is_connected);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_table_is_published_if_that_is_allowed_or_there_were_no_rows() {
    let mut world = World::new(without_logins(1));
    world.follow(async |world, _| world.until_current().await).await;
    world.source.replace(2, without_logins(2));
    world.follow(async |world, _| world.until_current().await).await;
    world.allow_empty = true;
    world
        .follow(async |world, _| {
            world.until_current().await;
            world.source.replace(1, Content::default());
            world.until_current().await;
        })
        .await;
    assert!(world.log.with("ERROR").is_empty(), "{:?}", world.log.lines());
}
