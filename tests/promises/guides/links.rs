//! What the documents name exists: files, headings, commands, flags, variables, settings, metrics. Every command that
//! they show is run by a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use postmapd::cli;
use postmapd::config::setting;

use super::page::{Page, all, repository};
use super::{ELSEWHERE, is_elsewhere};
use crate::harness::daemon::finish;

/// The documents whose commands are run from the first to the last, and the test of each.
const FOLLOWED: [(&str, &str); 12] = [
    ("README.md", "readme.rs"),
    (
        "contrib/guides/replace-hash-on-a-host.md",
        "guides/replace_hash.rs",
    ),
    ("contrib/guides/what-happens-when.md", "guides/what_happens.rs"),
    (
        "contrib/guides/with-docker-mailserver.md",
        "guides/docker_mailserver.rs",
    ),
    ("contrib/guides/in-kubernetes.md", "guides/kubernetes.rs"),
    ("contrib/guides/relays-of-providers.md", "guides/providers.rs"),
    (
        "contrib/guides/services-of-their-own.md",
        "guides/own_services.rs",
    ),
    ("contrib/guides/a-fleet-from-postgresql.md", "guides/fleet.rs"),
    ("contrib/guides/sendmail-and-exim.md", "guides/sendmail_exim.rs"),
    // With a MariaDB server.
    (
        "contrib/guides/relays-from-mailcow.md",
        "../../follow/tests/mariadb/guides.rs",
    ),
    (
        "contrib/guides/relays-from-ispconfig.md",
        "../../follow/tests/mariadb/guides.rs",
    ),
    (
        "contrib/guides/relays-from-iredmail.md",
        "../../follow/tests/mariadb/guides.rs",
    ),
];

/// The documents for users. Those of benches and fuzz are for developers.
fn user_documents() -> Vec<Page> {
    let pages: Vec<Page> = all()
        .iter()
        .map(|path| path.strip_prefix(repository()).unwrap().to_str().unwrap())
        .filter(|name| name.starts_with("contrib/") || ["README.md", "SECURITY.md"].contains(name))
        .map(Page::read)
        .collect();
    assert!(pages.len() >= 10, "only {}", pages.len());
    pages
}

#[test]
fn every_link_in_the_documents_has_a_target() {
    let mut links = 0;
    for path in all() {
        let text = fs::read_to_string(&path).unwrap();
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let (target, _) = rest.split_once(')').expect("the end of a link");
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(there.exists(), "{}: {target}", path.display());
            assert!(
                heading.is_empty() || headings(&there).contains(heading),
                "{}: no heading for {target}",
                path.display()
            );
        }
    }
    assert!(links > 25, "only {links}");
}

/// The anchors that GitHub gives to the headings of a document.
fn headings(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(page).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn every_documented_command_is_run_by_a_test() {
    let mut elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(command, _)| *command).collect();
    for page in user_documents() {
        let followed = FOLLOWED.iter().any(|(name, _)| *name == page.name);
        for command in page.commands() {
            assert!(
                followed || is_elsewhere(command),
                "{}: nothing runs: {}",
                command.place,
                command.text
            );
            elsewhere.remove(command.text.as_str());
        }
        // In a document with commands, they are in blocks that are recognised.
        if followed || !page.name.contains("/container/") {
            for (number, line) in page.text.lines().enumerate() {
                let begins = [
                    "postmapd ",
                    "docker ",
                    "kubectl ",
                    "systemctl ",
                    "postfix ",
                    "postmap ",
                    "cargo ",
                ];
                let indented = line.strip_prefix("    ").unwrap_or_default();
                assert!(
                    !begins.iter().any(|begin| indented.starts_with(begin)),
                    "{}:{}: a command that is not in a block of kind console",
                    page.name,
                    number + 1
                );
            }
        }
    }
    assert_eq!(elsewhere, BTreeSet::new(), "shown nowhere");
    for (page, test) in FOLLOWED {
        let source = repository().join("tests/promises").join(test);
        let text =
            fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        assert!(text.contains(page), "{page} is not in {}", source.display());
    }
}

/// The code spans, and the lines of code blocks.
fn code(text: &str) -> Vec<String> {
    let mut code = Vec::new();
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            code.push(
                line.trim_start()
                    .trim_start_matches(['#', '$', '>'])
                    .trim()
                    .to_owned(),
            );
        } else {
            prose.extend([line, " "]);
        }
    }
    code.extend(prose.split('`').skip(1).step_by(2).map(ToOwned::to_owned));
    code
}

#[test]
fn every_documented_command_and_flag_exists() {
    let mut command = cli::definition();
    command.build();
    let mut named = BTreeSet::new();
    for page in user_documents() {
        for code in code(&page.text) {
            for (at, _) in code.match_indices("postmapd ") {
                // Only as a command, and not as the name of a unit or of a container.
                let before = code[..at].trim_end();
                let begins = ["", "|", "&&", ";", "--", "--rm", "postmapd"];
                if !begins.contains(&before.rsplit(' ').next().unwrap_or_default()) {
                    continue;
                }
                let words: Vec<&str> = code[at..]
                    .split([' ', '|', ')', '&', '\'', '"'])
                    .skip(1)
                    .collect();
                check(&command, &words, &page.name, &mut named);
            }
        }
    }
    let commands = [
        "serve", "status", "query", "check", "relay", "probe", "postconf", "import", "bench",
    ];
    assert_eq!(
        named,
        commands.map(ToOwned::to_owned).into(),
        "each is named somewhere"
    );
}

/// Checks the words after the program's name, the first of which may be a command.
fn check(command: &clap::Command, words: &[&str], page: &str, named: &mut BTreeSet<String>) {
    let Some((first, mut words)) = words.split_first() else {
        return;
    };
    let Some(mut command) = command.find_subcommand(first) else {
        // A sentence, a unit, or a directory.
        let sentence = !first.starts_with('-') && !["reload", "start", "add-domain"].contains(first);
        assert!(
            sentence || ["--", "--help", "--version"].contains(first),
            "{page}: postmapd {first}"
        );
        return;
    };
    named.insert((*first).to_owned());
    if *first == "relay" {
        while let Some((word, rest)) = words.split_first() {
            words = rest;
            if let Some(own) = command.find_subcommand(word) {
                command = own;
                break;
            }
            assert!(
                word.starts_with(['-', '/', '…']) || word.is_empty() || *word == "list",
                "{page}: postmapd relay {word}"
            );
        }
    }
    // The next command of a pipe belongs to another program.
    for word in words.iter().take_while(|word| !word.is_empty()) {
        if let Some(flag) = word.strip_prefix("--") {
            let flag = flag
                .split(['=', '`', ',', '.', ';', ':'])
                .next()
                .unwrap_or_default();
            let mut known = command.get_arguments().filter_map(clap::Arg::get_long);
            assert!(
                flag.is_empty() || known.any(|known| known == flag) || flag == "help",
                "{page}: postmapd {first} --{flag}"
            );
        }
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn every_documented_variable_setting_metric_and_parameter_exists() {
    let parameters = finish(process::Command::new("postconf").args(["-d", "-H"]), b"").stdout;
    let mut known: BTreeSet<String> = parameters.lines().map(|line| line.trim().to_owned()).collect();
    assert!(known.len() > 500, "the parameters of Postfix: {}", known.len());
    let mut count = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        known.extend(words.filter(|word| word.contains('_')).map(ToOwned::to_owned));
    };
    // The metrics in the manual, which monitoring.rs compares with the server, and the variables of the role.
    count(repository().join("contrib/man/postmapd-status.1"));
    count(repository().join("contrib/ansible/roles/postmapd/defaults/main.yml"));
    // The tables and the settings of postmapd-follow.
    count(repository().join("follow/src/schema.sql"));
    count(repository().join("contrib/follow/man/postmapd-follow.toml.5"));
    for setting in setting::ALL {
        known.extend(
            [setting.key, setting.variable]
                .into_iter()
                .flatten()
                .map(|name| name.rsplit_once('.').map_or(name, |(_, name)| name).to_owned()),
        );
    }
    // Parameters of Postfix 3.10 and later, of Exim, of docker-mailserver, of Kubernetes, of Compose, names of other
    // databases, and placeholders.
    let of_others = [
        "hosts_require_auth",
        "connection_max_messages",
        "RELAY_HOST",
        "RELAY_PORT",
        "RELAY_USER",
        "RELAY_PASSWORD",
        "RELAY_PASSWORD_FILE",
        "RELAY_PASSWORD__FILE",
        "DEFAULT_RELAY_HOST",
        "RELAY_TLS",
        "tls_required_enable",
        "RELAY_",
        "POSTMAPD_",
        "POSTFIX_UID",
        "depends_on",
        "sender_relayhost",
        "server_id",
        "mail_domain",
        "SQL_PORT",
        "smtp_enforced_tls",
        "log_statement",
        "AWS_SES_",
        "SSL_TYPE",
        "ACCOUNT_PROVISIONER",
        "socket_",
        "NO_COLOR",
        "SO_PEERCRED",
        "CAP_DAC_READ_SEARCH",
        "CAP_DAC_OVERRIDE",
        "AF_NETLINK",
        "tcp_table",
        "max_user_instances",
        "max_user_watches",
        "tls_required_enable",
        "_FILE",
        "__FILE",
    ];
    known.extend(of_others.map(ToOwned::to_owned));
    let mut seen = 0;
    for page in user_documents() {
        let prose: String = {
            let mut fenced = false;
            let lines = page.text.lines().filter(|line| {
                let fence = line.trim_start().starts_with("```");
                fenced ^= fence;
                !fenced && !fence && !line.starts_with("    ")
            });
            lines.flat_map(|line| [line, " "]).collect()
        };
        for code in prose.split('`').skip(1).step_by(2) {
            // Other tests check paths, examples and command lines.
            if code.contains(['/', '@', '.', '$', ':']) || code.starts_with("cargo ") {
                continue;
            }
            let words = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            for word in words.filter(|word| word.contains('_') && word.len() > 3) {
                seen += 1;
                assert!(known.contains(word), "{}: {word} in `{code}`", page.name);
            }
        }
    }
    assert!(seen > 100, "only {seen}");
}
