//! An additional map, added without a change of any other module: its specification, its file and its search are here.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, Command, FromArgMatches};

use crate::config::Limits;
use crate::config::Sources;
use crate::config::options::{Options, ServiceOptions};
use crate::control::admin::liveness::probe;
use crate::control::admin::rates::Rates;
use crate::control::admin::status::{Status, TableDigests};
use crate::control::admin::{View, metrics};
use crate::diagnostics::Findings;
use crate::lookup::address::{Key, LookupKeys};
use crate::lookup::explain;
use crate::lookup::map::{AnswerKind, Map, MapSpec, Maps, Misuse};
use crate::lookup::rationale::{Entry, Rationale, Source};
use crate::lookup::search::{Scratch, Search};
use crate::lookup::snapshot::{ActiveSnapshot, Snapshot};
use crate::lookup::table::Hit;
use crate::lookup::table::spec::{Format, KeyKind, TableSpec, ValueKind};
use crate::net::address::Address;
use crate::net::bind::bind;
use crate::net::socket_file::SocketAccess;
use crate::protocol::Protocol;
use crate::protocol::answer::{Answer, Reason};
use crate::protocol::client::{Client, Response};
use crate::protocol::endpoint::Endpoint;
use crate::server::Server;
use crate::server::counters::Counters;
use crate::source::{Reloader, evaluate};

static TRANSPORTS_FILE: TableSpec = TableSpec {
    file: "transports.cf",
    label: "transport",
    format: Format {
        keys: KeyKind::SenderOrHost,
        values: ValueKind::NextHop,
    },
    invalid_entry: Reason::new("the transport of this key has an error"),
    unparsable_key: Reason::new("the transports have a line whose key cannot be read"),
    unreadable: Reason::new("the transports cannot be read"),
};

static TRANSPORT: MapSpec = MapSpec {
    name: "transport",
    parameter: "transport_maps",
    answers: AnswerKind::NextHop,
    table: &TRANSPORTS_FILE,
    search: &ExactSearch,
    misuse: Misuse {
        other_map: "it asks for something else",
        table_after: "another table stands after it",
        not_used: "nothing is asked",
    },
};

static ALL: [Map; 3] = [Map::RELAYHOST, Map::SASL, Map::new(&TRANSPORT)];
static MAPS: Maps = Maps::new(&ALL);

/// Looks up the whole key alone. The value is composed.
struct ExactSearch;

impl Search for ExactSearch {
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &LookupKeys, scratch: &'a mut Scratch) -> Answer<'a> {
        let Some(table) = snapshot.table(&TRANSPORTS_FILE) else {
            return Answer::CannotTell(TRANSPORTS_FILE.unreadable);
        };
        match table.find([keys.whole_key()]) {
            Hit::Value(value) => Answer::Found(scratch.compose(&[b"smtp:", value])),
            Hit::NoValue | Hit::Absent => Answer::NotFound,
            Hit::CannotTell(reason) => Answer::CannotTell(reason),
        }
    }

    fn keys<'k>(&self, _: &Snapshot, keys: &'k LookupKeys) -> Vec<Key<'k>> {
        vec![keys.whole_key()]
    }

    fn explain(&self, _: &Snapshot, _: &LookupKeys, _: Answer<'_>, entry: Option<Entry<'_>>) -> Rationale {
        Rationale::from_entry(entry, "so it is written")
    }
}

fn sources(dir: &Path) -> Sources {
    let command = Options::augment_args(Command::new("test"));
    let matches = command.get_matches_from(["test".as_ref(), "--dir".as_ref(), dir.as_os_str()]);
    let options = Options::from_arg_matches(&matches).unwrap();
    Sources::new(options, ServiceOptions::default(), &mut Findings::default()).with_maps(MAPS)
}

fn ask(client: &mut Client, map: &str, key: &str) -> String {
    match client.lookup(map, key.as_bytes()).unwrap() {
        Response::Found(value) => String::from_utf8(value.expose().to_vec()).unwrap(),
        Response::NotFound => "-".to_owned(),
        Response::CannotTell(reason) => format!("? {reason}"),
    }
}

#[test]
fn an_additional_map_is_served_reloaded_counted_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(file("postfix-relaymap.cf"), "@a.test [relay.test]:587\n").unwrap();
    fs::write(file("postfix-sasl-password.cf"), "@a.test user:password\n").unwrap();
    fs::write(file("transports.cf"), "b.test [one.test]:25\nc.test [one\n").unwrap();
    let sources = sources(dir.path());
    let settings = evaluate::read_settings(&sources, &mut Findings::default());
    let (reloader, snapshot) = Reloader::load_initial(sources, settings, &Findings::default());
    let reload_status = reloader.status();
    let active_snapshot = Arc::new(ActiveSnapshot::new(snapshot));
    let reloader = reloader.start(Arc::clone(&active_snapshot)).unwrap();

    // An error in its file is reported with its place, and affects that key alone.
    let findings = reload_status.report().findings;
    let finding = findings.iter().next().unwrap().to_string();
    assert!(finding.contains("transports.cf:2:8: error: "), "{finding}");

    let address = Address::Unix(file("socket"));
    let access = SocketAccess {
        mode: 0o600,
        owner: None,
        group: None,
    };
    let listener = bind("test", &address, &access).unwrap().remove(0);
    let counters = Arc::new(Counters::new(MAPS, false));
    let server = Server::new(
        vec![(Protocol::Socketmap, listener)],
        Arc::clone(&active_snapshot),
        Arc::clone(&counters),
        Limits::default(),
    )
    .unwrap();
    let (stop, (liveness, _responder)) = (server.stop(), probe(server.waker()));
    let server = thread::spawn(move || server.run(|| {}));
    let mut client = Client::connect(Endpoint {
        protocol: Protocol::Socketmap,
        address,
    })
    .unwrap();
    assert_eq!(ask(&mut client, "transport", "B.test"), "smtp:[one.test]:25");
    assert_eq!(ask(&mut client, "transport", "any@b.test"), "-");
    let unsure = format!("? {}", TRANSPORTS_FILE.invalid_entry);
    assert_eq!(ask(&mut client, "transport", "c.test"), unsure);
    assert_eq!(ask(&mut client, "relayhost", "any@a.test"), "[relay.test]:587");
    let names = "relayhost, sasl and transport";
    let unknown = ask(&mut client, "none", "b.test");
    assert!(unknown.ends_with(names), "{unknown}");

    // A valid edit of its file takes effect.
    fs::write(file("transports.cf"), "b.test [two.test]:25\n").unwrap();
    let begun = Instant::now();
    while ask(&mut client, "transport", "b.test") != "smtp:[two.test]:25" {
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::yield_now();
    }
    // An invalid edit does not.
    let is_rejected = || reload_status.report().findings.errors() > 0;
    fs::write(file("transports.cf"), "b.test [three\n").unwrap();
    while !is_rejected() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::yield_now();
    }
    assert_eq!(ask(&mut client, "transport", "b.test"), "smtp:[two.test]:25");

    let mut scratch = Scratch::default();
    let snapshot = active_snapshot.load_full();
    let explanation = explain::explain(&snapshot, Map::new(&TRANSPORT), b"b.test", &mut scratch);
    assert_eq!(explanation.source, Some(Source::Line(&TRANSPORTS_FILE, 1)));
    assert_eq!(explanation.reason, "so it is written");

    let view = View {
        rates: Rates::new(&counters),
        directory: dir.path().to_owned(),
        host: None,
        active_snapshot,
        counters,
        reload_status,
        liveness,
        listeners: Vec::new(),
        started: SystemTime::now(),
        digests: TableDigests::default(),
    };
    let status = Status::new(&view);
    let own = status
        .files
        .iter()
        .find(|file| file.path.ends_with("/transports.cf"))
        .unwrap();
    assert_eq!(
        (own.map.as_deref(), own.entries, own.valid),
        (Some("transport"), Some(1), false)
    );
    assert!(own.digest.is_some());
    let metrics = metrics::render(&view);
    for line in [
        "postmapd_lookups_total{map=\"transport\",outcome=\"not_found\"} 1\n",
        "postmapd_lookups_total{map=\"transport\",outcome=\"cannot_tell\"} 1\n",
        "postmapd_lookups_total{map=\"sasl\",outcome=\"found\"} 0\n",
        "postmapd_table_entries{map=\"transport\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }

    drop(reloader);
    stop.begin();
    server.join().unwrap().unwrap();
}
