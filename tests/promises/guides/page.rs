//! A Markdown document as a reader follows it: commands with their output, and lines quoted from a log.
//!
//! A command follows a prompt (`# ` for root, `$ ` for any user) in a block of kind `console`, continues after `> `,
//! and is followed by its output. In the output `…` matches any text, and a line with only `…` any lines. A quotation
//! is a block of kind `text` with a second word: the source.

use std::fs;
use std::path::{Path, PathBuf};

pub(super) struct Page {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) pieces: Vec<Piece>,
}

pub(super) enum Piece {
    /// A heading: its level and text.
    Heading(usize, String),
    /// A command; a block has at least one.
    Command(Command),
    Quotation(Quotation),
}

pub(super) struct Command {
    /// Its place, for error messages.
    pub(super) place: String,
    pub(super) text: String,
    pub(super) shown: Vec<String>,
}

pub(super) struct Quotation {
    pub(super) place: String,
    /// The source: `postfix`, `postmapd`, `user` and so on.
    pub(super) whose: String,
    pub(super) lines: Vec<String>,
}

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown document of this repository.
pub(super) fn all() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut directories = vec![repository().to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

impl Page {
    /// Reads a document by its path in the repository.
    pub(super) fn read(name: &str) -> Self {
        let text =
            fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let pieces = pieces(name, &text);
        Self {
            name: name.to_owned(),
            text,
            pieces,
        }
    }

    pub(super) fn commands(&self) -> impl Iterator<Item = &Command> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Command(command) => Some(command),
            _ => None,
        })
    }
}

fn pieces(name: &str, text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let place = format!("{name}:{}", number + 1);
        if let Some(heading) = line.strip_prefix('#') {
            let text = heading.trim_start_matches('#');
            pieces.push(Piece::Heading(
                1 + heading.len() - text.len(),
                text.trim().to_owned(),
            ));
        }
        let Some(kind) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let block: Vec<(usize, &str)> = lines
            .by_ref()
            .take_while(|(_, line)| line.trim() != "```")
            .map(|(number, line)| (number + 1, line.get(indent..).unwrap_or_default()))
            .collect();
        match kind.split_once(' ') {
            None if kind == "console" => {
                let commands = commands(name, &block);
                assert!(!commands.is_empty(), "{place}: a block without a command");
                pieces.extend(commands.into_iter().map(Piece::Command));
            }
            Some(("text", whose)) => pieces.push(Piece::Quotation(Quotation {
                place,
                whose: whose.to_owned(),
                lines: block.iter().map(|(_, line)| (*line).to_owned()).collect(),
            })),
            _ => assert!(
                !["sh", "bash", "shell", "shell-session"].contains(&kind),
                "{place}: commands belong into a block of kind console, where they are run"
            ),
        }
    }
    pieces
}

fn commands(name: &str, block: &[(usize, &str)]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for (number, line) in block {
        let place = format!("{name}:{number}");
        let begins = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
        match (begins, commands.last_mut()) {
            (Some(text), _) => commands.push(Command {
                place,
                text: text.to_owned(),
                shown: Vec::new(),
            }),
            (None, Some(command)) => match line.strip_prefix("> ") {
                Some(more) if command.shown.is_empty() => command.text.extend(["\n", more]),
                _ => command.shown.push((*line).trim_end().to_owned()),
            },
            (None, None) => panic!("{place}: output without a command"),
        }
    }
    commands
}

/// Whether the output matches what the document shows.
pub(super) fn is_as_shown(shown: &[String], printed: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((any, rest)) if any == "…" => {
            (0..=printed.len()).any(|skipped| is_as_shown(rest, printed.get(skipped..).unwrap_or_default()))
        }
        Some((first, rest)) => printed
            .split_first()
            .is_some_and(|(line, printed)| is_like(first, line) && is_as_shown(rest, printed)),
    }
}

/// Whether a line matches another one that may contain `…`.
pub(super) fn is_like(shown: &str, line: &str) -> bool {
    match shown.split_once('…') {
        None => shown == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|&at| rest.is_char_boundary(at))
                .any(|at| is_like(after, &rest[at..]))
        }),
    }
}

#[test]
fn only_three_dots_match_any_text() {
    assert!(
        is_like("a…c", "abbbc")
            && is_like("…", "")
            && is_like("to=<…>, relay=…: x", "to=<b@c>, relay=d: e: x")
    );
    assert!(!is_like("a…c", "abbbd") && !is_like("a.c", "abc") && !is_like("", "a"));
    let shown = ["a", "…", "d"].map(ToOwned::to_owned);
    assert!(is_as_shown(&shown, &["a", "d"]) && is_as_shown(&shown, &["a", "b", "c", "d"]));
    assert!(!is_as_shown(&shown, &["a", "b"]) && !is_as_shown(&shown, &["a"]));
}
