//! One publication.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::World;
use super::source::{Call, Content};
use crate::follow::{OnceError, Refusal};

#[tokio::test(start_paused = true)]
async fn once_publishes_the_tables_of_one_state() {
    let world = World::new(Content::new(1, 3));
    for number in 2..4 {
        let (mut follower, status) = world.start();
        follower.once().await.unwrap();
        assert!(world.is_current());
        let tables = status.report().tables.unwrap();
        assert_eq!(
            tables.rows.iter().map(|(_, rows)| *rows).collect::<Vec<_>>(),
            [3, 3]
        );
        world.source.change(Content::new(number, 3));
    }
    assert_eq!(world.source.reads().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn once_waits_for_a_source_that_is_away_and_the_caller_ends_that() {
    let world = World::new(Content::new(1, 3));
    world.source.go_away();
    let (mut follower, status) = world.start();
    assert!(timeout(Duration::from_secs(10), follower.once()).await.is_err());
    assert!(world.source.times(|call| call == Call::Connect).len() > 9);
    assert!(status.report().error().unwrap().contains("cannot connect"));
    let (published, ()) = tokio::join!(follower.once(), async {
        sleep(Duration::from_secs(5)).await;
        world.source.come_back();
    });
    published.unwrap();
    assert!(world.is_current());
}

#[tokio::test(start_paused = true)]
async fn once_ends_at_once_with_an_error_that_another_attempt_does_not_change() {
    let world = World::new(Content::new(1, 3));
    world.start().0.once().await.unwrap();
    let before = world.files();
    world.source.replace(2, Content::default());
    let error = world.start().0.once().await.unwrap_err();
    assert!(
        matches!(error, OnceError::Refused(Refusal::Emptied(_))),
        "{error}"
    );
    world.source.refuse_logins();
    let error = world.start().0.once().await.unwrap_err();
    assert!(matches!(error, OnceError::Engine(_)), "{error}");
    assert_eq!(world.files(), before);
}
