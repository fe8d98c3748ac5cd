//! Reading and judging real files: what may stand in place of each, what counts as empty, and what is taken from an earlier
//! reading. That a source with an error, or one that is held, changes nothing is tried in `decision/tests.rs`.

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

use super::{Reading, paths, read, read_once};
use crate::config::Sources;
use crate::config::options::{Options, ServiceOptions};
use crate::diagnostics::Findings;
use crate::lookup::address::SenderKeys;
use crate::lookup::map::Map;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::text::Text;
use crate::protocol::answer::Answer;
use crate::source::content::{Content, Directory};

const RELAY: Map = Map::RELAYHOST;
const LOGIN: Map = Map::SASL;

// The sources, in the order of [`paths`].
const SETTINGS: usize = 0;
const RELAY_MAP: usize = 1;
const CREDENTIALS: usize = 2;
const HOST: usize = 3;
const PASSWORD: usize = 4;
const ALL: [usize; 5] = [SETTINGS, RELAY_MAP, CREDENTIALS, HOST, PASSWORD];

/// What is asked. The answers depend on every source.
const QUESTIONS: [(Map, &str); 5] = [
    (RELAY, "ann@one.test"),
    (LOGIN, "ann@one.test"),
    (LOGIN, "[default0.test]:25"),
    (RELAY, "ann=x@two.test"),
    (RELAY, "ann@three.test"),
];

/// The n-th text of a source.
fn text(source: usize, n: usize) -> String {
    match source {
        SETTINGS => format!("recipient_delimiter = \"{}\"\n", ["=", "-"][n % 2]),
        RELAY_MAP => format!("@one.test [relay{n}.test]\nann@two.test [ann.test]\n@two.test [two.test]\n"),
        CREDENTIALS => format!("@one.test user:secret{n}\n"),
        HOST => "default0.test\n".to_owned(),
        _ => format!("password{n}\n"),
    }
}

/// The answers where these versions are active.
fn answers([settings, relay_map, credentials, _, password]: [usize; 5]) -> Vec<String> {
    let two = ["[ann.test]", "[two.test]"][settings % 2];
    vec![
        format!("[relay{relay_map}.test]"),
        format!("user:secret{credentials}"),
        format!("user:password{password}"),
        two.to_owned(),
        "[default0.test]:25".to_owned(),
    ]
}

/// The sources in a directory, with these flags.
fn sources(dir: &Path, flags: &[&OsStr]) -> Sources {
    let command = Options::augment_args(Command::new("test"));
    let fixed = [OsStr::new("test"), "--dir".as_ref(), dir.as_os_str()];
    let flags = fixed.iter().chain(flags);
    let options = Options::from_arg_matches(&command.get_matches_from(flags)).unwrap();
    Sources::not_judged(options, ServiceOptions::default(), &mut Findings::default())
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

    fn read(&self) -> Reading {
        read(&self.sources, &self.hasher, None)
    }

    /// The answers after this reading, and its errors. `?` stands for an answer that cannot tell.
    fn judge(&self, reading: &Reading) -> (Vec<String>, Vec<String>) {
        let loaded = reading.judge(&self.sources, None);
        let errors = loaded.findings.iter().map(ToString::to_string);
        (
            QUESTIONS.map(|(map, key)| ask(&loaded.snapshot, map, key)).into(),
            errors.collect(),
        )
    }
}

fn ask(snapshot: &Snapshot, map: Map, key: &str) -> String {
    match snapshot.answer(
        map,
        key.as_bytes(),
        &mut SenderKeys::default(),
        &mut Scratch::default(),
    ) {
        Answer::Found(value) => String::from_utf8(value.expose().to_vec()).unwrap(),
        Answer::NotFound => "-".to_owned(),
        Answer::CannotTell(_) => "?".to_owned(),
    }
}

const NOTHING: &str = "nothing";

type Obstacle = (&'static str, fn(&Path) -> io::Result<()>);

/// What may stand where a file should be.
const OBSTACLES: [Obstacle; 12] = [
    // Only a secret has to be there.
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
    // Its first page is not there: EIO.
    ("a file that cannot be read", |path| {
        symlink("/proc/self/mem", path)
    }),
    ("a file of 4 GiB", |path| sparse(path, 1 << 32)),
    ("a file of more than 1 GiB", |path| sparse(path, (1 << 30) + 1)),
];

fn sparse(path: &Path, length: u64) -> io::Result<()> {
    File::create(path)?.set_len(length)
}

/// For each source, which answers depend on it alone: with the relay map those of the credentials too, because without a
/// relay they would go to the recipient's own server, and with the credentials those of the default relay, because an entry
/// would win over them.
const UNSURE: [&[usize]; 5] = [&[], &[0, 1, 3, 4], &[1, 2], &[2, 4], &[2]];

#[test]
fn what_is_no_file_is_one_error_that_names_it_costs_its_answers_and_is_never_an_empty_file() {
    thread::scope(|scope| {
        for source in ALL {
            scope.spawn(move || {
                let files = Files::new();
                let path = files.path(source);
                for (obstacle, make) in OBSTACLES {
                    if obstacle == NOTHING && source < HOST {
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
                    let reading = files.read();
                    let (answered, errors) = files.judge(&reading);
                    let what = format!("{obstacle} in place of {}: {errors:?}", path.display());
                    assert!(!reading.gone()[source], "{what}");
                    assert_eq!(errors.len(), 1, "{what}");
                    assert!(errors[0].contains(path.to_str().unwrap()), "{what}");
                    assert!(errors[0].contains("cannot be read"), "{what}");
                    let mut expected = answers([0; 5]);
                    for unsure in UNSURE[source] {
                        expected[*unsure] = "?".to_owned();
                    }
                    // With settings that have an error the server does not start.
                    assert!(answered == expected || source == SETTINGS, "{what}: {answered:?}");
                }
            });
        }
    });
}

#[test]
fn a_source_is_gone_where_it_is_missing_or_has_no_byte_and_nowhere_else() {
    type Act = fn(&Files) -> io::Result<()>;
    // What was done, whether the source is gone then, and whether being gone would change something if this is active.
    let cases: [(usize, Act, bool, bool); 14] = [
        (RELAY_MAP, |files| files.remove(RELAY_MAP), true, false),
        (RELAY_MAP, |files| files.set(RELAY_MAP, ""), true, false),
        (
            RELAY_MAP,
            |files| files.set(RELAY_MAP, "# nobody\n\n"),
            false,
            false,
        ),
        (RELAY_MAP, |files| files.set(RELAY_MAP, "@a [\n"), false, true),
        (CREDENTIALS, |files| files.remove(CREDENTIALS), true, false),
        (CREDENTIALS, |files| files.set(CREDENTIALS, "\n"), false, false),
        // Its files are as likely to be on their way as those of a directory whose files were deleted.
        (CREDENTIALS, Files::remove_all, false, true),
        (RELAY_MAP, Files::remove_all, false, true),
        (SETTINGS, Files::remove_all, false, false),
        (SETTINGS, |files| files.remove(SETTINGS), true, false),
        (SETTINGS, |files| files.set(SETTINGS, "#"), false, true),
        // A secret that is missing is an error.
        (PASSWORD, |files| files.remove(PASSWORD), false, true),
        (PASSWORD, |files| files.set(PASSWORD, ""), true, false),
        (HOST, |_| Ok(()), false, true),
    ];
    for (number, (source, act, is_gone, matters)) in cases.into_iter().enumerate() {
        let files = Files::new();
        act(&files).unwrap();
        let reading = files.read();
        assert_eq!(reading.gone()[source], is_gone, "case {number}");
        assert_eq!(reading.seen(&[])[source].is_empty, is_gone, "case {number}");
        let loaded = reading.judge(&files.sources, None);
        assert_eq!(
            reading.matters(&loaded.snapshot)[source],
            matters,
            "case {number}"
        );
    }
}

#[test]
fn each_source_can_be_taken_from_the_reading_before_and_the_secrets_only_together() {
    for held in ALL {
        let files = Files::new();
        let mut before = files.read();
        let loaded = before.judge(&files.sources, None);
        before.keep_default(&loaded.snapshot.default, loaded.default_findings);
        for source in ALL {
            files.write(source, 1);
        }
        let mut reading = files.read();
        let is_held = |source| source == held || source >= HOST && held >= HOST;
        for source in ALL.into_iter().filter(|source| is_held(*source)) {
            reading.hold(source, &before);
            assert_eq!(reading.digests[source], before.digests[source]);
            assert_eq!(reading.versions[source].digest, before.versions[source].digest);
        }
        let numbers = ALL.map(|source| usize::from(!is_held(source)));
        assert_eq!(files.judge(&reading), (answers(numbers), Vec::new()), "{held}");
    }
}

#[test]
fn a_file_that_is_touched_all_the_time_cannot_be_read_the_others_can_and_in_calm_it_is_another_content() {
    // Whether it has another text each time.
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
            // On a busy machine that thread may pause for longer than a reading takes.
            let mut readings = iter::repeat_with(|| files.read()).take(100);
            let busy = readings.find(|reading| {
                let is_steady = reading.steady.get(RELAY_MAP).copied().flatten().is_some();
                reading.unsettled[RELAY_MAP] && is_steady != is_edited
            });
            is_on.store(false, Ordering::Relaxed);
            busy.unwrap()
        });
        let seen = busy.seen(&calm.stamps);
        for source in ALL {
            assert_eq!(seen[source].is_unsettled, source == RELAY_MAP, "{source}");
            assert_eq!(seen[source].is_untouched, source != RELAY_MAP, "{source}");
            assert_eq!(seen[source].content == calm.digests[source], source != RELAY_MAP);
        }
        let (answered, errors) = files.judge(&busy);
        assert_eq!(answered, ["?", "?", "user:password0", "?", "?"]);
        assert!(
            errors.len() == 1 && errors[0].contains("changes faster than it can be read"),
            "{errors:?}"
        );
        if !is_edited {
            assert_eq!(seen[RELAY_MAP].steady, Some(calm.digests[RELAY_MAP]));
            // So what is read in calm after such a start is news.
            assert_eq!(files.read().digests, calm.digests);
        }
    }
}

#[test]
fn a_file_that_a_program_goes_on_to_write_is_unsettled() {
    let files = Files::new();
    let mut reading = read_once(&files.sources, &files.hasher, None);
    reading.unsettled = vec![false; ALL.len()];
    let mut file = File::options().append(true).open(files.path(RELAY_MAP)).unwrap();
    file.write_all(b"# more\n").unwrap();
    reading.find_writers();
    assert_eq!(reading.unsettled, ALL.map(|source| source == RELAY_MAP));
}

#[test]
fn without_a_relay_map_and_a_default_relay_no_credentials_of_a_sender_are_known() {
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
        let (answered, errors) = files.judge(&files.read());
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
    let loaded = files.read().judge(&files.sources, None);
    let errors: Vec<_> = loaded
        .versions
        .iter()
        .map(|version| version.errors_of_table)
        .collect();
    assert_eq!(errors, [0, 2, 1, 0, 0]);
}

#[test]
fn a_settings_file_that_is_named_has_to_be_there() {
    let mut files = Files::new();
    files.remove(SETTINGS).unwrap();
    let (answered, errors) = files.judge(&files.read());
    assert_eq!((answered[0].as_str(), errors.len()), ("[relay0.test]", 0));
    let named = files.path(SETTINGS);
    files.sources = sources(files.sources.dir(), &["--config".as_ref(), named.as_os_str()]);
    let (_, errors) = files.judge(&files.read());
    assert!(
        errors.len() == 1 && errors[0].contains("there is no such file"),
        "{errors:?}"
    );
}

#[test]
fn all_files_of_a_directory_are_read_from_the_one_that_was_opened() {
    let files = Files::new();
    let dir = files.sources.dir();
    let directory = Directory::open(dir);
    // It is exchanged for another, with other tables.
    fs::rename(dir, files.root.path().join("away")).unwrap();
    fs::create_dir(dir).unwrap();
    for source in [RELAY_MAP, CREDENTIALS] {
        files.write(source, 1);
        let content = Content::<Text>::read(&files.path(source), &directory, None, &files.hasher);
        let Content::Text(file) = content else {
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
