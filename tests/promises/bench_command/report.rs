//! The report of `bench` in each format: text, JSON, CSV, the plot, and the percentile format of HdrHistogram.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{bench, figure, json, setup, whole};
use crate::harness::daemon::{Daemon, finish};

#[test]
fn csv_and_json_have_the_same_figures() {
    let daemon = Daemon::start(setup());
    let line = format!(
        "{} relayhost --count 100 --connections 1,3 --format",
        daemon.endpoint(0)
    );
    let json = json(&bench(&daemon.setup(), &format!("{line} json")), 0);
    let csv = bench(&daemon.setup(), &format!("{line} csv")).exits(0);
    let rows: Vec<Vec<&str>> = csv.stdout.lines().map(|line| line.split(',').collect()).collect();
    let [names, runs @ ..] = rows.as_slice() else {
        panic!("{csv:?}")
    };
    assert_eq!(runs.len(), 2);
    for (row, run) in runs.iter().zip(json["runs"].as_array().unwrap()) {
        assert_eq!(row.len(), names.len());
        let field = |name: &str| row[names.iter().position(|other| *other == name).expect(name)];
        let counts = "server round connections requests replies found not_found cannot_tell";
        for name in counts.split(' ') {
            assert_eq!(field(name), run[name].to_string(), "{name}");
        }
        for (name, number) in run["errors"].as_object().unwrap() {
            let name = format!("error_{name}").replace("error_total", "errors");
            assert_eq!(field(&name), number.to_string());
        }
        for name in run["latency_us"].as_object().unwrap().keys() {
            assert!(field(&format!("{name}_us")).parse::<f64>().unwrap() > 0.0);
        }
        assert_eq!(field("endpoint"), json["servers"][0]);
        assert_eq!(field("server_cpu_us_per_reply"), "");
        assert!(field("generator_cpu").parse::<f64>().is_ok());
        assert_eq!(field("warm_up_requests"), "0");
    }
}

#[test]
fn the_plot_is_well_formed_and_labelled() {
    let daemon = Daemon::start(setup());
    let endpoint = daemon.endpoint(0);
    let texts = |name: &str, more: &str| -> Vec<String> {
        let plot = daemon.root().join(name);
        let line = format!(
            "{endpoint} relayhost --count 200 --connections 1,2,4 --plot {} {more}",
            plot.display()
        );
        bench(&daemon.setup(), &line).exits(0);
        let text = fs::read_to_string(plot).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        // The replies per second, the median and the 99th percentile of each number of connections.
        let dots = document.descendants().filter(|node| node.has_tag_name("circle"));
        assert_eq!(dots.count(), if more.is_empty() { 9 } else { 18 });
        let nodes = document.descendants().filter(|node| node.has_tag_name("text"));
        nodes.filter_map(|node| Some(node.text()?.to_owned())).collect()
    };
    let one = texts("one.svg", "");
    let two = texts("two.SVG", &format!("--compare {endpoint} --rounds 1"));
    let labels = "latency|percentile|0 %|50 %|90 %|99 %|connections|replies/s|p50|p99|\
                  1 connection|4 connections";
    for label in labels.split('|') {
        assert!(one.iter().any(|text| text == label), "{label}: {one:?}");
    }
    for label in ["A, 1 connection", "B, 4 connections"] {
        assert!(two.iter().any(|text| text == label), "{label}: {two:?}");
    }
    let is_time = |text: &String| text.ends_with(" µs") || text.ends_with(" ms");
    assert!(one.iter().any(is_time) && one.iter().any(|text| text.contains(endpoint)));
    let load = "closed loop, one request in flight on each connection; 200 requests for each run; ";
    let version = format!(", postmapd {}, on ", env!("CARGO_PKG_VERSION"));
    for texts in [&one, &two] {
        let is_load = |text: &String| text.starts_with(load) && text.ends_with(" % found");
        assert!(texts.iter().any(is_load), "{texts:?}");
        assert!(texts.iter().any(|text| text.contains(&version)), "{texts:?}");
    }
}

#[test]
fn the_report_states_the_share_of_hits_and_flags_a_run_of_misses_only() {
    let daemon = Daemon::start(setup());
    let endpoint = daemon.endpoint(0);
    let plot = daemon.root().join("plot.svg");
    let run = |more: &[&str]| {
        // Without `--dir`, as a first user runs it.
        let mut command = Command::new(env!("CARGO_BIN_EXE_postmapd"));
        command.env_clear().args(["bench", endpoint, "relayhost"]);
        command.args(["--connections", "1", "--warm-up", "0", "--count", "200", "--plot"]);
        let text = finish(command.arg(&plot).args(more), b"").stdout;
        (text, fs::read_to_string(&plot).unwrap())
    };
    let (text, drawn) = run(&[]);
    assert!(
        text.contains("\nof 200 replies: 0 found, 200 not found, 0 cannot tell\n")
            && text.contains(
                "100 % of the replies were not found, so these are the latencies of misses. Use --dir"
            ),
        "{text}"
    );
    assert!(drawn.contains("100 % of the replies were not found"));
    let dir = daemon.setup().dir().to_str().unwrap().to_owned();
    let (text, drawn) = run(&["--dir", &dir, "--hits", "1"]);
    assert!(
        text.contains("\nof 200 replies: 200 found, 0 not found, 0 cannot tell\n")
            && !text.contains("misses"),
        "{text}"
    );
    assert!(!drawn.contains("not found"));
    // The keys are those of the tables, so there is no advice.
    let (text, _) = run(&["--dir", &dir, "--hits", "0.02"]);
    let warning = " % of the replies were not found, so these are the latencies of misses.\n";
    assert!(text.contains(warning), "{text}");
    let (text, _) = run(&["--dir", &dir, "--hits", "0.1"]);
    assert!(!text.contains("misses"), "{text}");
}

#[test]
fn the_report_names_the_date_the_version_the_machine_and_the_durations() {
    let daemon = Daemon::start(setup());
    let line = format!("{} relayhost --count 100 --connections 1,2", daemon.endpoint(0));
    let before = SystemTime::now();
    let report = json(&bench(&daemon.setup(), &format!("{line} --format json")), 0);
    // Its fraction of a second is cut off.
    let date = humantime::parse_rfc3339(report["date"].as_str().unwrap()).unwrap();
    assert!(date <= SystemTime::now() && date + Duration::from_secs(1) > before);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["complete"], true);
    let uname = finish(Command::new("uname").arg("-sr"), b"").stdout;
    let machine = &report["machine"];
    assert_eq!(machine["kernel"], uname.trim());
    let usable = std::thread::available_parallelism().unwrap().get();
    assert!(whole(&machine["cpus"]) >= usable as u64);
    assert!(!machine["cpu"].as_str().unwrap().is_empty());
    let runs = report["runs"].as_array().unwrap();
    let measured: f64 = runs.iter().map(|run| figure(&run["seconds"])).sum();
    assert!(figure(&report["elapsed_seconds"]) + 0.001 >= measured, "{report}");
    let text = bench(&daemon.setup(), &line).exits(0).stdout;
    let name = |what: &str| machine[what].as_str().unwrap().to_owned();
    let version = format!(", postmapd {}, on {}, ", env!("CARGO_PKG_VERSION"), name("cpu"));
    let kernel = name("kernel");
    let is_origin = |line: &str| line.contains(&version) && line.ends_with(&kernel);
    assert!(text.lines().any(is_origin), "{text}");
    assert!(text.contains("\n200 requests in "), "{text}");
}

#[test]
fn awk_can_read_the_tables_of_the_text() {
    let daemon = Daemon::start(setup());
    let endpoint = daemon.endpoint(0);
    let pid = daemon.pid();
    for more in [
        String::new(),
        format!("--compare {endpoint} --rounds 1 --pid {pid}"),
    ] {
        let line = format!("{endpoint} relayhost --hits 0.5 --count 2000 --connections 1,2 {more}");
        let text = bench(&daemon.setup(), &line).exits(0).stdout;
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let is_heading = |line: &&str| line.contains("requests  ") || line.contains("stddev");
        let headings: Vec<&str> = text.lines().filter(is_heading).collect();
        assert_eq!(headings.len(), 2, "{text}");
        let servers = if more.is_empty() { 1 } else { 2 };
        for heading in headings {
            let table = text.lines().skip_while(|line| *line != heading);
            let rows: Vec<_> = table
                .skip(1)
                .take_while(|line| !line.is_empty())
                .map(fields)
                .collect();
            assert_eq!(rows.len(), 2 * servers, "{text}");
            let names = fields(heading);
            for row in rows {
                // Only servers whose process is known have a CPU time.
                let has_cpu = names.last().unwrap() != "cpu/reply" || row.contains(&"A".to_owned());
                assert_eq!(row.len(), names.len() - usize::from(!has_cpu), "{text}");
                let field = |name: &str| names.iter().position(|other| other == name).map(|at| &row[at]);
                for (name, number) in [("requests", "2000"), ("found", "1000"), ("not_found", "1000")] {
                    assert!(field(name).is_none_or(|field| field == number), "{name}: {text}");
                }
            }
        }
    }
}

/// The lines of a distribution, as the plotters of HdrHistogram read them: of each line without `#`, the fields between
/// spaces.
fn distribution(text: &str) -> Vec<Vec<f64>> {
    let mut lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let heading: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
    let numbers = |line: &str| -> Vec<f64> {
        let fields = line.split_whitespace().map(|field| field.parse().unwrap());
        fields.collect()
    };
    lines.map(numbers).collect()
}

/// The number behind this name in the lines below a distribution.
fn footer(text: &str, name: &str) -> f64 {
    let (_, rest) = text.split_once(name).unwrap();
    let number = rest.trim_start_matches([' ', '=']).split([',', ']']).next();
    number.unwrap().parse().unwrap()
}

#[test]
fn the_latency_distribution_is_written_in_the_percentile_format_of_hdrhistogram() {
    let daemon = Daemon::start(setup());
    let file = daemon.root().join("latency.hgrm");
    let line = format!(
        "{} relayhost --count 5000 --connections 4 --format json --hdr {}",
        daemon.endpoint(0),
        file.display()
    );
    let report = json(&bench(&daemon.setup(), &line), 0);
    let latency = |name: &str| figure(&report["runs"][0]["latency_us"][name]);
    let text = fs::read_to_string(file).unwrap();
    let lines = distribution(&text);
    let [lines @ .., last] = lines.as_slice() else {
        panic!("{text}")
    };
    let near = |a: f64, b: f64| (a - b).abs() <= 0.001 + b / 500.0;
    assert_eq!(last[1..], [1.0, 5000.0], "the slowest reply has no fourth field");
    assert!(near(last[0], latency("max")), "{text}");
    for line in lines {
        let [value, percentile, count, inverse] = line[..] else {
            panic!("{line:?}")
        };
        assert!(
            value <= last[0] && count >= (percentile * 5000.0).floor(),
            "{line:?}"
        );
        assert!(
            (1.0 / (1.0 - percentile) - inverse).abs() <= 0.01 * inverse,
            "{line:?}"
        );
    }
    assert!(lines.is_sorted_by(|a, b| a[0] <= b[0] && a[1] < b[1] && a[2] <= b[2]));
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)] {
        let below = lines.iter().rfind(|line| line[1] <= share).unwrap();
        let above = lines.iter().find(|line| line[1] >= share).unwrap_or(last);
        let value = latency(name);
        let is_between = below[0] <= value * 1.002 && value <= above[0] * 1.002;
        assert!(is_between, "{name} {value} {below:?} {above:?}");
    }
    assert!(near(footer(&text, "#[Mean "), latency("mean")), "{text}");
    assert!(near(footer(&text, "StdDeviation "), latency("stddev")), "{text}");
    assert!(near(footer(&text, "#[Max "), latency("max")), "{text}");
    assert!(near(footer(&text, "Total count "), 5000.0), "{text}");
}

#[test]
fn each_server_and_number_of_connections_has_a_latency_distribution_of_its_own() {
    let daemon = Daemon::start(setup());
    let endpoint = daemon.endpoint(0);
    let line = format!(
        "{endpoint} relayhost --count 50 --connections 1,3 --compare {endpoint} --rounds 2 --hdr {}",
        daemon.root().join("latency.hgrm").display()
    );
    bench(&daemon.setup(), &line).exits(0);
    for (name, label) in [
        ("latency-a-1.hgrm", "\n# A, 1 connection; "),
        ("latency-a-3.hgrm", "\n# A, 3 connections; "),
        ("latency-b-1.hgrm", "\n# B, 1 connection; "),
        ("latency-b-3.hgrm", "\n# B, 3 connections; "),
    ] {
        let text = fs::read_to_string(daemon.root().join(name)).unwrap();
        assert_eq!(distribution(&text).last().unwrap()[1..], [1.0, 100.0], "{text}");
        assert!(text.contains(label) && text.contains(endpoint), "{text}");
    }
    assert!(!daemon.root().join("latency.hgrm").exists());
}
