//! Promise: what contrib/prometheus and contrib/grafana say about the server is true.
//!
//! The tools are real: promtool validates and tests the rules, and a Prometheus scrapes a running server and evaluates
//! each expression of the rules and of the dashboard. There is no tool for the dashboard itself: this file checks what
//! Grafana would not report, such as two panels in one place.

use crate::harness::admin::{Admin, HttpReply, exchange};
use crate::harness::client::Socketmap;
use crate::harness::daemon::{DEADLINE, Setup, finish};
use crate::harness::eventually;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)
}

fn dashboard() -> Value {
    dashboard_of("postmapd")
}

fn dashboard_of(program: &str) -> Value {
    let path = contrib(&format!("grafana/{program}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The expressions of the dashboard's panels and annotations, as Grafana would send them.
fn expressions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let annotations = dashboard["annotations"]["list"].as_array().unwrap().iter();
    let all = targets
        .chain(annotations)
        .map(|own| own["expr"].as_str().unwrap());
    all.map(|expr| {
        expr.replace("$__rate_interval", "30s")
            .replace("$job", ".*")
            .replace("$instance", ".*")
    })
    .collect()
}

/// A Prometheus for one test.
struct Prometheus {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that scrapes this address often, with contrib's rules.
    fn start(target: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{scrape_interval: 300ms, scrape_timeout: 300ms, evaluation_interval: 300ms}}\n\
             scrape_configs: [{{job_name: postmapd, static_configs: [{{targets: [\"{target}\"]}}]}}]\n\
             rule_files: [\"{}\"]\n",
            contrib("prometheus/postmapd.rules.yml").display()
        );
        fs::write(data.path().join("prometheus.yml"), config).unwrap();
        let flag = |name: &str, path: &str| format!("--{name}={}", data.path().join(path).display());
        let mut child = Command::new("prometheus")
            .arg(flag("config.file", "prometheus.yml"))
            .arg(flag("storage.tsdb.path", "data"))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus, which tests/run-all installs");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut address, mut is_ready) = (None, false);
        let mut lines = Vec::new();
        // The two lines come in any order.
        while !is_ready || address.is_none() {
            let Some(Ok(line)) = log.next() else { break };
            if let Some((_, rest)) = line.split_once("msg=\"Listening on\" address=") {
                address = Some(rest.trim().to_owned());
            }
            is_ready |= line.contains("Server is ready");
            lines.push(line);
        }
        // Its log is read on, or it would block.
        std::thread::spawn(move || log.for_each(drop));
        Self {
            child,
            address: address.unwrap_or_else(|| panic!("it says nowhere where it listens: {lines:#?}")),
            _data: data,
        }
    }

    /// A reply of its API. HTTP/1.0 makes the reply come in one piece.
    fn api(&self, path: &str) -> Value {
        let entry: HttpReply = exchange(&self.address, &format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n"));
        let reply = entry.json();
        assert_eq!(reply["status"], "success", "{path}: {reply}");
        reply["data"].clone()
    }

    /// The result of an expression.
    fn query(&self, expr: &str) -> Vec<Value> {
        let mut encoded = String::new();
        for byte in expr.bytes() {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        let data = self.api(&format!("query?query={encoded}"));
        data["result"].as_array().unwrap().clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn promtool_accepts_the_rules_and_each_alert_fires_when_it_should() {
    for args in [
        &["check", "config", "prometheus.yml"][..],
        &["test", "rules", "postmapd.rules.test.yml"],
        &["test", "rules", "postmapd-follow.rules.test.yml"],
    ] {
        let ran = finish(
            Command::new("promtool")
                .args(args)
                .current_dir(contrib("prometheus")),
            b"",
        );
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    }
    let names = |file: &str, key: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(contrib("prometheus").join(file)).unwrap();
        let rest = text.split(key).skip(1);
        rest.map(|rest| rest.split([' ', '\n', '}', ',']).next().unwrap().to_owned())
            .collect()
    };
    for program in ["postmapd", "postmapd-follow"] {
        let alerts = names(&format!("{program}.rules.yml"), "- alert: ");
        assert!(alerts.len() >= 4, "{alerts:?}");
        let tested = names(&format!("{program}.rules.test.yml"), "alertname: ");
        assert_eq!(tested, alerts);
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_prometheus_scrapes_the_server_and_every_expression_has_a_result() {
    let setup = Setup::new()
        .relaymap("@one.test [relay1.test]:587\n")
        .credentials("@one.test user:CANARY\n")
        .file(
            "source.json",
            "{\"source\": \"test\", \"revision\": 7, \"committed\": \"2026-01-02T03:04:05Z\"}",
        );
    let (daemon, admin) = Admin::start(setup);
    let mut client = Socketmap::to(&daemon, 0);
    let prometheus = Prometheus::start(&admin.address);
    let health = || prometheus.api("targets")["activeTargets"][0]["health"].clone();
    eventually(health, |health| health == "up");
    // It prefers OpenMetrics, and accepts the format that the content type names.
    let begun = Instant::now();
    loop {
        client.query("relayhost", "x@one.test");
        let rate = prometheus.query("sum(rate(postmapd_lookups_total[30s]))");
        if rate.first().is_some_and(|rate| rate["value"][1] != "0") {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{rate:?}");
    }
    for expr in expressions() {
        // Nothing has changed yet, and the annotation is about changes. After a scrape that takes too long, there is no
        // result until the next one.
        let is_about_a_change = expr.starts_with("changes(");
        eventually(
            || (expr.clone(), prometheus.query(&expr)),
            |(_, result)| result.is_empty() == is_about_a_change,
        );
    }
    let data = prometheus.api("rules");
    let rules = data["groups"][0]["rules"].as_array().unwrap();
    for rule in rules {
        // Without its comparison, each expression has series.
        let (left, _) = rule["query"].as_str().unwrap().rsplit_once([' ']).unwrap();
        let left = left.trim_end_matches(['=', '>', ' ']);
        eventually(
            || (left, prometheus.query(left)),
            |(_, result)| !result.is_empty(),
        );
    }
    let health = || {
        let data = prometheus.api("rules");
        let rules = data["groups"][0]["rules"].as_array().unwrap().clone();
        let is_quiet = |rule: &Value| rule["health"] == "ok" && rule["state"] == "inactive";
        rules
            .into_iter()
            .filter(|rule| !is_quiet(rule))
            .collect::<Vec<_>>()
    };
    // A scrape that takes too long makes an alert pending until the next one.
    eventually(health, Vec::is_empty);
    // Types and labels are those of the contract.
    let mut types = BTreeMap::new();
    let metadata = prometheus.api("metadata");
    for (name, entry) in metadata.as_object().unwrap() {
        types.insert(name.clone(), entry[0]["type"].as_str().unwrap().to_owned());
    }
    let expected = [
        ("postmapd_build_info", "gauge"),
        ("postmapd_connections", "gauge"),
        ("postmapd_files_valid", "gauge"),
        ("postmapd_findings", "gauge"),
        ("postmapd_lookup_duration_seconds", "histogram"),
        ("postmapd_lookups_total", "counter"),
        ("postmapd_protocol_errors_total", "counter"),
        ("postmapd_refusals_total", "counter"),
        ("postmapd_reload_last_success_timestamp_seconds", "gauge"),
        ("postmapd_reloads_total", "counter"),
        ("postmapd_senders_in_flight", "gauge"),
        ("postmapd_snapshot_generation", "gauge"),
        ("postmapd_snapshot_loaded_timestamp_seconds", "gauge"),
        ("postmapd_source_committed_timestamp_seconds", "gauge"),
        ("postmapd_source_revision", "gauge"),
        ("postmapd_table_entries", "gauge"),
        ("process_cpu_seconds_total", "counter"),
        ("process_max_fds", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_start_time_seconds", "gauge"),
    ];
    let expected = expected.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    assert_eq!(types, BTreeMap::from(expected));
    let labels = prometheus.api("labels");
    let own = [
        "file", "kind", "le", "map", "outcome", "reason", "severity", "version",
    ];
    let of_prometheus = [
        "__name__",
        "alertname",
        "alertstate",
        "severity",
        "instance",
        "job",
    ];
    for label in labels.as_array().unwrap() {
        let label = label.as_str().unwrap();
        assert!(own.contains(&label) || of_prometheus.contains(&label), "{label}");
    }
}

#[test]
fn the_metrics_count_findings_by_severity_as_check_does() {
    let setup = Setup::new()
        .relaymap(
            "@one.test [relay1.test]:587\n@one.test [relay2.test]\n @two.test [relay2.test]\n@three.test [\n",
        )
        .credentials("@one.test user:CANARY\n");
    let (_daemon, admin) = Admin::start(setup);
    let metrics = admin.metrics();
    for (severity, count) in [("error", "1"), ("warning", "2")] {
        let name = format!("postmapd_findings{{severity=\"{severity}\"}}");
        assert_eq!(metrics.value(&name).to_string(), count, "{}", metrics.0);
    }
}

#[test]
fn the_labels_of_the_dashboard_are_those_of_the_server() {
    let (_daemon, admin) = Admin::start(Setup::new().relaymap("@one.test [relay1.test]:587\n"));
    let text = admin.metrics().0;
    let labels_of = |metric: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(metric));
        let labels = lines
            .filter_map(|rest| rest.strip_prefix('{')?.split_once('}'))
            .flat_map(|(labels, _)| {
                labels
                    .split(',')
                    .map(|label| label.split('=').next().unwrap().to_owned())
            });
        labels.chain(["job".to_owned(), "instance".to_owned()]).collect()
    };
    let dashboard = dashboard();
    let mut used = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            let prefixes = ["postmapd_", "process_"].into_iter();
            let at = prefixes.filter_map(|prefix| expr.find(prefix)).min();
            let at = at.expect("a metric");
            let metric = expr[at..].split(['{', '[', ')', ' ']).next().unwrap();
            let labels = labels_of(metric);
            let by = expr
                .split("by (")
                .nth(1)
                .map_or("", |rest| rest.split(')').next().unwrap());
            let legend = target["legendFormat"].as_str().unwrap();
            let shown = legend
                .split("{{")
                .skip(1)
                .map(|rest| rest.split("}}").next().unwrap());
            let by: Vec<&str> = by.split(", ").filter(|label| !label.is_empty()).collect();
            for label in by.iter().copied().chain(shown.clone()) {
                assert!(labels.contains(label), "{expr}: {label}");
                used += 1;
            }
            // A label that is summed away cannot be shown.
            assert!(
                by.is_empty() || shown.clone().all(|label| by.contains(&label)),
                "{expr}: {legend}"
            );
        }
    }
    assert!(used > 20, "{used}");
}

#[test]
fn the_panels_of_the_dashboards_do_not_overlap_and_take_any_data_source() {
    for program in ["postmapd", "postmapd-follow"] {
        expect_valid_panels(&dashboard_of(program));
    }
}

#[track_caller]
fn expect_valid_panels(dashboard: &Value) {
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert!(!panel["title"].as_str().unwrap().is_empty());
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "two panels at {x}, {y}");
            }
        }
        let references: BTreeSet<_> = panel["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| {
                assert_eq!(target["datasource"]["uid"], "${datasource}");
                target["refId"].as_str().unwrap()
            })
            .collect();
        assert_eq!(references.len(), panel["targets"].as_array().unwrap().len());
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
    }
    let variables: Vec<_> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    assert!(panels.len() >= 9);
}
