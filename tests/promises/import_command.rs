//! Promise: `postmapd import` writes files and settings that answer as Postfix's own tables do, or writes nothing.
//!
//! The judge of next hops is Postfix's trivial-rewrite(8): it is asked with the old tables, and then with main.cf as
//! `postmapd postconf --commands` makes it and a server running on the imported folder. The judge of passwords is
//! `postmap -q`, asked for the keys in the order of smtp(8), and a real delivery.
//!
//! Where the answers differ on purpose (`postmapd import --help`): a sender without a next hop gets no credentials. And
//! an address that has quotes in itself (`"\"ann\""@one.test`) does not find the key `"ann"@one.test`, which an
//! administrator wrote for somebody else; that key is left out, and said.
//!
//! What it refuses, and how it treats files that are there, is in tests/cases/import.

use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, SETTINGS, Setup, finish};
use crate::harness::postfix;
use crate::harness::resolver::Resolver;
use crate::harness::smtp_server::{self, Auth, Journal, Login};
use crate::same_as_postmap::quoted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const RELAYS: &str = "sender_dependent_relayhost_maps";
const PASSWORDS: &str = "smtp_sasl_password_maps";
const ENVIRONMENT: &str = "postmapd.env";

/// In every password whose secrecy is at stake.
const WORD: &str = "CANARY";

/// The types that are built from a source text, and the one that is read as it is.
const TYPES: [&str; 5] = ["hash", "btree", "lmdb", "cdb", "texthash"];

/// An existing Postfix: its configuration directory and its tables. Nothing of it runs.
struct Old {
    folder: tempfile::TempDir,
    parameters: BTreeMap<String, String>,
    tables: usize,
}

impl Old {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("postmapd-import-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        for name in ["etc", "spool", "data"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::copy(
            "/usr/share/postfix/master.cf.dist",
            folder.path().join("etc/master.cf"),
        )
        .expect("Debian's master.cf: apt-get install postfix");
        let old = Self {
            parameters: BTreeMap::new(),
            tables: 0,
            folder,
        };
        let path = |name: &str| old.path(name).display().to_string();
        let (queue, data) = (path("spool"), path("data"));
        old.set("compatibility_level", "3.6")
            .set("queue_directory", &queue)
            .set("data_directory", &data)
            .set("myhostname", "mta.test")
            .set("mydestination", "local.test, localhost")
            .set("myorigin", "$myhostname")
            .set("inet_interfaces", "127.0.0.1")
            .set("recipient_delimiter", "+")
            .set("smtp_sender_dependent_authentication", "yes")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn etc(&self) -> PathBuf {
        self.path("etc")
    }

    /// Sets a parameter of main.cf.
    fn set(mut self, parameter: &str, value: &str) -> Self {
        self.parameters.insert(parameter.to_owned(), value.to_owned());
        let lines: Vec<String> = self
            .parameters
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        fs::write(self.path("etc/main.cf"), lines.concat()).unwrap();
        age_configuration(&self.etc());
        self
    }

    fn value(&self, parameter: &str) -> &str {
        self.parameters.get(parameter).map_or("", String::as_str)
    }

    /// Writes a source text, builds what this type needs, and names it as main.cf does.
    fn table(&mut self, kind: &str, text: &str) -> String {
        self.tables += 1;
        let source = self.path(&format!("table-{}", self.tables));
        fs::write(&source, text).unwrap();
        age(&source, 60);
        let name = format!("{kind}:{}", source.display());
        if kind != "texthash" {
            let built = finish(Command::new("postmap").arg("-c").arg(self.etc()).arg(&name), b"");
            assert_eq!(built.code, Some(0), "postmap {name}: {}", built.stderr);
        }
        name
    }

    /// Adds a table at the end of a list.
    fn with(mut self, parameter: &str, kind: &str, text: &str) -> Self {
        let table = self.table(kind, text);
        let list = [self.value(parameter), &table].join(" ");
        self.set(parameter, list.trim())
    }

    fn relays(self, kind: &str, text: &str) -> Self {
        self.with(RELAYS, kind, text)
    }

    fn passwords(self, kind: &str, text: &str) -> Self {
        self.with(PASSWORDS, kind, text)
    }

    /// The tables of a list. None of the tests has a blank in a name.
    fn list(&self, parameter: &str) -> Vec<&str> {
        self.value(parameter).split_whitespace().collect()
    }

    fn resolver(&self) -> Resolver {
        Resolver {
            config_directory: self.etc(),
            queue_directory: self.path("spool"),
            overrides: Vec::new(),
        }
    }

    /// `postmapd import -c … ARGUMENTS`.
    fn run_import(&self, setup: &Setup, arguments: &[&str]) -> Finished {
        let mut command = setup.command("import");
        finish(command.arg("-c").arg(self.etc()).args(arguments), b"")
    }

    /// The same, into a new folder, where it has to succeed. What it says comes with it.
    #[track_caller]
    fn import(&self) -> (Setup, Finished) {
        let setup = Setup::new();
        let finished = self.run_import(&setup, &[]).exits(0);
        (with_environment(setup), finished)
    }

    /// Fails where it is not refused, where anything is written, or where a password is said; returns what is said.
    #[track_caller]
    fn refused(&self, setup: &Setup, arguments: &[&str]) -> String {
        let before = snapshot(setup.dir());
        let finished = self.run_import(setup, arguments);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.code, Some(1), "{:?}: {said}", self.parameters);
        assert_eq!(snapshot(setup.dir()), before, "{said}");
        assert!(
            !said.contains(WORD),
            "{:?}: a password is said: {said}",
            self.parameters
        );
        assert!(!finished.stderr.is_empty());
        said
    }

    /// The next hops with the imported folder served, and main.cf changed as postmapd says.
    #[track_caller]
    fn next_hops_after(&self, imported: Setup, senders: &[String]) -> Vec<Option<String>> {
        let etc = self.path("etc-after");
        drop(fs::remove_dir_all(&etc));
        fs::create_dir(&etc).unwrap();
        for name in ["main.cf", "master.cf"] {
            fs::copy(self.etc().join(name), etc.join(name)).unwrap();
        }
        let daemon = Daemon::start(imported);
        let mut command = daemon.setup().command("postconf");
        command.args(["--commands", "--listen", daemon.endpoint(0), "-c"]);
        age_configuration(&etc);
        let printed = finish(command.arg(&etc), b"").exits(0);
        // Each waits while the one before has just changed main.cf.
        let older = format!("touch -d '1 minute ago' {}\n", etc.join("main.cf").display());
        let script = printed
            .stdout
            .replace("\npostconf", &format!("\n{older}postconf"));
        let ran = finish(Command::new("sh").args(["-eu", "-c", &script]), b"");
        assert_eq!(ran.code, Some(0), "{}\n{}", printed.stdout, ran.stderr);
        age_configuration(&etc);
        let after = Resolver {
            config_directory: etc,
            ..self.resolver()
        };
        after.next_hops(senders)
    }

    /// Imports it, and compares the next hop of each sender.
    #[track_caller]
    fn compare(&self, senders: &[&str]) {
        let (imported, _) = self.import();
        self.compare_with(imported, senders);
    }

    #[track_caller]
    fn compare_with(&self, imported: Setup, senders: &[&str]) {
        let senders: Vec<String> = senders.iter().map(|sender| (*sender).to_owned()).collect();
        let before = self.resolver().next_hops(&senders);
        let map = fs::read_to_string(imported.dir().join(RELAYMAP)).unwrap();
        let after = self.next_hops_after(imported, &senders);
        let differences: Vec<String> = senders
            .iter()
            .zip(before.iter().zip(&after))
            .filter(|(_, (before, after))| before != after)
            .map(|(sender, (before, after))| format!("<{sender}>: {before:?} before, {after:?} after"))
            .collect();
        assert!(
            differences.is_empty(),
            "{:?}\n{}\nwith this relay map:\n{map}",
            self.parameters,
            differences.join("\n")
        );
        assert!(
            before.iter().any(Option::is_some),
            "no sender has a next hop at all: {senders:?}"
        );
    }

    /// The keys that these tables have, each with what the first that has it answers.
    fn ask(&self, parameter: &str, keys: &BTreeSet<String>) -> HashMap<String, String> {
        let lines: Vec<String> = keys.iter().map(|key| format!("{key}\n")).collect();
        let mut answers = HashMap::new();
        for table in self.list(parameter) {
            let mut command = Command::new("postmap");
            command.arg("-c").arg(self.etc()).args(["-q", "-", table]);
            let asked = finish(&mut command, lines.concat().as_bytes());
            assert!(
                matches!(asked.code, Some(0 | 1)) && !asked.stderr.contains("fatal"),
                "{command:?}: {}",
                asked.stderr
            );
            for (key, value) in asked.stdout.lines().map(|line| line.split_once('\t').unwrap()) {
                answers.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        answers
    }
}

/// Sets the time of the last change back.
fn age(path: &Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
        .unwrap();
}

/// Postfix waits while one of its files is younger than a second, so it gets older ones.
fn age_configuration(etc: &Path) {
    for name in ["main.cf", "master.cf"] {
        age(&etc.join(name), 60);
    }
}

/// With the variables that the import wrote.
fn with_environment(setup: Setup) -> Setup {
    let text = fs::read_to_string(setup.dir().join(ENVIRONMENT)).unwrap_or_default();
    text.lines().fold(setup, |setup, line| {
        let (name, value) = line.split_once('=').unwrap();
        setup.env(name, value)
    })
}

/// Every file of a folder: its text, its number, its last change and its mode.
fn snapshot(folder: &Path) -> BTreeMap<String, (Vec<u8>, u64, SystemTime, u32)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            let text = if metadata.is_file() {
                fs::read(entry.path()).unwrap()
            } else {
                Vec::new()
            };
            let name = entry.file_name().into_string().unwrap();
            (
                name,
                (
                    text,
                    metadata.ino(),
                    metadata.modified().unwrap(),
                    metadata.mode(),
                ),
            )
        })
        .collect()
}

/// What `postmapd query MAP -` answers for these keys.
#[track_caller]
fn query(setup: &Setup, map: &str, keys: &BTreeSet<String>) -> HashMap<String, String> {
    let lines: Vec<String> = keys.iter().map(|key| format!("{key}\n")).collect();
    let asked = setup.run_with("query", &[map, "-"], lines.concat().as_bytes());
    assert!(matches!(asked.code, Some(0 | 1)), "{}", asked.stderr);
    let answers = asked.stdout.lines().map(|line| line.split_once('\t').unwrap());
    answers
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[track_caller]
fn text(setup: &Setup, name: &str) -> String {
    fs::read_to_string(setup.dir().join(name)).unwrap()
}

#[track_caller]
fn mode(setup: &Setup, name: &str) -> u32 {
    setup.dir().join(name).metadata().unwrap().mode() & 0o7777
}

// Sameness.

/// Everything that a table may hold, spread over tables of all types, with keys that several of them have.
fn every_type(old: Old) -> Old {
    old.relays(
        "hash",
        "@one.test [hash.one]:587\nBoss@One.Test [hash.boss]\n@free.test DUNNO\nann@free.test [ann.free]:2525\n\
         @long.test [a.test]:25,\n  [b.test]:26\n",
    )
    .relays(
        "btree",
        "@one.test [btree.one]\nann+news@one.test [ann.news]:587\nbob@one.test dunno\n\"john doe\"@two.test [john.two]\n",
    )
    .relays(
        "lmdb",
        "<> [bounces.test]\n@two.test host.two:submission\nclerk [clerk.local]\nBOSS@one.test [lmdb.boss]\n",
    )
    .relays("cdb", "@cdb.test cdb.test\n\"a\\\"b\"@cdb.test [quote.cdb]\n\"x@y\"@cdb.test [at.cdb]\n@local.test [local.domain]\n")
    .relays("texthash", "@Straße.test [str]:25\n<> [never.test]\n@[192.0.2.1] [literal.test]\ncarl@two.test DuNnO\n@one.test [text.one]\n")
}

const SENDERS: [&str; 40] = [
    "",
    "somebody@one.test",
    "Somebody@ONE.TEST",
    "somebody+x@one.test",
    "boss@one.test",
    "BOSS+x@one.test",
    "ann@one.test",
    "ann+news@one.test",
    "ANN+NEWS@one.test",
    "ann+other@one.test",
    "bob@one.test",
    "bob+x@one.test",
    "x@free.test",
    "ann@free.test",
    "ann+x@FREE.test",
    "x@long.test",
    "john doe@two.test",
    "John Doe+x@two.test",
    "john@two.test",
    "carl@two.test",
    "carl+y@two.test",
    "clerk@local.test",
    "CLERK+x@local.test",
    "clerk@mta.test",
    "clerk@localhost",
    "clerk@one.test",
    "somebody@local.test",
    "somebody@mta.test",
    "a\"b@cdb.test",
    "a\"b+x@cdb.test",
    "x@y@cdb.test",
    "anybody@cdb.test",
    "x@straße.test",
    "x@STRASSE.test",
    "x@[192.0.2.1]",
    "x@unknown.test",
    "postmaster@one.test",
    "postmaster+x@two.test",
    "+x@one.test",
    "x@sub.one.test",
];

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn each_sender_keeps_its_next_hop_with_tables_of_every_type_in_one_list() {
    every_type(Old::new()).compare(&SENDERS);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn each_sender_keeps_its_next_hop_beside_a_relayhost() {
    for relayhost in ["[default.test]:587", "default.test", "[d1.test]:25, [d2.test]:26"] {
        every_type(Old::new())
            .set("relayhost", relayhost)
            .compare(&SENDERS);
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn each_type_of_table_alone_gives_the_same_files() {
    let mut files = BTreeSet::new();
    for kind in TYPES {
        let old = Old::new()
            .relays(
                kind,
                "@Two.test [r2]\nann@one.test [r1]:587\n@one.test DUNNO\n\"a b\"@one.test r3\n<> [r4]\n",
            )
            .passwords(
                kind,
                "[R1]:587 u1:p1\nr2 u2:p:2\nann@one.test u3:p 3 # not a comment\n",
            );
        let (imported, _) = old.import();
        files.insert((text(&imported, RELAYMAP), text(&imported, CREDENTIALS)));
    }
    assert_eq!(files.len(), 1, "{files:#?}");
    assert_eq!(files.first().unwrap().0.lines().count(), 5, "{files:#?}");
    assert_eq!(files.first().unwrap().1.lines().count(), 3, "{files:#?}");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn an_extension_begins_where_it_began() {
    let table = "@one.test [one]\nann@one.test [ann]\nann+x@one.test [plus]\nann-x@one.test [minus]\n\
                 bob-y+z@one.test [both]\nowner@one.test [owner]\nlist@one.test [list]\npostmaster@one.test [pm]\n";
    let senders = [
        "ann@one.test",
        "ann+x@one.test",
        "ann-x@one.test",
        "ann+y@one.test",
        "ann-y@one.test",
        "ann-y+z@one.test",
        "ann+y-z@one.test",
        "bob-y+z@one.test",
        "bob@one.test",
        "owner-list@one.test",
        "list-request@one.test",
        "postmaster+x@one.test",
        "postmaster-x@one.test",
        "ann+@one.test",
        "-x@one.test",
    ];
    for delimiters in ["+", "-", "", "+-", "-+", "=", "#", "\\"] {
        let old = Old::new()
            .set("recipient_delimiter", delimiters)
            .relays("hash", table);
        old.compare(&senders);
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_key_without_a_domain_goes_on_for_the_senders_of_postfixs_own_domains() {
    Old::new()
        .relays(
            "hash",
            "clerk [clerk]\nclerk+x [clerk.x]\njohn.doe [john.doe]\nkate+y [kate.y]\nkate@local.test [kate.full]\n\
             @local.test [domain]\nboss DUNNO\n\"a b\" [blank]\n",
        )
        .relays("btree", "clerk+x@mta.test [full.x]\nBoss@mta.test [boss.mta]\nclerk [second]\n")
        .compare(&[
            "clerk@local.test",
            "Clerk+X@local.test",
            "clerk+z@local.test",
            "clerk+x@mta.test",
            "clerk@mta.test",
            "john.doe@local.test",
            "John.Doe+x@mta.test",
            "john.doe@one.test",
            "kate+y@local.test",
            "kate+y@mta.test",
            "kate@mta.test",
            "boss@local.test",
            "boss@mta.test",
            "a b@local.test",
            "a b+x@mta.test",
            "other@local.test",
            "clerk@other.test",
        ]);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn own_domains_are_also_those_in_files() {
    let old = Old::new();
    let origin = old.path("mailname");
    let destinations = old.path("destinations");
    fs::write(&origin, "origin.test\n").unwrap();
    fs::write(&destinations, "# ours\nd1.test\n  d2.test\n").unwrap();
    let old = old
        .set("myorigin", &origin.display().to_string())
        .set("mydestination", &format!("local.test {}", destinations.display()))
        .relays("hash", "clerk [clerk]\n@local.test [local]\n");
    old.compare(&[
        "clerk@origin.test",
        "clerk@local.test",
        "clerk@d1.test",
        "clerk@D2.test",
        "clerk@mta.test",
    ]);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn own_domains_in_a_table_are_said_where_a_key_has_no_domain() {
    let mut old = Old::new();
    let domains = old.table("hash", "table.test x\n");
    let old = old
        .set("mydestination", &format!("local.test {domains}"))
        .relays("hash", "clerk [clerk]\n");
    let (imported, said) = old.import();
    assert!(said.stderr.contains("mydestination"), "{}", said.stderr);
    old.compare_with(imported, &["clerk@local.test", "clerk@mta.test"]);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_null_sender_keeps_its_next_hop_however_its_key_is_written() {
    let table = "@one.test [one]\nMAILER-DAEMON@one.test [daemon]\n";
    for (key, entries) in [
        ("", "<> [plain]\n"),
        ("", "\"<>\" [quoted]\n"),
        ("", "<> [plain]\n\"<>\" [quoted]\n"),
        ("", ""),
        ("nobody", "nobody [nobody]\n<> [never]\n"),
        ("NoBody", "nobody [nobody]\n"),
        ("nobody", "<> [never]\n\"<>\" [never]\n"),
        ("mailer-daemon@one.test", ""),
        ("bounces+x@one.test", "bounces@one.test [bounces]\n"),
        ("bounces@one.test", "<> [never]\n"),
    ] {
        let mut old = Old::new().relays("hash", &[table, entries].concat());
        if !key.is_empty() {
            old = old.set("empty_address_relayhost_maps_lookup_key", key);
        }
        let (imported, said) = old.import();
        let senders = ["", "x@one.test", "mailer-daemon@one.test"].map(ToOwned::to_owned);
        let before = old.resolver().next_hops(&senders);
        // postmapd knows it as `<>`, and says what to do about main.cf.
        if !key.is_empty() {
            assert!(
                said.stderr.contains("empty_address_relayhost_maps_lookup_key"),
                "{}",
                said.stderr
            );
            old.parameters.remove("empty_address_relayhost_maps_lookup_key");
            old = old.set("relayhost", "");
        }
        let map = text(&imported, RELAYMAP);
        let after = old.next_hops_after(imported, &senders);
        assert_eq!(after, before, "{key:?} with\n{entries}becomes\n{map}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_key_that_postfix_never_asks_for_answers_nobody() {
    let old = Old::new()
        .relays(
            "hash",
            "\"ann\"@one.test [needless]\nann@two.test [two]\n\"ann\"@two.test [needless]\n",
        )
        .relays(
            "hash",
            "\"a\\ b\"@one.test [needless]\na\\ c@one.test [backslash]\n@three.test [three]\n",
        )
        .relays(
            "hash",
            "\"d e\"@one.test [later]\none.test [bare.domain]\n[r]:25 [hop]\n",
        );
    let (imported, said) = old.import();
    assert!(said.stderr.contains("left out"), "{}", said.stderr);
    old.compare_with(
        imported,
        &[
            "ann@one.test",
            "ann@two.test",
            "a b@one.test",
            "a c@one.test",
            "a\\ c@one.test",
            "d e@one.test",
            "x@one.test",
            "x@three.test",
        ],
    );
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn overrides_in_master_cf_count() {
    let mut old = Old::new()
        .set("relayhost", "[main.test]")
        .set("other_relays", "")
        .relays("hash", "@one.test [main.one]\n")
        .passwords("hash", "[main.one] u:main\n");
    let relays = old.table("hash", "@one.test [rewrite.one]\n@two.test DUNNO\n");
    let passwords = old.table("hash", "[rewrite.one] u:smtp\nx@one.test u:sender\n");
    let old = old
        .set("other_relays", &relays)
        .set("smtp_sender_dependent_authentication", "no");
    for assignment in [
        "rewrite/unix/relayhost=[rewrite.test]:26".to_owned(),
        format!("rewrite/unix/{RELAYS}=$other_relays"),
        "rewrite/unix/recipient_delimiter=-".to_owned(),
        format!("smtp/unix/{PASSWORDS}={passwords}"),
        "smtp/unix/smtp_sender_dependent_authentication=yes".to_owned(),
    ] {
        let mut command = Command::new("postconf");
        finish(command.arg("-c").arg(old.etc()).args(["-P", &assignment]), b"").exits(0);
    }
    age_configuration(&old.etc());
    let (imported, _) = old.import();
    let senders = ["x@one.test", "x-y@one.test", "x@two.test", "x@three.test", ""].map(ToOwned::to_owned);
    let overrides = [
        ("relayhost", "[rewrite.test]:26"),
        (RELAYS, &relays),
        ("recipient_delimiter", "-"),
    ];
    let before = Resolver {
        overrides: overrides
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..old.resolver()
    }
    .next_hops(&senders);
    let keys = set(&["x@one.test", "x-y@one.test", "[rewrite.one]", "[main.one]"]);
    let expected = [
        ("x@one.test", "u:sender"),
        ("x-y@one.test", "u:sender"),
        ("[rewrite.one]", "u:smtp"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(query(&imported, "sasl", &keys), HashMap::from(expected));
    // The wire form of the null sender is `<>`.
    let asked: BTreeSet<String> = senders
        .iter()
        .map(|sender| if sender.is_empty() { "<>" } else { sender }.to_owned())
        .collect();
    let answers = query(&imported, "relayhost", &asked);
    for (sender, before) in senders.iter().zip(before) {
        let key = if sender.is_empty() { "<>" } else { sender };
        assert_eq!(answers.get(key), before.as_ref(), "{sender}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_relative_path_begins_at_the_queue_directory_as_it_does_for_postfix() {
    let old = Old::new();
    fs::write(old.path("spool/relays"), "@one.test [one]\n").unwrap();
    age(&old.path("spool/relays"), 60);
    let mut command = Command::new("postmap");
    command
        .arg("-c")
        .arg(old.etc())
        .arg("hash:relays")
        .current_dir(old.path("spool"));
    assert_eq!(finish(&mut command, b"").code, Some(0));
    let old = old.set(RELAYS, "hash:relays");
    old.compare(&["x@one.test"]);
}

// Passwords.

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn each_next_hop_and_host_keeps_its_credentials() {
    let lines = [
        ("[relay1.test]:587", "user:pass:with:colons"),
        ("Relay1.Test", "user:with blanks  and\ttabs # and no comment"),
        ("[192.0.2.1]:2525", "user:quo\"tes' and \\ backslash %20 $HOME"),
        ("192.0.2.2", "user:größe"),
        ("[IPv6:2001:db8::1]:25", "user::"),
        ("[relay3.test]", "first:1"),
        ("dotless", "dotless:1"),
        ("relay.dunno", "DUNNO:1"),
    ];
    let source: Vec<String> = lines
        .iter()
        .map(|(key, value)| format!("{key}  {value}\n"))
        .collect();
    for kinds in TYPES.iter().zip(TYPES.iter().rev()) {
        let old = Old::new()
            .passwords(kinds.0, &source.concat())
            .passwords(kinds.1, "[relay3.test] second:2\n[only.second] second:3\n");
        let (imported, _) = old.import();
        let mut keys: BTreeSet<String> = lines.iter().map(|(key, _)| (*key).to_owned()).collect();
        keys.extend(
            [
                "[only.second]",
                "[RELAY1.test]:587",
                "relay1.test:587",
                "relay1.test",
                "2001:db8::1",
            ]
            .map(Into::into),
        );
        let before = old.ask(PASSWORDS, &keys);
        assert_eq!(before.len(), lines.len() + 3, "{before:?}");
        assert_eq!(query(&imported, "sasl", &keys), before, "{kinds:?}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_password_of_a_user_without_a_domain_goes_on_for_the_senders_of_postfixs_own_domains() {
    let old = Old::new()
        .relays(
            "hash",
            "@local.test [relay.test]\n@mta.test [relay.test]\n@one.test [relay.test]\n",
        )
        .passwords(
            "hash",
            "clerk c:1\n@local.test d:1\nboss@local.test b:1\nboss b:2\nrelay.test r:1\n",
        );
    let (imported, _) = old.import();
    let keys = set(&[
        "clerk@local.test",
        "Clerk+x@mta.test",
        "clerk@one.test",
        "boss+y@local.test",
        "boss@mta.test",
        "x@local.test",
        "relay.test",
        "x@mta.test",
    ]);
    let expected = [
        ("clerk@local.test", "c:1"),
        ("Clerk+x@mta.test", "c:1"),
        ("boss+y@local.test", "b:1"),
        ("boss@mta.test", "b:2"),
        ("x@local.test", "d:1"),
        ("relay.test", "r:1"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(query(&imported, "sasl", &keys), HashMap::from(expected));
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn without_authentication_by_sender_the_keys_of_senders_are_left_out_and_said() {
    for off in ["no", "No", ""] {
        let mut old = Old::new().relays("hash", "@one.test [relay.test]\n").passwords(
            "hash",
            "x@one.test u:CANARY1\n@one.test u:CANARY2\n[relay.test] u:hop\n",
        );
        old.parameters.remove("smtp_sender_dependent_authentication");
        let old = match off {
            "" => old.set("relayhost", ""),
            off => old.set("smtp_sender_dependent_authentication", off),
        };
        let (imported, said) = old.import();
        let credentials = text(&imported, CREDENTIALS);
        assert_eq!(credentials.trim_end(), "[relay.test]\tu:hop");
        for key in ["x@one.test", ": @one.test"] {
            assert!(said.stderr.contains(key), "{}", said.stderr);
        }
        assert!(
            said.stderr.contains("smtp_sender_dependent_authentication") && !said.stderr.contains(WORD),
            "{}",
            said.stderr
        );
    }
    let old = Old::new()
        .set("smtp_sender_dependent_authentication", "YES")
        .relays("hash", "@one.test [relay.test]\n")
        .passwords("hash", "x@one.test u:sender\n");
    let (imported, said) = old.import();
    assert_eq!(text(&imported, CREDENTIALS), "x@one.test\tu:sender\n");
    assert_eq!(said.stderr, "");
}

/// Postfix's own listing is the judge. It gets the tables here, and never from postmapd, because of their passwords.
#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_entries_of_an_inline_table_are_those_that_postmap_lists() {
    for table in [
        "inline:{[a.test]=u:p}",
        "inline:{ [a.test]=u:p, [b.test]:587=u:p=q,{ [c.test] = u:with blanks, and commas } }",
        "inline:{{[a.test] = u:{in} braces} {[b.test]=u:{p}}}",
        "inline:{[a.test]=u:{p, q}}",
        "inline:{[A.test]=u:1,[b.test]=u:2,[a.TEST]=u:3}",
        "inline:{{\"john doe\"@one.test = u:p}}",
        "inline:{{\"a= b\"@one.test = u:p},{\"a\\\"b\"@one.test=u:\"q\"}}",
        "inline:{ {@one.test=u:p},,\t{Ann@One.test\t=\tu:q}\t}",
        "proxy:inline:{@Größe.test=u:ü}",
        "inline:{{@one.test = u:p#q $ \\ %20}}",
    ] {
        // main.cf has two for a dollar sign that is one.
        let old = Old::new()
            .set(PASSWORDS, &table.replace('$', "$$"))
            .relays("hash", "@relayed.test [relay.test]\n");
        let mut command = Command::new("postmap");
        command.arg("-c").arg(old.etc()).arg("-s");
        let listed = finish(command.arg(table.trim_start_matches("proxy:")), b"").exits(0);
        let (imported, said) = old.import();
        let mut expected: Vec<&str> = listed.stdout.lines().collect();
        let imported = text(&imported, CREDENTIALS);
        let mut lines: Vec<&str> = imported.lines().collect();
        expected.sort_unstable();
        lines.sort_unstable();
        assert_eq!(lines, expected, "{table}: {}", said.stderr);
        assert_eq!(said.stderr, "");
    }
    // As next hops, and where an entry is wrong, the table is named without its content.
    Old::new()
        .set(
            RELAYS,
            "inline:{{@one.test = [a.test]:25, [b.test]}, @two.test=[c.test]}",
        )
        .compare(&["x@one.test", "X@Two.test", "x@three.test"]);
    let old = Old::new().set(PASSWORDS, "inline:{[a.test]=u:CANARY, [b.test]=:CANARY}");
    let said = old.refused(&occupied(), &["--force"]);
    assert!(said.contains("table 1 (inline:): [b.test]: "), "{said}");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn one_login_for_all_becomes_an_entry_for_each_next_hop() {
    let relays = "@one.test [one.test]:587, two.test\n@three.test [three.test]\n@free.test DUNNO\n";
    for (relayhost, relays, table, expected) in [
        (
            "[relay.test]:587",
            "",
            "static:me@relay.test:p:w",
            "[relay.test]:587\tme@relay.test:p:w\n",
        ),
        (
            "[a.test], b.test:25",
            "",
            "proxy:static:u:p",
            "[a.test]\tu:p\nb.test:25\tu:p\n",
        ),
        ("[r.test]", "", "static:{ u:p q, r }", "[r.test]\tu:p q, r\n"),
        ("[r.test]", "", "static:u:p hash:/nowhere", "[r.test]\tu:p\n"),
        (
            "[r.test]:25",
            relays,
            "static:u:p",
            "[r.test]:25\tu:p\n[one.test]:587\tu:p\ntwo.test\tu:p\n[three.test]\tu:p\n",
        ),
        (
            "",
            relays,
            "static:u:p",
            "[one.test]:587\tu:p\ntwo.test\tu:p\n[three.test]\tu:p\n",
        ),
    ] {
        for by_sender in ["yes", "no"] {
            let mut old = Old::new()
                .set("smtp_sender_dependent_authentication", by_sender)
                .set("relayhost", relayhost)
                .set(PASSWORDS, table);
            if !relays.is_empty() {
                old = old.relays("hash", relays);
            }
            let (imported, said) = old.import();
            assert_eq!(text(&imported, CREDENTIALS), expected, "{table}");
            assert!(!said.stderr.contains("u:p"), "{}", said.stderr);
        }
    }
    let setup = occupied();
    // It would be offered to every server of the world.
    let said = Old::new()
        .set(PASSWORDS, "static:u:CANARY")
        .refused(&setup, &["--force"]);
    assert!(
        said.contains("table 1 (static:): it is one login for every server") && said.contains("relayhost"),
        "{said}"
    );
    for wrong in [
        "static:CANARY",
        "static:CANARY:",
        "static::CANARY",
        "static:{u:CANARY",
    ] {
        Old::new()
            .set("relayhost", "[r.test]")
            .set(PASSWORDS, wrong)
            .refused(&setup, &["--force"]);
    }
}

/// The next hops come from a parameter that is not imported, so the credentials are answered wherever main.cf sends the
/// mail. Of a directory in which postmapd has the next hops they are withheld, and never with a temporary error.
#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn credentials_of_senders_are_answered_as_before_where_main_cf_keeps_the_next_hops() {
    let passwords = "ann@one.test u:CANARY1\n@two.test u:CANARY2\n[relay.test] u:hop\n";
    let senders = set(&["ann@one.test", "x@two.test", "x@three.test", "[relay.test]"]);
    let setups = [
        Setup::new(),
        // As the package installs them.
        Setup::new()
            .relaymap("# nothing yet\n")
            .settings("# mine\n[reload]\npoll = 5\n"),
        Setup::new().settings("next_hops = \"main.cf\"\n"),
    ];
    for setup in setups {
        let old = Old::new()
            .set("default_transport", "smtp:[relay.test]:587")
            .passwords("hash", passwords);
        let before = snapshot(setup.dir());
        let shown = old.run_import(&setup, &["--dry-run"]).exits(0);
        assert_eq!(snapshot(setup.dir()), before);
        let is_new = !before.contains_key(SETTINGS) || before.contains_key(RELAYMAP);
        assert_eq!(
            shown.stdout.contains("+next_hops = \"main.cf\"\n"),
            is_new,
            "{}",
            shown.stdout
        );
        let done = old.run_import(&setup, &[]).exits(0);
        for said in [&shown.stderr, &done.stderr] {
            assert!(
                said.contains("next_hops = \"main.cf\"") && !said.contains(WORD),
                "{said}"
            );
        }
        let keys = senders.iter().map(String::as_str);
        let expected: HashMap<String, String> = keys
            .zip(["u:hop", "u:CANARY1", "", "u:CANARY2"])
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(query(&setup, "sasl", &senders), expected);
        let written = snapshot(setup.dir());
        assert_eq!(old.run_import(&setup, &[]).code, Some(0));
        assert_eq!(snapshot(setup.dir()), written, "a second import changes nothing");
    }
    // What is imported has the next hops, even if it has no entry: a login is shown to no other server.
    let relays = |old: Old| old.relays("hash", "# nothing yet\n");
    let relayhost = |old: Old| old.set("relayhost", "[default.test]");
    let both = |old: Old| relays(old.set("relayhost", "[default.test]"));
    for (with, answers) in [
        (&relays as &dyn Fn(Old) -> Old, 1),
        (&relayhost, 3),
        (&both, 3),
        (&|old: Old| old.relays("hash", "@two.test [relay.test]\n"), 2),
    ] {
        let old = with(Old::new().passwords("hash", passwords));
        let (imported, said) = old.import();
        assert!(!said.stderr.contains("next_hops") && !imported.dir().join(SETTINGS).exists());
        assert_eq!(
            query(&imported, "sasl", &senders).len(),
            answers,
            "{:?}",
            old.parameters
        );
        let settings = "next_hops = \"main.cf\"\n";
        let said = old.refused(&Setup::new().settings(settings), &["--force"]);
        assert!(said.contains("set next_hops = \"postmapd\" there"), "{said}");
    }
    // Without authentication by sender there is nothing to withhold; relays that cannot be read are refused as ever.
    let old = Old::new().passwords("hash", passwords);
    let (imported, _) = old.set("smtp_sender_dependent_authentication", "no").import();
    assert!(!imported.dir().join(SETTINGS).exists());
    let old = Old::new().passwords("hash", passwords);
    old.set(RELAYS, "regexp:/etc/relays")
        .refused(&occupied(), &["--force"]);
    let said = Old::new()
        .passwords("hash", passwords)
        .refused(&Setup::new().settings("next_hops = \"postmapd\"\n"), &[]);
    assert!(said.contains("set next_hops = \"main.cf\" there"), "{said}");
}

/// The commonest recipe of all: one account at one provider.
#[test]
#[ignore = "needs root: tests/run-all"]
fn one_relayhost_with_one_login_goes_on_with_a_real_postfix() {
    let journal = Journal::default();
    let relay = smtp_server::Setup::new("relay", Ipv4Addr::new(127, 0, 0, 2))
        .auth(Auth::Demanded)
        .accepting(Login::new("me@relay.test", "p w:1"))
        .journal(&journal)
        .start()
        .unwrap();
    let mut postfix = postfix::Setup::new()
        .unwrap()
        .set("relayhost", relay.next_hop())
        .set(PASSWORDS, "static:{me@relay.test:p w:1}")
        .start()
        .unwrap();
    let deliver = |postfix: &postfix::Postfix, round: &str| {
        for (number, sender) in ["ann@one.test", ""].iter().enumerate() {
            let recipient = format!("{round}-{number}@elsewhere.test");
            postfix.send(sender, &recipient).unwrap();
            let mail = journal.mail_to(&recipient, postfix::DEADLINE);
            let mail = mail.unwrap_or_else(|| panic!("the mail from <{sender}> does not arrive"));
            assert_eq!(mail.login, Some(Login::new("me@relay.test", "p w:1")));
        }
    };
    deliver(&postfix, "before");
    let imported = Setup::new();
    let mut import = imported.command("import");
    finish(import.arg("-c").arg(postfix.config_directory()), b"").exits(0);
    let daemon = Daemon::start(with_environment(imported));
    let endpoint = daemon.endpoint(0);
    let maps = ["relayhost", "sasl"].map(|map| format!("{endpoint}:{map}"));
    postfix
        .set(&[("relayhost", ""), (RELAYS, &maps[0]), (PASSWORDS, &maps[1])])
        .unwrap();
    deliver(&postfix, "after");
}

/// A real Postfix delivers before and after, through the same relays with the same logins.
#[test]
#[ignore = "needs root: tests/run-all"]
fn mail_leaves_by_the_same_relays_with_the_same_logins() {
    let journal = Journal::default();
    let server = |name, last| {
        smtp_server::Setup::new(name, Ipv4Addr::new(127, 0, 0, last))
            .auth(Auth::Offered)
            .journal(&journal)
            .start()
            .unwrap()
    };
    let (one, two, default) = (server("one", 2), server("two", 3), server("default", 4));
    let setup = postfix::Setup::new().unwrap();
    let etc = setup.root().join("etc");
    let write = |name: &str, text: String| {
        let path = setup.root().join(name);
        fs::write(&path, text).unwrap();
        age(&path, 60);
        path.display().to_string()
    };
    let relays = write("relays", format!("@one.test {}\n", one.next_hop()));
    let more = write(
        "more",
        format!(
            "boss@one.test {}\n\"john doe\"@two.test {1}\n@one.test [127.0.0.1]:1\n<> {1}\n@free.test DUNNO\n",
            two.next_hop(),
            two.next_hop()
        ),
    );
    let passwords = write(
        "passwords",
        format!(
            "@one.test sender:p w:1\n127.0.0.3 host:2\n{} hop:never\n{} default:3\nboss@one.test boss:4\n",
            two.next_hop(),
            default.next_hop()
        ),
    );
    let relayhost = default.next_hop();
    let parameters = [
        (RELAYS, format!("proxy:hash:{relays}, texthash:{more}")),
        (PASSWORDS, format!("proxy:btree:{passwords}")),
        ("relayhost", relayhost),
        ("smtp_sender_dependent_authentication", "yes".to_owned()),
    ];
    let setup = parameters
        .iter()
        .fold(setup, |setup, (name, value)| setup.set(name, value));
    fs::write(etc.join("main.cf"), "compatibility_level = 3.6\n").unwrap();
    for table in [format!("hash:{relays}"), format!("btree:{passwords}")] {
        finish(Command::new("postmap").arg("-c").arg(&etc).arg(&table), b"").exits(0);
    }
    let mut postfix = setup.start().unwrap();
    let senders = [
        "somebody@one.test",
        "Boss+x@one.test",
        "\"john doe\"@two.test",
        "x@free.test",
        "x@unknown.test",
        "",
    ];
    let deliver = |postfix: &postfix::Postfix, round: &str| -> Vec<(String, Option<Login>)> {
        let recipients: Vec<String> = (0..senders.len())
            .map(|number| format!("{round}-{number}@elsewhere.test"))
            .collect();
        for (sender, recipient) in senders.iter().zip(&recipients) {
            postfix.send(sender, recipient).unwrap();
        }
        let arrivals = recipients.iter().map(|recipient| {
            let mail = journal.mail_to(recipient, postfix::DEADLINE);
            let mail = mail.unwrap_or_else(|| panic!("the mail to {recipient} does not arrive"));
            (mail.server, mail.login)
        });
        arrivals.collect()
    };
    let before = deliver(&postfix, "before");
    assert_eq!(
        before
            .iter()
            .map(|(server, login)| (server.as_str(), login.as_ref().map_or("", |login| &login.user)))
            .collect::<Vec<_>>(),
        [
            ("one", "sender"),
            ("two", "boss"),
            ("two", "host"),
            ("default", "default"),
            ("default", "default"),
            ("two", "host")
        ]
    );
    let imported = Setup::new();
    finish(imported.command("import").arg("-c").arg(&etc), b"").exits(0);
    let daemon = Daemon::start(with_environment(imported));
    let endpoint = daemon.endpoint(0);
    let maps = ["relayhost", "sasl"].map(|map| format!("{endpoint}:{map}"));
    postfix
        .set(&[("relayhost", ""), (RELAYS, &maps[0]), (PASSWORDS, &maps[1])])
        .unwrap();
    assert_eq!(deliver(&postfix, "after"), before);
}

// Any tables.

/// The extension's place, as `split_addr(3)` has it.
fn stripped(address: &str, delimiters: &str) -> Option<String> {
    let (local, domain) = address.rsplit_once('@')?;
    let lower = local.to_lowercase();
    let is_list = lower.starts_with("owner-") || lower.ends_with("-request");
    if lower == "postmaster" || delimiters.contains('-') && is_list {
        return None;
    }
    let at = local.find(|c| delimiters.contains(c)).filter(|&at| at > 0)?;
    Some(format!("{}@{domain}", &local[..at]))
}

const OWN_DOMAINS: [&str; 3] = ["local.test", "localhost", "mta.test"];

/// The keys that Postfix asks for a sender in internal form, in their order (`mail_addr_find(3)`).
fn keys_of(address: &str, delimiters: &str) -> Vec<String> {
    if address.is_empty() {
        return vec!["\"<>\"".into(), "<>".into()];
    }
    let forms = [Some(address.to_owned()), stripped(address, delimiters)];
    let forms: Vec<String> = forms.into_iter().flatten().collect();
    let mut keys: Vec<String> = forms
        .iter()
        .flat_map(|form| [quoted(form), form.clone()])
        .collect();
    let domain = address.rsplit_once('@').unwrap().1;
    if OWN_DOMAINS.contains(&domain.to_lowercase().as_str()) {
        for form in &forms {
            let both = [quoted(form), form.clone()];
            keys.extend(both.map(|form| form.rsplit_once('@').unwrap().0.to_owned()));
        }
    }
    keys.push(format!("@{domain}"));
    keys
}

const LOCALS: [&str; 15] = [
    "ann",
    "Ann",
    "ann+x",
    "ann-x",
    "bob",
    "bob+x-y",
    "BOB-y",
    "a b",
    "A b+x",
    "\"ann\"",
    "\"a b\"",
    "owner-ann",
    "postmaster+x",
    "straße",
    "STRASSE",
];

const DOMAINS: [&str; 5] = ["one.test", "ONE.test", "two.test", "local.test", "mta.test"];

/// A key as a source text may have it: quoted where that keeps it one key.
fn source_key() -> impl Strategy<Value = String> {
    let blank = |local: &str| local.replace("a b", "\"a b\"").replace("A b+x", "\"A b+x\"");
    let local = select(LOCALS.to_vec()).prop_map(move |local| {
        if local.starts_with('"') {
            local.to_owned()
        } else {
            blank(local)
        }
    });
    let domain = select(DOMAINS.to_vec());
    prop_oneof![
        6 => (local.clone(), domain.clone()).prop_map(|(local, domain)| format!("{local}@{domain}")),
        3 => domain.prop_map(|domain| format!("@{domain}")),
        2 => local,
        1 => select(vec!["<>", "\"<>\"", "<>@one.test"]).prop_map(ToOwned::to_owned),
    ]
}

fn sender() -> impl Strategy<Value = String> {
    // Nobody has quotes in the address itself (`"\"ann\""@one.test`), and such a key is left out.
    let locals: Vec<&str> = LOCALS
        .into_iter()
        .filter(|local| !local.starts_with('"'))
        .collect();
    let some = (select(locals), select(DOMAINS.to_vec()));
    prop_oneof![
        30 => some.prop_map(|(local, domain)| format!("{local}@{domain}")),
        1 => Just(String::new()),
    ]
}

/// A type, by its number, and a source text. Postfix's daemons refuse a `texthash:` with two lines for one key, which
/// `postmap -q` does not.
fn table_of(
    key: impl Strategy<Value = String>,
    values: Vec<&'static str>,
) -> impl Strategy<Value = (usize, String)> {
    let lines = prop::collection::vec((key, select(values)), 0..14);
    (0..TYPES.len(), lines).prop_map(|(kind, mut lines)| {
        let mut seen = BTreeSet::new();
        lines.retain(|(key, _)| {
            let is_new = seen.insert(key.to_lowercase().replace('ß', "ss"));
            is_new || TYPES[kind] != "texthash"
        });
        let lines: Vec<String> = lines
            .iter()
            .map(|(key, value)| format!("{key}\t{value}\n"))
            .collect();
        (kind, lines.concat())
    })
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn any_tables_answer_as_before() {
    let hosts = ["[r1.test]:587", "r1.test", "R2.test", "[r2.test]", "r3.test:25"];
    let password_key = || {
        prop_oneof![
            2 => source_key(),
            1 => select(hosts.to_vec()).prop_map(ToOwned::to_owned),
        ]
    };
    let next_hops = vec![
        "[r1.test]:587",
        "[r2.test]",
        "r3.test:25",
        "[r1.test], r2.test",
        "DUNNO",
        "dunno",
    ];
    let credentials = vec!["u1:p1", "u2:p:2", "u3::", "u4: b l #a"];
    let strategy = (
        (
            table_of(source_key(), next_hops.clone()),
            table_of(source_key(), next_hops),
        ),
        (
            table_of(password_key(), credentials.clone()),
            table_of(password_key(), credentials),
        ),
        select(vec!["+", "-", "", "+-"]),
        select(vec!["", "[default.test]:25"]),
        prop::collection::vec(sender(), 40),
    );
    let config = Config {
        cases: 48,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(
        &strategy,
        |(relays, passwords, delimiters, relayhost, senders)| {
            let old = Old::new()
                .set("recipient_delimiter", delimiters)
                .set("relayhost", relayhost)
                .relays(TYPES[relays.0.0], &relays.0.1)
                .relays(TYPES[relays.1.0], &relays.1.1)
                .passwords(TYPES[passwords.0.0], &passwords.0.1)
                .passwords(TYPES[passwords.1.0], &passwords.1.1);
            same_answers(&old, delimiters, relayhost, &senders, &hosts)
        },
    );
    result.unwrap_or_else(|error| panic!("{error}"));
}

fn same_answers(
    old: &Old,
    delimiters: &str,
    relayhost: &str,
    senders: &[String],
    hosts: &[&str],
) -> Result<(), TestCaseError> {
    let (imported, _) = old.import();
    let mut keys: BTreeSet<String> = senders
        .iter()
        .flat_map(|sender| keys_of(sender, delimiters))
        .collect();
    keys.extend(hosts.iter().map(|host| (*host).to_owned()));
    let relays = old.ask(RELAYS, &keys);
    let passwords = old.ask(PASSWORDS, &keys);
    let first = |answers: &HashMap<String, String>, sender: &str| {
        let mut keys = keys_of(sender, delimiters).into_iter();
        keys.find_map(|key| answers.get(&key).cloned())
    };
    let default = (!relayhost.is_empty()).then(|| relayhost.to_owned());
    let expected: Vec<Option<String>> = senders
        .iter()
        .map(|sender| {
            first(&relays, sender)
                .filter(|value| !value.eq_ignore_ascii_case("dunno"))
                .or_else(|| default.clone())
        })
        .collect();
    // The order of the keys is Postfix's own.
    prop_assert_eq!(&old.resolver().next_hops(&senders[..2]), &expected[..2]);
    let wire = |sender: &str| {
        if sender.is_empty() {
            ["\"<>\"".to_owned(), "<>".to_owned()]
        } else {
            [quoted(sender), sender.to_owned()]
        }
    };
    let asked: BTreeSet<String> = senders.iter().flat_map(|sender| wire(sender)).collect();
    let now = query(&imported, "relayhost", &asked);
    for (sender, expected) in senders.iter().zip(&expected) {
        // Postfix asks for the second form where the first is not found.
        let [one, other] = wire(sender);
        let answer = now.get(&one).or_else(|| now.get(&other));
        prop_assert_eq!(answer, expected.as_ref(), "the next hop of <{}>", sender);
    }
    let mut asked = asked;
    asked.extend(hosts.iter().map(|host| (*host).to_owned()));
    let now = query(&imported, "sasl", &asked);
    for (sender, next_hop) in senders.iter().zip(&expected) {
        // Not asked for, or withheld on purpose.
        if sender.is_empty() || next_hop.is_none() {
            continue;
        }
        let [one, other] = wire(sender);
        let answer = now.get(&one).or_else(|| now.get(&other));
        let expected = first(&passwords, sender);
        prop_assert_eq!(answer, expected.as_ref(), "the password of <{}>", sender);
    }
    for host in hosts {
        let expected = passwords.get(*host);
        prop_assert_eq!(now.get(*host), expected, "the password of {}", host);
    }
    Ok(())
}

// Refusals.

/// A folder with files that nobody may touch.
fn occupied() -> Setup {
    Setup::new()
        .relaymap("# by hand\n@kept.test [kept.test]\n")
        .credentials("[kept.test] kept:CANARY-kept\n")
        .settings("recipient_delimiter = \"+\"\n")
        .file(ENVIRONMENT, "RELAY_PASSWORD=CANARY-env\n")
}

/// Postfix 3.9 and later; where an older one is installed, its postconf gets the line from here.
#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn another_sign_than_a_colon_before_the_password_is_refused() {
    let old = Old::new().passwords("hash", "[one.test] user|CANARY\n");
    let programs = old.path("programs");
    fs::create_dir(&programs).unwrap();
    let script = "#!/bin/sh\n/usr/sbin/postconf \"$@\"\n\
        case \"$*\" in *' '-[PFmA]*) ;; *) echo 'smtp_sasl_password_result_delimiter = |' ;; esac\n";
    fs::write(programs.join("postconf"), script).unwrap();
    fs::set_permissions(programs.join("postconf"), fs::Permissions::from_mode(0o755)).unwrap();
    let setup = occupied().env("PATH", format!("{}:/usr/sbin:/usr/bin:/bin", programs.display()));
    let said = old.refused(&setup, &["--force"]);
    assert!(said.contains("smtp_sasl_password_result_delimiter"), "{said}");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_key_that_postfix_never_asks_for_is_left_out_and_that_is_said() {
    let text = "@one.test [relay.test]\n@two..test [relay.test]\n@three.test:x [relay.test]\n@four.test. [relay.test]\n";
    let (imported, said) = Old::new().relays("hash", text).import();
    let written = fs::read_to_string(imported.dir().join(RELAYMAP)).unwrap();
    assert_eq!(written, "@one.test\t[relay.test]\n");
    assert_eq!(said.stderr.matches("left out").count(), 3, "{}", said.stderr);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_key_that_may_be_a_password_is_not_said() {
    let setup = occupied();
    for key in ["user:CANARY", "me@here.test:CANARY", "CANARY!"] {
        let line = format!("{key} :x\n");
        Old::new().passwords("hash", &line).refused(&setup, &["--force"]);
        Old::new().relays("hash", &line).refused(&setup, &["--force"]);
        let old = Old::new()
            .set("smtp_sender_dependent_authentication", "no")
            .set("mydestination", "")
            .relays("hash", &format!("{key} [relay.test]\n"))
            .passwords("hash", &format!("{key} u:CANARY\n"));
        let (_, said) = old.import();
        assert!(!said.stderr.contains(WORD), "{}", said.stderr);
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_table_that_was_never_built_is_read_from_its_source_and_that_is_said() {
    for kind in ["hash", "btree", "lmdb", "cdb"] {
        let mut old = Old::new();
        let source = old.table("texthash", "@one.test [one.test]\n");
        let table = source.replace("texthash", kind);
        let old = old.set(RELAYS, &table);
        let (imported, said) = old.import();
        assert_eq!(text(&imported, RELAYMAP), "@one.test\t[one.test]\n");
        assert!(
            said.stderr.contains("source") && said.stderr.contains("table 1"),
            "{}",
            said.stderr
        );
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_table_that_is_older_than_its_source_is_refused() {
    let setup = occupied();
    for kind in ["hash", "btree", "lmdb", "cdb"] {
        for parameter in [RELAYS, PASSWORDS] {
            let mut old = Old::new();
            let table = old.table(kind, "[one.test] one.test\n");
            let source = old.path("table-1");
            fs::write(&source, "[one.test] two.test\n").unwrap();
            let index = old.path(&format!(
                "table-1.{}",
                if kind.ends_with("db") { kind } else { "db" }
            ));
            age(&index, 30);
            let old = old.set(parameter, &format!("proxy:{table}"));
            let said = old.refused(&setup, &["--force"]);
            assert!(
                said.contains("older") && said.contains(&format!("postmap {table}")),
                "{said}"
            );
        }
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_postmap_that_hangs_is_not_waited_for() {
    let old = Old::new().relays("hash", "@one.test [one.test]\n");
    let programs = old.path("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("postmap"), "#!/bin/sh\nexec sleep 600\n").unwrap();
    fs::set_permissions(programs.join("postmap"), fs::Permissions::from_mode(0o755)).unwrap();
    let setup = occupied().env("PATH", format!("{}:/usr/sbin:/usr/bin:/bin", programs.display()));
    let said = old.refused(&setup, &["--force"]);
    assert!(said.contains("does not end within 10 seconds"), "{said}");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn no_password_is_in_the_arguments_of_any_process() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let old = Old::new()
        .relays("hash", "@one.test [one.test]\n")
        .passwords("hash", "[one.test] u:CANARY1\n")
        .passwords("cdb", "x@one.test u:CANARY2\n");
    let list = format!("{} inline:{{[two.test]=u:CANARY3}}", old.value(PASSWORDS));
    let old = old.set(PASSWORDS, &list);
    let setup = Setup::new();
    let import = setup.command("import");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-v", "-s", "100000", "-e", "trace=execve", "-o"])
        .arg(trace.path())
        .arg(import.get_program())
        .args(import.get_args())
        .arg("-c")
        .arg(old.etc());
    let finished = finish(&mut command, b"");
    assert_eq!(
        finished.code,
        Some(0),
        "{} (apt-get install strace)",
        finished.stderr
    );
    let traced = fs::read_to_string(trace.path()).unwrap();
    assert!(traced.contains("postmap\", \"-c\""), "{traced}");
    for said in [&traced, &finished.stdout, &finished.stderr] {
        assert!(!said.contains(WORD), "{said}");
    }
    assert_eq!(text(&setup, CREDENTIALS).matches(WORD).count(), 3);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn where_one_file_cannot_be_written_none_is() {
    let old = Old::new()
        .set("relayhost", "[default.test]")
        .set("recipient_delimiter", "-")
        .relays("hash", "@one.test [one.test]\n")
        .passwords("hash", "[one.test] u:CANARY\n");
    for name in [RELAYMAP, CREDENTIALS, SETTINGS, ENVIRONMENT] {
        let setup = Setup::new();
        let is_read_first = name == SETTINGS;
        fs::create_dir(setup.dir().join(name)).unwrap();
        let before = snapshot(setup.dir());
        let finished = old.run_import(&setup, &["--force"]);
        assert!(
            finished.code == Some(1) || is_read_first && finished.code == Some(2),
            "{name}: {finished:?}"
        );
        assert_eq!(snapshot(setup.dir()), before, "{name}: {finished:?}");
        assert!(!format!("{finished:?}").contains(WORD));
        fs::remove_dir(setup.dir().join(name)).unwrap();
        symlink("nowhere", setup.dir().join(name)).unwrap();
        let finished = old.run_import(&setup, &["--force"]);
        assert_ne!(finished.code, Some(0), "{name}: {finished:?}");
        let names: Vec<_> = fs::read_dir(setup.dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [OsStr::new(name)], "{finished:?}");
    }
    // One directory is missing, and that is one error.
    let nowhere = Setup::new();
    fs::remove_dir(nowhere.dir()).unwrap();
    for arguments in [&[][..], &["--dry-run"]] {
        let finished = old.run_import(&nowhere, arguments);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""));
        assert!(!nowhere.dir().exists());
        let name = nowhere.dir().display().to_string();
        let errors = finished.stderr.lines().filter(|line| line.contains("cannot"));
        assert_eq!(errors.count(), 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(&name), "{}", finished.stderr);
    }
}

// The files that are there.

fn something() -> Old {
    Old::new()
        .relays("hash", "@one.test [one.test]\n@two.test [two.test]\n")
        .passwords("hash", "[one.test] u:CANARY1\n@two.test u:CANARY2\n")
}

/// As the package installs them.
#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn comments_stay_and_are_no_change() {
    let conffile = |name: &str| {
        let path = Path::new("contrib/package/debian/conffiles").join(name);
        fs::read_to_string(path).unwrap()
    };
    let (relays, credentials) = (conffile(RELAYMAP), conffile(CREDENTIALS));
    assert!(relays.starts_with('#') && credentials.starts_with('#'));
    let old = something();
    let setup = Setup::new().relaymap(&relays).credentials(&credentials);
    let shown = old.run_import(&setup, &["--dry-run"]).exits(0);
    let changes = shown.stdout.lines().filter(|line| line.starts_with(['-', '+']));
    assert!(
        changes.clone().all(|line| line.starts_with('+')),
        "{}",
        shown.stdout
    );
    assert_eq!(changes.count(), 4, "{}", shown.stdout);
    let done = old.run_import(&setup, &[]).exits(0);
    assert!(done.stdout.contains(": 2 lines, written"), "{}", done.stdout);
    let now = text(&setup, RELAYMAP);
    assert_eq!(
        now,
        format!("{relays}@one.test\t[one.test]\n@two.test\t[two.test]\n")
    );
    assert!(text(&setup, CREDENTIALS).starts_with(&credentials));
    // Once more, and nothing changes.
    let before = snapshot(setup.dir());
    assert_eq!(old.run_import(&setup, &[]).code, Some(0));
    assert_eq!(snapshot(setup.dir()), before);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_second_import_changes_nothing() {
    let old = every_type(something())
        .set("relayhost", "[default.test]")
        .set("recipient_delimiter", "+-");
    let setup = Setup::new().settings("# mine\nlisten = \"socketmap:inet:127.0.0.1:10451\"\n");
    old.run_import(&setup, &[]).exits(0);
    let before = snapshot(setup.dir());
    assert_eq!(before.len(), 4, "{before:?}");
    for arguments in [&[][..], &["--force"], &["--dry-run"]] {
        old.run_import(&setup, arguments).exits(0);
        assert_eq!(snapshot(setup.dir()), before, "{arguments:?}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn credentials_are_for_their_owner_alone() {
    let old = something().set("relayhost", "[default.test]");
    let (imported, _) = old.import();
    assert_eq!(mode(&imported, CREDENTIALS), 0o600);
    assert_eq!(mode(&imported, RELAYMAP), 0o644);
    // A file that is there keeps its mode, as with `relay add-auth`; what others may read is said by `check`.
    let setup = Setup::new().credentials("");
    let path = setup.dir().join(CREDENTIALS);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(old.run_import(&setup, &[]).code, Some(0));
    assert_eq!(mode(&setup, CREDENTIALS), 0o640);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_imported_folder_passes_the_check() {
    for relayhost in ["", "[127.0.0.1]:25"] {
        let old = every_type(Old::new())
            .set("relayhost", relayhost)
            .set("recipient_delimiter", "+-")
            .passwords(
                "hash",
                "[hash.one]:587 u:CANARY1\n@two.test u:CANARY2\n\"john doe\"@two.test u:CANARY3\n",
            );
        let (imported, said) = old.import();
        let checked = imported.run("check", &[""; 0]);
        assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
        for text in [&said.stdout, &said.stderr, &checked.stdout, &checked.stderr] {
            assert!(!text.contains(WORD), "{text}");
        }
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn other_settings_stay_as_they_are() {
    let old = something().set("recipient_delimiter", "\\");
    let settings = "# mine\nlisten = [\"socketmap:inet:127.0.0.1:10451\"]\n\n[reload]\npoll = 5\n";
    let setup = Setup::new().settings(settings);
    old.run_import(&setup, &[]).exits(0);
    let now = text(&setup, SETTINGS);
    assert!(
        now.contains("recipient_delimiter = \"\\\\\"") && now.contains(settings),
        "{now}"
    );
    let checked = setup.run("check", &[""; 0]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
}
