//! `postmapd.toml`.

use std::path::Path;
use std::time::Duration;

use postmapd::config::options::{Options, ServiceOptions};
use postmapd::config::setting;
use postmapd::config::{DEFAULT_LISTEN, ReloadTiming, Settings, Sources};
use postmapd::diagnostics::{Code, Findings, Place, Severity};
use postmapd::lookup::address::Delimiters;
use postmapd::net::address::Address;
use postmapd::protocol::endpoint::Endpoint;
use serde_json::Value;

/// Every finding has a place in the text, and quotes nothing that may be a password. The settings are those that the
/// `basic-toml` crate reads.
pub fn settings(data: &[u8]) {
    let mut findings = Findings::default();
    let sources = Sources::unchecked(Options::default(), ServiceOptions::default(), &mut findings);
    let mut findings = Findings::default();
    let settings = sources.settings(data, &mut findings);
    places(data, sources.settings_file(), &findings);
    assert_no_quotation(data, &findings);
    let is_right = findings.errors() == 0;
    match std::str::from_utf8(data).map(basic_toml::from_str::<Value>) {
        Err(_) => assert!(!is_right),
        Ok(Ok(read)) => compare(&read, is_right, settings, &findings),
        // The crate does not support what TOML 1.0 and 1.1 added.
        Ok(Err(_)) => {}
    }
}

fn places(data: &[u8], path: &Path, findings: &Findings) {
    let lines: Vec<&[u8]> = data.split(|c| *c == b'\n').collect();
    for finding in findings.iter() {
        // An endpoint may be valid, and have no allowed client.
        let is_right = finding.code == Code::NobodyAllowed;
        assert_eq!(finding.severity == Severity::Warning, is_right, "{finding}");
        let Place::File(of, Some(at)) = &finding.place else {
            panic!("{finding}");
        };
        assert_eq!(of, path);
        let line = lines.get(at.line as usize - 1).expect("a line that is there");
        assert!((1..=line.len() + 1).contains(&(at.column as usize)), "{finding}");
        // It is one line, for the log.
        assert!(!finding.to_string().contains(char::is_control), "{finding:?}");
    }
}

/// The seeds have this where a password may have been pasted.
const PASSWORD: &str = "hunter2";

fn assert_no_quotation(data: &[u8], findings: &Findings) {
    let has_it = |text: &[u8]| {
        text.windows(PASSWORD.len())
            .any(|part| part == PASSWORD.as_bytes())
    };
    if !has_it(data) {
        return;
    }
    for finding in findings.iter() {
        // These findings name a missing user or group, an endpoint, or a misspelt setting.
        let names = [
            Code::NoSuchUser,
            Code::BadEndpoint,
            Code::NobodyAllowed,
            Code::UnknownSetting,
        ]
        .contains(&finding.code);
        assert!(names || !has_it(finding.to_string().as_bytes()), "{finding}");
    }
}

const KEYS: [&str; 6] = [
    "listen",
    "recipient_delimiter",
    "socket_owner",
    "socket_group",
    "socket_mode",
    "reload",
];

/// Returns whether a key is that of a setting or table that is not compared: its meaning depends on the machine, or nothing
/// here shows it.
fn is_uncompared(key: &str) -> bool {
    let keys = setting::ALL.iter().filter_map(|setting| setting.table_and_key());
    let mut top = keys.map(|(table, key)| if table.is_empty() { key } else { table });
    !KEYS.contains(&key) && top.any(|known| known == key)
}

fn compare(read: &Value, is_right: bool, settings: Settings, findings: &Findings) {
    if findings.iter().any(|finding| finding.code == Code::BadToml) {
        // The older reader may accept it.
        return;
    }
    let has_uncompared = |table: &serde_json::Map<String, Value>| table.keys().any(|key| is_uncompared(key));
    if read.as_object().is_some_and(has_uncompared) {
        return;
    }
    let expected = expected(read);
    assert_eq!(
        is_right,
        expected.is_some(),
        "{:?}",
        findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    let Some(expected) = expected else { return };
    assert_eq!(settings.listen, expected.listen);
    assert_eq!(settings.delimiters, expected.delimiters);
    assert_eq!(settings.sockets.mode, expected.mode);
    assert_eq!(settings.reload_timing, expected.timing);
    assert_eq!(settings.sockets.owner, expected.owner);
    assert_eq!(settings.sockets.group, expected.group);
}

struct Expected {
    listen: Vec<Endpoint>,
    delimiters: Delimiters,
    mode: u32,
    timing: ReloadTiming,
    owner: Option<u32>,
    group: Option<u32>,
}

/// The settings, if they are valid.
fn expected(read: &Value) -> Option<Expected> {
    let table = read.as_object()?;
    if table.keys().any(|key| !KEYS.contains(&key.as_str())) {
        return None;
    }
    let text = |key: &str, default: &str| match table.get(key) {
        None => Some(default.to_owned()),
        Some(value) => value.as_str().map(|text| text.trim_ascii().to_owned()),
    };
    let listen = match table.get("listen") {
        None => vec![DEFAULT_LISTEN.to_owned()],
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => {
            let list: Option<Vec<String>> = list
                .iter()
                .map(|item| item.as_str().map(ToOwned::to_owned))
                .collect();
            list?
        }
        Some(_) => return None,
    };
    let listen: Vec<Endpoint> = listen
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::trim_ascii)
        .filter(|word| !word.is_empty())
        .map(|text| Endpoint::parse_listener(text, &["relayhost", "sasl"]).ok())
        .collect::<Option<_>>()?;
    if listen.is_empty() {
        return None;
    }
    let has_files = listen
        .iter()
        .any(|endpoint| matches!(endpoint.address, Address::Unix(_)));
    let mode = text("socket_mode", "660")?;
    let mode = u32::from_str_radix(&mode, 8).ok().filter(|mode| *mode <= 0o777)?;
    // A name is looked up on the machine; the seeds have names that exist on every machine.
    let account = |key: &str| -> Option<Option<u32>> {
        let Some(value) = table.get(key) else {
            return Some(None);
        };
        let name = match value {
            Value::Number(number) if !number.is_f64() => number.to_string(),
            text => text.as_str()?.trim_ascii().to_owned(),
        };
        let is_number = name.bytes().all(|c| c.is_ascii_digit());
        let number = name
            .parse()
            .ok()
            .filter(|number| is_number && *number != u32::MAX);
        match number.or((name == "root").then_some(0)) {
            Some(number) => Some(Some(number)),
            None if has_files => None,
            None => Some(None),
        }
    };
    let mut timing = Settings::default().reload_timing;
    match table.get("reload") {
        None => {}
        Some(Value::Object(reload)) => {
            for (key, value) in reload {
                let is_known = |seconds: &f64| {
                    (0.01..=86_400.0).contains(seconds) || (key == "in_flight" && *seconds == 0.0)
                };
                let seconds = value.as_f64().filter(is_known)?;
                let known = match key.as_str() {
                    "poll_interval" => &mut timing.poll_interval,
                    "empty_grace" => &mut timing.empty_grace,
                    "writer_timeout" => &mut timing.writer_timeout,
                    "in_flight" => &mut timing.in_flight,
                    _ => return None,
                };
                *known = Duration::from_secs_f64(seconds);
            }
        }
        Some(_) => return None,
    }
    Some(Expected {
        listen,
        delimiters: Delimiters::new(&text("recipient_delimiter", "+")?)?,
        mode,
        timing,
        owner: account("socket_owner")?,
        group: account("socket_group")?,
    })
}
