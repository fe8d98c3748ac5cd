//! contrib/guides/verify-relays.md: posttls-finger shows for each kind of relay what the guide says, and the entries that
//! it proposes are valid.
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

/// A row of the table: what the output has, and the entry, without its key and explanation.
fn rows() -> Vec<(String, String)> {
    let guide = fs::read_to_string(repository().join("contrib/guides/verify-relays.md")).unwrap();
    let rows = guide.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<_> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let code = |cell: &str| cell.split('`').nth(1).unwrap_or_default().to_owned();
            (code(cells[0]), code(cells[2]))
        })
        .collect();
    assert_eq!(rows.len(), 5, "{rows:?}");
    rows
}

/// What posttls-finger shows of a relay with this name and certificate, and its `pkey_fingerprint`.
fn shown(name: &str, certificate: Certificate, offer: Offer, authority: &Path) -> (String, String) {
    let relay = Relay::new("relay", HOST).start().unwrap();
    let behind = SocketAddr::V4(SocketAddrV4::new(HOST, relay.port()));
    let front = TlsProxy::start_with(SocketAddrV4::new(HOST, 0), behind, offer, certificate);
    let next_hop = front.next_hop().replace("127.0.0.1", name);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("main.cf"), "compatibility_level = 3.6\n").unwrap();
    fs::write(directory.path().join("hosts"), format!("127.0.0.1 {name}\n")).unwrap();
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$0\" /etc/hosts && exec \"$@\"",
        ])
        .arg(directory.path().join("hosts"))
        // The options of the guide, and the sources of names, of which only DNS is the default.
        .args(["posttls-finger", "-h", "native", "-c"])
        .args((offer == Offer::Implicit).then_some("-w"))
        .args(["-l", "secure", "-s", name, "-F"])
        .arg(authority)
        .arg(next_hop)
        .env("MAIL_CONFIG", directory.path());
    let done = finish(&mut command, b"");
    assert_eq!(done.code, Some(0), "{done:?}");
    let digest = done.stdout.split("pkey_fingerprint=").nth(1);
    let digest = digest.and_then(|rest| rest.split_whitespace().next());
    (done.stdout.clone(), digest.unwrap_or_default().to_owned())
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn posttls_finger_shows_what_the_guide_says_and_its_entries_are_valid() {
    let (known, other) = (Authority::new("known"), Authority::new("other"));
    let own = tempfile::tempdir().unwrap();
    let rows = rows();
    let mut untried: Vec<&str> = rows.iter().map(|(output, _)| output.as_str()).collect();
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
        let (text, digest) = shown(name, certificate, offer, &known.file());
        for (other_output, _) in &rows {
            assert_eq!(
                text.contains(other_output),
                other_output == output,
                "{name}: {other_output}\n{text}"
            );
        }
        untried.retain(|row| *row != output);
        let (_, entry) = rows.iter().find(|(row, _)| row == output).unwrap();
        if entry.is_empty() {
            continue;
        }
        // The entry takes effect for a relay of that name.
        let policy = entry
            .replace("NAME", "another.test")
            .replace("FILE", &authority_file)
            .replace("DIGEST", &digest);
        let next_hop = format!("[{name}]:587");
        let query = Setup::new()
            .relaymap(format!("@sender.test {next_hop}\n"))
            .file(RELAY_TLS, format!("{next_hop} {policy}\n"))
            .run_query(&["tls", &next_hop]);
        assert_eq!((query.code, query.stdout), (Some(0), format!("{policy}\n")));
    }
    assert!(untried.is_empty(), "{untried:?}");
}
