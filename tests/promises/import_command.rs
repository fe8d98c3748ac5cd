//! Promise: `postmapd import` writes files and settings that answer as Postfix's own tables do, or writes nothing.
//!
//! The oracle for next hops is Postfix's trivial-rewrite(8): it is queried with the old tables, then with the main.cf
//! made by `postmapd postconf --commands` and a server running on the imported directory. The oracle for passwords is
//! `postmap -q`, queried for the keys in the order of smtp(8), and a real delivery.
//!
//! The answers differ on purpose in two cases (`postmapd import --help`): a sender without a next hop gets no
//! credentials; and an address that contains quotes (`"\"ann\""@one.test`) does not find the key `"ann"@one.test`,
//! which an administrator wrote for another sender. That key is left out, and reported.
//!
//! The cases in tests/cases/import have its output, what it refuses, and how it treats existing files.
//! tests/import-next-hops.txt has the configurations whose next hops are compared.

use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup, finish};
use crate::harness::postfix::{self, Postfix};
use crate::harness::resolver::Resolver;
use crate::harness::smtp_server::{self, Auth, Journal, Login};
use crate::same_as_postmap::quoted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const RELAYS: &str = "sender_dependent_relayhost_maps";
const PASSWORDS: &str = "smtp_sasl_password_maps";

/// This word is in every password that must stay secret.
const WORD: &str = "CANARY";

/// The types built from a source text, and the one that is read directly.
const TYPES: [&str; 5] = ["hash", "btree", "lmdb", "cdb", "texthash"];

/// An existing Postfix: its configuration directory and its tables. None of its programs run.
struct ExistingPostfix {
    directory: tempfile::TempDir,
    parameters: BTreeMap<String, String>,
    tables: usize,
}

impl ExistingPostfix {
    fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("postmapd-import-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        for name in ["etc", "spool", "data"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        fs::copy(
            "/usr/share/postfix/master.cf.dist",
            directory.path().join("etc/master.cf"),
        )
        .expect("Debian's master.cf: apt-get install postfix");
        let old = Self {
            parameters: BTreeMap::new(),
            tables: 0,
            directory,
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
        self.directory.path().join(name)
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
        backdate_configuration(&self.etc());
        self
    }

    fn value(&self, parameter: &str) -> &str {
        self.parameters.get(parameter).map_or("", String::as_str)
    }

    /// Writes a source text, builds the table of this type, and returns its name as in main.cf.
    fn table(&mut self, kind: &str, text: &str) -> String {
        self.tables += 1;
        let source = self.path(&format!("table-{}", self.tables));
        fs::write(&source, text).unwrap();
        backdate(&source, 60);
        if kind == "file" {
            return source.display().to_string();
        }
        let name = format!("{kind}:{}", source.display());
        if kind != "texthash" {
            let built = finish(Command::new("postmap").arg("-c").arg(self.etc()).arg(&name), b"");
            assert_eq!(built.code, Some(0), "postmap {name}: {}", built.stderr);
        }
        name
    }

    /// Appends a table to a list.
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

    /// The tables of a list. No test has whitespace in a name.
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

    /// Imports into a new directory, which must succeed. Returns the messages with it.
    #[track_caller]
    fn import(&self) -> (Setup, Finished) {
        let setup = Setup::new();
        let finished = self.run_import(&setup, &[]).exits(0);
        (setup, finished)
    }

    /// The next hops with a server on the imported directory, and main.cf changed as postmapd says.
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
        backdate_configuration(&etc);
        let printed = finish(command.arg(&etc), b"").exits(0);
        // Each command waits where the one before has just changed main.cf.
        let older = format!("touch -d '1 minute ago' {}\n", etc.join("main.cf").display());
        let script = printed
            .stdout
            .replace("\npostconf", &format!("\n{older}postconf"));
        let ran = finish(Command::new("sh").args(["-eu", "-c", &script]), b"");
        assert_eq!(ran.code, Some(0), "{}\n{}", printed.stdout, ran.stderr);
        backdate_configuration(&etc);
        let after = Resolver {
            config_directory: etc,
            ..self.resolver()
        };
        after.next_hops(senders)
    }

    /// Compares the next hop of each sender with that after this import.
    #[track_caller]
    fn compare(&self, what: &str, imported: Setup, senders: &[&str]) {
        let senders: Vec<String> = senders.iter().map(|sender| (*sender).to_owned()).collect();
        let before = self.resolver().next_hops(&senders);
        let map = fs::read_to_string(imported.dir().join(RELAYMAP)).unwrap_or_default();
        let after = self.next_hops_after(imported, &senders);
        let differences: Vec<String> = senders
            .iter()
            .zip(before.iter().zip(&after))
            .filter(|(_, (before, after))| before != after)
            .map(|(sender, (before, after))| format!("<{sender}>: {before:?} before, {after:?} after"))
            .collect();
        assert!(
            differences.is_empty() && before.iter().any(Option::is_some),
            "{what}, {:?}\n{}\nwith this relay map:\n{map}",
            self.parameters,
            differences.join("\n")
        );
    }

    /// Those keys that the tables have, each with the answer of the first table that has it.
    fn query(&self, parameter: &str, keys: &BTreeSet<String>) -> HashMap<String, String> {
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

/// Moves the modification time of a file into the past.
fn backdate(path: &Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
        .unwrap();
}

/// Backdates all files: Postfix waits while one of them is younger than a second.
fn backdate_configuration(etc: &Path) {
    for name in ["main.cf", "master.cf"] {
        backdate(&etc.join(name), 60);
    }
}

/// The answers of `postmapd query MAP -` for these keys.
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

/// Lines with a key and the credentials answered for it, if any.
#[track_caller]
fn expect_credentials(imported: &Setup, lines: &str) {
    let pairs = lines
        .lines()
        .map(|line| line.split_once(' ').unwrap_or((line, "")));
    let keys = pairs.clone().map(|(key, _)| key.to_owned()).collect();
    let found = pairs.filter(|(_, value)| !value.is_empty());
    let found: HashMap<_, _> = found
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(query(imported, "sasl", &keys), found);
}

#[track_caller]
fn text(setup: &Setup, name: &str) -> String {
    fs::read_to_string(setup.dir().join(name)).unwrap()
}

/// A configuration of tests/import-next-hops.txt.
#[derive(Default)]
struct Configuration<'a> {
    heading: &'a str,
    values: Vec<(&'a str, Vec<&'a str>)>,
    tables: Vec<(&'a str, &'a str, String)>,
    message: Option<&'a str>,
    /// Whether the lines that follow are its senders.
    is_whole: bool,
    senders: Vec<&'a str>,
}

fn configurations(text: &str) -> Vec<Configuration<'_>> {
    let mut all: Vec<Configuration> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(heading) = line.strip_prefix('[') {
            let heading = heading.trim_end_matches(']');
            all.push(Configuration {
                heading,
                ..Configuration::default()
            });
            continue;
        }
        let current = all.last_mut().expect("a heading");
        match (
            line.strip_prefix("    "),
            line.split_once(" += "),
            line.split_once(" ="),
        ) {
            (Some(sender), ..) if current.is_whole => current.senders.push(sender.trim_start_matches("<>")),
            (Some(row), ..) => current.tables.last_mut().unwrap().2.extend([row, "\n"]),
            (_, Some((list, kind)), _) => current.tables.push((list, kind, String::new())),
            (_, _, Some((name, values))) => {
                let values = values.split('|').map(str::trim).collect();
                current.values.push((name, values));
            }
            _ if line == "senders" => current.is_whole = true,
            _ => current.message = Some(line.strip_prefix("says ").expect(line)),
        }
    }
    all
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn each_sender_keeps_its_next_hop_and_the_imported_directory_passes_check() {
    let mut compared = 0;
    for configuration in configurations(include_str!("../import-next-hops.txt")) {
        // Only one parameter may have several values.
        let most = configuration.values.iter().map(|(_, values)| values.len()).max();
        for n in 0..most.unwrap_or(1) {
            let set = |old: ExistingPostfix, (name, values): &(&str, Vec<&str>)| {
                old.set(name, values[n % values.len()])
            };
            let old = configuration.values.iter().fold(ExistingPostfix::new(), set);
            let with =
                |old: ExistingPostfix, (list, kind, text): &(&str, &str, String)| old.with(list, kind, text);
            let old = configuration.tables.iter().fold(old, with);
            let (imported, messages) = old.import();
            assert!(
                messages.stderr.contains(configuration.message.unwrap_or("")),
                "{}",
                messages.stderr
            );
            let checked = imported.run_line("check").exits(0);
            assert!(
                !format!("{messages:?}{checked:?}").contains(WORD),
                "{messages:?}{checked:?}"
            );
            old.compare(configuration.heading, imported, &configuration.senders);
            compared += 1;
        }
    }
    assert_eq!(compared, 17);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_null_sender_keeps_its_next_hop_in_every_notation_of_its_key() {
    let table = "@one.test [one]\nMAILER-DAEMON@one.test [daemon]\n";
    let parameter = "empty_address_relayhost_maps_lookup_key";
    for (key, entries) in [
        ("", "<> [plain]\n"),
        ("", "\"<>\" [quoted]\n"),
        ("", "<> [plain]\n\"<>\" [quoted]\n"),
        ("", ""),
        ("bounces", "bounces [bounces]\n<> [never]\n"),
        ("Bounces", "bounces [bounces]\n"),
        ("bounces", "<> [never]\n\"<>\" [never]\n"),
        ("mailer-daemon@one.test", ""),
        ("bounces+x@one.test", "bounces@one.test [bounces]\n"),
        ("bounces@one.test", "<> [never]\n"),
    ] {
        let mut old = ExistingPostfix::new().relays("hash", &[table, entries].concat());
        if !key.is_empty() {
            old = old.set(parameter, key);
        }
        let (imported, messages) = old.import();
        let senders = ["", "x@one.test", "mailer-daemon@one.test"].map(ToOwned::to_owned);
        let before = old.resolver().next_hops(&senders);
        // postmapd names it `<>`, and reports what to do about main.cf.
        assert_eq!(
            messages.stderr.contains(parameter),
            !key.is_empty(),
            "{}",
            messages.stderr
        );
        old.parameters.remove(parameter);
        let old = old.set("relayhost", "");
        let map = text(&imported, RELAYMAP);
        let after = old.next_hops_after(imported, &senders);
        assert_eq!(after, before, "{key:?} with\n{entries}becomes\n{map}");
    }
}

/// Of the two, postmapd has wildcards. A table that has served Postfix can have such keys, and they had no effect.
#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn postfix_itself_finds_nothing_by_a_wildcard_and_an_import_leaves_it_out() {
    let table = "@.one.test [sub]\n@one.test [one]\n@* [any]\n*@two.test [any]\n";
    let logins = "@.one.test sub:1\n@* any:2\n";
    let senders = [
        "x@sub.one.test",
        "x@a.b.one.test",
        "x@elsewhere.test",
        "",
        "x@one.test",
    ]
    .map(ToOwned::to_owned);
    let expected = [None, None, None, None, Some("[one]".to_owned())];
    for kind in TYPES {
        let old = ExistingPostfix::new().relays(kind, table).passwords(kind, logins);
        for (sender, expected) in senders.iter().zip(&expected) {
            let keys: BTreeSet<String> = keys_of(sender, "+").into_iter().collect();
            let found: Vec<String> = old.query(RELAYS, &keys).into_values().collect();
            assert_eq!(found.first(), expected.as_ref(), "{kind}: {sender}");
            assert!(old.query(PASSWORDS, &keys).is_empty(), "{kind}: {sender}");
        }
        assert_eq!(old.resolver().next_hops(&senders), expected, "{kind}");
        let (imported, messages) = old.import();
        let left_out = messages
            .stderr
            .matches("Postfix never looks up such a key")
            .count();
        assert_eq!(left_out, 4, "{}", messages.stderr);
        assert_eq!(old.next_hops_after(imported, &senders), expected, "{kind}");
    }
    // The same lines in postmapd's own file.
    let setup = Setup::new().relaymap(table);
    let asked = senders
        .iter()
        .filter(|sender| !sender.is_empty())
        .cloned()
        .collect();
    let found = query(&setup, "relayhost", &asked);
    let found: Vec<Option<&str>> = senders
        .iter()
        .map(|sender| found.get(sender).map(String::as_str))
        .collect();
    assert_eq!(
        found,
        [Some("[sub]"), Some("[sub]"), Some("[any]"), None, Some("[one]")]
    );
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn overrides_in_master_cf_are_imported() {
    let mut old = ExistingPostfix::new()
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
    backdate_configuration(&old.etc());
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
    let expected = "x@one.test u:sender\nx-y@one.test u:sender\n[rewrite.one] u:smtp\n[main.one]";
    expect_credentials(&imported, expected);
    // The null sender is `<>` in requests.
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
fn a_relative_path_is_relative_to_the_queue_directory_as_in_postfix() {
    let old = ExistingPostfix::new();
    fs::write(old.path("spool/relays"), "@one.test [one]\n").unwrap();
    backdate(&old.path("spool/relays"), 60);
    let mut command = Command::new("postmap");
    command
        .arg("-c")
        .arg(old.etc())
        .arg("hash:relays")
        .current_dir(old.path("spool"));
    assert_eq!(finish(&mut command, b"").code, Some(0));
    let old = old.set(RELAYS, "hash:relays");
    let (imported, _) = old.import();
    old.compare("a relative path", imported, &["x@one.test"]);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn each_next_hop_and_host_keeps_its_credentials() {
    let lines = [
        ("[relay1.test]:587", "user:pass:with:colons"),
        ("Relay1.Test", "user:with spaces  and\ttabs # and no comment"),
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
        let old = ExistingPostfix::new()
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
        let before = old.query(PASSWORDS, &keys);
        assert_eq!(before.len(), lines.len() + 3, "{before:?}");
        assert_eq!(query(&imported, "sasl", &keys), before, "{kinds:?}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_password_of_a_user_without_a_domain_still_applies_to_senders_of_postfixs_own_domains() {
    let old = ExistingPostfix::new()
        .relays(
            "hash",
            "@local.test [relay.test]\n@mta.test [relay.test]\n@one.test [relay.test]\n",
        )
        .passwords(
            "hash",
            "clerk c:1\n@local.test d:1\nboss@local.test b:1\nboss b:2\nrelay.test r:1\n",
        );
    let (imported, _) = old.import();
    expect_credentials(
        &imported,
        "clerk@local.test c:1\nClerk+x@mta.test c:1\nclerk@one.test\nboss+y@local.test b:1\nboss@mta.test b:2\n\
         x@local.test d:1\nrelay.test r:1\nx@mta.test",
    );
}

/// The oracle is Postfix's own listing. It gets the tables here, but never from postmapd, because of their passwords.
#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_entries_of_an_inline_table_are_those_that_postmap_lists() {
    for table in [
        "inline:{[a.test]=u:p}",
        "inline:{ [a.test]=u:p, [b.test]:587=u:p=q,{ [c.test] = u:with spaces, and commas } }",
        "inline:{{[a.test] = u:{in} braces} {[b.test]=u:{p}}}",
        "inline:{[a.test]=u:{p, q}}",
        "inline:{[A.test]=u:1,[b.test]=u:2,[a.TEST]=u:3}",
        "inline:{{\"john doe\"@one.test = u:p}}",
        "inline:{{\"a= b\"@one.test = u:p},{\"a\\\"b\"@one.test=u:\"q\"}}",
        "inline:{ {@one.test=u:p},,\t{Ann@One.test\t=\tu:q}\t}",
        "proxy:inline:{@Größe.test=u:ü}",
        "inline:{{@one.test = u:p#q $ \\ %20}}",
    ] {
        // main.cf has two dollar signs for one.
        let old = ExistingPostfix::new()
            .set(PASSWORDS, &table.replace('$', "$$"))
            .relays("hash", "@relayed.test [relay.test]\n");
        let mut command = Command::new("postmap");
        command.arg("-c").arg(old.etc()).arg("-s");
        let listed = finish(command.arg(table.trim_start_matches("proxy:")), b"").exits(0);
        let (imported, messages) = old.import();
        let mut expected: Vec<&str> = listed.stdout.lines().collect();
        let imported = text(&imported, CREDENTIALS);
        let mut lines: Vec<&str> = imported.lines().collect();
        expected.sort_unstable();
        lines.sort_unstable();
        assert_eq!(lines, expected, "{table}: {}", messages.stderr);
        assert_eq!(messages.stderr, "");
    }
}

/// Sends a mail of each sender, and returns by which server each left and with which login.
fn deliver(
    postfix: &Postfix,
    journal: &Journal,
    senders: &[&str],
    round: &str,
) -> Vec<(String, Option<Login>)> {
    let recipient = |number: usize| format!("{round}-{number}@elsewhere.test");
    for (number, sender) in senders.iter().enumerate() {
        postfix.send(sender, &recipient(number)).unwrap();
    }
    let arrived = |number: usize| {
        let mail = journal.mail_to(&recipient(number), postfix::DEADLINE);
        let mail = mail.unwrap_or_else(|| panic!("the mail from <{}> does not arrive", senders[number]));
        (mail.server, mail.login)
    };
    (0..senders.len()).map(arrived).collect()
}

/// Imports the configuration of a running Postfix, which uses the server on the imported directory from then on.
fn migrate(postfix: &mut Postfix) -> Daemon {
    let imported = Setup::new();
    let mut import = imported.command("import");
    finish(import.arg("-c").arg(postfix.config_directory()), b"").exits(0);
    let daemon = Daemon::start(imported);
    let maps = ["relayhost", "sasl"].map(|map| format!("{}:{map}", daemon.endpoint(0)));
    postfix
        .set(&[("relayhost", ""), (RELAYS, &maps[0]), (PASSWORDS, &maps[1])])
        .unwrap();
    daemon
}

/// The most common configuration: one account at one provider.
#[test]
#[ignore = "needs root: tests/run-all"]
fn a_single_relayhost_with_its_login_still_works_with_a_real_postfix() {
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
    let login = Login::new("me@relay.test", "p w:1");
    let expected = vec![("relay".to_owned(), Some(login)); 2];
    assert_eq!(
        deliver(&postfix, &journal, &["ann@one.test", ""], "before"),
        expected
    );
    let _daemon = migrate(&mut postfix);
    assert_eq!(
        deliver(&postfix, &journal, &["ann@one.test", ""], "after"),
        expected
    );
}

/// A real Postfix delivers before and after, through the same relays with the same logins.
#[test]
#[ignore = "needs root: tests/run-all"]
fn after_an_import_mail_uses_the_same_relays_with_the_same_logins() {
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
        backdate(&path, 60);
        path.display().to_string()
    };
    let relays = write("relays", format!("@one.test {}\n", one.next_hop()));
    let second = two.next_hop();
    let text = format!(
        "boss@one.test {second}\n\"john doe\"@two.test {second}\n@one.test [127.0.0.1]:1\n<> {second}\n@free.test DUNNO\n"
    );
    let more = write("more", text);
    let text = format!(
        "@one.test sender:p w:1\n127.0.0.3 host:2\n{second} hop:never\n{} default:3\nboss@one.test boss:4\n",
        default.next_hop()
    );
    let passwords = write("passwords", text);
    let setup = setup
        .set(RELAYS, format!("proxy:hash:{relays}, texthash:{more}"))
        .set(PASSWORDS, format!("proxy:btree:{passwords}"))
        .set("relayhost", default.next_hop())
        .set("smtp_sender_dependent_authentication", "yes");
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
    let before = deliver(&postfix, &journal, &senders, "before");
    let short = before
        .iter()
        .map(|(server, login)| format!("{server} {}", login.as_ref().unwrap().user));
    let expected = [
        "one sender",
        "two boss",
        "two host",
        "default default",
        "default default",
        "two host",
    ];
    assert_eq!(short.collect::<Vec<_>>(), expected);
    let _daemon = migrate(&mut postfix);
    assert_eq!(deliver(&postfix, &journal, &senders, "after"), before);
}

/// The address without its extension, as by `split_addr(3)`.
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

/// The keys that Postfix requests for a sender in internal form, in their order (`mail_addr_find(3)`).
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

const LOCALS: &str =
    "ann|Ann|ann+x|ann-x|bob|bob+x-y|BOB-y|a b|A b+x|\"ann\"|\"a b\"|owner-ann|postmaster+x|straße|STRASSE";

const DOMAINS: [&str; 5] = ["one.test", "ONE.test", "two.test", "local.test", "mta.test"];

/// A key of a source text, quoted where that keeps it one key.
fn source_key() -> impl Strategy<Value = String> {
    let local = select(LOCALS.split('|').collect::<Vec<_>>()).prop_map(|local| {
        match local.strip_prefix("a b").or(local.strip_prefix("A b")) {
            // Quoted where that keeps it one key.
            Some(rest) => format!("\"{}{rest}\"", &local[..3]),
            None => local.to_owned(),
        }
    });
    let domain = select(DOMAINS.to_vec());
    prop_oneof![
        6 => (local.clone(), domain.clone()).prop_map(|(local, domain)| format!("{local}@{domain}")),
        3 => domain.prop_map(|domain| format!("@{domain}")),
        2 => local,
        1 => select(vec!["<>", "\"<>\"", "<>@one.test"]).prop_map(ToOwned::to_owned),
        // Postfix never looks these up.
        1 => select(vec!["@.test", "@.ONE.test", "@*"]).prop_map(ToOwned::to_owned),
    ]
}

fn sender() -> impl Strategy<Value = String> {
    // No sender has quotes in the address itself (`"\"ann\""@one.test`); such a key is left out.
    let locals: Vec<&str> = LOCALS
        .split('|')
        .filter(|local| !local.starts_with('"'))
        .collect();
    let some = (select(locals), select(DOMAINS.to_vec()));
    prop_oneof![
        30 => some.prop_map(|(local, domain)| format!("{local}@{domain}")),
        1 => Just(String::new()),
    ]
}

/// A type, by its number, and a source text. Postfix's daemons reject a `texthash:` with a duplicate key, which
/// `postmap -q` accepts.
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
fn any_imported_tables_answer_as_before() {
    let hosts = ["[r1.test]:587", "r1.test", "R2.test", "[r2.test]", "r3.test:25"];
    let password_key = || {
        prop_oneof![
            2 => source_key(),
            1 => select(hosts.to_vec()).prop_map(ToOwned::to_owned),
        ]
    };
    let next_hops = "[r1.test]:587|[r2.test]|r3.test:25|[r1.test], r2.test|DUNNO|dunno";
    let next_hops: Vec<&str> = next_hops.split('|').collect();
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
            let old = ExistingPostfix::new()
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
    old: &ExistingPostfix,
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
    let relays = old.query(RELAYS, &keys);
    let passwords = old.query(PASSWORDS, &keys);
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
    // The expected order of keys is Postfix's own.
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
        // Postfix requests the second form where the first is not found.
        let [one, other] = wire(sender);
        let answer = now.get(&one).or_else(|| now.get(&other));
        prop_assert_eq!(answer, expected.as_ref(), "the next hop of <{}>", sender);
    }
    let mut asked = asked;
    asked.extend(hosts.iter().map(|host| (*host).to_owned()));
    let now = query(&imported, "sasl", &asked);
    for (sender, next_hop) in senders.iter().zip(&expected) {
        // Not requested, or withheld on purpose.
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

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn import_does_not_wait_for_a_hanging_postmap() {
    let old = ExistingPostfix::new().relays("hash", "@one.test [one.test]\n");
    let programs = old.path("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("postmap"), "#!/bin/sh\nexec sleep 600\n").unwrap();
    fs::set_permissions(programs.join("postmap"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/bin", programs.display());
    let setup = Setup::new().env("PATH", path);
    let ended = old.run_import(&setup, &[]).exits(1);
    assert!(
        ended.stderr.contains("did not finish within 10 seconds"),
        "{ended:?}"
    );
    assert_eq!(fs::read_dir(setup.dir()).unwrap().count(), 0);
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn import_passes_no_password_as_an_argument_of_a_process() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let old = ExistingPostfix::new()
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
    for messages in [&traced, &finished.stdout, &finished.stderr] {
        assert!(!messages.contains(WORD), "{messages}");
    }
    assert_eq!(text(&setup, CREDENTIALS).matches(WORD).count(), 3);
}
