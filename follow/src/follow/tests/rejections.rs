//! A source that refuses the login.

use std::time::Duration;

use tokio::time::sleep;

use super::source::{Call, Content};
use super::{World, gaps};
use crate::follow::{REJECTED_WAITS, SOURCE_WAITS};

#[tokio::test(start_paused = true)]
async fn a_source_that_refuses_the_login_is_asked_ever_less_often_and_one_that_is_away_within_a_second() {
    let world = World::new(Content::new(1, 3));
    let connects = || world.source.times(|call| call == Call::Connect);
    let longest = |waits: [Duration; 2]| waits[1] + Duration::from_millis(1);
    world
        .follow(async |world, _| {
            world.until_current().await;
            for number in 2..4 {
                let before = connects().len();
                world.source.refuse_logins();
                world.source.cut();
                sleep(Duration::from_secs(600)).await;
                let waits = gaps(&connects()[before..]);
                assert!((20..50).contains(&waits.len()), "{waits:?}");
                assert!(waits[0] <= longest(REJECTED_WAITS) / 50, "{waits:?}");
                assert!(
                    waits.iter().all(|wait| *wait <= longest(REJECTED_WAITS)),
                    "{waits:?}"
                );
                world.source.go_away();
                world.source.accept_logins();
                sleep(REJECTED_WAITS[1]).await;
                let before = connects().len();
                sleep(Duration::from_secs(60)).await;
                let waits = gaps(&connects()[before..]);
                assert!(
                    waits.len() > 50 && waits.iter().all(|wait| *wait <= longest(SOURCE_WAITS)),
                    "{waits:?}"
                );
                // After a success, the next refusal is tried again soon.
                world.source.change(Content::new(number, 3));
                world.source.come_back();
                world.until_current().await;
            }
        })
        .await;
    assert_eq!(world.log.with("unavailable; keeping").len(), 2);
}
