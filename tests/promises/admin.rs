//! Promise: the admin listener reports the true state of the server, in the formats that monitoring reads, and its
//! clients can neither delay a lookup nor learn a credential.
//!
//! Oracles: promtool, the parsers of Prometheus' own client library for Python, sha256sum. `secrets.rs` tests that no
//! password is sent, and `monitoring.rs` that a Prometheus can use it.

use crate::harness::admin::{Admin, exchange};
use crate::harness::client::{Both, Reply, Socketmap, Stream};
use crate::harness::daemon::{CREDENTIALS, DEADLINE, Daemon, RELAY_TLS, RELAYMAP, Setup, finish};
use crate::harness::{eventually, strace};
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const GOOD: &str = "@one.test [relay1.test]:587\n@two.test\n";

fn setup() -> Setup {
    Setup::new().relaymap(GOOD).credentials("@one.test user:pass\n")
}

/// Series with their values, as returned by [`crate::harness::admin::Metrics::not_zero`].
fn series<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
    expected
        .into_iter()
        .map(|(labels, value)| (labels.to_owned(), value.to_owned()))
        .collect()
}

fn seconds_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// A time in RFC 3339, as seconds since the epoch.
#[track_caller]
fn seconds_of(time: &str) -> f64 {
    let time = humantime::parse_rfc3339(time).expect("RFC 3339");
    time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn there_is_no_admin_listener_unless_one_is_configured() {
    let daemon = Daemon::start(setup());
    assert!(!daemon.log().contains("admin"), "{}", daemon.log());
    let sockets = |path: &str| {
        let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        let targets = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        let own: Vec<String> = targets.map(|target| target.display().to_string()).collect();
        let table = fs::read_to_string(format!("/proc/{}/net/{path}", daemon.pid())).unwrap();
        let rows = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let is_own = |row: &Vec<&str>| row[3] == "0A" && own.contains(&format!("socket:[{}]", row[9]));
        rows.filter(is_own).count()
    };
    assert_eq!((sockets("tcp"), sockets("tcp6")), (1, 0));
}

#[test]
fn the_address_comes_from_the_flag_the_variable_or_the_settings_file() {
    for setup in [
        setup().settings("admin = \"127.0.0.1:0\"\n"),
        setup()
            .settings("admin = \"nonsense\"\n")
            .env("POSTMAPD_ADMIN", "127.0.0.1:0"),
        setup()
            .env("POSTMAPD_ADMIN", "nonsense")
            .arg("--admin")
            .arg("localhost:0"),
    ] {
        let daemon = Daemon::start(setup);
        assert_eq!(Admin::of(&daemon).get("/healthz").code, 200);
    }
}

#[test]
fn an_admin_address_in_use_ends_the_startup_with_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = setup()
        .arg("--admin")
        .arg(&address)
        .serve_with("socketmap:inet:127.0.0.1:0")
        .exits(69);
    let message = format!("admin {address}: another process is already listening there");
    assert!(refused.stderr.contains(&message), "{}", refused.stderr);
}

#[test]
fn the_admin_listener_serves_on_a_unix_socket_and_removes_it_at_exit() {
    let setup = setup();
    let path = setup.root().join("admin");
    let address = path.to_str().unwrap().to_owned();
    let mut daemon = Daemon::start(
        setup
            .arg("--admin")
            .arg(format!("unix:{address}"))
            .arg("--socket-mode")
            .arg("0600"),
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let reply = exchange(&address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((reply.code, reply.body.as_str()), (200, "ok\n"));
    assert!(daemon.terminate().success());
    assert!(!path.exists());
}

#[test]
fn every_lookup_is_counted_once_by_its_map_and_its_outcome() {
    let setup = Admin::wanted(
        Setup::new()
            .relaymap("@one.test [relay1.test]:587\n@two.test\n@bad.test [relay\n")
            .credentials("@one.test user:pass\n"),
    );
    let (daemon, mut clients) = Both::start(setup);
    let admin = Admin::of(&daemon);
    let found = Reply::found("[relay1.test]:587");
    // Each request is sent over both protocols.
    for _ in 0..3 {
        assert_eq!(clients.relayhost("x@one.test"), found);
    }
    assert_eq!(clients.relayhost("x@two.test"), Reply::NotFound);
    assert_eq!(clients.relayhost("x@elsewhere.test"), Reply::NotFound);
    assert!(clients.relayhost("x@bad.test").is_cannot_tell());
    assert_eq!(clients.sasl("x@one.test"), Reply::found("user:pass"));
    assert_eq!(clients.sasl("relay1.test"), Reply::NotFound);
    assert!(clients.sasl("x@bad.test").is_cannot_tell());
    // These are sent over one protocol, in one write.
    let many = vec![("relayhost", "x@one.test"); 100];
    assert_eq!(clients.socketmap.query_all(&many), vec![found; 100]);

    let metrics = admin.metrics();
    let lookups = [
        "relayhost found 106",
        "relayhost not_found 4",
        "relayhost cannot_tell 2",
        "sasl found 2",
        "sasl not_found 2",
        "sasl cannot_tell 2",
    ];
    let expected = lookups.map(|lookup| {
        let [map, outcome, count] = lookup.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{lookup}")
        };
        (
            format!("{{map=\"{map}\",outcome=\"{outcome}\"}}"),
            count.to_owned(),
        )
    });
    assert_eq!(metrics.not_zero("postmapd_lookups_total"), expected);
    assert_eq!(metrics.not_zero("postmapd_refusals_total"), []);
    assert_eq!(metrics.not_zero("postmapd_protocol_errors_total"), []);
    let value = |series: &str| metrics.value(series).to_string();
    assert_eq!(value("postmapd_lookup_duration_seconds_count"), "118");
    let sum = metrics.value("postmapd_lookup_duration_seconds_sum");
    assert!(sum > 118.0 * 100e-9 && sum < 118.0, "{sum} s");
    assert_eq!(value("postmapd_table_entries{map=\"relayhost\"}"), "3");
    assert_eq!(value("postmapd_table_entries{map=\"sasl\"}"), "1");
}

#[test]
fn the_tls_file_is_in_status_and_metrics() {
    let setup = setup().file(RELAY_TLS, "[relay1.test] verify\n* encrypt\n");
    let daemon = Daemon::start(Admin::wanted(setup));
    let admin = Admin::of(&daemon);
    let entries = admin
        .metrics()
        .value("postmapd_table_entries{map=\"tls\"}")
        .to_string();
    assert_eq!(entries, "2");
    let status = admin.status();
    let files = status["files"].as_array().unwrap();
    let file = files.iter().find(|file| file["map"] == "tls").unwrap();
    assert!(file["path"].as_str().unwrap().ends_with(RELAY_TLS), "{file}");
    assert_eq!((&file["entries"], &file["valid"]), (&2.into(), &true.into()));
}

#[test]
fn refusals_and_protocol_errors_are_counted_by_reason() {
    let (daemon, mut clients) = Both::start(Admin::wanted(setup()));
    let admin = Admin::of(&daemon);
    for _ in 0..2 {
        assert!(clients.socketmap.query("nosuchmap", "x@one.test").is_refused());
    }
    // The map's name and the sender are in no metric: no label contains what a peer sent.
    assert!(
        clients
            .socketmap
            .query("CANARYMAP", "canary@one.test")
            .is_refused()
    );
    let metrics = admin.metrics();
    assert_eq!(
        metrics.not_zero("postmapd_refusals_total"),
        series([("{reason=\"no_such_map\"}", "3")])
    );
    assert_eq!(metrics.not_zero("postmapd_lookups_total"), []);
    for (endpoint, bytes) in [
        (0, &b"5:hello,"[..]),
        (1, b"put x y\n"),
        (0, b"x"),
        (0, b"01:x,"),
        (0, b"15:relayhost x@y.z;"),
        (0, b"999999:"),
        (0, b"20:relayhost"),
        (1, b"get x@one.te"),
    ] {
        let mut stream = Stream::to(&daemon, endpoint);
        stream.write_all(bytes).unwrap();
        stream.finish_sending();
        stream.read_until_closed();
    }
    let mut long = Stream::to(&daemon, 1);
    // The server may close before all is sent.
    let _ = long.write_all(&vec![b'x'; 40_000]);
    long.read_until_closed();
    let expected = series([
        ("{kind=\"length\"}", "2"),
        ("{kind=\"terminator\"}", "1"),
        ("{kind=\"too_long\"}", "2"),
        ("{kind=\"truncated\"}", "2"),
    ]);
    eventually(
        || admin.metrics().not_zero("postmapd_protocol_errors_total"),
        |errors| *errors == expected,
    );
    let text = admin.metrics().0;
    assert!(
        text.contains("postmapd_refusals_total{reason=\"not_a_request\"} 2"),
        "{text}"
    );
    assert!(!text.to_lowercase().contains("canary"), "{text}");
}

#[test]
fn the_connection_metric_is_the_number_of_open_connections() {
    let (daemon, admin) = Admin::start(setup());
    let connections = || admin.metrics().value("postmapd_connections").to_string();
    assert_eq!(connections(), "0");
    let mut clients: Vec<_> = (0..7).map(|_| Socketmap::to(&daemon, 0)).collect();
    for client in &mut clients {
        client.query("relayhost", "x@one.test");
    }
    assert_eq!(connections(), "7");
    assert_eq!(admin.status()["connections"], 7);
    clients.truncate(2);
    eventually(connections, |now| now == "2");
}

#[test]
fn each_reload_attempt_is_reported_with_its_outcome() {
    let (daemon, admin) = Admin::start(setup());
    let begun = seconds_now();
    let status = admin.status();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&status["generation"], &status["ready"]),
        (&1.into(), &true.into())
    );
    assert_eq!(status["listeners"], serde_json::json!([daemon.endpoint(0)]));
    assert_eq!(
        (&status["errors"], &status["findings"]),
        (&0.into(), &serde_json::json!([]))
    );
    let reloads = || admin.metrics().not_zero("postmapd_reloads_total");
    assert_eq!(reloads(), []);
    let loaded = || {
        admin
            .metrics()
            .value("postmapd_snapshot_loaded_timestamp_seconds")
    };
    let first = loaded();
    assert!((begun - first).abs() < DEADLINE.as_secs_f64(), "{first}");
    // The generation, and the outcome of the last reload.
    let last = || {
        let status = admin.status();
        format!(
            "{} {}",
            status["generation"],
            status["last_reload"]["outcome"].as_str().unwrap()
        )
    };
    assert_eq!(last(), "1 changed");

    daemon.replace(RELAYMAP, "@one.test [relay2.test]:587\n");
    let changed = series([("{outcome=\"changed\"}", "1")]);
    eventually(reloads, |now| *now == changed);
    assert_eq!(last(), "2 changed");
    assert!(loaded() > first);
    let second = loaded();

    daemon.hangup();
    let unchanged = series([("{outcome=\"changed\"}", "1"), ("{outcome=\"unchanged\"}", "1")]);
    eventually(reloads, |now| *now == unchanged);
    assert_eq!(last(), "2 unchanged");

    daemon.replace(RELAYMAP, "@one.test [relay2.test\n");
    let failed = series([
        ("{outcome=\"changed\"}", "1"),
        ("{outcome=\"unchanged\"}", "1"),
        ("{outcome=\"failed\"}", "1"),
    ]);
    eventually(reloads, |now| *now == failed);
    assert_eq!(last(), "2 failed");
    let status = admin.status();
    assert_eq!((&status["errors"], &status["ready"]), (&1.into(), &false.into()));
    let finding = &status["findings"][0];
    assert_eq!(finding["code"], "bad-next-hop");
    assert_eq!((&finding["line"], &finding["column"]), (&1.into(), &11.into()));
    assert_eq!(finding["file"].as_str(), daemon.dir().join(RELAYMAP).to_str());
    assert!((loaded() - second).abs() < f64::EPSILON);
    let at = status["last_reload"]["at"].as_str().unwrap();
    assert!((seconds_of(at) - seconds_now()).abs() < DEADLINE.as_secs_f64());
}

#[test]
fn each_poll_confirms_valid_files_and_none_while_one_is_invalid() {
    let (daemon, admin) = Admin::start(setup().settings("[reload]\npoll_interval = 0.02\n"));
    let name = "postmapd_reload_last_success_timestamp_seconds";
    let succeeded = || admin.metrics().value(name);
    // A poll is not counted as a reload. An event of the start may be: another test that was about to start a program can
    // have inherited a file, and closed it late.
    let reloads = || admin.metrics().not_zero("postmapd_reloads_total");
    let around_a_poll = || {
        let (before, first) = (reloads(), succeeded());
        eventually(succeeded, |now| *now > first);
        (before, reloads())
    };
    eventually(around_a_poll, |(before, after)| before == after);
    daemon.replace(RELAYMAP, "@one.test [\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    let last = succeeded();
    let polls_until = seconds_now() + 0.2;
    eventually(seconds_now, |now| *now > polls_until);
    assert!((succeeded() - last).abs() < f64::EPSILON);
    daemon.replace(RELAYMAP, GOOD);
    eventually(succeeded, |now| *now > last);
    assert_eq!(admin.get("/readyz").code, 200);
}

#[test]
fn an_invalid_file_is_reported_with_its_error_and_since_when() {
    let (daemon, admin) = Admin::start(setup());
    let path = |name: &str| daemon.dir().join(name).to_str().unwrap().to_owned();
    let (relay_map, credentials) = (path(RELAYMAP), path(CREDENTIALS));
    let reply = admin.get("/readyz");
    assert_eq!((reply.code, reply.body.as_str()), (200, "ok\n"));
    let valid = |file: &str| {
        let series = format!("postmapd_files_valid{{file=\"{file}\"}}");
        admin.metrics().value(&series).to_string()
    };
    let both_valid = || valid(&relay_map) + &valid(&credentials);
    assert_eq!(both_valid(), "11");

    let before = seconds_now().floor();
    daemon.replace(RELAYMAP, "@one.test [relay1.test\n@two.test [x\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    let body = admin.get("/readyz").body;
    let since = |body: &str| {
        let (_, rest) = body.split_once(": invalid since ").expect("since when");
        let (time, _) = rest.split_once(": ").expect("and why");
        seconds_of(time)
    };
    let first = since(&body);
    assert!(first >= before && first <= seconds_now(), "{body}");
    let expected = format!("2 errors; the first: {relay_map}:1:11: error: this is not a next hop");
    assert!(body.starts_with(&relay_map) && body.contains(&expected), "{body}");
    assert_eq!(body.lines().count(), 1, "{body}");
    assert_eq!(both_valid(), "01");

    // The other file is valid, but not active; the first one has been invalid all the time.
    let reached = seconds_now().ceil();
    eventually(seconds_now, |now| *now > reached);
    daemon.replace(CREDENTIALS, "@one.test user:other\n");
    eventually(|| valid(&credentials), |valid| valid == "0");
    let body = admin.get("/readyz").body;
    assert_eq!(body.lines().count(), 2, "{body}");
    assert!((since(&body) - first).abs() < f64::EPSILON, "{body}");
    let waiting = body.lines().nth(1).unwrap();
    assert!(
        waiting.starts_with(&credentials)
            && waiting.ends_with("not used until the errors of the other files are fixed"),
        "{body}"
    );
    assert!(since(waiting) > first);

    daemon.replace(RELAYMAP, GOOD);
    eventually(|| admin.get("/readyz").code, |code| *code == 200);
    assert_eq!(both_valid(), "11");
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(client.query("sasl", "x@one.test"), Reply::found("user:other"));
}

#[test]
fn a_file_restored_after_an_invalid_edit_is_valid_again() {
    let (daemon, admin) = Admin::start(setup());
    daemon.replace(RELAYMAP, "@one.test [\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    daemon.replace(RELAYMAP, GOOD);
    eventually(|| admin.get("/readyz").code, |code| *code == 200);
    let status = admin.status();
    assert_eq!((&status["generation"], &status["errors"]), (&1.into(), &0.into()));
    assert_eq!(status["last_reload"]["outcome"], "unchanged");
}

#[test]
fn files_invalid_at_startup_are_reported_so_until_they_are_fixed() {
    let setup = Setup::new().relaymap(GOOD);
    let secret = setup.root().join("secret");
    fs::create_dir(setup.dir().join(CREDENTIALS)).unwrap();
    let setup = setup
        .env("RELAY_HOST", "relay.test")
        .env("RELAY_USER", "user")
        .env("RELAY_PASSWORD_FILE", &secret)
        .settings("[reload]\nempty_grace = 0.01\n");
    let (daemon, admin) = Admin::start(setup);
    let lines = || admin.get("/readyz").body.lines().count();
    let reply = admin.get("/readyz");
    assert_eq!((reply.code, lines()), (503, 2), "{}", reply.body);
    let message = format!("{}: invalid since", secret.display());
    assert!(reply.body.contains(&message), "{}", reply.body);
    let status = admin.status();
    assert_eq!(status["last_reload"]["outcome"], "failed");
    assert_eq!(status["last_success"], serde_json::Value::Null);
    let name = "postmapd_reload_last_success_timestamp_seconds";
    assert_eq!(admin.metrics().value(name).to_string(), "0");
    fs::write(&secret, "password\n").unwrap();
    eventually(lines, |lines| *lines == 1);
    fs::remove_dir(daemon.dir().join(CREDENTIALS)).unwrap();
    eventually(|| admin.get("/readyz").code, |code| *code == 200);
    let status = admin.status();
    let files: Vec<_> = status["files"].as_array().unwrap().iter().collect();
    assert_eq!(files.len(), 5, "{status}");
    assert!(files.iter().all(|file| file["valid"] == true), "{status}");
}

#[test]
fn a_missing_directory_is_reported_for_each_table() {
    let setup = Setup::new();
    let directory = setup.root().join("later");
    let (_daemon, admin) = Admin::start(setup.without_dir_flag().env("POSTMAPD_DIR", &directory));
    let body = admin.get("/readyz").body;
    for (line, file) in body.lines().zip([RELAYMAP, CREDENTIALS, RELAY_TLS]) {
        assert!(line.starts_with(directory.join(file).to_str().unwrap()), "{body}");
    }
    assert_eq!(body.lines().count(), 3, "{body}");
}

#[test]
fn a_digest_distinguishes_versions_and_reveals_nothing_about_a_credential() {
    let settings = "recipient_delimiter = \"+\"\n";
    let setup = setup().settings(settings);
    let secret = setup.root().join("secret");
    fs::write(&secret, "password\n").unwrap();
    let setup = setup
        .env("RELAY_HOST", "relay.test")
        .env("RELAY_USER", "user")
        .env("RELAY_PASSWORD_FILE", &secret);
    let (daemon, admin) = Admin::start(setup.clone());
    let (_other_daemon, other) = Admin::start(setup);
    let digest = |admin: &Admin, path: &Path| {
        let status = admin.status();
        let files = status["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["path"].as_str() == path.to_str());
        file.unwrap()["digest"].as_str().unwrap().to_owned()
    };
    let sum = |path: &Path| {
        let ran = finish(Command::new("sha256sum").arg(path), b"");
        ran.stdout.split(' ').next().unwrap().to_owned()
    };
    for name in [RELAYMAP, "postmapd.toml"] {
        let path = daemon.dir().join(name);
        assert_eq!(digest(&admin, &path), format!("sha256:{}", sum(&path)));
        assert_eq!(digest(&admin, &path), digest(&other, &path));
    }
    for path in [daemon.dir().join(CREDENTIALS), secret] {
        let before = digest(&admin, &path);
        assert!(before.starts_with("hmac-sha256:"), "{before}");
        assert!(!before.contains(&sum(&path)));
        assert_ne!(before, digest(&other, &path), "the key is one of each server");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("pass", "word")).unwrap();
        eventually(|| digest(&admin, &path), |now| *now != before);
        fs::write(&path, text).unwrap();
        eventually(|| digest(&admin, &path), |now| *now == before);
    }
    // Nothing is reported of a version that is not active.
    let relay_map = daemon.dir().join(RELAYMAP);
    let before = digest(&admin, &relay_map);
    daemon.replace(RELAYMAP, "@one.test [\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    assert_eq!(digest(&admin, &relay_map), before);
    fs::remove_file(daemon.dir().join("postmapd.toml")).unwrap();
}

#[test]
fn the_status_names_the_version_of_each_file_as_stat_prints_it() {
    let (daemon, admin) = Admin::start(setup());
    let path = daemon.dir().join(RELAYMAP);
    let printed = || {
        let ran = finish(Command::new("stat").args(["-Lc", "%i %.9Z"]).arg(&path), b"");
        ran.stdout.trim().to_owned()
    };
    let read = || {
        let status = admin.status();
        let files = status["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["map"] == "relayhost").unwrap();
        let version = file["stat"].as_str().unwrap().to_owned();
        (version, file["active"] == true, file["valid"] == true)
    };
    let first = printed();
    assert_eq!(read(), (first.clone(), true, true));
    // A rejected version was read, too.
    daemon.replace(RELAYMAP, "@one.test [\n");
    assert_ne!(printed(), first);
    eventually(read, |now| *now == (printed(), false, false));
    daemon.replace(RELAYMAP, GOOD);
    eventually(read, |now| *now == (printed(), true, true));
}

#[test]
fn the_process_metrics_are_those_of_the_system() {
    let (daemon, admin) = Admin::start(setup());
    let proc = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", daemon.pid())).unwrap();
    // Its CPU time, in ticks of a hundredth of a second.
    let ticks = || -> f64 {
        let stat = proc("stat");
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<f64> = fields.split_whitespace().skip(1).flat_map(str::parse).collect();
        (fields[10] + fields[11]) / 100.0
    };
    let before = ticks();
    let metrics = admin.metrics();
    let cpu = metrics.value("process_cpu_seconds_total");
    // A tick is counted in whole.
    assert!(
        cpu > 0.0 && cpu > before - 0.03 && cpu < ticks() + 0.03,
        "{before} {cpu}"
    );
    let resident = metrics.value("process_resident_memory_bytes");
    let pages: f64 = proc("statm").split_whitespace().nth(1).unwrap().parse().unwrap();
    let expected = pages * f64::from(u32::try_from(rustix::param::page_size()).unwrap());
    assert!(
        resident > expected / 2.0 && resident < expected * 2.0,
        "{resident} {expected}"
    );
    let started = metrics.value("process_start_time_seconds");
    assert!((seconds_of(admin.status()["started"].as_str().unwrap()) - started).abs() < 0.01);
    let limits = proc("limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.unwrap().split_whitespace().next().unwrap();
    assert_eq!(metrics.value("process_max_fds").to_string(), soft);
    // Each connection is a descriptor.
    let open = || admin.metrics().value("process_open_fds");
    let before = open();
    let clients: Vec<Socketmap> = (0..20)
        .map(|_| {
            let mut client = Socketmap::to(&daemon, 0);
            client.query("relayhost", "x@one.test");
            client
        })
        .collect();
    // The server may have opened a few others, and an earlier connection of this test may still be open.
    eventually(open, |now| (*now - before - 20.0).abs() < 5.0);
    drop(clients);
    eventually(open, |now| (*now - before).abs() < 5.0);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_process_metrics_are_readable_in_the_sandbox_of_another_user() {
    let (daemon, admin) = Admin::start(setup().arg("--user").arg("nobody"));
    let metrics = admin.metrics();
    for name in [
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        assert!(metrics.value(name) > 0.0, "{name}");
    }
    // The descriptors of a process that is not dumpable belong to root.
    let listed = fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .unwrap()
        .count();
    let listed = f64::from(u32::try_from(listed).unwrap());
    let counted = metrics.value("process_open_fds");
    // The connection of the request is open, or already closed.
    assert!((counted - listed).abs() < 2.5, "{counted} {listed}");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn metrics_are_in_the_text_format_whatever_the_accept_header() {
    let setup = setup()
        .env("RELAY_PASSWORD_FILE", "/no/\"such\\file")
        .env("RELAY_HOST", "r.test");
    let (daemon, admin) = Admin::start(setup);
    Socketmap::to(&daemon, 0).query("relayhost", "x@one.test");
    let text = admin.get("/metrics");
    // The Accept headers of Prometheus and of a browser.
    let open = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    for accept in ["text/html", open] {
        let reply = admin.get_as("/metrics", accept);
        assert_eq!(
            reply.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8"),
            "{accept}"
        );
    }
    let escaped = "file=\"/no/\\\"such\\\\file\"";
    assert!(text.body.contains(escaped), "{}", text.body);
    let checked = finish(
        Command::new("promtool").args(["check", "metrics"]),
        text.body.as_bytes(),
    );
    assert_eq!(
        (checked.code, checked.stdout.as_str(), checked.stderr.as_str()),
        (Some(0), "", "")
    );
    // The Python library parses every series with its type.
    let script = "import sys\n\
         from prometheus_client.parser import text_string_to_metric_families as parse\n\
         for family in parse(sys.stdin.read()):\n  \
           for sample in family.samples:\n    \
             assert family.type != 'unknown', family\n    \
             print(sample.name)\n";
    let ran = finish(
        Command::new("/usr/bin/python3").args(["-c", script]),
        text.body.as_bytes(),
    );
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", text.body);
    assert!(ran.stdout.lines().count() > 40, "{}", ran.stdout);
}

#[test]
fn only_existing_paths_are_served_and_only_for_get_and_head() {
    let (_daemon, admin) = Admin::start(setup());
    let query = |request: &str| exchange(&admin.address, request);
    for path in [
        "//",
        "/index.html",
        "/metrics/",
        "/../etc/passwd",
        "/Metrics",
        "*",
        "/readyz%20",
    ] {
        let reply = query(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(reply.code, 404, "{path}");
    }
    assert_eq!(query("GET /healthz?x=y HTTP/1.1\r\nHost: x\r\n\r\n").code, 200);
    assert_eq!(query("GET /healthz HTTP/1.0\r\n\r\n").code, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let reply = query(&format!(
            "{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(
            (reply.code, reply.header("allow")),
            (405, Some("GET, HEAD")),
            "{method}"
        );
    }
    for path in ["/healthz", "/readyz", "/status"] {
        let head = query(&format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let get = admin.get(path);
        assert_eq!((head.code, head.body.as_str()), (get.code, ""));
        assert_eq!(get.header("content-length").unwrap().parse(), Ok(get.body.len()));
        assert_eq!(
            head.header("content-length"),
            get.header("content-length"),
            "{path}"
        );
        assert_eq!(head.header("cache-control"), Some("no-store"));
    }
    // One request is answered on each connection, without waiting for its body.
    let reply = query("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(
        (reply.header("connection"), reply.body.as_str()),
        (Some("close"), "ok\n")
    );
    let reply = query("POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(reply.code, 405);
}

#[test]
fn malformed_http_requests_are_refused() {
    let (_daemon, admin) = Admin::start(setup());
    let many: String = ["x: y\r\n"; 100].concat();
    for (request, codes) in [
        ("nonsense\r\n\r\n".to_owned(), &[400][..]),
        ("\0\0\0\0\0\0\0\0\0\0".to_owned(), &[400]),
        ("GET /metrics HTTP/9.9\r\n\r\n".to_owned(), &[400, 505]),
        (
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)),
            &[400, 414, 431],
        ),
        (
            format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000)),
            &[400, 431],
        ),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), &[400, 431]),
    ] {
        let mut stream = Stream::connect(&admin.address);
        // The server may close before all is sent.
        let _ = stream.write_all(request.as_bytes());
        let reply = String::from_utf8(stream.read_until_closed()).unwrap();
        let code = reply.get(9..12).and_then(|code| code.parse::<u16>().ok());
        // A reset may have discarded the reply.
        assert!(
            reply.is_empty() || codes.contains(&code.unwrap()),
            "{request}: {reply}"
        );
    }
    assert_eq!(admin.get("/healthz").code, 200);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn slow_or_many_admin_clients_are_disconnected_and_delay_no_lookup() {
    const PEERS: usize = 300;
    let (daemon, admin) = Admin::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    let found = Reply::found("[relay1.test]:587");
    assert_eq!(client.query("relayhost", "x@one.test"), found);
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
            .unwrap()
            .count()
    };
    let before = descriptors();
    // In turn: a peer that sends nothing, one that begins a head, and one that sends a request and does not read.
    let mut peers: Vec<Stream> = (0..PEERS)
        .map(|number| {
            let mut stream = Stream::connect(&admin.address);
            let begin = [
                "",
                "GET /metrics HTTP/1.1\r\nHost:",
                "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            ];
            // It may have been closed already.
            let _ = stream.write_all(begin[number % 3].as_bytes());
            assert_eq!(client.query("relayhost", "x@one.test"), found);
            stream
        })
        .collect();
    eventually(descriptors, |now| *now <= before + 33);
    assert_eq!(admin.get("/healthz").code, 200);
    assert_eq!(admin.metrics().value("postmapd_connections").to_string(), "1");
    // The remaining peers have seconds to complete their request, or get their reply.
    let last = peers.split_off(PEERS - 6);
    for mut peer in last {
        let reply = String::from_utf8(peer.read_until_closed()).unwrap();
        assert!(
            reply.is_empty() || reply.starts_with("HTTP/1.1 200") || reply.starts_with("HTTP/1.1 408"),
            "{reply}"
        );
    }
    eventually(descriptors, |now| *now <= before + 1);
    assert_eq!(client.query("relayhost", "x@one.test"), found);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn health_is_that_of_the_lookup_thread() {
    let (daemon, admin) = Admin::start(setup());
    assert_eq!(admin.get("/healthz").code, 200);
    // strace delays only the first thread, in each of its waits; the others run as usual.
    let waits = "epoll_wait,epoll_pwait,epoll_pwait2";
    let arguments = format!("-e trace={waits} -e inject={waits}:delay_exit=30000000 -o /dev/null");
    let mut strace = strace::attach(&daemon, arguments.split(' '));
    eventually(|| admin.get("/healthz").code, |code| *code == 503);
    assert!(admin.get("/healthz").body.contains("does not respond"));
    let hung = format!("status --alive --admin {}", admin.address);
    daemon.setup().run_line(&hung).exits(69);
    let page = admin.get("/").body;
    assert!(
        page.contains("Lookups are not answered. Restart postmapd."),
        "{page}"
    );
    assert_eq!(admin.get("/readyz").code, 200, "the files are right");
    assert_eq!(admin.get("/metrics").code, 200);
    drop(strace.kill());
    drop(strace.wait());
    eventually(|| admin.get("/healthz").code, |code| *code == 200);
    Socketmap::to(&daemon, 0).finds("relayhost", "x@one.test", "[relay1.test]:587");
}

#[test]
fn the_admin_listener_ends_with_the_server_despite_open_connections() {
    let (mut daemon, admin) = Admin::start(setup());
    let mut idle = Stream::connect(&admin.address);
    idle.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    assert_eq!(admin.get("/healthz").code, 200);
    assert!(daemon.terminate().success());
    idle.read_until_closed();
}
