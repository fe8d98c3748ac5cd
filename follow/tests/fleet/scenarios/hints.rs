//! Changes that the database does not announce, or not to this connection.

use std::time::{Duration, Instant};

use crate::apparatus::eventually;
use crate::apparatus::fleet::{Fleet, SERVER};
use crate::apparatus::sql::Sql;
use crate::database::pgbouncer::PgBouncer;

/// Why no follower gets a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The connections end at the moment of the commit.
    Disconnected,
    /// The database sends none.
    NoNotify,
    /// A standby, where LISTEN is an error.
    Standby,
    /// pgbouncer in transaction mode, where LISTEN succeeds and nothing arrives.
    PgBouncer,
}

impl Silence {
    /// In the words of an administrator.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "the connections end at the commit",
            Self::NoNotify => "the database sends none",
            Self::Standby => "a standby",
            Self::PgBouncer => "pgbouncer in transaction mode",
        }
    }
}

pub(crate) const SILENCES: [Silence; 4] = [
    Silence::Disconnected,
    Silence::NoNotify,
    Silence::Standby,
    Silence::PgBouncer,
];

/// Commits this many changes, and returns the longest time from a commit to its answer.
pub(crate) fn measure(silence: Silence, servers: usize, senders: u64, changes: u64) -> Duration {
    let mut fleet = Fleet::new(servers, senders);
    let standby = (silence == Silence::Standby).then(|| fleet.postgres.start_standby_with(SERVER));
    let pgbouncer = (silence == Silence::PgBouncer).then(|| PgBouncer::start(&fleet.postgres, 2));
    let source = standby
        .as_ref()
        .map(|standby| standby.source("reader"))
        .or_else(|| pgbouncer.as_ref().map(PgBouncer::source));
    if let Some(source) = source {
        for server in &fleet.servers {
            server.set(&format!("source = \"{source}\"\ntls = \"off\"\n"));
        }
    }
    if silence == Silence::NoNotify {
        remove_notify(&mut fleet.sql);
    }
    fleet.start_all();
    let mut longest = Duration::ZERO;
    for transaction in 1..=changes {
        let begun = Instant::now();
        fleet.change_one(transaction % senders, transaction);
        if silence == Silence::Disconnected {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'";
            // On a loaded machine, it may be that none is connected at this moment.
            eventually(|| fleet.sql.run(end), |ended| !ended.is_empty());
        }
        fleet.wait_for_transaction(transaction % senders, transaction);
        longest = longest.max(begun.elapsed());
    }
    longest
}

/// Removes the notification from the functions of the schema, and nothing else.
pub(crate) fn remove_notify(sql: &mut Sql) {
    let functions = sql.run(
        "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = 'postmapd' AND p.prosrc LIKE '%pg_notify%'",
    );
    assert!(!functions.is_empty(), "the schema has no notification");
    for function in functions {
        sql.run(&function[0].replace("pg_notify", "concat"));
    }
}
