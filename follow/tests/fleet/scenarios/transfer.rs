//! `load` of a directory while servers follow, and `dump`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::apparatus::FOLLOW;
use crate::apparatus::client::Reply;
use crate::apparatus::fleet::Fleet;
use crate::apparatus::senders::{login, next_hop, sender};

/// Loads a directory in which every row differs, while a client asks: each of its replies is from before or after the load.
/// Then `dump` prints the same entries.
pub(crate) fn check(senders: u64) {
    let mut fleet = Fleet::start(1, senders);
    let (loaded, dumped) = (fleet.directory().join("loaded"), fleet.directory().join("dumped"));
    fs::create_dir(&loaded).unwrap();
    write_tables(&loaded, senders, 1);
    let (mut client, stop) = (fleet.servers[0].client(), Arc::new(AtomicBool::new(false)));
    let its_stop = Arc::clone(&stop);
    let asker = thread::spawn(move || {
        let states = [0, 1].map(|number| [next_hop(number), login(number)].map(|value| Reply::found(&value)));
        let mut newest = 0;
        let mut is_last = false;
        // The last time after the stop, when the load is seen by others.
        while !is_last {
            is_last = its_stop.load(Ordering::Acquire);
            // All in one write, so that one snapshot answers them: the first and the last row, and others between.
            let keys: Vec<String> = (0..8).map(|part| sender(part * (senders - 1) / 7)).collect();
            let requests: Vec<_> = keys
                .iter()
                .flat_map(|key| [("relayhost", key.as_str()), ("sasl", key)])
                .collect();
            let replies = client.ask(&requests);
            let state = states.iter().position(|state| *state == replies[..2]).unwrap();
            assert!(
                replies.chunks_exact(2).all(|pair| *pair == states[state]),
                "{replies:?}"
            );
            assert!(state >= newest, "an older state");
            newest = state;
        }
        newest
    });
    let source = fleet.postgres.source("postgres");
    let output = command("load", &loaded, &fleet.servers[0].settings(), &source);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("password1"), "{text}");
    fleet.wait_for_transaction(senders - 1, 1);
    stop.store(true, Ordering::Release);
    assert_eq!(asker.join().unwrap(), 1);

    let output = command("dump", &dumped, &fleet.servers[0].settings(), &source);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for file in ["postfix-relaymap.cf", "postfix-sasl-password.cf"] {
        assert_eq!(entries(&loaded.join(file)), entries(&dumped.join(file)), "{file}");
    }
    fleet.servers[0].stop_follower();
}

fn command(name: &str, directory: &Path, settings: &Path, source: &str) -> Output {
    let mut command = Command::new(FOLLOW);
    command.arg(name).arg(directory).arg("--config").arg(settings);
    if name == "load" {
        command.args(["--force", "--source", source]);
    }
    command.output().unwrap()
}

fn write_tables(directory: &Path, senders: u64, transaction: u64) {
    let lines = |value: &str| {
        let lines = (0..senders).map(|number| format!("{} {value}\n", sender(number)));
        lines.collect::<String>()
    };
    fs::write(
        directory.join("postfix-relaymap.cf"),
        lines(&next_hop(transaction)),
    )
    .unwrap();
    fs::write(
        directory.join("postfix-sasl-password.cf"),
        lines(&login(transaction)),
    )
    .unwrap();
}

/// The entries of a file as key and value, sorted.
fn entries(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut entries: Vec<_> = lines
        .map(|line| {
            let (key, value) = line.split_once([' ', '\t']).unwrap();
            (key.to_owned(), value.trim().to_owned())
        })
        .collect();
    entries.sort();
    entries
}
