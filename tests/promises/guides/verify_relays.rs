//! contrib/guides/verify-relays.md: `postmapd probe` and posttls-finger show for each kind of relay what the guide says, and
//! the entries that it proposes are valid. The two agree on every certificate.
//!
//! The relays are on loopback, with certificates of the test's own authorities, and their names are in a private
//! /etc/hosts.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::Command;

use super::page::repository;
use crate::harness::certificates::{Authority, Certificate, self_signed};
use crate::harness::daemon::{RELAY_TLS, Setup, finish};
use crate::harness::smtp_server::Setup as Relay;
use crate::harness::starttls::{Offer, TlsProxy};

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Runs a program with another /etc/hosts.
const WITH_HOSTS: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";

/// A row of the table: what the output of each program has, and the entry, without its key and explanation.
struct Row {
    probe: String,
    finger: String,
    entry: String,
}

fn rows() -> Vec<Row> {
    let guide = fs::read_to_string(repository().join("contrib/guides/verify-relays.md")).unwrap();
    let rows = guide
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 3);
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let code = |cell: &str| cell.split('`').nth(1).unwrap_or_default().to_owned();
        Row {
            probe: code(cells[0]),
            finger: code(cells[1]),
            entry: code(cells[3]),
        }
    });
    // The first one is the heading.
    let rows: Vec<Row> = rows.skip(1).collect();
    assert_eq!(rows.len(), 5);
    rows
}

/// What the two programs show of a relay.
struct Shown {
    probe: String,
    finger: String,
    /// The `pkey_fingerprint` of posttls-finger.
    digest: String,
}

/// What the two programs show of a relay with this name and certificate.
fn shown(name: &str, certificate: Certificate, offer: Offer, authority: &Path) -> Shown {
    let relay = Relay::new("relay", HOST).start().unwrap();
    let behind = SocketAddr::V4(SocketAddrV4::new(HOST, relay.port()));
    let front = TlsProxy::start_with(SocketAddrV4::new(HOST, 0), behind, offer, certificate);
    let next_hop = front.next_hop().replace("127.0.0.1", name);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("main.cf"), "compatibility_level = 3.6\n").unwrap();
    fs::write(directory.path().join("hosts"), format!("127.0.0.1 {name}\n")).unwrap();
    let hosts = directory.path().join("hosts");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", WITH_HOSTS])
        .arg(&hosts)
        // The options of the guide, and the sources of names, of which only DNS is the default.
        .args(["posttls-finger", "-h", "native", "-c"])
        .args((offer == Offer::Implicit).then_some("-w"))
        .args(["-l", "secure", "-s", name, "-F"])
        .arg(authority)
        .arg(&next_hop)
        .env("MAIL_CONFIG", directory.path());
    let done = finish(&mut command, b"");
    assert_eq!(done.code, Some(0), "{done:?}");
    let digest = done.stdout.split("pkey_fingerprint=").nth(1);
    let digest = digest.and_then(|rest| rest.split_whitespace().next());
    let mode = if offer == Offer::Implicit {
        "implicit"
    } else {
        "starttls"
    };
    let setup = Setup::new()
        .file(RELAY_TLS, format!("{next_hop} {mode}\n"))
        .within([
            "unshare",
            "--mount",
            "sh",
            "-c",
            WITH_HOSTS,
            hosts.to_str().unwrap(),
        ]);
    let ca = authority.to_str().unwrap();
    let probe = setup.run("probe", &["--next-hop", &next_hop, "--ca", ca]);
    Shown {
        probe: probe.stdout,
        digest: digest.unwrap_or_default().to_owned(),
        finger: done.stdout,
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn probe_and_posttls_finger_show_what_the_guide_says_and_its_entries_are_valid() {
    let (known, other) = (Authority::new("known"), Authority::new("other"));
    let own = tempfile::tempdir().unwrap();
    let rows = rows();
    let mut untried: Vec<&str> = rows.iter().map(|row| row.finger.as_str()).collect();
    let authority_file = other.file().display().to_string();
    for (name, certificate, offer, output) in [
        (
            "good.test",
            known.certificate("good.test"),
            Offer::Starttls,
            "Verified TLS connection established",
        ),
        (
            "implicit.test",
            known.certificate("implicit.test"),
            Offer::Implicit,
            "Verified TLS connection established",
        ),
        (
            "name.test",
            known.certificate("another.test"),
            Offer::Starttls,
            "hostname mismatch",
        ),
        (
            "unknown.test",
            other.certificate("unknown.test"),
            Offer::Starttls,
            "untrusted issuer",
        ),
        (
            "own.test",
            self_signed(own.path(), "own.test"),
            Offer::Starttls,
            "self-signed certificate",
        ),
        (
            "old.test",
            known.expired_certificate("old.test"),
            Offer::Starttls,
            "certificate has expired",
        ),
    ] {
        let shown = shown(name, certificate, offer, &known.file());
        for row in &rows {
            let is_row = row.finger == output;
            assert_eq!(
                shown.finger.contains(&row.finger),
                is_row,
                "{name}: {}\n{}",
                row.finger,
                shown.finger
            );
            assert_eq!(
                shown.probe.contains(&row.probe),
                is_row,
                "{name}: {}\n{}",
                row.probe,
                shown.probe
            );
        }
        untried.retain(|row| *row != output);
        let Row { entry, .. } = rows.iter().find(|row| row.finger == output).unwrap();
        if entry.is_empty() {
            continue;
        }
        // The entry takes effect for a relay of that name.
        let policy = entry
            .replace("NAME", "another.test")
            .replace("FILE", &authority_file)
            .replace("DIGEST", &shown.digest);
        let next_hop = format!("[{name}]:587");
        let query = Setup::new()
            .relaymap(format!("@sender.test {next_hop}\n"))
            .file(RELAY_TLS, format!("{next_hop} {policy}\n"))
            .run_query(&["tls", &next_hop]);
        assert_eq!((query.code, query.stdout), (Some(0), format!("{policy}\n")));
    }
    assert!(untried.is_empty(), "{untried:?}");
}
