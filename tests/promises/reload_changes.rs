//! Promise: whatever changes a file, and in whatever way, the change takes effect without a signal, completely, and
//! nothing else is ever answered: a client sends requests all the time on one connection, and the answers in their
//! order are exactly those of the versions that were saved.
//!
//! A change takes effect within half a second, by events only: no poll comes in time.

use crate::harness::client::{Both, Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::observer::{Observer, observe};
use crate::harness::versions::{
    EVENTS_ONLY, FILES, IN_DIRECTORY, PASSWORD, REQUESTS, Versions, answers, fill, link_through_data,
    path_of, relay, reloads, repoint, setup, text, with_default_relay, with_versions,
};
use crate::harness::{eventually, names_place};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A file that is to be saved.
struct Save<'a> {
    path: PathBuf,
    text: String,
    versions: &'a Versions<'a>,
}

impl Save<'_> {
    /// A path beside the directory of the tables.
    fn beside(&self, name: &str) -> PathBuf {
        self.versions.root().join(name)
    }

    /// Writes the next version to a separate file.
    fn new_file(&self) -> io::Result<PathBuf> {
        let new = self.beside("new");
        fs::write(&new, &self.text)?;
        Ok(new)
    }

    /// Replaces another file by the next version in one step.
    fn rename_over(&self, path: &Path) -> io::Result<()> {
        fs::rename(self.new_file()?, path)
    }

    /// Long enough for a server that would apply what it sees.
    fn pause(&self) {
        self.versions.pause("while it is saved");
    }

    fn write_in_pieces(&self, mut file: File) -> io::Result<()> {
        for piece in self.text.as_bytes().chunks(self.text.len().div_ceil(3)) {
            self.pause();
            file.write_all(piece)?;
        }
        Ok(())
    }

    /// Runs a script with the new file as `$1` and the old one as `$2`.
    fn run(&self, script: &str) -> io::Result<()> {
        let mut command = Command::new("sh");
        command
            .args(["-ec", script, "sh"])
            .arg(self.new_file()?)
            .arg(&self.path);
        assert!(command.status()?.success(), "{script}");
        Ok(())
    }
}

type SaveMethod = (&'static str, fn(&Save<'_>) -> io::Result<()>);

/// Ways to save a file. After the first ones it is missing, empty or partially written for a while.
const SAVE_METHODS: [SaveMethod; 20] = [
    ("an editor renames the old file and writes a new one", |save| {
        fs::rename(&save.path, save.path.with_extension("old"))?;
        save.pause();
        save.write_in_pieces(File::create_new(&save.path)?)
    }),
    ("an editor keeps a copy and writes the file itself", |save| {
        fs::copy(&save.path, save.path.with_extension("old"))?;
        save.write_in_pieces(File::create(&save.path)?)
    }),
    ("it is emptied and filled by two programs", |save| {
        fs::write(&save.path, "")?;
        save.pause();
        fs::write(&save.path, &save.text)
    }),
    ("it is moved in where the old one was moved out", |save| {
        fs::rename(&save.path, save.beside("old"))?;
        save.pause();
        save.rename_over(&save.path)
    }),
    ("it is renamed over the old one", |save| {
        save.rename_over(&save.path)
    }),
    ("it is written in place", |save| fs::write(&save.path, &save.text)),
    ("it is deleted and created", |save| {
        fs::remove_file(&save.path)?;
        fs::write(&save.path, &save.text)
    }),
    ("cp over it", |save| save.run("cp -p \"$1\" \"$2\"")),
    ("cp and mv", |save| {
        save.run("cp \"$1\" \"$2~\"; mv \"$2~\" \"$2\"")
    }),
    ("install", |save| save.run("install -m 0640 \"$1\" \"$2\"")),
    ("sed -i", |save| save.run("sed -i -n \"1r $1\" \"$2\"")),
    ("a few bytes are written over, and the time is set back", |save| {
        let file = File::options().write(true).open(&save.path)?;
        let modified = file.metadata()?.modified()?;
        file.write_all_at(save.text.as_bytes(), 0)?;
        file.set_len(save.text.len() as u64)?;
        file.set_modified(modified)
    }),
    ("it has an older time", |save| {
        let new = save.new_file()?;
        let past = SystemTime::now() - Duration::from_secs(86_400);
        File::options().write(true).open(&new)?.set_modified(past)?;
        fs::rename(new, &save.path)
    }),
    ("a hard link is made in its place", |save| {
        let new = save.new_file()?;
        fs::remove_file(&save.path)?;
        save.pause();
        fs::hard_link(&new, &save.path)?;
        fs::rename(new, save.beside("kept"))
    }),
    // Programs that never want to replace anything save in this way.
    ("a hard link, of which the first name goes at once", |save| {
        let new = save.new_file()?;
        fs::remove_file(&save.path)?;
        fs::hard_link(&new, &save.path)?;
        fs::remove_file(new)
    }),
    ("it is written through another hard link", |save| {
        let other = save.beside("other");
        fs::hard_link(&save.path, &other)?;
        save.write_in_pieces(File::create(&other)?)?;
        fs::remove_file(other)
    }),
    ("a symbolic link is put in its place", |save| {
        save.rename_over(&save.beside("target"))?;
        repoint(&save.path, save.beside("target"));
        Ok(())
    }),
    ("what the link leads to is written", |save| {
        fs::write(save.beside("target"), &save.text)
    }),
    ("what the link leads to is replaced", |save| {
        save.rename_over(&save.beside("target"))
    }),
    ("the link becomes a file", |save| save.rename_over(&save.path)),
];

#[test]
fn every_way_to_save_a_file_takes_effect_and_no_partial_file_is_used() {
    let daemon = Daemon::start(setup(EVENTS_ONLY));
    with_versions(&daemon, EVENTS_ONLY, |versions| {
        for file in FILES {
            let ways = if file == RELAYMAP {
                &SAVE_METHODS[..]
            } else {
                &SAVE_METHODS[..6]
            };
            for (way, save) in ways {
                versions.take_effect(&[file], &format!("{file}: {way}"), |versions| {
                    let path = versions.path(file);
                    let text = versions.next_text(file);
                    save(&Save { path, text, versions }).unwrap();
                });
            }
        }
        let path = versions.path(RELAYMAP);
        let mut file = File::options().append(true).open(path).unwrap();
        writeln!(file, "@three.test [three.test]").unwrap();
        drop(file);
        let mut appended = answers(versions.numbers);
        appended[5] = Reply::found("[three.test]");
        versions.wait_for(appended, "it is appended to");
        versions.take_effect(&IN_DIRECTORY, "three files, one after the other", |versions| {
            for file in IN_DIRECTORY {
                versions.replace_with_next(file);
            }
        });
    });
}

#[test]
fn a_changed_symbolic_link_at_any_level_above_a_file_takes_effect() {
    let outer = Setup::new();
    let root = outer.root();
    for n in 0..=5 {
        let links = [
            (format!("..outer{n}"), "inner", format!("../..inner{n}")),
            (format!("..inner{n}"), "tables", format!("../..tables{n}")),
            (format!("..tables{n}"), RELAYMAP, format!("../..texts{n}/hop")),
            (format!("..texts{n}"), "hop", "text".to_owned()),
        ];
        for (directory, name, target) in links {
            fs::create_dir(root.join(&directory)).unwrap();
            symlink(target, root.join(directory).join(name)).unwrap();
        }
        fs::write(root.join(format!("..texts{n}/text")), text(RELAYMAP, 0, "")).unwrap();
        let directory = root.join(format!("..tables{n}"));
        fill(&directory, &[CREDENTIALS, SETTINGS, PASSWORD], 0, EVENTS_ONLY);
    }
    symlink("..outer0", root.join("outer")).unwrap();
    let setup = Setup::in_directory(&root.join("outer/inner/tables"));
    let daemon = Daemon::start(with_default_relay(setup));
    with_versions(&daemon, EVENTS_ONLY, |versions| {
        let links = [
            ("outer".to_owned(), "..outer1"),
            ("..outer1/inner".to_owned(), "../..inner2"),
            ("..inner2/tables".to_owned(), "../..tables3"),
            (format!("..tables3/{RELAYMAP}"), "../..texts4/hop"),
            ("..texts4/hop".to_owned(), "../..texts5/text"),
        ];
        for (n, (link, target)) in (1..).zip(links) {
            versions.take_effect(&[RELAYMAP], &link, |versions| {
                let text = root.join(format!("..texts{n}/text"));
                fs::write(text, versions.next_text(RELAYMAP)).unwrap();
                repoint(&root.join(&link), target);
            });
        }
        versions.take_effect(&[RELAYMAP], "where the links lead", |versions| {
            fs::write(versions.path(RELAYMAP), versions.next_text(RELAYMAP)).unwrap();
        });
    });
}

/// The next version of a volume as Kubernetes writes it: a new directory, and one link to it.
fn swap(volume: &Path, n: usize) {
    let new = format!("..2026_11_23_{n}");
    fs::create_dir(volume.join(&new)).unwrap();
    fill(&volume.join(&new), &FILES, n, EVENTS_ONLY);
    let before = fs::read_link(volume.join("..data")).ok();
    repoint(&volume.join("..data"), new);
    if let Some(before) = before {
        fs::remove_dir_all(volume.join(before)).unwrap();
    }
}

#[test]
fn tables_settings_and_a_secret_of_a_swapped_volume_take_effect_together() {
    let volume = Setup::new();
    swap(volume.dir(), 0);
    link_through_data(volume.dir(), &FILES);
    let daemon = Daemon::start(with_default_relay(Setup::in_directory(volume.dir())));
    with_versions(&daemon, EVENTS_ONLY, |versions| {
        for _ in 0..3 {
            versions.take_effect(&FILES, "a swap", |versions| {
                swap(volume.dir(), versions.numbers[0] + 1);
            });
            // A late swap is repeated, and each is one reload.
            let generation = versions.numbers[0] + 1;
            daemon.wait_for_log(|line| line.contains(&format!("loaded generation={generation}")));
            assert_eq!(reloads(&daemon), generation, "{}", daemon.log());
        }
    });
}

type Replace = fn(&Path, &Path, &Versions<'_>);

/// Ways to replace the directory `old` by `new`, which has the next version.
const REPLACEMENTS: [(&str, Replace); 3] = [
    ("it is renamed away for another", |old, new, versions| {
        fs::rename(old, versions.root().join(format!("away{}", versions.numbers[0]))).unwrap();
        versions.pause("without a directory");
        fs::rename(new, old).unwrap();
    }),
    ("it is exchanged for another in one step", |old, new, _| {
        renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE).unwrap();
        fs::remove_dir_all(new).unwrap();
    }),
    ("it is deleted and made again", |old, new, versions| {
        fs::remove_dir_all(old).unwrap();
        versions.pause("without a directory");
        fs::create_dir(old).unwrap();
        versions.pause("with an empty directory");
        for file in IN_DIRECTORY {
            fs::copy(new.join(file), old.join(file)).unwrap();
        }
        fs::remove_dir_all(new).unwrap();
    }),
];

#[test]
fn every_way_to_replace_the_directory_takes_effect_and_so_do_later_edits_in_it() {
    let daemon = Daemon::start(setup(EVENTS_ONLY));
    with_versions(&daemon, EVENTS_ONLY, |versions| {
        for (way, replace) in REPLACEMENTS {
            versions.take_effect(&IN_DIRECTORY, way, |versions| {
                let new = versions.root().join("new");
                fs::create_dir(&new).unwrap();
                for file in IN_DIRECTORY {
                    fs::write(new.join(file), versions.next_text(file)).unwrap();
                }
                replace(versions.dir(), &new, versions);
            });
            // All three files are edited, so that their numbers stay equal.
            versions.take_effect(&IN_DIRECTORY, "an edit afterwards", |versions| {
                for file in IN_DIRECTORY {
                    fs::write(versions.path(file), versions.next_text(file)).unwrap();
                }
            });
        }
    });
}

type Appearance = (&'static str, fn(&Path, &Observer) -> io::Result<()>);

/// Ways in which a directory appears that was missing at startup.
const APPEARANCES: [Appearance; 3] = [
    ("name by name, the files last", |directory, _| {
        let new = directory.with_file_name("new");
        fs::create_dir_all(&new)?;
        fill(&new, &FILES, 1, "");
        fs::rename(&new, directory)
    }),
    ("as a link", |directory, _| {
        let target = directory.ancestors().nth(3).unwrap().join("target");
        fs::create_dir(&target)?;
        fill(&target, &FILES, 1, "");
        fs::create_dir_all(directory.parent().unwrap())?;
        symlink(&target, directory)
    }),
    // Its files may still be in the course of being written, as those of a directory whose files were deleted.
    // Meanwhile "not found" would send mail without its relay and its password.
    ("empty, and filled slowly", |directory, observer| {
        fs::create_dir_all(directory)?;
        for file in [SETTINGS, PASSWORD, CREDENTIALS, RELAYMAP] {
            observer.wait_for_rounds(60);
            fill(directory, &[file], 1, "");
        }
        Ok(())
    }),
];

#[test]
fn a_directory_that_appears_takes_effect_and_no_wrong_answer_is_given() {
    for (way, appear) in APPEARANCES {
        let outer = Setup::new();
        let directory = outer.root().join("a/b/tables");
        let daemon = Daemon::start(with_default_relay(Setup::in_directory(&directory)));
        observe(&daemon, &REQUESTS, |observer| {
            observer.wait_for_rounds(20);
            appear(&directory, observer).unwrap();
            observer.wait_for(&answers([1; 4]));
            let seen = observer.answers();
            let before = seen[..seen.len() - 1].iter().flatten();
            assert!(
                before.clone().all(Reply::is_cannot_tell) && before.count() > 0,
                "{way}: between nothing and everything: {seen:?}"
            );
        });
    }
}

#[test]
fn files_that_appear_take_effect() {
    let setup = with_default_relay(Setup::new());
    let daemon = Daemon::start(setup.clone());
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(
        client.query("relayhost", "ann@one.test"),
        Reply::found("[default.test]:25")
    );
    assert!(client.query("sasl", "[default.test]:25").is_cannot_tell());
    for (number, file) in FILES.into_iter().enumerate() {
        fs::write(path_of(&setup, file), text(file, 0, EVENTS_ONLY)).unwrap();
        let (map, key) = REQUESTS[number];
        eventually(
            || client.query(map, key),
            |reply| *reply == answers([0; 4])[number],
        );
    }
}

const INET: &str = "socketmap:inet:127.0.0.1:0";

#[test]
fn an_edited_setting_that_needs_a_restart_is_logged_and_the_others_take_effect() {
    let text = |n: usize, line: &str, listen: &str| {
        format!(
            "{line}\nlisten = [\"{listen}\"]\n{}",
            text(SETTINGS, n, EVENTS_ONLY)
        )
    };
    let setup = setup(EVENTS_ONLY).settings(text(0, "", INET));
    let daemon = Daemon::start(setup.announces(&[INET]));
    with_versions(&daemon, EVENTS_ONLY, |versions| {
        let two = format!("{INET}\", \"tcp:127.0.0.1:0:sasl");
        let changes = [
            ("", two.as_str(), Some("listen")),
            ("socket_mode = \"0600\"", INET, Some("socket_mode")),
            ("socket_owner = \"root\"", INET, Some("socket_owner")),
            // With the startup value restored, no restart is needed.
            ("", INET, None),
        ];
        for (n, (line, listen, name)) in (1..).zip(changes) {
            let seen = daemon.log_lines();
            daemon.replace(SETTINGS, text(n, line, listen));
            versions.wait_for_numbers([0, 0, 0, n], line);
            daemon.wait_for_log_after(seen, |line| line.contains("loaded generation="));
            let log = daemon.log();
            let restart: Vec<_> = log
                .lines()
                .skip(seen)
                .filter(|line| line.contains("restart"))
                .collect();
            let is_named =
                |line: &&str| name.is_some_and(|name| line.contains(name) && line.contains(SETTINGS));
            assert!(restart.iter().all(is_named), "{restart:?}");
            assert_eq!(restart.len(), usize::from(name.is_some()), "{line}: {restart:?}");
        }
        // A setting that takes effect on restart is still validated now.
        let seen = daemon.log_lines();
        daemon.replace(SETTINGS, text(5, "", "nonsense"));
        daemon.wait_for_log_after(seen, |line| names_place(line, SETTINGS, 2));
        versions.pause("an endpoint with an error");
    });
    // It still listens at the same endpoint.
    Socketmap::to(&daemon, 0).query("relayhost", "ann@one.test");
}

#[test]
fn a_change_that_leaves_the_content_unchanged_is_no_reload() {
    let daemon = Daemon::start(setup("poll_interval = 0.1"));
    let path = daemon.dir().join(RELAYMAP);
    let touch = |file: &str| {
        let path = path_of(&daemon.setup(), file);
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now()).unwrap();
    };
    let same = text(RELAYMAP, 0, "");
    let unchanged: [&dyn Fn(); 9] = [
        &|| touch(RELAYMAP),
        &|| touch(PASSWORD),
        &|| touch(SETTINGS),
        &|| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap(),
        &|| fs::write(&path, &same).unwrap(),
        &|| daemon.replace(RELAYMAP, &same),
        &|| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, &same).unwrap();
        },
        &|| {
            let elsewhere = daemon.root().join("elsewhere");
            fs::rename(&path, &elsewhere).unwrap();
            symlink(&elsewhere, &path).unwrap();
        },
        &|| fs::write(daemon.dir().join("other.cf"), text(RELAYMAP, 9, "")).unwrap(),
    ];
    with_versions(&daemon, "poll_interval = 0.1", |versions| {
        for (number, change) in unchanged.into_iter().enumerate() {
            change();
            // The server polls, and also reads on request.
            versions.observer.wait_for_rounds(40);
            let seen = daemon.log_lines();
            daemon.hangup();
            daemon.wait_for_log_after(seen, |line| line.contains("nothing changed"));
            assert_eq!(reloads(&daemon), 1, "{number}: {}", daemon.log());
            versions.are_still_active("what changes no content");
        }
        // The server would have noticed a change.
        versions.replace_with_next(RELAYMAP);
        versions.wait_for_numbers([1, 0, 0, 0], "an edit");
    });
}

#[test]
fn a_reload_logs_one_line_and_a_lookup_none() {
    let (daemon, mut clients) = Both::start(setup(EVENTS_ONLY));
    for n in 1..4 {
        let seen = daemon.log_lines();
        daemon.replace(RELAYMAP, text(RELAYMAP, n, ""));
        eventually(
            || clients.socketmap.query("relayhost", "ann@one.test"),
            |reply| *reply == Reply::Found(relay(n)),
        );
        let line = daemon.wait_for_log_after(seen, |line| line.contains("generation"));
        for word in ["entries", "warnings", "duration"] {
            assert!(line.contains(word), "no {word} in {line}");
        }
        for _ in 0..100 {
            clients.relayhost("ann@one.test");
            clients.sasl("nobody@nowhere.test");
        }
        // The first round may still see lines of the startup.
        let log = daemon.log();
        let new: Vec<&str> = log.lines().skip(seen).collect();
        assert!(new.len() == 1 || n == 1, "{new:?}");
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn edits_of_an_individually_mounted_file_take_effect_and_its_replacement_on_the_host_is_logged_once() {
    let setup = setup(EVENTS_ONLY);
    let (host, target) = (setup.root().join("host"), setup.dir().join(RELAYMAP));
    fs::rename(&target, &host).unwrap();
    fs::write(&target, "# what is mounted hides this\n").unwrap();
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let within = ["unshare", "--mount", "sh", "-c", script, "sh"].map(PathBuf::from);
    let daemon = Daemon::start(setup.within(within.into_iter().chain([host.clone(), target])));
    with_versions(&daemon, EVENTS_ONLY, |versions| {
        versions.take_effect(&[RELAYMAP], "it is written", |versions| {
            let mut file = File::create(&host).unwrap();
            versions.pause("a file that is cut");
            file.write_all(versions.next_text(RELAYMAP).as_bytes()).unwrap();
        });
        let mut file = File::options().append(true).open(&host).unwrap();
        writeln!(file, "@three.test [three.test]").unwrap();
        drop(file);
        let mut appended = answers(versions.numbers);
        appended[5] = Reply::found("[three.test]");
        versions.wait_for(appended, "it is appended to");
        // The mount shows the old file as long as it exists. The file has no name any more, but is not missing.
        let seen = daemon.log_lines();
        let is_warning = |line: &str| line.contains("WARN") && line.contains("mount its directory instead");
        for n in [8, 9] {
            let new = host.with_extension("new");
            fs::write(&new, text(RELAYMAP, n, "")).unwrap();
            fs::rename(&new, &host).unwrap();
            daemon.wait_for_log_after(seen, is_warning);
        }
        versions.pause("it is replaced on its host");
        assert_eq!(daemon.log().lines().filter(|line| is_warning(line)).count(), 1);
        daemon.hangup();
        daemon.wait_for_log_after(seen, |line| line.contains("nothing changed"));
        versions.are_still_active("it is replaced on its host");
    });
}
