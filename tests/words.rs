//! No text and no name in the repository contains a word of tests/words.txt. CONTRIBUTING.md has the rules of language.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Third-party texts, inputs of parsers, and the list itself.
const UNCHECKED: [&str; 8] = [
    ".git",
    "Cargo.lock",
    "LICENSE",
    "contrib/package/debian/copyright",
    "fuzz/Cargo.lock",
    "fuzz/found",
    "fuzz/seeds",
    "tests/words.txt",
];

/// A line of the list.
struct Rule {
    /// In lower case: `["in", "force"]`.
    phrase: Vec<String>,
    advice: String,
    exceptions: Vec<Exception>,
}

/// Where a phrase is allowed.
struct Exception {
    /// One file, or all.
    file: Option<String>,
    /// The text around the phrase, within a line.
    text: String,
}

struct Word {
    lower_case: String,
    range: Range<usize>,
}

/// A phrase in a text.
#[derive(Debug, PartialEq)]
struct Match {
    rule: usize,
    start: usize,
}

/// Reads the list: `PHRASE, PHRASE => ADVICE`, each followed by its exceptions: `    in FILE: TEXT => REASON` or
/// `    anywhere: TEXT => REASON`.
fn rules(list: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut first = 0;
    for line in list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (left, reason) = line.split_once(" => ").expect("a reason");
        assert!(!reason.trim().is_empty(), "no reason: {line}");
        if let Some(exception) = left.strip_prefix("    ") {
            let (place, text) = exception.split_once(": ").expect("a place and a text");
            let file = place.strip_prefix("in ").map(str::to_owned);
            assert!(file.is_some() || place == "anywhere", "no place: {line}");
            // For the phrase of the line above that the text has.
            let of = rules
                .iter_mut()
                .skip(first)
                .filter(|rule| has_phrase(text, &rule.phrase));
            let mut of = of.collect::<Vec<_>>();
            assert!(!of.is_empty(), "the text has none of the words above: {line}");
            for rule in &mut of {
                let text = text.to_owned();
                rule.exceptions.push(Exception {
                    file: file.clone(),
                    text,
                });
            }
        } else {
            first = rules.len();
            rules.extend(left.split(", ").map(|phrase| Rule {
                phrase: phrase.split(' ').map(str::to_owned).collect(),
                advice: reason.to_owned(),
                exceptions: Vec::new(),
            }));
        }
    }
    rules
}

fn has_phrase(text: &str, phrase: &[String]) -> bool {
    let words = words(text);
    (0..words.len()).any(|start| begins_with(text, &words[start..], phrase))
}

/// The words of a text and of its identifiers: `BadKey`, `bad_key` and `bad-key` have two.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut letters = text.char_indices().peekable();
    let mut start = None;
    let mut before = ' ';
    while let Some((at, letter)) = letters.next() {
        let next = letters.peek().map_or(' ', |(_, next)| *next);
        let begins = letter.is_uppercase() && (!before.is_uppercase() || next.is_lowercase());
        if let Some(begin) = start.filter(|_| begins || !letter.is_alphanumeric()) {
            words.push(word(text, begin..at));
            start = None;
        }
        if letter.is_alphanumeric() {
            start.get_or_insert(at);
        }
        before = letter;
    }
    words.extend(start.map(|begin| word(text, begin..text.len())));
    words
}

fn word(text: &str, range: Range<usize>) -> Word {
    let lower_case = text[range.clone()].to_lowercase();
    Word { lower_case, range }
}

/// Whether words begin with a phrase. Between its words are whitespace, the joints of identifiers and the marks of
/// comments, and no punctuation.
fn begins_with(text: &str, words: &[Word], phrase: &[String]) -> bool {
    if words.len() < phrase.len()
        || words
            .iter()
            .zip(phrase)
            .any(|(word, own)| word.lower_case != *own)
    {
        return false;
    }
    let ends = words.iter().take(phrase.len()).map(|word| word.range.end);
    ends.zip(words.iter().take(phrase.len()).skip(1))
        .all(|(end, next)| {
            let between = &text[end..next.range.start];
            between
                .chars()
                .all(|letter| letter.is_whitespace() || "_-/!#*".contains(letter))
        })
}

/// Whether a word is a part of a mail address or of the name of a host, which are examples.
fn is_in_address(text: &str, word: &Word) -> bool {
    let is_of_name = |letter: char| letter.is_alphanumeric() || "._+-".contains(letter);
    let rest = &text[word.range.end..];
    let end = rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    after.starts_with('@') || [".test", ".example"].iter().any(|domain| name.contains(domain))
}

fn matches(text: &str, rules: &[Rule]) -> Vec<Match> {
    let mut by_first_word: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let first = rule.phrase.first().expect("a word");
        by_first_word.entry(first).or_default().push(index);
    }
    let words = words(text);
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        for rule in by_first_word.get(word.lower_case.as_str()).into_iter().flatten() {
            if begins_with(text, &words[at..], &rules[*rule].phrase) && !is_in_address(text, word) {
                let start = word.range.start;
                found.push(Match { rule: *rule, start });
            }
        }
    }
    found
}

/// The line of a text with the byte at `start`: its number, its text, and where the byte is in it.
fn line_at(text: &str, start: usize) -> (usize, &str, usize) {
    let begin = text[..start].rfind('\n').map_or(0, |end| end + 1);
    let number = text[..begin].matches('\n').count() + 1;
    let line = text[begin..].lines().next().unwrap_or_default();
    (number, line, start - begin)
}

/// The exception that allows a phrase at `at` in a line.
fn exception(rule: &Rule, file: &str, line: &str, at: usize) -> Option<usize> {
    rule.exceptions.iter().position(|exception| {
        let is_here = exception.file.as_ref().is_none_or(|own| own == file);
        let mut texts = line.match_indices(&exception.text);
        is_here && texts.any(|(begin, text)| (begin..begin + text.len()).contains(&at))
    })
}

/// The files of the repository below a directory: all that .gitignore does not name.
fn files(root: &Path, directory: &Path, ignored: &[PathBuf], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(directory)).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = directory.join(entry.file_name());
        let kind = entry.file_type().expect("a type");
        if ignored.contains(&path) || path.ends_with("__pycache__") {
        } else if kind.is_dir() {
            files(root, &path, ignored, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

#[test]
fn no_text_and_no_name_has_a_word_of_the_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a file of the repository");
    let rules = rules(&read("tests/words.txt"));
    let gitignore = read(".gitignore");
    let ignored = gitignore.lines().filter_map(|line| line.strip_prefix('/'));
    let ignored: Vec<PathBuf> = ignored.chain(UNCHECKED).map(PathBuf::from).collect();
    let mut paths = Vec::new();
    files(root, Path::new(""), &ignored, &mut paths);
    paths.sort();

    let (mut wrong, mut used, mut checked) = (Vec::new(), BTreeSet::new(), 0);
    for path in &paths {
        let file = path.to_string_lossy();
        // What is not UTF-8 is no text.
        let Ok(text) = fs::read_to_string(root.join(path)) else {
            continue;
        };
        checked += 1;
        for (text, is_name) in [(file.as_ref(), true), (text.as_str(), false)] {
            for Match { rule: index, start } in matches(text, &rules) {
                let (number, line, at) = line_at(text, start);
                let rule = &rules[index];
                if let Some(exception) = exception(rule, &file, line, at) {
                    used.insert((index, exception));
                    continue;
                }
                let place = if is_name {
                    file.to_string()
                } else {
                    format!("{file}:{number}")
                };
                wrong.push(format!(
                    "{place}: `{}`: write {}",
                    rule.phrase.join(" "),
                    rule.advice
                ));
            }
        }
    }
    for (index, rule) in rules.iter().enumerate() {
        for (number, Exception { file, text }) in rule.exceptions.iter().enumerate() {
            if !used.contains(&(index, number)) {
                let place = file.as_deref().unwrap_or("the repository");
                wrong.push(format!(
                    "tests/words.txt: the exception `{text}` is not in {place} any more: remove it"
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} words of tests/words.txt:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // A search of no files would find nothing.
    assert!(
        checked > 500 && rules.len() > 50,
        "{checked} files, {} words",
        rules.len()
    );
}

#[test]
fn a_word_is_found_in_texts_and_names_and_its_exception_is_not() {
    let list = "# A comment\n\nplum, plums => apple\nin fruit => ripe\n    in src/a.rs: is in fruit => quoted\n    anywhere: `in fruit` => quoted\n";
    let rules = rules(list);
    let found = |text: &str| {
        let found = matches(text, &rules);
        let allowed = |found: &Match| {
            let (_, line, at) = line_at(text, found.start);
            exception(&rules[found.rule], "src/a.rs", line, at).is_some()
        };
        found
            .into_iter()
            .filter(|found| !allowed(found))
            .map(|found| line_at(text, found.start).0)
            .collect::<Vec<_>>()
    };
    for (text, lines) in [
        ("the Plum\nof two PLUMS.", vec![1, 2]),
        (
            "let waker = BadPlum::new(self.plum, all_plums, \"plum's\");",
            vec![1, 1, 1, 1],
        ),
        ("// what is read in\n    // fruit", vec![1]),
        ("a plumber, aplumb, a dump lump", vec![]),
        ("what is read in: fruit", vec![]),
        ("plum@example.org, plum.test, x+plum-1@a.test", vec![]),
        ("it is in fruit, `in fruit`, now in fruit", vec![1]),
        ("fn is_in_fruit() {}", vec![1]),
        ("HTTPPlum", vec![1]),
    ] {
        assert_eq!(found(text), lines, "{text}");
    }
}
