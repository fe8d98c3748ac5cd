//! contrib/helm, with Helm's own library, and the monitors of contrib/kubernetes.
//!
//! tests/helm.txt has a package of Helm's library for Python, and models of the Prometheus operator's resources. There is
//! no cluster: nothing is installed, and `helm test` is its command, run against the server that the chart configures.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::kubernetes::{named, validate};
use super::{contrib, done, text, yaml};
use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{Daemon, Setup};

/// Lints and renders the chart with the values on standard input. Prints the messages, and then all templates.
const RENDER: &str = "\
import json, sys, helm_python as helm
values = json.load(sys.stdin)
wrong = [one['error'] for one in helm.lint(sys.argv[1], values, strict=True)['messages']]
with helm.Chart.load(sys.argv[1]) as chart:
    made = chart.render(values, name='mail', namespace='default')
made = [made[name] for name in sorted(made) if not name.endswith('.txt')]
json.dump([wrong, '\\n---\\n'.join(one for one in made if one.strip())], sys.stdout)
";

/// Reads resources of the Prometheus operator with their models, which drop unknown fields. Prints for each whether it is
/// complete and valid.
const MONITORS: &str = "\
import json, sys
from cloudcoil.models.prometheus_operator import v1
def is_valid(resource):
    try:
        model = getattr(v1, resource['kind']).model_validate(resource)
    except ValueError:
        return False
    return model.model_dump(mode='json', by_alias=True, exclude_unset=True) == resource
json.dump([is_valid(one) for one in json.load(sys.stdin)], sys.stdout)
";

/// Runs a program without a timeout: the models alone take seconds to load.
fn python(program: &str, argument: &Path, input: &Value) -> (Option<i32>, String, String) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("helm");
    let mut python = Command::new(directory.join("bin/python"))
        .args(["-c", program])
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests/run-all installs it");
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let done = python.wait_with_output().unwrap();
    let [stdout, stderr] = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap());
    (done.status.code(), stdout, stderr)
}

/// The manifests for these values.
#[track_caller]
fn render(values: &Value) -> String {
    let (code, stdout, stderr) = python(RENDER, &contrib("helm/postmapd"), values);
    assert_eq!(code, Some(0), "{values}: {stderr}");
    let output: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(output[0], json!(["icon is recommended"]), "{values}");
    text(&output[1]).to_owned()
}

/// Values with everything, and with as little as possible.
fn values() -> [Value; 2] {
    let full = json!({
        "allowNetworks": ["127.0.0.0/8", "10.244.0.0/16"],
        "relayMap": "@domain1.com  [relay1.org]:587\n@domain2.com  [relay2.org]:587\n",
        "credentials": "@domain1.com  relay_user_1:password_1\n",
        "settings": "recipient_delimiter = \"-\"\n\n[reload]\nin_flight = 60",
        "env": [{"name": "RELAY_HOST", "value": "relay9.org"}],
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "mail", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": true},
        "test": {"sender": "someone@domain1.com"},
    });
    let least = json!({
        "allowNetworks": ["10.244.0.0/16"],
        "existingSecret": "logins",
        "networkPolicy": {"enabled": false},
    });
    [full, least]
}

fn is_monitor(resource: &Value) -> bool {
    resource["apiVersion"] == "monitoring.coreos.com/v1"
}

/// These are valid, and with a mistake they are not.
#[track_caller]
fn expect_monitors(monitors: &[&Value]) {
    let mistakes = [
        ("\"port\":", "\"prot\":"),
        ("\"matchLabels\":{", "\"matchLabels\":{\"a\":[],"),
    ];
    let (mut resources, mut expected) = (Vec::new(), Vec::new());
    for monitor in monitors {
        resources.push((*monitor).clone());
        expected.push(true);
        for (right, wrong) in mistakes {
            let wrong = monitor.to_string().replacen(right, wrong, 1);
            resources.push(serde_json::from_str(&wrong).unwrap());
            expected.push(false);
        }
    }
    let (_, stdout, stderr) = python(MONITORS, Path::new("-"), &Value::from(resources));
    let valid: Option<Vec<bool>> = serde_json::from_str(&stdout).ok();
    assert_eq!(valid, Some(expected), "{stdout}{stderr}");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn helm_renders_the_chart_to_valid_resources() {
    let mut monitors = Vec::new();
    for (values, kinds) in values().iter().zip([
        "ConfigMap Deployment NetworkPolicy PodMonitor Secret Service ServiceMonitor Pod",
        "ConfigMap Deployment Service",
    ]) {
        let manifests = render(values);
        let resources = yaml(&manifests);
        let found: Vec<&str> = resources.iter().map(|one| text(&one["kind"])).collect();
        assert_eq!(found.join(" "), kinds);
        let own: Vec<&str> = manifests
            .split("\n---\n")
            .filter(|one| !one.contains("monitoring.coreos.com"))
            .collect();
        for version in ["1.25", "1.37"] {
            let checked = validate(&own.join("\n---\n"), version);
            let passed = checked.stdout.matches(" passed for resource ").count();
            assert_eq!(
                (checked.code, passed),
                (Some(0), own.len()),
                "{version}: {}",
                checked.stdout
            );
        }
        monitors.extend(resources.iter().filter(|one| is_monitor(one)).cloned());
        // What selects pods selects those of the server, and a port has the name that others use.
        let pod = &named_resource(&resources, "Deployment")["spec"]["template"];
        let labels = pod["metadata"]["labels"].as_object().unwrap();
        for resource in &resources {
            let selector = &resource["spec"]["podSelector"]["matchLabels"];
            let selector = selector.as_object().or(resource["spec"]["selector"].as_object());
            let selector =
                selector.map(|all| all.get("matchLabels").and_then(Value::as_object).unwrap_or(all));
            for (name, value) in selector.into_iter().flatten() {
                assert_eq!(labels.get(name), Some(value), "{resource}");
            }
        }
        let container = &pod["spec"]["containers"][0];
        assert_eq!(named(&container["ports"], "socketmap")["containerPort"], 10451);
        assert_eq!(named(&container["ports"], "metrics")["containerPort"], 9451);
        let secret = &pod["spec"]["volumes"][0]["projected"]["sources"][1]["secret"]["name"];
        let expected = values["existingSecret"].as_str().unwrap_or("mail-postmapd");
        assert_eq!(secret, expected);
    }
    assert_eq!(monitors.len(), 2);
    expect_monitors(&monitors.iter().collect::<Vec<_>>());
}

fn named_resource<'a>(resources: &'a [Value], kind: &str) -> &'a Value {
    resources.iter().find(|one| one["kind"] == kind).expect(kind)
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn values_that_the_chart_does_not_know_are_rejected() {
    let [good, _] = values();
    for (name, value) in [
        ("allowNetworks", json!([])),
        ("allowNetworks", json!(["all"])),
        ("replicas", json!(0)),
        ("exisitingSecret", json!("logins")),
        ("podMonitor", json!({"enable": true})),
    ] {
        let mut wrong = good.clone();
        wrong[name] = value;
        let (code, _, stderr) = python(RENDER, &contrib("helm/postmapd"), &wrong);
        assert_eq!(code, Some(1), "{wrong}");
        assert!(stderr.contains("schema"), "{stderr}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_server_of_the_chart_answers_the_command_of_helm_test() {
    let [values, _] = values();
    let resources = yaml(&render(&values));
    let setup = Setup::new();
    let files = [
        &named_resource(&resources, "ConfigMap")["data"],
        &named_resource(&resources, "Secret")["stringData"],
    ];
    for (name, content) in files.into_iter().flat_map(|all| all.as_object().unwrap()) {
        fs::write(setup.dir().join(name), text(content)).unwrap();
    }
    let container = &named_resource(&resources, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["serve"]));
    let setup = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .fold(setup, |setup, one| {
            let value = text(&one["value"]).replace("10451", "0").replace("9451", "0");
            setup.env(text(&one["name"]), value)
        });
    let daemon = Daemon::start(setup.announces(&["socketmap:inet:0.0.0.0:0"]));
    let port = daemon
        .log()
        .split("socketmap:inet:0.0.0.0:")
        .nth(1)
        .unwrap()
        .to_owned();
    let port = port
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap()
        .to_owned();

    let pod = named_resource(&resources, "Pod");
    assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    let arguments = pod["spec"]["containers"][0]["args"].as_array().unwrap();
    let service = format!(
        "{}:10451",
        text(&named_resource(&resources, "Service")["metadata"]["name"])
    );
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| text(argument).replace(&service, &format!("127.0.0.1:{port}")))
        .collect();
    let queried = done(Command::new(env!("CARGO_BIN_EXE_postmapd")).args(&arguments), b"");
    assert_eq!(queried.stdout, "[relay1.org]:587\n");

    // The settings and the variable of the values take effect.
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(
        client.query("relayhost", "me-list@domain2.com"),
        Reply::found("[relay2.org]:587")
    );
    assert_eq!(
        client.query("relayhost", "me@other.example"),
        Reply::found("[relay9.org]:25")
    );
    assert_eq!(
        client.query("sasl", "me@domain1.com"),
        Reply::found("relay_user_1:password_1")
    );
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_component_of_the_kubernetes_base_adds_a_monitor_and_a_port() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["base", "monitoring"] {
        let mut copy = Command::new("cp");
        done(
            copy.arg("-r")
                .arg(contrib("kubernetes").join(name))
                .arg(directory.path()),
            b"",
        );
    }
    let overlay = directory.path().join("overlay");
    fs::create_dir(&overlay).unwrap();
    fs::write(
        overlay.join("kustomization.yaml"),
        "resources: [../base]\ncomponents: [../monitoring]\n",
    )
    .unwrap();
    let kubectl = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kubernetes-validate/bin/kubectl");
    let built = done(Command::new(kubectl).arg("kustomize").arg(&overlay), b"").stdout;
    let own: Vec<&str> = built
        .split("\n---\n")
        .filter(|one| !one.contains("monitoring.coreos.com"))
        .collect();
    let checked = validate(&own.join("\n---\n"), "1.37");
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    let resources = yaml(&built);
    let monitor = named_resource(&resources, "PodMonitor");
    expect_monitors(&[monitor]);
    let pod = &named_resource(&resources, "StatefulSet")["spec"]["template"];
    let container = named(&pod["spec"]["initContainers"], "postmapd");
    assert_eq!(
        named(&container["env"], "POSTMAPD_ADMIN")["value"],
        "0.0.0.0:9451"
    );
    assert_eq!(container["env"].as_array().unwrap().len(), 4);
    let port = text(&monitor["spec"]["podMetricsEndpoints"][0]["port"]);
    assert_eq!(named(&container["ports"], port)["containerPort"], 9451);
    let selector = &monitor["spec"]["selector"]["matchLabels"];
    assert_eq!(
        *selector,
        named_resource(&resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    );
    for (name, value) in selector.as_object().unwrap() {
        assert_eq!(pod["metadata"]["labels"][name], *value);
    }
}
