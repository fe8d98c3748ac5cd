//! Promise: docker-mailserver's relay files and variables mean here what its users rely on, case by case.

use crate::harness::client::{Both, Reply};
use crate::harness::daemon::{RELAY_TLS, Setup};
use serde_json::Value;
use std::fs;

const CASES: &str = include_str!("../relay-cases.json");
const TLS_CASES: &str = include_str!("../tls-cases.json");

#[test]
#[ignore = "takes long: tests/run-all"]
fn every_documented_case_gets_its_answer_over_both_protocols_and_from_query() {
    get_their_answers(CASES, 90);
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn every_case_of_tls_gets_its_answer_over_both_protocols_and_from_query() {
    get_their_answers(TLS_CASES, 22);
}

fn get_their_answers(cases: &str, number: usize) {
    let cases: Value = serde_json::from_str(cases).unwrap();
    let cases = cases.as_array().unwrap();
    let mut failures = Vec::new();
    let mut ran = 0;
    for case in cases {
        ran += 1;
        for failure in differences(case) {
            failures.push(format!("{}: {failure}", text(case, "id")));
        }
    }
    assert_eq!(ran, number, "cases");
    assert!(
        failures.is_empty(),
        "{} answers differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// The differences from the expectation of this case.
fn differences(case: &Value) -> Vec<String> {
    let (map, key) = (text(case, "map"), text(case, "key"));
    let expected = expectation(case);
    let (daemon, mut clients) = Both::start(setup(case));
    let mut failures = Vec::new();

    let got = clients.query(map, key);
    // The reason is for people, and is not compared.
    if got != expected && !(got.is_cannot_tell() && expected.is_cannot_tell()) {
        failures.push(format!("{map} {key:?}: expected {expected:?}, got {got:?}"));
    }

    let query = daemon.setup().run_query(&[map, key]);
    let printed = match &expected {
        Reply::Found(value) => format!("{value}\n"),
        _ => String::new(),
    };
    if query.code != Some(expected.exit_code()) || query.stdout != printed {
        failures.push(format!(
            "query {map} {key:?}: expected exit code {} and {printed:?}, got {query:?}",
            expected.exit_code()
        ));
    }
    failures
}

/// The directory and the environment of a case. Files outside the directory are moved into a separate one.
pub(crate) fn setup(case: &Value) -> Setup {
    let mut setup = Setup::new();
    if let Some(relaymap) = case["relaymap_cf"].as_str() {
        setup = setup.relaymap(relaymap);
    }
    if let Some(credentials) = case["sasl_cf"].as_str() {
        setup = setup.credentials(credentials);
    }
    match &case["tls_cf"] {
        Value::String(tls) if !tls.is_empty() => setup = setup.file(RELAY_TLS, tls),
        // The file exists and cannot be read.
        Value::Null if case.get("tls_cf").is_some() => {
            fs::create_dir_all(setup.dir().join(RELAY_TLS)).unwrap();
        }
        _ => {}
    }
    let elsewhere = setup.root().join("elsewhere");
    let moved = |path: &str| elsewhere.join(path.trim_start_matches('/'));
    let files = case["files"].as_object();
    for (path, content) in files.into_iter().flatten() {
        fs::create_dir_all(moved(path).parent().unwrap()).unwrap();
        fs::write(moved(path), content.as_str().unwrap()).unwrap();
    }
    for (name, value) in case["env"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap();
        setup = match files {
            Some(files) if files.contains_key(value) => setup.env(name, moved(value)),
            _ => setup.env(name, value),
        };
    }
    setup
}

fn expectation(case: &Value) -> Reply {
    match (&case["expect"]["ok"], &case["expect"]["notfound"]) {
        (Value::String(value), Value::Null) => Reply::found(value),
        (Value::Null, Value::Bool(true)) => Reply::NotFound,
        (Value::Null, Value::Null) if case["expect"]["temp"] == true => Reply::CannotTell(String::new()),
        _ => panic!("an expectation of an unknown kind: {}", case["expect"]),
    }
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap()
}
