//! Tests reading and evaluating real files: what is unreadable, what is empty, and what is shared with an earlier read.
//! `decision/tests.rs` tests that a source with an error, or one that is held, changes nothing.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::RandomState;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};
use std::{io, iter};

use clap::{Args as _, Command, FromArgMatches as _};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::{RawSources, paths, read, read_once};
use crate::config::Sources;
use crate::config::options::{Options, ServiceOptions};
use crate::diagnostics::Findings;
use crate::lookup::address::LookupKeys;
use crate::lookup::map::Map;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::text::Text;
use crate::protocol::answer::Answer;
use crate::source::source_file::{Directory, SourceFile};

const RELAY: Map = Map::RELAYHOST;
const LOGIN: Map = Map::SASL;

// The sources, in the order of [`paths`].
const SETTINGS: usize = 0;
const RELAY_MAP: usize = 1;
const CREDENTIALS: usize = 2;
const RELAY_TLS: usize = 3;
const HOST: usize = 4;
const PASSWORD: usize = 5;
const ALL: [usize; 6] = [SETTINGS, RELAY_MAP, CREDENTIALS, RELAY_TLS, HOST, PASSWORD];

/// The queries. Their answers depend on every source.
const QUESTIONS: [(Map, &str); 6] = [
    (RELAY, "ann@one.test"),
    (LOGIN, "ann@one.test"),
    (LOGIN, "[default0.test]:25"),
    (RELAY, "ann=x@two.test"),
    (RELAY, "ann@three.test"),
    (Map::TLS, "[default0.test]:25"),
];

/// The n-th text of a source.
fn text(source: usize, n: usize) -> String {
    match source {
        SETTINGS => format!("recipient_delimiter = \"{}\"\n", ["=", "-"][n % 2]),
        RELAY_MAP => format!("@one.test [relay{n}.test]\nann@two.test [ann.test]\n@two.test [two.test]\n"),
        CREDENTIALS => format!("@one.test user:secret{n}\n"),
        RELAY_TLS => format!("[default0.test]:25 secure match=name{n}.test\n"),
        HOST => "default0.test\n".to_owned(),
        _ => format!("password{n}\n"),
    }
}

/// The answers if these versions are active.
fn answers([settings, relay_map, credentials, tls, _, password]: [usize; 6]) -> Vec<String> {
    let two = ["[ann.test]", "[two.test]"][settings % 2];
    vec![
        format!("[relay{relay_map}.test]"),
        format!("user:secret{credentials}"),
        format!("user:password{password}"),
        two.to_owned(),
        "[default0.test]:25".to_owned(),
        format!("secure match=name{tls}.test"),
    ]
}

/// The sources in a directory, with these flags.
fn sources(dir: &Path, flags: &[&OsStr]) -> Sources {
    let command = Options::augment_args(Command::new("test"));
    let fixed = [OsStr::new("test"), "--dir".as_ref(), dir.as_os_str()];
    let flags = fixed.iter().chain(flags);
    let options = Options::from_arg_matches(&command.get_matches_from(flags)).unwrap();
    Sources::unchecked(options, ServiceOptions::default(), &mut Findings::default())
}

/// The first version of every source, in a directory of its own.
struct Files {
    root: TempDir,
    sources: Sources,
    hasher: RandomState,
}

impl Files {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (tables, at) = (root.path().join("tables"), root.path().display());
        fs::create_dir(&tables).unwrap();
        let sources = sources(&tables, &[]);
        let variables =
            format!("RELAY_HOST_FILE={at}/host\nRELAY_USER=user\nRELAY_PASSWORD_FILE={at}/password\n");
        let files = Self {
            root,
            sources: sources.with_variables(&variables),
            hasher: RandomState::new(),
        };
        for source in ALL {
            files.write(source, 0);
        }
        assert!(files.path(HOST).ends_with("host") && files.path(PASSWORD).ends_with("password"));
        files
    }

    fn path(&self, source: usize) -> PathBuf {
        paths(&self.sources).swap_remove(source)
    }

    fn set(&self, source: usize, text: &str) -> io::Result<()> {
        fs::write(self.path(source), text)
    }

    fn write(&self, source: usize, n: usize) {
        self.set(source, &text(source, n)).unwrap();
    }

    fn remove(&self, source: usize) -> io::Result<()> {
        fs::remove_file(self.path(source))
    }

    fn remove_all(&self) -> io::Result<()> {
        fs::remove_dir_all(self.sources.dir())
    }

    fn read(&self) -> RawSources {
        read(&self.sources, &self.hasher, None)
    }

    /// Returns the answers and errors of these sources. `?` means that the answer cannot tell.
    fn evaluate(&self, raw: &RawSources) -> (Vec<String>, Vec<String>) {
        let loaded = raw.evaluate(&self.sources, None);
        let errors = loaded.findings.iter().map(ToString::to_string);
        (
            QUESTIONS.map(|(map, key)| ask(&loaded.snapshot, map, key)).into(),
            errors.collect(),
        )
    }
}

fn ask(snapshot: &Snapshot, map: Map, key: &str) -> String {
    match map.answer(
        snapshot,
        key.as_bytes(),
        &mut LookupKeys::default(),
        &mut Scratch::default(),
    ) {
        Answer::Found(value) => String::from_utf8(value.expose().to_vec()).unwrap(),
        Answer::NotFound => "-".to_owned(),
        Answer::CannotTell(_) => "?".to_owned(),
    }
}

const NOTHING: &str = "nothing";

type Replacement = (&'static str, fn(&Path) -> io::Result<()>);

/// What may be in place of a file.
const REPLACEMENTS: [Replacement; 12] = [
    // Only a secret must exist.
    (NOTHING, |_| Ok(())),
    ("a FIFO", |path| Ok(mkfifo(path, Mode::S_IRUSR)?)),
    ("a directory", |path| fs::create_dir(path)),
    ("a link that leads nowhere", |path| {
        symlink("nowhere/at/all", path)
    }),
    ("a link that leads through a file", |path| {
        symlink("/dev/null/x", path)
    }),
    ("a link to itself", |path| symlink(path, path)),
    ("a device without end", |path| symlink("/dev/zero", path)),
    ("a device without a byte", |path| symlink("/dev/null", path)),
    ("a socket", |path| UnixListener::bind(path).map(drop)),
    // Its first page does not exist, so reading fails with EIO.
    ("a file that cannot be read", |path| {
        symlink("/proc/self/mem", path)
    }),
    ("a file of 4 GiB", |path| sparse(path, 1 << 32)),
    ("a file of more than 1 GiB", |path| sparse(path, (1 << 30) + 1)),
];

fn sparse(path: &Path, length: u64) -> io::Result<()> {
    File::create(path)?.set_len(length)
}

/// For each source, the answers that are unknown without it: without the relay map also those of the credentials, which
/// might otherwise be sent to the recipient's own server, and without the credentials also those of the default relay,
/// over which an entry would take precedence.
const UNSURE: [&[usize]; 6] = [&[], &[0, 1, 3, 4], &[1, 2], &[5], &[2, 4, 5], &[2]];

#[test]
fn an_unreadable_source_is_one_error_that_names_it_and_never_an_empty_file() {
    thread::scope(|scope| {
        for source in ALL {
            scope.spawn(move || {
                let files = Files::new();
                let path = files.path(source);
                for (replacement, make) in REPLACEMENTS {
                    if replacement == NOTHING && source < HOST {
                        continue;
                    }
                    if path.is_symlink() || !path.exists() {
                        let _ = fs::remove_file(&path);
                    } else if path.is_dir() {
                        fs::remove_dir(&path).unwrap();
                    } else {
                        fs::remove_file(&path).unwrap();
                    }
                    make(&path).unwrap();
                    let raw = files.read();
                    let (answered, errors) = files.evaluate(&raw);
                    let what = format!("{replacement} in place of {}: {errors:?}", path.display());
                    assert!(!raw.empty_or_missing()[source], "{what}");
                    assert_eq!(errors.len(), 1, "{what}");
                    assert!(errors[0].contains(path.to_str().unwrap()), "{what}");
                    assert!(errors[0].contains("cannot read the "), "{what}");
                    let mut expected = answers([0; 6]);
                    for unsure in UNSURE[source] {
                        expected[*unsure] = "?".to_owned();
                    }
                    // The server does not start if the settings have an error.
                    assert!(answered == expected || source == SETTINGS, "{what}: {answered:?}");
                }
            });
        }
    });
}

#[test]
fn only_a_missing_source_or_one_without_a_byte_is_empty() {
    type Act = fn(&Files) -> io::Result<()>;
    // The change, whether the source is empty then, and whether being empty would change any answer if this is active.
    let cases: [(usize, Act, bool, bool); 14] = [
        (RELAY_MAP, |files| files.remove(RELAY_MAP), true, false),
        (RELAY_MAP, |files| files.set(RELAY_MAP, ""), true, false),
        (
            RELAY_MAP,
            |files| files.set(RELAY_MAP, "# no entry\n\n"),
            false,
            false,
        ),
        (RELAY_MAP, |files| files.set(RELAY_MAP, "@a [\n"), false, true),
        (CREDENTIALS, |files| files.remove(CREDENTIALS), true, false),
        (CREDENTIALS, |files| files.set(CREDENTIALS, "\n"), false, false),
        // Its files may still be created, as in a directory whose files were deleted.
        (CREDENTIALS, Files::remove_all, false, true),
        (RELAY_MAP, Files::remove_all, false, true),
        (SETTINGS, Files::remove_all, false, false),
        (SETTINGS, |files| files.remove(SETTINGS), true, false),
        (SETTINGS, |files| files.set(SETTINGS, "#"), false, true),
        // A missing secret is an error.
        (PASSWORD, |files| files.remove(PASSWORD), false, true),
        (PASSWORD, |files| files.set(PASSWORD, ""), true, false),
        (HOST, |_| Ok(()), false, true),
    ];
    for (number, (source, act, is_empty, matters)) in cases.into_iter().enumerate() {
        let files = Files::new();
        act(&files).unwrap();
        let raw = files.read();
        assert_eq!(raw.empty_or_missing()[source], is_empty, "case {number}");
        assert_eq!(raw.seen(&[])[source].is_empty, is_empty, "case {number}");
        let loaded = raw.evaluate(&files.sources, None);
        assert_eq!(
            raw.loss_changes_answers(&loaded.snapshot)[source],
            matters,
            "case {number}"
        );
    }
}

#[test]
fn each_source_can_be_held_and_the_secrets_only_together() {
    for held in ALL {
        let files = Files::new();
        let mut before = files.read();
        let loaded = before.evaluate(&files.sources, None);
        before.set_default_relay(&loaded.snapshot.default, loaded.default_findings);
        for source in ALL {
            files.write(source, 1);
        }
        let mut raw = files.read();
        let is_held = |source| source == held || source >= HOST && held >= HOST;
        for source in ALL.into_iter().filter(|source| is_held(*source)) {
            raw.hold(source, &before);
            assert_eq!(raw.digests[source], before.digests[source]);
            assert_eq!(raw.versions[source].digest, before.versions[source].digest);
        }
        let numbers = ALL.map(|source| usize::from(!is_held(source)));
        assert_eq!(files.evaluate(&raw), (answers(numbers), Vec::new()), "{held}");
    }
}

#[test]
fn the_source_of_the_directory_is_one_of_the_files_and_its_loss_changes_no_answer() {
    let files = Files::new();
    let number = paths(&files.sources).len() - 1;
    assert_eq!(files.path(number), files.sources.dir().join("source.json"));
    let source = |raw: &RawSources| {
        let loaded = raw.evaluate(&files.sources, None);
        assert_eq!(ask(&loaded.snapshot, RELAY, "ann@one.test"), "[relay0.test]");
        let source = loaded.snapshot.directory_source;
        (
            source.map(|source| source.source.clone()),
            loaded.findings.warnings(),
        )
    };
    let missing = files.read();
    assert_eq!(source(&missing), (None, 0));
    files.set(number, "{\"source\": \"first\"}").unwrap();
    let first = files.read();
    assert_eq!(source(&first), (Some("first".to_owned()), 0));
    assert!(first.digests[number] != missing.digests[number]);
    let loaded = first.evaluate(&files.sources, None);
    assert!(!first.loss_changes_answers(&loaded.snapshot)[number]);
    files.set(number, "{\"source\": \"second\"}").unwrap();
    let mut second = files.read();
    assert_eq!(source(&second), (Some("second".to_owned()), 0));
    second.hold(number, &first);
    assert_eq!(source(&second), (Some("first".to_owned()), 0));
    assert_eq!(second.digests, first.digests);
    // What is in its place is a warning, and no error.
    fs::remove_file(files.path(number)).unwrap();
    for (replacement, make) in REPLACEMENTS.iter().filter(|(name, _)| *name != NOTHING) {
        make(&files.path(number)).unwrap();
        let raw = files.read();
        assert_eq!(source(&raw), (None, 1), "{replacement}");
        assert_eq!(files.evaluate(&raw).0, answers([0; 6]), "{replacement}");
        if files.path(number).is_dir() && !files.path(number).is_symlink() {
            fs::remove_dir(files.path(number)).unwrap();
        } else {
            fs::remove_file(files.path(number)).unwrap();
        }
    }
}

#[test]
fn a_file_that_keeps_changing_is_unreadable_and_its_final_content_is_new() {
    // Whether each change also changes the text.
    for is_edited in [false, true] {
        let files = Files::new();
        let calm = files.read();
        let is_on = AtomicBool::new(true);
        let busy = thread::scope(|scope| {
            scope.spawn(|| {
                let file = File::options().write(true).open(files.path(RELAY_MAP)).unwrap();
                for n in (0..10).cycle().take_while(|_| is_on.load(Ordering::Relaxed)) {
                    file.set_modified(SystemTime::now()).unwrap();
                    if is_edited {
                        file.write_all_at(text(RELAY_MAP, n).as_bytes(), 0).unwrap();
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            });
            // On a busy machine that thread may pause for longer than a read takes.
            let mut reads = iter::repeat_with(|| files.read()).take(100);
            let busy = reads.find(|raw| {
                let is_steady = raw.steady.get(RELAY_MAP).copied().flatten().is_some();
                raw.unsettled[RELAY_MAP] && is_steady != is_edited
            });
            is_on.store(false, Ordering::Relaxed);
            busy.unwrap()
        });
        let seen = busy.seen(&calm.stats);
        for source in ALL {
            assert_eq!(seen[source].is_unsettled, source == RELAY_MAP, "{source}");
            assert_eq!(seen[source].is_unchanged, source != RELAY_MAP, "{source}");
            assert_eq!(seen[source].content == calm.digests[source], source != RELAY_MAP);
        }
        let (answered, errors) = files.evaluate(&busy);
        assert_eq!(
            answered,
            ["?", "?", "user:password0", "?", "?", "secure match=name0.test"]
        );
        assert!(
            errors.len() == 1 && errors[0].contains("changes faster than it can be read"),
            "{errors:?}"
        );
        if !is_edited {
            assert_eq!(seen[RELAY_MAP].steady, Some(calm.digests[RELAY_MAP]));
            // So the final content is new, even after such a start.
            assert_eq!(files.read().digests, calm.digests);
        }
    }
}

#[test]
fn a_file_that_is_being_written_is_unsettled() {
    let files = Files::new();
    let mut raw = read_once(&files.sources, &files.hasher, None);
    raw.unsettled = vec![false; ALL.len()];
    let mut file = File::options().append(true).open(files.path(RELAY_MAP)).unwrap();
    file.write_all(b"# more\n").unwrap();
    raw.detect_writers();
    assert_eq!(raw.unsettled, ALL.map(|source| source == RELAY_MAP));
}

#[test]
fn without_relay_map_and_default_relay_the_credentials_of_a_sender_are_unknown() {
    let default = "RELAY_HOST=default0.test\n";
    for (relay_map, settings, variables, answer) in [
        (None, "", "", "?"),
        (Some(""), "", "", "-"),
        (Some("@one.test [one.test]\n"), "", "", "user:secret0"),
        (None, "", default, "user:secret0"),
        (None, "next_hops = \"main.cf\"\n", "", "user:secret0"),
    ] {
        let mut files = Files::new();
        files.sources = files.sources.with_variables(variables);
        files.set(SETTINGS, settings).unwrap();
        match relay_map {
            Some(text) => files.set(RELAY_MAP, text).unwrap(),
            None => files.remove(RELAY_MAP).unwrap(),
        }
        let (answered, errors) = files.evaluate(&files.read());
        assert_eq!(
            (answered[1].as_str(), errors),
            (answer, Vec::new()),
            "{relay_map:?}"
        );
    }
}

#[test]
fn the_errors_of_a_table_are_counted_for_its_file() {
    let files = Files::new();
    files.set(RELAY_MAP, "@a [\n@b [b]\n@c [\n").unwrap();
    files.set(CREDENTIALS, "@a nocolon\n").unwrap();
    let loaded = files.read().evaluate(&files.sources, None);
    let errors: Vec<_> = loaded
        .versions
        .iter()
        .map(|version| version.table_errors)
        .collect();
    assert_eq!(errors, [0, 2, 1, 0, 0, 0, 0]);
}

#[test]
fn a_named_settings_file_must_exist() {
    let mut files = Files::new();
    files.remove(SETTINGS).unwrap();
    let (answered, errors) = files.evaluate(&files.read());
    assert_eq!((answered[0].as_str(), errors.len()), ("[relay0.test]", 0));
    let named = files.path(SETTINGS);
    files.sources = sources(files.sources.dir(), &["--config".as_ref(), named.as_os_str()]);
    let (_, errors) = files.evaluate(&files.read());
    assert!(
        errors.len() == 1 && errors[0].contains("no such file"),
        "{errors:?}"
    );
}

#[test]
fn all_tables_are_read_from_the_directory_that_was_opened_first() {
    let files = Files::new();
    let dir = files.sources.dir();
    let directory = Directory::open(dir);
    // Another directory with other tables takes its place.
    fs::rename(dir, files.root.path().join("away")).unwrap();
    fs::create_dir(dir).unwrap();
    for source in [RELAY_MAP, CREDENTIALS] {
        files.write(source, 1);
        let content = SourceFile::<Text>::read(&files.path(source), &directory, None, &files.hasher);
        let SourceFile::Text(file) = content else {
            panic!("{source}");
        };
        let pieces: Vec<_> = file
            .text
            .blocks()
            .iter()
            .flat_map(|block| block.pieces())
            .collect();
        assert_eq!(pieces.concat(), text(source, 0).as_bytes());
    }
}
