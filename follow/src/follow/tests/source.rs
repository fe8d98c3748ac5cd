//! A source whose states and faults a test sets, and that records what it is asked.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::engine::{Connection, Engine, EngineError, EngineErrorKind, Extent, Reading, Rows, State, Table};
use crate::rows::Row;

/// The rows of the tables, by key: next hops, and logins as `user:password`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) relay: BTreeMap<String, String>,
    pub(super) credentials: BTreeMap<String, String>,
}

impl Content {
    /// Rows of `senders` senders, each with a value that has this number.
    pub(super) fn new(number: u64, senders: u64) -> Self {
        let keys = || (0..senders).map(|sender| format!("@s{sender}.test"));
        Self {
            relay: keys().map(|key| (key, format!("[r{number}.test]:587"))).collect(),
            credentials: keys()
                .map(|key| (key, format!("user:password{number}")))
                .collect(),
        }
    }

    /// The files of the two tables.
    pub(super) fn files(&self) -> [String; 2] {
        [&self.relay, &self.credentials].map(|table| {
            let lines = table.iter().map(|(key, value)| format!("{key} {value}\n"));
            lines.collect()
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Connect,
    State,
    /// Whether a state was known.
    Read(bool),
}

#[derive(Default)]
struct Inner {
    /// All states, the current one last.
    states: Vec<(State, Content)>,
    /// The versions since which all changes are recorded.
    recorded: Vec<String>,
    is_away: bool,
    login_fails: bool,
    /// The number of rows after which a read fails.
    fails_after: Option<usize>,
    read_time: Duration,
    /// Connections before this one are lost.
    first_connection: u64,
    connections: u64,
    calls: Vec<(Instant, Call)>,
}

#[derive(Clone, Default)]
pub(super) struct Source {
    inner: Rc<RefCell<Inner>>,
    hint: Rc<Notify>,
}

pub(super) struct Session {
    source: Source,
    number: u64,
}

impl Source {
    /// Creates one with this content.
    pub(super) fn new(content: Content) -> Self {
        let source = Self::default();
        source.change(content);
        source
    }

    /// Commits content as the next revision, and records the change. Gives no hint.
    pub(super) fn change(&self, content: Content) {
        let revision = self.revision() + 1;
        self.replace(revision, content);
        let version = self.state().version;
        self.inner.borrow_mut().recorded.push(version);
    }

    /// Replaces the database: another state with this revision, and no record of a change.
    pub(super) fn replace(&self, revision: u64, content: Content) {
        let mut inner = self.inner.borrow_mut();
        let state = State {
            revision: Some(revision),
            version: format!("version {}", inner.states.len()),
            committed: SystemTime::now(),
        };
        inner.recorded.clear();
        inner.states.push((state, content));
    }

    /// Like [`Self::change`], while the changes before are still recorded.
    pub(super) fn change_on(&self, content: Content) {
        let recorded = self.inner.borrow().recorded.clone();
        self.change(content);
        self.inner.borrow_mut().recorded.splice(0..0, recorded);
    }

    /// Changes the rows of the current state.
    pub(super) fn change_silently(&self, content: Content) {
        let mut inner = self.inner.borrow_mut();
        inner.states.last_mut().unwrap().1 = content;
    }

    pub(super) fn hint(&self) {
        self.hint.notify_one();
    }

    /// Ends all connections, and accepts none until [`Self::come_back`].
    pub(super) fn go_away(&self) {
        self.inner.borrow_mut().is_away = true;
        self.cut();
    }

    pub(super) fn come_back(&self) {
        self.inner.borrow_mut().is_away = false;
    }

    /// Ends all connections.
    pub(super) fn cut(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.first_connection = inner.connections;
    }

    pub(super) fn refuse_logins(&self) {
        self.inner.borrow_mut().login_fails = true;
    }

    pub(super) fn accept_logins(&self) {
        self.inner.borrow_mut().login_fails = false;
    }

    /// Lets the next read fail after this number of rows.
    pub(super) fn fail_after(&self, rows: usize) {
        self.inner.borrow_mut().fails_after = Some(rows);
    }

    pub(super) fn set_read_time(&self, time: Duration) {
        self.inner.borrow_mut().read_time = time;
    }

    pub(super) fn revision(&self) -> u64 {
        let inner = self.inner.borrow();
        inner
            .states
            .last()
            .and_then(|(state, _)| state.revision)
            .unwrap_or(0)
    }

    pub(super) fn state(&self) -> State {
        self.inner.borrow().states.last().unwrap().0.clone()
    }

    pub(super) fn content(&self) -> Content {
        self.inner.borrow().states.last().unwrap().1.clone()
    }

    /// The files of all states that there were.
    pub(super) fn all_files(&self) -> Vec<[String; 2]> {
        let inner = self.inner.borrow();
        inner.states.iter().map(|(_, content)| content.files()).collect()
    }

    /// The times of the calls of this kind.
    pub(super) fn times(&self, is_kind: impl Fn(Call) -> bool) -> Vec<Instant> {
        let inner = self.inner.borrow();
        let calls = inner.calls.iter().filter(|(_, call)| is_kind(*call));
        calls.map(|(at, _)| *at).collect()
    }

    pub(super) fn reads(&self) -> Vec<Instant> {
        self.times(|call| matches!(call, Call::Read(_)))
    }

    fn call(&self, call: Call) -> Ref<'_, Inner> {
        self.inner.borrow_mut().calls.push((Instant::now(), call));
        self.inner.borrow()
    }
}

fn lost() -> EngineError {
    EngineErrorKind::Lost("by the test".to_owned()).at("db.test")
}

impl Engine for Source {
    type Connection = Session;

    async fn connect(&mut self) -> Result<Session, EngineError> {
        let (is_away, login_fails) = {
            let inner = self.call(Call::Connect);
            (inner.is_away, inner.login_fails)
        };
        if login_fails {
            return Err(EngineErrorKind::Login("by the test".to_owned()).at("db.test"));
        }
        if is_away {
            return Err(EngineErrorKind::Connect("by the test".to_owned()).at("db.test"));
        }
        let mut inner = self.inner.borrow_mut();
        inner.connections += 1;
        Ok(Session {
            source: self.clone(),
            number: inner.connections - 1,
        })
    }
}

impl Session {
    fn check(&self) -> Result<(), EngineError> {
        if self.number < self.source.inner.borrow().first_connection {
            return Err(lost());
        }
        Ok(())
    }
}

impl Connection for Session {
    async fn state(&mut self) -> Result<State, EngineError> {
        self.source.call(Call::State);
        self.check()?;
        Ok(self.source.state())
    }

    async fn read(&mut self, known: Option<&State>, rows: &mut dyn Rows) -> Result<Reading, EngineError> {
        let (state, content, time) = {
            let inner = self.source.call(Call::Read(known.is_some()));
            let (state, content) = inner.states.last().unwrap().clone();
            (state, content, inner.read_time)
        };
        self.check()?;
        let before = known.and_then(|known| {
            let inner = self.source.inner.borrow();
            let is_recorded = inner.recorded.contains(&known.version);
            let before = inner
                .states
                .iter()
                .find(|(state, _)| state.version == known.version);
            before.filter(|_| is_recorded).map(|(_, content)| content.clone())
        });
        rows.begin(if before.is_some() {
            Extent::Changes
        } else {
            Extent::Everything
        });
        let is_continuous = before.is_some();
        let before = before.as_ref();
        let mut sent = 0;
        for (table, now, before) in [
            (Table::Relay, &content.relay, before.map(|before| &before.relay)),
            (
                Table::Credentials,
                &content.credentials,
                before.map(|before| &before.credentials),
            ),
        ] {
            rows.table(table);
            let mut keys: Vec<&String> = now
                .keys()
                .chain(before.into_iter().flat_map(BTreeMap::keys))
                .collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                if before.is_some_and(|before| before.get(key) == now.get(key)) {
                    continue;
                }
                if self.source.inner.borrow().fails_after == Some(sent) {
                    self.source.inner.borrow_mut().fails_after = None;
                    self.source.cut();
                    return Err(lost());
                }
                sent += 1;
                match now.get(key) {
                    None => rows.removed(key.as_bytes()),
                    Some(value) => rows.row(row(table, key, value)),
                }
            }
            sleep(time).await;
            self.check()?;
        }
        Ok(Reading { state, is_continuous })
    }

    async fn hint(&mut self) {
        self.source.hint.notified().await;
    }
}

fn row<'a>(table: Table, key: &'a str, value: &'a str) -> Row<'a> {
    let key = key.as_bytes();
    match (table, value.split_once(':')) {
        (Table::Credentials, Some((user, password))) => Row::Credentials {
            key,
            user: Some(user.as_bytes()),
            password: Some(password.as_bytes()),
        },
        _ => Row::Relay {
            key,
            next_hop: Some(value.as_bytes()),
        },
    }
}
