//! The loop with a source that a test controls, a clock that stands still while something can happen, and a real directory.

mod disk;
mod log;
mod once;
mod refusals;
mod rejections;
mod scripts;
mod source;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::{Follower, Options, PAUSE, RECHECK, SOURCE_WAITS};
use crate::directory::Directory;
use crate::directory::tests::temporary;
use crate::engine::Table;
use crate::status::{Outcome, Report, Status};
use log::Log;
use source::{Call, Content, Source};

const INTERVAL: Duration = Duration::from_secs(1);

struct World {
    source: Source,
    directory: TempDir,
    allow_empty: bool,
    log: Log,
}

impl World {
    fn new(content: Content) -> Self {
        Self {
            source: Source::new(content),
            directory: temporary(),
            allow_empty: false,
            log: Log::start(),
        }
    }

    /// A process that follows the source.
    fn start(&self) -> (Follower<Source>, Arc<Status>) {
        let tables = vec![Table::Relay, Table::Credentials];
        let directory = Directory::open(self.directory.path(), &tables).unwrap();
        let active = directory.active().map(|active| active.state.clone());
        let name = "postgres://u@db.test/mail".to_owned();
        let status = Arc::new(Status::new(name.clone(), active));
        let options = Options {
            source: name,
            tables,
            interval: INTERVAL,
            allow_empty: self.allow_empty,
        };
        let follower = Follower::new(self.source.clone(), directory, options, Arc::clone(&status));
        (follower, status)
    }

    /// Follows the source while `steps` run.
    async fn follow<T>(&self, steps: impl AsyncFnOnce(&Self, Arc<Status>) -> T) -> T {
        let (mut follower, status) = self.start();
        tokio::select! {
            Err(error) = follower.run() => panic!("{error}"),
            result = steps(self, status) => result,
        }
    }

    /// The active files, of one generation. `None` without one.
    fn files(&self) -> Option<[String; 2]> {
        let generation = fs::canonicalize(self.directory.path().join("..data")).ok()?;
        // A file without rows has a comment.
        let read = |file| {
            fs::read_to_string(generation.join(file))
                .unwrap()
                .replace("# no rows\n", "")
        };
        Some(["postfix-relaymap.cf", "postfix-sasl-password.cf"].map(read))
    }

    fn is_current(&self) -> bool {
        self.files() == Some(self.source.content().files())
    }

    /// Whether the status has the state of the source. The time has fewer digits in a file.
    fn is_active(&self, status: &Status) -> bool {
        let active = status.report().active;
        active.is_some_and(|active| active.version == self.source.state().version)
    }

    /// Waits until the active files are those of the source. Returns how long that took.
    async fn until_current(&self) -> Duration {
        until(|| self.is_current()).await
    }
}

/// Waits for a condition. Returns how long that took.
async fn until(is_true: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    let poll = async {
        while !is_true() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(600), poll)
        .await
        .expect("it never becomes true");
    begun.elapsed()
}

fn count(report: &Report, outcome: Outcome) -> u64 {
    report.publications[outcome as usize]
}

/// The times between these moments.
fn gaps(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_publication_is_at_once_and_is_confirmed() {
    let world = World::new(Content::new(1, 3));
    let taken = world
        .follow(async |world, status| {
            let taken = world.until_current().await;
            until(|| status.report().confirmed.is_some()).await;
            assert!(world.is_active(&status));
            assert_eq!(status.report().not_ready_reason(Duration::from_secs(60)), None);
            taken
        })
        .await;
    assert!(taken < Duration::from_millis(50), "{taken:?}");
    assert_eq!(
        world.log.with("tables published").len(),
        1,
        "{:?}",
        world.log.lines()
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_is_tried_again_after_waits_within_their_bounds_and_logged_once() {
    let world = World::new(Content::new(1, 3));
    world.source.go_away();
    world
        .follow(async |world, status| {
            sleep(Duration::from_secs(60)).await;
            assert_eq!(world.files(), None);
            let report = status.report();
            assert!(!report.is_connected && report.active.is_none());
            assert!(
                report
                    .not_ready_reason(Duration::from_secs(60))
                    .unwrap()
                    .contains("cannot connect")
            );
            world.source.come_back();
            assert!(world.until_current().await <= SOURCE_WAITS[1] + Duration::from_millis(50));
            until(|| status.report().error().is_none()).await;
        })
        .await;
    let waits = gaps(&world.source.times(|call| call == Call::Connect));
    // 1 ms is the resolution of the clock.
    let longest = SOURCE_WAITS[1] + Duration::from_millis(1);
    assert!(
        waits
            .iter()
            .all(|wait| (SOURCE_WAITS[0] / 2..=longest).contains(wait)),
        "{waits:?}"
    );
    assert!(
        waits[0] <= SOURCE_WAITS[0] + Duration::from_millis(1) && waits.len() > 60,
        "{waits:?}"
    );
    let lines = world.log.with("unavailable");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("ERROR the source is unavailable, and there are no tables yet"),
        "{lines:?}"
    );
    let lines = world.log.with("available again away=6");
    assert_eq!(lines.len(), 1, "{:?}", world.log.lines());
}

#[tokio::test(start_paused = true)]
async fn the_active_tables_stay_while_the_source_is_away_and_each_outage_is_logged_once() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, status| {
            world.until_current().await;
            for number in 2..4 {
                let before = world.files();
                world.source.go_away();
                until(|| !status.report().is_connected).await;
                world.source.change(Content::new(number, 3));
                sleep(Duration::from_secs(70)).await;
                assert_eq!(world.files(), before);
                let reason = status.report().not_ready_reason(Duration::from_secs(60)).unwrap();
                assert!(reason.contains("last confirmed 1m 1"), "{reason}");
                world.source.come_back();
                world.until_current().await;
                until(|| status.report().is_connected).await;
                assert_eq!(status.report().not_ready_reason(Duration::from_secs(60)), None);
                // The waits of the next outage begin with the first one again.
                let connects = || world.source.times(|call| call == Call::Connect);
                let before = connects().len();
                world.source.cut();
                until(|| !status.report().is_connected).await;
                let lost = Instant::now();
                until(|| connects().len() > before).await;
                assert!(lost.elapsed() <= SOURCE_WAITS[0] + Duration::from_millis(10));
                world.until_current().await;
                until(|| status.report().error().is_none()).await;
            }
        })
        .await;
    assert_eq!(world.log.with("WARN the source is unavailable; keeping").len(), 4);
    assert_eq!(world.log.with("available again").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_followed_at_once_and_a_change_without_one_is_found_by_the_next_poll() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, _| {
            world.until_current().await;
            let mut without_hint = Vec::new();
            for number in 2..12 {
                sleep(INTERVAL * 3 + Duration::from_millis(number * 77)).await;
                world.source.change(Content::new(number, 3));
                if number % 2 == 0 {
                    world.source.hint();
                    let taken = world.until_current().await;
                    assert!(taken < Duration::from_millis(60), "{taken:?}");
                } else {
                    without_hint.push(world.until_current().await);
                }
            }
            let bound = INTERVAL + Duration::from_millis(10);
            assert!(
                without_hint.iter().all(|taken| *taken <= bound),
                "{without_hint:?}"
            );
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn many_changes_are_few_publications_and_the_last_is_published() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, status| {
            for number in 2..1000 {
                sleep(Duration::from_millis(number % 23)).await;
                world.source.change(Content::new(number, 3));
                world.source.hint();
            }
            let taken = world.until_current().await;
            assert!(taken <= PAUSE + Duration::from_millis(60), "{taken:?}");
            until(|| world.is_active(&status)).await;
        })
        .await;
    let reads = world.source.reads();
    assert!(gaps(&reads).iter().all(|gap| *gap >= PAUSE), "{:?}", gaps(&reads));
    assert!(reads.len() > 20, "{}", reads.len());
}

#[tokio::test(start_paused = true)]
async fn hints_without_a_change_ask_for_the_state_and_not_often() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, _| {
            world.until_current().await;
            for _ in 0..1000 {
                world.source.hint();
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    let states = world.source.times(|call| call == Call::State);
    assert!((10..=25).contains(&states.len()), "{}", states.len());
    assert_eq!(world.source.reads().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_ends_with_an_error_publishes_nothing() {
    let world = World::new(Content::new(1, 5));
    world
        .follow(async |world, status| {
            world.until_current().await;
            let before = world.files();
            // In the first table, at the boundary, in the second one, and in a read of changes.
            for (number, rows) in [(2, 0), (3, 3), (4, 5), (5, 9)] {
                world.source.fail_after(rows);
                if number % 2 == 0 {
                    world.source.change_on(Content::new(number, 5));
                } else {
                    world.source.replace(number, Content::new(number, 5));
                }
                until(|| !status.report().is_connected).await;
                assert_eq!(world.files(), before);
                world.source.go_away();
                sleep(Duration::from_secs(10)).await;
                assert_eq!(world.files(), before);
                world.source.replace(1, Content::new(1, 5));
                world.source.come_back();
                until(|| world.is_active(&status)).await;
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_once_and_then_only_changes_also_by_a_new_connection() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, status| {
            for number in 2..5 {
                world.until_current().await;
                for more in 1..3 {
                    world.source.change_on(Content::new(number * 10 + more, 3));
                    world.until_current().await;
                }
                let connections = status.report().connections;
                world.source.cut();
                until(|| status.report().connections > connections).await;
            }
            world.source.change_on(Content::new(99, 3));
            world.until_current().await;
        })
        .await;
    let all = world.source.times(|call| call == Call::Read(false)).len();
    let changes = world.source.times(|call| call == Call::Read(true)).len();
    assert_eq!((all, changes), (1, 7));
}

#[tokio::test(start_paused = true)]
async fn the_same_version_after_a_new_connection_is_confirmed_and_replaces_nothing() {
    let world = World::new(Content::new(1, 3));
    let link = || fs::read_link(world.directory.path().join("..data")).unwrap();
    world
        .follow(async |world, status| {
            world.until_current().await;
            let (generation, published) = (link(), status.report().published);
            world.source.go_away();
            until(|| !status.report().is_connected).await;
            let confirmed = status.report().confirmed;
            sleep(Duration::from_secs(2)).await;
            world.source.come_back();
            until(|| status.report().confirmed != confirmed).await;
            assert_eq!((link(), status.report().published), (generation, published));
            let report = status.report();
            assert_eq!(count(&report, Outcome::Changed), 1);
            assert_eq!(count(&report, Outcome::Unchanged), 0);
        })
        .await;
    // A new process finds them, too.
    let generation = link();
    let (follower, status) = world.start();
    assert!(world.is_active(&status));
    let reason = status.report().not_ready_reason(Duration::from_secs(60));
    assert!(reason.unwrap().contains("has not been read since the start"));
    drop(follower);
    world
        .follow(async |_, status| {
            until(|| status.report().confirmed.is_some()).await;
            assert_eq!(link(), generation);
        })
        .await;
    assert_eq!(world.log.with("tables published").len(), 1);
    assert_eq!(
        world.log.with("the active tables are those of the source").len(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_confirmed_the_tables_by_their_version_reads_everything_within_an_hour() {
    let world = World::new(Content::new(1, 3));
    let everything = || world.source.times(|call| call == Call::Read(false)).len();
    world
        .follow(async |world, status| {
            world.until_current().await;
            for number in 1..4 {
                let connections = status.report().connections;
                world.source.cut();
                until(|| status.report().connections > connections).await;
                // Rows are changed where no trigger records it.
                world.source.change_silently(Content::new(number * 10, 3));
                sleep(RECHECK + INTERVAL * 2).await;
                assert!(world.is_current());
                assert_eq!(everything() as u64, 1 + number);
                // Once.
                sleep(RECHECK * 2).await;
                assert_eq!(everything() as u64, 1 + number);
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_older_revision_with_another_version_is_published() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, status| {
            for number in 2..5 {
                world.source.change(Content::new(number, 3));
            }
            world.until_current().await;
            // A failover that lost a commit, and the same number again with other rows.
            for revision in [3, 4] {
                world.source.cut();
                world.source.replace(revision, Content::new(revision * 100, 3));
                world.until_current().await;
                until(|| world.is_active(&status)).await;
            }
            // The same behind one connection, as with a connection pooler.
            for revision in [2, 4] {
                world.source.replace(revision, Content::new(revision * 1000, 3));
                world.until_current().await;
                until(|| world.is_active(&status)).await;
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_lag_is_counted_for_changes_while_the_program_runs() {
    let world = World::new(Content::new(1, 3));
    world
        .follow(async |world, status| {
            world.until_current().await;
            assert_eq!(status.report().lag.counts.iter().sum::<u64>(), 0);
            for number in 2..5 {
                world.source.change(Content::new(number, 3));
                world.until_current().await;
            }
            until(|| world.is_active(&status)).await;
            assert_eq!(status.report().lag.counts.iter().sum::<u64>(), 3);
        })
        .await;
}
