//! Promise: the commands in the guides, the README and the READMEs of contrib do what the documents say.
//!
//! The commands of each document run in order, as root, on a separate mail server with a real systemd, Postfix and
//! journal (`mail_host`). Their output is compared with what the document shows. What a document quotes from a log is
//! provoked, and must be logged. A command that no test runs is a failure.
//!
//! Some parts are simulated:
//!
//! - `target/release/postmapd` is the build of the tests.
//! - The relays are fake servers on loopback, and their names are in /etc/hosts.
//! - `docker`, `kubectl` and `scp` are stand-ins (tests/systemd/stand-ins, which document themselves): there is no daemon and
//!   no cluster, and a host has no SSH server. What docker-compose and the real kubectl can do without one, they do.
//! - [`ELSEWHERE`] has the commands that another test runs.

mod docker_mailserver;
mod fleet;
mod kubernetes;
mod links;
mod mail_host;
mod own_services;
mod page;
mod providers;
mod replace_hash;
mod sendmail_exim;
mod verify_relays;
mod what_happens;

use std::thread;
use std::time::{Duration, Instant};

use mail_host::MailHost;
use page::{Command, Page, Piece, is_as_shown};

/// The timeout for output to match what is shown.
const DEADLINE: Duration = Duration::from_secs(60);

/// Commands that change nothing: they are repeated until their output matches.
const READ_ONLY_COMMANDS: [&str; 18] = [
    "grep ",
    "tail ",
    "su ",
    "mailq",
    "postmap -q ",
    "postmapd status",
    "postmapd query ",
    "systemctl is-active ",
    "systemctl show ",
    "journalctl ",
    "curl ",
    "ls ",
    "docker compose exec mailserver grep ",
    "docker compose exec mailserver postmap -q ",
    "docker compose logs ",
    "kubectl exec postfix-0 -c postfix -- grep ",
    "kubectl exec postfix-0 -c postfix -- postmap -q ",
    "kubectl logs ",
];

/// Commands that are not run here, and the test that runs each.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "../checkout/contrib/container/build",
        "tests/promises/container.rs",
    ),
    (
        "docker load -i ../checkout/target/container/postmapd-0.1.0-image.tar",
        "tests/promises/container.rs",
    ),
    // It needs a connection to this host, and root; it uses the build of the tests.
    ("cargo build --release", "tests/promises/contrib/ansible.rs"),
    ("cd contrib/ansible", "tests/promises/contrib/ansible.rs"),
    (
        "ansible-playbook -i mail.example.com, --ask-become-pass playbook.yml",
        "tests/promises/contrib/ansible.rs",
    ),
    // With relays of its own, and their names.
    ("postmapd probe --all", "tests/promises/guides/verify_relays.rs"),
    (
        "postmapd probe --next-hop '[relay1.org]:587'",
        "tests/promises/guides/verify_relays.rs",
    ),
    (
        "posttls-finger -c -l secure -s relay1.org -F /etc/ssl/certs/ca-certificates.crt '[relay1.org]:587'",
        "tests/promises/guides/verify_relays.rs",
    ),
    (
        "posttls-finger -c -w -l secure -s relay1.org -F /etc/ssl/certs/ca-certificates.crt '[relay1.org]:465'",
        "tests/promises/guides/verify_relays.rs",
    ),
    ("contrib/package/deb", "tests/promises/packages.rs"),
    (
        "apt install ./target/package/postmapd_0.1.0-0postmapd1_amd64.deb",
        "tests/promises/packages.rs",
    ),
];

/// Runs a document, and passes each heading and each quotation to `meets`. Returns how many commands were run.
fn follow(host: &MailHost, page: &Page, mut on_piece: impl FnMut(&Piece)) -> usize {
    let mut run = 0;
    for piece in &page.pieces {
        match piece {
            Piece::Command(command) if is_elsewhere(command) => {}
            Piece::Command(command) => {
                run_as_shown(host, command);
                run += 1;
            }
            other => on_piece(other),
        }
    }
    run
}

fn is_elsewhere(command: &Command) -> bool {
    ELSEWHERE.iter().any(|(text, _)| *text == command.text)
}

/// Runs a command until its output matches what is shown, or once where it is not one of [`READ_ONLY_COMMANDS`].
fn run_as_shown(host: &MailHost, command: &Command) {
    let begun = Instant::now();
    let looks = READ_ONLY_COMMANDS
        .iter()
        .any(|look| command.text.starts_with(look));
    loop {
        let done = host.run(&command.text);
        let printed: Vec<&str> = done.stdout.trim_end().lines().map(str::trim_end).collect();
        if done.code == Some(0) && is_as_shown(&command.shown, &printed) {
            return;
        }
        assert!(
            looks && begun.elapsed() < DEADLINE,
            "{}: {}\n--- prints, with exit code {:?} ---\n{}\n--- and not ---\n{}\n{}",
            command.place,
            command.text,
            done.code,
            printed.join("\n"),
            command.shown.join("\n"),
            host.state(),
        );
        thread::sleep(Duration::from_millis(20));
    }
}
