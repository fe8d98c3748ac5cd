//! Measures a fleet of mail servers that follow a PostgreSQL. `../benches/fleet.md` explains it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark ends where something fails, and the tests use what it does not"
)]

#[path = "../tests/fleet/apparatus/mod.rs"]
mod apparatus;
#[path = "../tests/database/mod.rs"]
mod database;
#[path = "fleet/points.rs"]
mod points;
#[path = "fleet/proxy.rs"]
mod proxy;
#[path = "fleet/report.rs"]
mod report;
#[path = "../tests/fleet/scenarios/mod.rs"]
mod scenarios;

use std::process::ExitCode;
use std::time::Duration;

use report::{Row, milliseconds, row};
use scenarios::{bad_rows, cost, failover, hints, kills, latency, outages, restarts, starts, transfer};

const USAGE: &str = "\
Measures a fleet of mail servers that follow a PostgreSQL, and prints the rows of the tables of benches/fleet.md.

    cargo bench --package postmapd-follow --bench fleet -- [--quick] [PART...]

  --quick   small sizes, to try the benchmark; its figures mean nothing
  PART      latency, million, kills, outages, silence, starts, rows, cost, restarts, transfer, points (default: all)

The packages postgresql and pgbouncer must be installed. It needs 2 GB in /tmp, and 20 minutes.";

/// The sizes of a run.
struct Sizes {
    servers: usize,
    senders: u64,
    many_senders: u64,
    changes: u64,
    kills_of_followers: u32,
    kills_of_the_database: u32,
    away: Duration,
    idle: Duration,
    restarted: usize,
}

const FULL: Sizes = Sizes {
    servers: 20,
    senders: 20_000,
    many_senders: 1_000_000,
    changes: 30,
    kills_of_followers: 60,
    kills_of_the_database: 20,
    away: Duration::from_secs(60),
    idle: Duration::from_secs(60),
    restarted: 200,
};

const QUICK: Sizes = Sizes {
    servers: 4,
    senders: 2_000,
    many_senders: 50_000,
    changes: 5,
    kills_of_followers: 6,
    kills_of_the_database: 3,
    away: Duration::from_secs(5),
    idle: Duration::from_secs(5),
    restarted: 30,
};

/// A part, which returns its rows.
type Part = fn(&Sizes) -> Vec<Row>;

/// The parts, by the name in the command line.
const PARTS: [(&str, Part); 11] = [
    ("latency", measure_latency),
    ("million", measure_million),
    ("kills", measure_kills),
    ("outages", measure_outages),
    ("silence", measure_silence),
    ("starts", measure_starts),
    ("rows", measure_rows),
    ("cost", measure_cost),
    ("restarts", measure_restarts),
    ("transfer", measure_transfer),
    ("points", measure_points),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs this program without the flag, as a test.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (mut sizes, mut parts) = (&FULL, Vec::new());
    for argument in arguments.iter().filter(|argument| *argument != "--bench") {
        match PARTS.iter().find(|(name, _)| name == argument) {
            Some(part) => parts.push(part),
            None if argument == "--quick" => sizes = &QUICK,
            None => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if parts.is_empty() {
        parts = PARTS.iter().collect();
    }
    println!("{}\n", report::machine());
    report::print_head();
    for (name, measure) in parts {
        eprintln!("{name}");
        for row in measure(sizes) {
            println!("{row}");
        }
    }
    println!("\nLoad averages at the end: {}", report::load());
    ExitCode::SUCCESS
}

fn quantiles(durations: &scenarios::Durations) -> String {
    let [p50, p99, max] = [500, 990, 1000].map(|permille| milliseconds(durations.quantile(permille)));
    format!("p50 {p50}, p99 {p99}, max {max}")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn measure_latency(sizes: &Sizes) -> Vec<Row> {
    let size = |notify| latency::Size {
        servers: sizes.servers,
        senders: sizes.senders,
        changes: sizes.changes,
        notify,
    };
    let what = format!(
        "{} servers, {} senders, {} changes: commit to answer",
        sizes.servers, sizes.senders, sizes.changes
    );
    let floor = latency::floor(sizes.servers, sizes.senders, sizes.changes);
    let (hinted, polled) = (latency::measure(&size(true)), latency::measure(&size(false)));
    let (at_rest, most) = hinted.follower_memory;
    let [database, followers, serve] = hinted.processor.map(milliseconds);
    vec![
        row(1, &what, "p99 500 ms, max 1 s", quantiles(&hinted.answers)),
        row(
            1,
            "of this, the floor: swap of the link to answer, without a database",
            "",
            quantiles(&floor),
        ),
        row(
            4,
            "without notifications",
            "max 1.3 s",
            quantiles(&polled.answers),
        ),
        row(
            14,
            "the largest follower after it: at rest, the most",
            "15 MB",
            format!("{}, {}", megabytes(at_rest), megabytes(most)),
        ),
        row(
            1,
            "processor time of a change, polls included: database, all followers, all servers",
            "",
            format!("{database}, {followers}, {serve}"),
        ),
    ]
}

fn measure_million(sizes: &Sizes) -> Vec<Row> {
    let measured = latency::measure(&latency::Size {
        servers: 1,
        senders: sizes.many_senders,
        changes: sizes.changes,
        notify: true,
    });
    let what = format!(
        "1 server, {} senders, {} changes: commit to answer",
        sizes.many_senders, sizes.changes
    );
    let floor = latency::floor(1, sizes.many_senders, 5);
    let cost = cost::measure(1, sizes.many_senders, Duration::from_secs(5));
    let (at_rest, most) = measured.follower_memory;
    let [database, followers, serve] = measured.processor.map(milliseconds);
    let ratio = |memory: u64| {
        format!(
            "{} ({:.2} × text)",
            megabytes(memory),
            memory as f64 / cost.text as f64
        )
    };
    vec![
        row(1, &what, "max 1 s", quantiles(&measured.answers)),
        row(
            1,
            "of this, the floor: swap of the link to answer, without a database",
            "",
            quantiles(&floor),
        ),
        row(
            14,
            "the follower after it: at rest, the most",
            "1.2 × text",
            format!("{}, {}", ratio(at_rest), ratio(most)),
        ),
        row(
            1,
            "processor time of a change, polls included: database, all followers, all servers",
            "",
            format!("{database}, {followers}, {serve}"),
        ),
    ]
}

fn measure_kills(sizes: &Sizes) -> Vec<Row> {
    let size = |kills, pause| kills::Size {
        senders: sizes.senders,
        kills,
        pause: Duration::from_millis(pause),
    };
    let followers = kills::kill_followers(&size(sizes.kills_of_followers, 100));
    let database = kills::kill_database(&size(sizes.kills_of_the_database, 100));
    let rows = |name: &str, kills: u32, measured: &kills::Measured| {
        let checked = measured.checked;
        vec![
            row(
                2,
                &format!(
                    "{kills} kills of {name} during {} transactions that change every row",
                    measured.transactions
                ),
                "0 torn, 0 not answered, 0 older",
                format!(
                    "{} pairs: {} torn, {} not answered, {} older",
                    checked.pairs, checked.torn, checked.not_answered, checked.older
                ),
            ),
            row(
                2,
                "the last commit is answered after the last kill",
                "2 s",
                milliseconds(measured.last_commit_answered),
            ),
        ]
    };
    let mut all = rows("the follower", sizes.kills_of_followers, &followers);
    all.extend(rows("the database", sizes.kills_of_the_database, &database));
    all
}

fn measure_outages(sizes: &Sizes) -> Vec<Row> {
    let mut rows = Vec::new();
    for outage in outages::OUTAGES {
        let measured = outages::measure(outage, 3, sizes.senders, sizes.away);
        let what =
            |text: &str| format!("database {outage:?} for {} s: {text}", sizes.away.as_secs()).to_lowercase();
        let microseconds =
            |durations: &scenarios::Durations| format!("{} µs", durations.quantile(990).as_micros());
        rows.extend([
            row(
                3,
                &what("changed answers"),
                "0",
                format!("0 of {}", measured.replies),
            ),
            row(
                3,
                &what("p99 of a reply before, during"),
                "+ 10 %",
                format!(
                    "{}, {}",
                    microseconds(&measured.before),
                    microseconds(&measured.during)
                ),
            ),
            row(
                3,
                &what("logged after, lines"),
                "3 s, 1",
                format!("{}, {}", milliseconds(measured.logged), measured.lines),
            ),
            row(
                3,
                &what("a change after its return is answered"),
                "2 s",
                milliseconds(measured.answered),
            ),
        ]);
    }
    rows
}

fn measure_silence(sizes: &Sizes) -> Vec<Row> {
    let mut rows: Vec<Row> = hints::SILENCES
        .into_iter()
        .map(|silence| {
            let longest = hints::measure(silence, 3, sizes.senders, 10);
            let what = format!("no notification ({}): the longest of 10 changes", silence.name());
            row(4, &what, "2 s", milliseconds(longest))
        })
        .collect();
    let took = failover::measure(sizes.senders);
    rows.push(row(
        5,
        "failover that loses a commit: all servers have the rows of the other",
        "2 s",
        milliseconds(took),
    ));
    rows
}

fn measure_starts(sizes: &Sizes) -> Vec<Row> {
    starts::without_a_directory(sizes.senders);
    vec![
        row(
            7,
            &format!(
                "start without the database, {} senders: first answer",
                sizes.senders
            ),
            "50 ms",
            milliseconds(starts::measure(sizes.senders)),
        ),
        row(
            7,
            &format!("the same, {} senders", sizes.many_senders),
            "1 s",
            milliseconds(starts::measure(sizes.many_senders)),
        ),
    ]
}

fn measure_rows(sizes: &Sizes) -> Vec<Row> {
    let took = bad_rows::measure(sizes.senders);
    let what = format!(
        "one bad row of {} from a query (every 500 ms): the other change is answered",
        sizes.senders
    );
    vec![row(9, &what, "1 s", milliseconds(took))]
}

fn measure_cost(sizes: &Sizes) -> Vec<Row> {
    let cost = cost::measure(sizes.servers, sizes.senders, sizes.idle);
    let share = |share: f64| format!("{:.2} %", share * 100.0);
    vec![
        row(
            14,
            &format!("{} idle followers: the database (without them)", sizes.servers),
            "2 % of a core",
            format!("{} ({})", share(cost.database), share(cost.database_alone)),
        ),
        row(14, "an idle follower: processor", "", share(cost.follower)),
        row(
            14,
            "an idle follower: memory",
            "15 MB",
            megabytes(cost.follower_memory),
        ),
        row(
            14,
            "a connection: private memory in the database",
            "",
            megabytes(cost.backend_memory),
        ),
        row(14, "the program", "5 MB", megabytes(cost.program)),
    ]
}

fn measure_restarts(sizes: &Sizes) -> Vec<Row> {
    let measured = restarts::measure(sizes.restarted, sizes.senders);
    let what = format!("{} followers restarted at once", sizes.restarted);
    vec![
        row(
            15,
            &format!("{what}: the most connections"),
            &sizes.restarted.to_string(),
            measured.connections.to_string(),
        ),
        row(
            15,
            &format!("{what}: all have confirmed their tables"),
            "30 s",
            milliseconds(measured.settled),
        ),
        row(
            15,
            &format!("{what}: processor time of the database"),
            "",
            milliseconds(measured.database),
        ),
    ]
}

fn measure_transfer(sizes: &Sizes) -> Vec<Row> {
    transfer::check(sizes.senders);
    let what = format!(
        "load of {} senders, then dump: other entries, replies of a part",
        sizes.senders
    );
    vec![row(16, &what, "0, 0", "0, 0".to_owned())]
}

fn measure_points(sizes: &Sizes) -> Vec<Row> {
    points::measure(sizes.senders, sizes.many_senders)
}
