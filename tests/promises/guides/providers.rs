//! contrib/guides/relays-of-providers.md: the lines of each provider are valid, and give the answers that it shows.
//!
//! A section is an example of its own: its blocks of kind `text` are files of one directory, and its commands query
//! them. No provider is contacted.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::page::{Command, Page, Piece, Quotation};
use crate::harness::daemon::{CREDENTIALS, RELAY_TLS, RELAYMAP, Setup};

/// A heading with the blocks below it.
struct Example<'a> {
    heading: &'a str,
    files: Vec<&'a Quotation>,
    commands: Vec<&'a Command>,
}

fn examples(page: &Page) -> Vec<Example<'_>> {
    let mut examples: Vec<Example> = Vec::new();
    for piece in &page.pieces {
        if let Piece::Heading(_, heading) = piece {
            examples.push(Example {
                heading,
                files: Vec::new(),
                commands: Vec::new(),
            });
            continue;
        }
        let example = examples.last_mut().expect("a heading first");
        match piece {
            Piece::Quotation(file) => example.files.push(file),
            Piece::Command(command) => example.commands.push(command),
            Piece::Heading(..) => {}
        }
    }
    examples.retain(|example| !example.files.is_empty() || !example.commands.is_empty());
    examples
}

impl Example<'_> {
    /// The words of the lines of a file.
    fn lines(&self, name: &str) -> Vec<Vec<&str>> {
        let file = self.files.iter().find(|file| file.whose == name);
        file.map_or_else(Vec::new, |file| {
            file.lines
                .iter()
                .map(|line| line.split_whitespace().collect())
                .collect()
        })
    }

    fn setup(&self) -> Setup {
        let mut names = BTreeSet::new();
        let mut setup = Setup::new();
        for file in &self.files {
            assert!(
                [RELAYMAP, CREDENTIALS, RELAY_TLS].contains(&file.whose.as_str())
                    && names.insert(file.whose.as_str()),
                "{}: {}",
                file.place,
                file.whose
            );
            setup = setup.file(&file.whose, file.lines.join("\n") + "\n");
        }
        // As the package installs it; else `check` warns.
        fs::set_permissions(setup.dir().join(CREDENTIALS), Permissions::from_mode(0o600)).unwrap();
        setup
    }

    /// Runs the commands, and returns the maps that they query.
    fn run(&self, setup: &Setup) -> BTreeSet<String> {
        let mut maps = BTreeSet::new();
        for command in &self.commands {
            let line = command
                .text
                .strip_prefix("postmapd ")
                .unwrap_or_else(|| panic!("{}: {}", command.place, command.text));
            let ran = setup.run_line(&line.replace('\'', "")).exits(0);
            let printed: Vec<&str> = ran.stdout.lines().collect();
            assert_eq!(printed, command.shown, "{}", command.place);
            maps.extend(line.split_whitespace().nth(1).map(ToOwned::to_owned));
        }
        maps
    }
}

#[test]
fn the_lines_of_each_provider_are_valid_and_give_the_answers_that_the_guide_shows() {
    let page = Page::read("contrib/guides/relays-of-providers.md");
    let examples = examples(&page);
    assert_eq!(examples.len(), 9);
    for example in &examples {
        let setup = example.setup();
        let checked = setup.run("check", &["--format", "json"]).exits(0).json();
        let codes: Vec<&str> = checked["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["code"].as_str().unwrap())
            // It cannot know whether Postfix queries transport, as the guide says.
            .filter(|code| *code != "implicit-tls")
            .collect();
        assert_eq!(codes, Vec::<&str>::new(), "{}", example.heading);
        assert_eq!(
            example.run(&setup),
            BTreeSet::from(["transport", "tls"].map(ToOwned::to_owned)),
            "{}",
            example.heading
        );
        // The login is found under a sender of the first line, which has a next hop.
        let (relays, logins) = (example.lines(RELAYMAP), example.lines(CREDENTIALS));
        let sender = relays[0][0].rsplit_once('@').expect("a sender").1;
        let login = setup.run_query(&["sasl", &format!("you@{sender}")]);
        assert_eq!(login.stdout.trim_end(), logins[0][1], "{}", example.heading);
    }
}

#[test]
fn the_table_of_providers_agrees_with_the_lines_below_it() {
    let page = Page::read("contrib/guides/relays-of-providers.md");
    let rows = page.text.lines().filter(|line| line.starts_with("| ["));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    assert_eq!(rows.len(), 8);
    let examples = examples(&page);
    for row in rows {
        let name = row[0].trim_start_matches("| [").split(']').next().unwrap();
        let example = examples
            .iter()
            .find(|example| example.heading == name)
            .unwrap_or_else(|| panic!("no section: {name}"));
        let relays = example.lines(RELAYMAP);
        assert_eq!(row[1], format!("`{}`", relays[0][1]), "{name}");
        let answer = example.commands[0].shown.join("\n");
        let mode = row[2].to_lowercase();
        assert!(answer.starts_with(&format!("relay-{mode}:")), "{name}: {answer}");
        // Bounces do not go to a provider that refuses them.
        let refused = row[5].starts_with("refused");
        assert_eq!(relays.iter().any(|line| line == &["<>"]), refused, "{name}");
    }
}
