//! Names of relays: DNS and /etc/hosts, each test in a mount namespace of its own.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use serde_json::json;

use super::relay::HOST;
use super::{error, good, object, sender};
use crate::harness::addresses::unused_loopback_address;
use crate::harness::daemon::Setup;
use crate::harness::name_server::{NameServer, Record};

/// The same setup with these files in place of /etc/resolv.conf and /etc/hosts.
fn with_names(setup: Setup, directory: &Path, name_server: Ipv4Addr, hosts: &str) -> Setup {
    fs::write(
        directory.join("resolv.conf"),
        format!("nameserver {name_server}\n"),
    )
    .unwrap();
    fs::write(directory.join("hosts"), hosts).unwrap();
    let script = "mount --bind \"$0/resolv.conf\" /etc/resolv.conf && mount --bind \"$0/hosts\" /etc/hosts && exec \"$@\"";
    let directory = directory.to_str().unwrap();
    setup.within(["unshare", "--mount", "sh", "-c", script, directory])
}

fn records(records: &[(&str, Record)]) -> Vec<(String, Record)> {
    let records = records.iter().cloned();
    records.map(|(name, record)| (name.to_owned(), record)).collect()
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_name_without_brackets_is_resolved_by_mx_records_and_one_with_brackets_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let address = unused_loopback_address();
    let relay = good();
    let _server = NameServer::start(
        address,
        records(&[
            ("relay.test", Record::Exchanger("mx.relay.test".into())),
            ("relay.test", Record::Address(Ipv4Addr::new(127, 0, 0, 9))),
            ("mx.relay.test", Record::Address(HOST)),
            ("without.test", Record::Address(HOST)),
            ("null.test", Record::Exchanger(String::new())),
        ]),
    );
    let probe = |next_hop: &str, code| {
        let next_hop = format!("{next_hop}:{}", relay.port());
        let setup = sender(&next_hop, "may");
        object(&with_names(setup, directory.path(), address, ""), "@a.test", code)
    };
    let by_mx = probe("relay.test", 0);
    assert_eq!(
        (&by_mx["host"], &by_mx["address"]),
        (&json!("mx.relay.test"), &json!("127.0.0.1"))
    );
    assert_eq!(probe("[mx.relay.test]", 0)["host"], json!("mx.relay.test"));
    assert_eq!(probe("without.test", 0)["host"], json!("without.test"));
    assert_eq!(probe("[relay.test]", 1)["address"], json!("127.0.0.9"));
    assert!(error(&probe("[missing.test]", 1)).contains("does not exist in DNS"));
    assert!(error(&probe("missing.test", 1)).contains("does not exist in DNS"));
    assert!(error(&probe("null.test", 1)).contains("accepts no mail"));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn an_ipv6_address_that_does_not_work_is_followed_by_the_ipv4_address() {
    let directory = tempfile::tempdir().unwrap();
    let address = unused_loopback_address();
    let relay = good();
    // A server listens at neither: the first has no route on most machines, and the second is this machine.
    for unreachable in ["2001:db8::1", "::1"] {
        let _server = NameServer::start(
            address,
            records(&[
                (
                    "relay.test",
                    Record::Address6(unreachable.parse::<Ipv6Addr>().unwrap()),
                ),
                ("relay.test", Record::Address(HOST)),
            ]),
        );
        let setup = sender(&format!("[relay.test]:{}", relay.port()), "may");
        let setup = with_names(setup, directory.path(), address, "");
        let object = object(&setup, "@a.test --timeout 10", 0);
        assert_eq!(
            (&object["address"], &object["login"]),
            (&json!("127.0.0.1"), &json!("accepted"))
        );
        assert_eq!(object["attempts"][0]["address"], json!(unreachable));
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_name_server_that_does_not_answer_is_no_fault_of_the_relay() {
    let directory = tempfile::tempdir().unwrap();
    let address = unused_loopback_address();
    let _silent = UdpSocket::bind((address, 53)).unwrap();
    for next_hop in ["relay.test:587", "[relay.test]:587"] {
        let setup = with_names(sender(next_hop, ""), directory.path(), address, "");
        let object = object(&setup, "@a.test --timeout 2", 75);
        assert!(error(&object).contains("no name server has answered"), "{object}");
        assert_eq!(
            (&object["connected"], &object["host"]),
            (&json!(false), &json!("relay.test"))
        );
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_name_of_etc_hosts_works_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let address = unused_loopback_address();
    let relay = good();
    let setup = sender(&format!("[relay.test]:{}", relay.port()), "may");
    let hosts = "127.0.0.1 relay.test\n::1 relay.test\n";
    let setup = with_names(setup, directory.path(), address, hosts);
    let by_default = object(&setup, "@a.test", 0);
    assert!(
        by_default["warnings"].to_string().contains("smtp_host_lookup"),
        "{by_default}"
    );
    assert_eq!(
        by_default["attempts"].as_array().unwrap().len(),
        1,
        "{by_default}"
    );
    // Postfix may read the file, and may not use IPv6.
    let main_cf = "compatibility_level = 3.6\nsmtp_host_lookup = native\ninet_protocols = ipv4\n";
    fs::write(directory.path().join("main.cf"), main_cf).unwrap();
    fs::write(directory.path().join("master.cf"), "smtp unix - - n - - smtp\n").unwrap();
    let native = object(&setup.env("MAIL_CONFIG", directory.path()), "@a.test", 0);
    assert!(
        !native["warnings"].to_string().contains("smtp_host_lookup"),
        "{native}"
    );
    assert_eq!(native["attempts"], json!([]));
}
