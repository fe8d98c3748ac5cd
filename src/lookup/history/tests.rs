use std::hash::RandomState;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Difference, History, MAX_KEYS_OF_EDIT, MAX_TABLES, TrackedTables};
use crate::lookup::address::{Delimiters, Key, LookupKeys};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP, TableSpec};
use crate::lookup::table::text::Text;
use crate::lookup::table::{Hit, Table};

const WINDOW: Duration = Duration::from_secs(900);

/// The tables of a server, for edits.
struct EditedServer {
    hasher: RandomState,
    generation: u64,
    relay_map: Arc<Table>,
    credentials: Arc<Table>,
    default: Arc<DefaultRelay>,
    history: History,
}

impl EditedServer {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            generation: 1,
            relay_map: Table::empty(&RELAY_MAP).into(),
            credentials: Table::empty(&CREDENTIALS).into(),
            default: Arc::default(),
            history: History::default(),
        }
    }

    fn table(&self, before: &Arc<Table>, spec: &'static TableSpec, text: &str) -> Arc<Table> {
        let blocks: Vec<_> = before.blocks().cloned().collect();
        let text = Text::read(&mut text.as_bytes(), text.len(), &blocks, &self.hasher).unwrap();
        Table::rebuild(Some(before), spec, Path::new("t"), &text)
    }

    fn edit(&mut self, at: Instant, relay_map: &str, credentials: &str) {
        let relay_map = self.table(&self.relay_map, &RELAY_MAP, relay_map);
        let credentials = self.table(&self.credentials, &CREDENTIALS, credentials);
        let before = TrackedTables {
            relay_map: &self.relay_map,
            credentials: &self.credentials,
            default: &self.default,
        };
        let after = TrackedTables {
            relay_map: &relay_map,
            credentials: &credentials,
            default: &self.default,
        };
        self.history = self.history.with_edit(self.generation, before, after, at, WINDOW);
        (self.relay_map, self.credentials) = (relay_map, credentials);
        self.generation += 1;
    }

    fn relay(&self, sender: &str, generation: u64) -> String {
        let keys = keys(sender);
        match self
            .history
            .next_hop(&self.relay_map, keys.in_order(), generation)
        {
            Hit::Value(value) => String::from_utf8(value.to_vec()).unwrap(),
            Hit::NoValue => "excluded".into(),
            Hit::Absent => "-".into(),
            Hit::CannotTell(reason) => format!("? {reason:?}"),
        }
    }

    fn generations(&self, sender: &str) -> Vec<u64> {
        let mut generations: Vec<u64> = self.history.generations(&keys(sender)).collect();
        generations.sort_unstable();
        generations
    }
}

fn keys(sender: &str) -> LookupKeys {
    let mut keys = LookupKeys::default();
    keys.parse(sender.as_bytes(), &Delimiters::default());
    keys
}

/// Returns `count` senders at one relay.
fn many(count: usize, relay: &str) -> String {
    let lines: Vec<String> = (0..count)
        .map(|n| format!("user{n}@many.test {relay}\n"))
        .collect();
    lines.concat()
}

#[test]
fn lines_with_unreadable_keys_forget_no_edit_and_move_no_sender_without_a_change() {
    let now = Instant::now();
    let mut edited = EditedServer::new();
    // Every second version has a line whose key cannot be read.
    let last = 10;
    assert!(last > 2 * MAX_TABLES);
    for number in 2..=last {
        let line = ["", "@b..test [r]\n"][number % 2];
        edited.edit(now, &format!("@a.test [r{number}]\n@same.test [r]\n{line}"), "");
    }
    assert!(!edited.history.is_truncated());
    assert_eq!(edited.generations("x@same.test"), [1]);
    assert_eq!(edited.relay("x@a.test", 1), "-");
    let uncertain = format!("? {:?}", RELAY_MAP.unparsable_key);
    for (number, generation) in (2..=last).zip(2..) {
        assert_eq!(edited.relay("x@a.test", generation), format!("[r{number}]"));
        assert_eq!(edited.relay("x@same.test", generation), "[r]");
        let other = ["-", uncertain.as_str()][number % 2];
        assert_eq!(edited.relay("x@other.test", generation), other, "{number}");
    }
}

#[test]
fn each_earlier_generation_answers_as_it_did() {
    let now = Instant::now();
    let mut edited = EditedServer::new();
    let texts = [
        "@a.test [r1]\n",
        "@a.test [r2]\nx@a.test\n",
        "x@a.test [r3]\n",
        "@a.test [r1]\n",
    ];
    for text in texts {
        edited.edit(now, text, "");
    }
    for (generation, any, x) in [
        (1, "-", "-"),
        (2, "[r1]", "[r1]"),
        (3, "[r2]", "excluded"),
        (4, "-", "[r3]"),
        (5, "[r1]", "[r1]"),
    ] {
        assert_eq!(edited.relay("any+ext@A.test", generation), any, "{generation}");
        assert_eq!(edited.relay("x@a.test", generation), x, "{generation}");
    }
    assert_eq!(edited.generations("any@a.test"), [1, 2, 3, 4]);
    assert_eq!(edited.generations("any@b.test"), [0; 0]);
}

#[test]
fn an_earlier_entry_for_subdomains_or_for_all_senders_answers_as_it_did() {
    let now = Instant::now();
    let mut edited = EditedServer::new();
    let texts = [
        "@* [any]\n",
        "@* [any]\n@.test [wide]\n",
        "@*\n@.test [wide]\n@.b.test [deep]\n",
        "@.test [wider]\n@.b.test\n",
        "# nothing\n",
    ];
    for text in texts {
        edited.edit(now, text, "");
    }
    for (generation, of_test, of_deep, elsewhere) in [
        (1, "-", "-", "-"),
        (2, "[any]", "[any]", "[any]"),
        (3, "[wide]", "[wide]", "[any]"),
        (4, "[wide]", "[deep]", "excluded"),
        (5, "[wider]", "excluded", "-"),
        (6, "-", "-", "-"),
    ] {
        assert_eq!(edited.relay("u@b.test", generation), of_test, "{generation}");
        assert_eq!(edited.relay("U+x@A.b.test", generation), of_deep, "{generation}");
        assert_eq!(
            edited.relay("u@elsewhere.example", generation),
            elsewhere,
            "{generation}"
        );
        for without_domain in ["<>", "user"] {
            assert_eq!(edited.relay(without_domain, generation), "-", "{generation}");
        }
    }
    assert_eq!(edited.generations("u@a.b.test"), [1, 2, 3, 3, 4, 4, 4, 5, 5]);
    assert_eq!(edited.generations("u@test"), [1, 3, 4]);
    assert_eq!(edited.generations("<>"), [0; 0]);
    // A host that is requested is never the key of subdomains.
    let history = &edited.history;
    for (key, has_entry) in [("@.test", true), (".test", false)] {
        let hit = history.next_hop(&edited.relay_map, [Key::from(key.as_bytes())], 3);
        assert_eq!(matches!(hit, Hit::Value(_)), has_entry, "{key}");
    }
    assert_eq!(edited.history.moved_entries(), 3);
}

#[test]
fn only_edits_older_than_the_window_are_forgotten() {
    let start = Instant::now();
    let later = start + Duration::from_secs(600);
    let mut edited = EditedServer::new();
    edited.edit(start, "@a.test [r1]\n@b.test [r1]\n", "");
    edited.edit(later, "@a.test [r1]\n@b.test [r2]\n", "");
    assert_eq!(edited.history.expires(WINDOW), Some(start + WINDOW));
    let history = edited.history.without_expired(start + WINDOW, WINDOW);
    assert_eq!(history.generations(&keys("x@a.test")).count(), 0);
    assert_eq!(history.generations(&keys("x@b.test")).collect::<Vec<_>>(), [2]);
    assert!(!history.is_truncated());
    assert!(history.without_expired(later + WINDOW, WINDOW).is_empty());
}

#[test]
fn an_edit_of_credentials_alone_is_remembered_only_after_a_sender_moved() {
    let now = Instant::now();
    let mut edited = EditedServer::new();
    edited.edit(now, "@a.test [r1]\n", "[r1] u:1\n");
    edited.history = History::default();
    edited.edit(now, "@a.test [r1]\n", "[r1] u:2\n");
    assert!(edited.history.is_empty());
    edited.edit(now, "@a.test [r2]\n", "[r1] u:2\n");
    edited.edit(now, "@a.test [r2]\n", "");
    let key = keys("[r1]");
    let login = |generation| match edited
        .history
        .login(&edited.credentials, [key.whole_key()], generation)
    {
        Hit::Value(value) => String::from_utf8(value.to_vec()).unwrap(),
        _ => String::new(),
    };
    assert_eq!(
        (login(3).as_str(), login(4).as_str(), login(5).as_str()),
        ("u:2", "u:2", "")
    );
}

#[test]
fn a_large_edit_is_remembered_as_a_whole_table_up_to_the_limit() {
    let now = Instant::now();
    let mut edited = EditedServer::new();
    let count = MAX_KEYS_OF_EDIT + 1;
    edited.edit(now, &many(count, "[r]"), "");
    edited.history = History::default();
    for relay in ["[r1]", "[r2]"] {
        edited.edit(now, &many(count, relay), "");
    }
    assert_eq!(edited.relay("user7@many.test", 2), "[r]");
    assert_eq!(edited.relay("user7@many.test", 3), "[r1]");
    assert_eq!(edited.relay("user7@many.test", 4), "[r2]");
    assert!(!edited.history.is_truncated());
    for relay in 0..=MAX_TABLES {
        edited.edit(now, &many(count, &format!("[s{relay}]")), "");
    }
    assert!(edited.history.is_truncated());
    assert!(
        !edited
            .history
            .without_expired(now + WINDOW, WINDOW)
            .is_truncated()
    );
}

#[test]
fn an_edit_of_one_line_of_a_large_table_is_remembered_as_one_key() {
    let text = many(20_000, "[r1]");
    let mut edited = EditedServer::new();
    edited.edit(Instant::now(), &text, "");
    let after = text.replace("user777@many.test [r1]", "user777@many.test [r2]");
    let after = edited.table(&edited.relay_map, &RELAY_MAP, &after);
    match Difference::between(&edited.relay_map, &after) {
        Difference::Keys(keys) => {
            assert_eq!(keys.len(), 1);
            assert_eq!(&*keys[0].0, b"user777@many.test");
        }
        _ => panic!("a table is kept"),
    }
}
