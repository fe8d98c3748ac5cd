//! The packages for rpm, Arch and Alpine have the files of the Debian package, and so has an installation after
//! `cargo install`.
//!
//! rpmbuild, rpmlint, rpm under a real systemd, and makepkg are Debian's. abuild is not in Debian: of Alpine's recipe, a
//! shell runs `package()`. No package is installed on the distribution that it is for.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use super::{Built, digest, done, follow, names_no_path_of_this_machine, repository, target};
use crate::harness::systemd::boot;

/// The names of files, as the Debian package has them except for what Debian's policy changes: a compressed file, another
/// directory, or a document of Debian's own.
pub(super) fn common(names: &str) -> BTreeSet<String> {
    let names = names.lines().map(|name| name.trim_start_matches(['.', '/']));
    let names = names.filter(|name| !name.is_empty() && !name.ends_with('/'));
    let names = names.map(|name| {
        let name = name.split(" -> ").next().unwrap().trim_end_matches(".gz");
        let name = name.strip_prefix("usr/").unwrap_or(name);
        name.replace("zsh/vendor-completions", "zsh/site-functions")
            .replace("/changelog", "/CHANGELOG.md")
            .replace("/copyright", "/LICENSE")
    });
    let own = |name: &String| {
        [
            "README.Debian",
            "CHANGELOG.md.Debian",
            "lintian",
            "systemd-252.conf",
        ]
        .iter()
        .any(|own| name.contains(own) && !name.contains("examples"))
    };
    names.filter(|name| !own(name)).collect()
}

/// The files below a directory.
pub(super) fn files(directory: &Path) -> BTreeSet<String> {
    let mut find = Command::new("find");
    common(&done(find.args([".", "!", "-type", "d"]).current_dir(directory)))
}

/// The files of the Debian package, which is built once.
fn of_the_deb() -> BTreeSet<String> {
    static FILES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let built = Built::by("deb");
        let directory = tempfile::tempdir().unwrap();
        done(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(&built.path)
                .arg(directory.path()),
        );
        let files = files(directory.path());
        assert!(files.contains("bin/postmapd") && files.len() > 60, "{files:?}");
        files
    });
    FILES.clone()
}

/// The messages of rpmlint that are accepted of postmapd, beside [`ACCEPTED_OF_BOTH`].
const ACCEPTED: &str = "\
# Credentials, and the files that decide who gets them: root edits them, the server's group reads them, no other user can.
addFilter('non-standard-gid /etc/postmapd')
addFilter('non-standard-dir-perm /etc/postmapd')
addFilter('non-readable /etc/postmapd')
# Two examples can begin with the same table.
addFilter('files-duplicate')
";

/// The messages of rpmlint that are accepted.
pub(super) const ACCEPTED_OF_BOTH: &str = "\
# Tags of a distribution, which signs and names its packages.
addFilter('no-(url|packager|group|changelogname)-tag|no-signature')
# Debian's rpmlint has no list of licences, expects bzip2, and does not see a page or a section behind a dot.
addFilter('invalid-license|manpage-not-compressed bz2|no-manual-page-for-binary postmapd(-follow)?|bad-manual-page')
# On purpose: one package for every release. Units are in /usr/lib.
addFilter('statically-linked-binary|only-non-binary-in-usr-lib')
";

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_rpm_passes_rpmlint_is_reproducible_and_has_the_files_of_the_deb() {
    let (built, again) = (Built::by("rpm"), Built::by("rpm"));
    built.has_its_checksum();
    assert_eq!(digest(&built.bytes()), digest(&again.bytes()));
    let filters = built.directory.path().join("filters");
    fs::write(&filters, [ACCEPTED, ACCEPTED_OF_BOTH].concat()).unwrap();
    let checked = done(Command::new("rpmlint").arg("-r").arg(&filters).arg(&built.path));
    assert!(checked.contains("0 errors, 0 warnings"), "{checked}");

    let listed = |option: &str| done(Command::new("rpm").args(["-qp", option]).arg(&built.path));
    let program = built.directory.path().join("usr/bin/postmapd");
    done(
        Command::new("sh")
            .args(["-c", "rpm2cpio \"$0\" | cpio --quiet -id"])
            .arg(&built.path)
            .current_dir(built.directory.path()),
    );
    let program = fs::read(program).unwrap();
    names_no_path_of_this_machine(&program);
    let packed = built.directory.path().join("packed");
    fs::create_dir(&packed).unwrap();
    for part in ["etc", "usr"] {
        fs::rename(built.directory.path().join(part), packed.join(part)).unwrap();
    }
    assert_eq!(files(&packed), of_the_deb());
    // The tables are configuration files, and nothing else is.
    assert_eq!(
        listed("--configfiles"),
        "/etc/postmapd/postfix-relaymap.cf\n/etc/postmapd/postfix-sasl-password.cf\n/etc/postmapd/postmapd.toml\n"
    );
    // The program is static: no C library is required.
    assert!(!listed("--requires").contains("libc"), "{}", listed("--requires"));
}

/// The output of tests/systemd/drive-rpm on success.
const INSTALLED: &str = "\
# installed
. root postmapd 750
postfix-relaymap.cf root postmapd 640
postfix-sasl-password.cf root postmapd 640
postmapd.toml root postmapd 640
postmapd:Lookup tables for Postfix:/nonexistent:/usr/sbin/nologin
postmapd.service: active running
postmapd.socket: active running
postmapd VERSION
# edited
[relay1.test]
# upgraded
[relay1.test]
another process
the same socket
/etc/postmapd/postfix-relaymap.cf root postmapd 640
# removed
inactive dead
postfix-relaymap.cf.rpmsave
DONE
";

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_rpm_can_be_installed_upgraded_and_removed() {
    let built = Built::by("rpm");
    let package = built.directory.path().join("postmapd.rpm");
    fs::rename(&built.path, &package).unwrap();
    let (output, log) = boot("drive-rpm", [package]);
    assert_eq!(
        output,
        INSTALLED.replace("VERSION", env!("CARGO_PKG_VERSION")),
        "{log}"
    );
}

/// A copy of what a recipe packs, which every user can read, with a program at that path.
pub(super) fn checkout(program: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let names = ["contrib", "README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"];
    done(
        Command::new("cp")
            .arg("-r")
            .args(names)
            .arg(copy.path())
            .current_dir(repository()),
    );
    let program = copy.path().join(program);
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_postmapd"), &program).unwrap();
    for notes in ["cdx.json", "notices.txt"] {
        fs::write(format!("{}.{notes}", program.display()), "").unwrap();
    }
    done(Command::new("chmod").args(["-R", "a+rwX"]).arg(copy.path()));
    copy
}

#[track_caller]
fn has_the_version_of_the_program(recipe: &str) {
    let text = fs::read_to_string(repository().join(recipe)).unwrap();
    let version = format!("\npkgver={}\n", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{recipe}");
}

/// makepkg does not build, which `cargo build` of the recipe does, and packs a program that is already built.
#[test]
#[ignore = "needs root: tests/run-all"]
fn makepkg_packs_the_files_of_the_deb_by_the_recipe_for_arch() {
    has_the_version_of_the_program("contrib/package/arch/PKGBUILD");
    let copy = checkout("target/release/postmapd");
    // Any program will do for the second package.
    for ending in ["", ".cdx.json", ".notices.txt"] {
        let path = |name: &str| copy.path().join(format!("target/release/{name}{ending}"));
        fs::copy(path("postmapd"), path("postmapd-follow")).unwrap();
    }
    let out = copy.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
    // It refuses to run as root. Without pacman, it cannot look up dependencies.
    let words = "--reuid=65534 --regid=65534 --clear-groups env PACMAN=true PKGEXT=.pkg.tar";
    let make = |options: &[&str]| {
        let mut makepkg = Command::new("setpriv");
        makepkg.args(words.split(' ')).arg("makepkg").args(options);
        makepkg
            .env("HOME", &out)
            .env("BUILDDIR", &out)
            .env("PKGDEST", &out);
        done(makepkg.current_dir(copy.path().join("contrib/package/arch")))
    };
    let fields = make(&["--printsrcinfo"]);
    assert!(fields.contains("license = MIT OR Apache-2.0"), "{fields}");
    make(&["--repackage", "--nodeps"]);
    let ending = format!("{}-1-x86_64.pkg.tar", env!("CARGO_PKG_VERSION"));
    follow::arch_has_the_files_of_the_deb(&out.join(format!("postmapd-follow-{ending}")));
    let package = format!("postmapd-{ending}");
    let listed = done(Command::new("bsdtar").arg("-tf").arg(out.join(package)));
    let (own, files): (BTreeSet<_>, BTreeSet<_>) = common(&listed)
        .into_iter()
        .partition(|name| name.contains("share/licenses") || !name.contains('/'));
    assert_eq!(own.len(), 5, "{own:?}");
    assert_eq!(files, of_the_deb());
    for script in ["postmapd.install", "postmapd-follow.install"] {
        let script = repository().join("contrib/package/arch").join(script);
        done(Command::new("bash").arg("-n").arg(script));
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_recipe_for_alpine_packs_the_files_of_the_deb() {
    let recipe = "contrib/package/alpine/APKBUILD";
    has_the_version_of_the_program(recipe);
    let copy = checkout(&format!(
        "target/package/postmapd-{}-x86_64-linux",
        env!("CARGO_PKG_VERSION")
    ));
    let packed = copy.path().join("packed");
    // The user comes from a script of the package.
    let run = "set -eu; startdir=$PWD pkgdir=$0; . ./APKBUILD; chown() { echo \"chown $*\"; }; package; echo \"$license\"";
    let printed = done(
        Command::new("sh")
            .args(["-c", run])
            .arg(&packed)
            .current_dir(copy.path().join("contrib/package/alpine")),
    );
    let expected = format!(
        "chown -R root:postmapd {}/etc/postmapd\nMIT OR Apache-2.0\n",
        packed.display()
    );
    assert_eq!(printed, expected);
    let mut expected = of_the_deb();
    expected.retain(|name| !name.starts_with("lib/"));
    expected.insert("etc/init.d/postmapd".to_owned());
    assert_eq!(files(&packed), expected);
    for script in ["postmapd.initd", "postmapd.pre-install"] {
        done(
            Command::new("sh")
                .arg("-n")
                .arg(repository().join("contrib/package/alpine").join(script)),
        );
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn cargo_install_installs_the_program_and_contrib_package_install_the_rest() {
    let root = tempfile::tempdir().unwrap();
    let printed_by = |script: &str| {
        done(&mut Command::new(
            repository().join("contrib/package").join(script),
        ))
    };
    done(
        Command::new(env!("CARGO"))
            .args([
                "install",
                "--locked",
                "--offline",
                "--quiet",
                "--path",
                ".",
                "--root",
            ])
            .arg(root.path())
            // The build of the packages, which is not repeated.
            .env("CARGO_ENCODED_RUSTFLAGS", printed_by("remap"))
            .env("SOURCE_DATE_EPOCH", printed_by("date").trim_end())
            .env("CARGO_TARGET_DIR", target())
            .current_dir(repository()),
    );
    let program = root.path().join("bin/postmapd");
    assert_eq!(fs::read_dir(root.path().join("bin")).unwrap().count(), 1);
    let installed = root.path().join("system");
    let install = || {
        let mut install = Command::new(repository().join("contrib/package/install"));
        done(install.arg(&program).arg(&installed).current_dir("/"));
    };
    install();
    let mut expected = of_the_deb();
    // A build of cargo has no bill of materials.
    expected.retain(|name| !name.ends_with("cdx.json") && !name.ends_with("notices.txt"));
    assert_eq!(files(&installed), expected);
    let version = done(Command::new(installed.join("usr/bin/postmapd")).arg("--version"));
    assert_eq!(version, format!("postmapd {}\n", env!("CARGO_PKG_VERSION")));

    // Again, as an upgrade: the tables stay.
    let table = installed.join("etc/postmapd/postfix-relaymap.cf");
    assert_eq!(fs::metadata(&table).unwrap().permissions().mode() & 0o777, 0o640);
    fs::write(&table, "@domain1.com [relay1.org]\n").unwrap();
    install();
    assert_eq!(fs::read_to_string(&table).unwrap(), "@domain1.com [relay1.org]\n");
}
