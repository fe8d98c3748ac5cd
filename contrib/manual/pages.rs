//! The manual pages and the completions, made from the definitions of the command line and of the settings.

use std::io;

use clap_complete::Shell;
use postmapd::cli;
use postmapd::config::setting::{self, Setting, TakesEffect};
use postmapd::diagnostics::{Code, Leak};

/// A file: its path below contrib/, and what it should hold.
pub(crate) type Page = (String, Vec<u8>);

/// All of them.
pub(crate) fn all() -> io::Result<Vec<Page>> {
    let mut command = cli::definition().disable_help_subcommand(true);
    command.build();
    let mut pages = vec![("man/postmapd.toml.5".to_owned(), settings_file().into_bytes())];
    commands(&command, &mut pages)?;
    for (shell, name) in [
        (Shell::Bash, "postmapd.bash"),
        (Shell::Zsh, "_postmapd"),
        (Shell::Fish, "postmapd.fish"),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut cli::definition(), "postmapd", &mut script);
        pages.push((format!("completions/{name}"), script));
    }
    Ok(pages)
}

/// A page for a command, and one for each of its own.
fn commands(command: &clap::Command, pages: &mut Vec<Page>) -> io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let after_help = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let own = || command.get_subcommands().filter(|own| !own.is_hide_set());
    let source = concat!("postmapd ", env!("CARGO_PKG_VERSION"));
    let manual = clap_mangen::Man::new(command.clone())
        .title(name.as_str())
        .source(source)
        .manual("postmapd");
    let mut page = Vec::new();
    manual.render_title(&mut page)?;
    // Endpoints and paths are to be copied, and no hyphen may come into them.
    page.extend(b".nh\n");
    manual.render_name_section(&mut page)?;
    manual.render_synopsis_section(&mut page)?;
    manual.render_description_section(&mut page)?;
    manual.render_options_section(&mut page)?;
    if own().next().is_some() {
        manual.render_subcommands_section(&mut page)?;
    }
    if name == "postmapd" {
        page.extend(OF_THE_PROGRAM.bytes());
    }
    page.extend(sections(&after_help).into_bytes());
    match name.as_str() {
        "postmapd-check" => page.extend(findings_of_files().into_bytes()),
        "postmapd-postconf" => page.extend(findings_of_postfix().into_bytes()),
        _ => {}
    }
    page.extend(SEE_ALSO.bytes());
    pages.push((format!("man/{name}.1"), page));
    own().cloned().try_for_each(|own| commands(&own, pages))
}

/// The text after the options as sections of a manual: what ends with a colon is an example, or the fields of an
/// output, what begins with `Exit codes` is the exit status, and the rest are notes.
fn sections(after_help: &str) -> String {
    let [mut notes, mut status, mut examples, mut fields] = [const { String::new() }; 4];
    for paragraph in after_help
        .split("\n\n")
        .filter(|paragraph| !paragraph.trim().is_empty())
    {
        match paragraph.split_once('\n') {
            Some((heading, lines)) if heading.starts_with("Fields") => {
                fields.extend([".PP\n", &roff(heading), "\n.PP\n.EX\n", &roff(lines), "\n.EE\n"]);
            }
            Some((heading, lines)) if heading.ends_with(':') => {
                if !heading.starts_with("Example") {
                    examples.extend([".PP\n", &roff(heading), "\n"]);
                }
                examples.extend([".EX\n", &roff(lines), "\n.EE\n"]);
            }
            _ if paragraph.starts_with("Exit codes") => {
                status.extend([&roff(paragraph.trim_start_matches("Exit codes: ")), "\n"]);
            }
            _ => notes.extend([".PP\n", &roff(paragraph), "\n"]),
        }
    }
    let section = |name, text: String| match text.as_str() {
        "" => text,
        _ => format!(".SH {name}\n{text}"),
    };
    section("NOTES", notes)
        + &section("EXIT STATUS", status)
        + &section("EXAMPLES", examples)
        + &section("OUTPUT", fields)
}

/// The kinds of findings about files, settings and the environment, with the reason why each matters.
fn findings_of_files() -> String {
    let mut section = ".SH FINDINGS\nEach finding has a code. Those about main.cf and master.cf are in\n\
                       .BR postmapd\\-postconf (1).\n"
        .to_owned();
    for code in Code::ALL {
        if let Some(why) = code.rationale() {
            let (name, severity) = (roff(code.as_str()), code.severity());
            section.extend([
                ".TP\n.BR ",
                &name,
                " \" (",
                severity.as_str(),
                ")\"\n",
                &roff(why),
                ".\n",
            ]);
        }
    }
    section
}

/// The kinds of findings about a live Postfix.
fn findings_of_postfix() -> String {
    let mut section = ".SH FINDINGS\nThe codes of what\n.B \\-\\-check\nfinds. For an SMTP client that mail reaches only \
                       by a table of senders, an error is a warning; for one with a next hop of its own, leaks alone are \
                       found, as warnings. What leaks every password is an error everywhere.\n"
        .to_owned();
    for code in Code::ALL.iter().filter(|code| code.rationale().is_none()) {
        let leak = match code.leak() {
            Leak::Nothing => "",
            Leak::Own => "; passwords of its mail leak",
            Leak::All => "; passwords leak",
        };
        let (name, severity) = (roff(code.as_str()), code.severity());
        section.extend([".br\n.BR ", &name, " \" (", severity.as_str(), leak, ")\"\n"]);
    }
    section
}

/// What the first page says besides its commands.
const OF_THE_PROGRAM: &str = include_str!("postmapd.roff");

const SEE_ALSO: &str = r".SH SEE ALSO
.BR postmapd (1),
.BR postmapd.toml (5),
.BR postmapd\-tables (5),
.BR socketmap_table (5),
.BR postconf (5)
.PP
Guides, in contrib/guides of the source (of the Debian package, in /usr/share/doc/postmapd/examples/guides):
replace\-hash\-on\-a\-host.md, with\-docker\-mailserver.md, in\-kubernetes.md, and what\-happens\-when.md, which has each fault with
what Postfix logs, what a sender sees, and what to do.
";

const HEAD: &str = r#".TH POSTMAPD.TOML 5 "" postmapd "File formats"
.SH NAME
postmapd.toml \- settings of postmapd
.SH DESCRIPTION
The file is optional.
.BR postmapd (1)
reads it from the folder of its tables, or from where
.B \-\-config
says.
The environment wins over it, and flags win over both.
A key that is not known is an error, as is a value that is wrong: the server does not start, or, while it runs, goes on
with what it had.
"#;

const TAIL: &str = r#".SH "WHO MAY ASK"
The map relayhost is for whoever may connect, and sasl for allowed peers.
A peer on a UNIX socket is known by its user, and so is one on TCP from 127.0.0.0/8 or ::1, where the kernel says whose
the connection is; the user has to be in
.BR allow_users .
A peer from any other address, one of this host included, has to be in
.BR allow_networks ,
or its connection is closed; if it is, it may ask everything.
.PP
A refused request is answered with PERM (400 over tcp_table), which names the user or the address and the setting;
Postfix logs it and keeps the mail.
The log of postmapd has each refused peer once a day; of IPv6 hosts, each /64.
.PP
Users are looked up when the settings are read.
The number of a user is always right, also of one that only another container has a name for.
A user whom the user namespace of the server does not know has the number 65534, as nobody has: where the namespace does not
map everybody, that number is not allowed, even if it is in
.B allow_users
or the server's own.
A user whom the kernel does not name is not allowed: of a client that has closed already, of a connection that a firewall rule
redirected, or where the kernel has no socket diagnostics (said at the start; a UNIX socket works there).
.PP
trivial\-rewrite, smtp and proxymap ask as the user mail_owner of main.cf, postmap \-q as whoever types it.
A proxy (socat, ssh \-L, a container's port forwarding) is known by its own user or address, whoever is behind it.
root of a container without a user namespace is root.
With 127.0.0.0/8 in
.BR allow_networks ,
every local user gets passwords.
What goes to another host is not encrypted: use such a network for nothing else, or a tunnel.
.PP
Names of users, groups and hosts are looked up where nsswitch.conf(5) says, except by the static program: that looks in
/etc/passwd, /etc/group and /etc/hosts, asks the name servers of resolv.conf(5), and knows nothing else.
A user whom only a directory service knows is to be given to it by number.
.SH "WHO GETS A CONNECTION"
When as many are served as
.B connections
says, those that come then wait in the queue of the kernel until one is closed.
A peer that has as many as
.B connections_per_peer
says is known only when it is accepted: its connection is closed at once, so that nobody waits behind it.
The log has each such peer once an hour, and the metric postmapd_refusals_total counts them (reason: connections).
A user is one peer, however it connects, and so is an IPv4 address, and a /64 of IPv6.
.PP
A Postfix has one connection for each of its processes that asks, and for each endpoint: at most
.B default_process_limit
(100) for each service in master.cf that delivers mail, and a few for trivial\-rewrite.
Raise the limits if the product comes near to 5000.
.SH SANDBOX
Once the sockets are bound, and before a table is read, the server gives up what it does not need:
.IP \(bu 2
It becomes
.BR user ,
if one is named.
.IP \(bu 2
It keeps no capability but those that read files and, while it is root, remove its sockets.
Files that are for root alone (0600) can still be read after the change of the user: the threads that read keep
CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE where a container does not give that, and the one that answers keeps none.
Where the system gives neither, the server does not start.
A file system that judges by itself who may read (FUSE, NFS) has to let that user read; what it refuses is said at the
start.
.IP \(bu 2
No new privileges, no core dump; other processes of the same user cannot look into its memory or its environment.
.IP \(bu 2
It writes, makes, renames and runs no file, and opens no TCP connection (Landlock, from Linux 5.13 on; connections from 6.7
on).
It may remove files in the folders of its UNIX sockets and below: give those a folder of their own.
Reading stays as owner and mode of the files allow it, so that a file may be replaced, linked and mounted as before.
.IP \(bu 2
System calls that only an intruder would make fail (seccomp).
.PP
What the kernel does not have is said at the start, and the server runs without it.
.PP
The folder of a UNIX socket has to be writable for the
.BR user ,
or the socket stays at the end; the next start replaces it.
.PP
To attach a debugger, to get a core dump, or where users are looked up over TCP (an NSS module that speaks LDAP by itself):
.BR "sandbox = false" .
The settings
.B user
and
.B sandbox
count for
.B postmapd serve
alone.
.SH EXAMPLE
.EX
listen = ["socketmap:unix:/var/spool/postfix/postmapd/socketmap", "tcp:127.0.0.1:10452:relayhost"]
allow_users = ["root", "postfix", 1001]
recipient_delimiter = "+-"

[limits]
connections = 20000

[reload]
writer_timeout = 60
.EE
.SH SEE ALSO
.BR postmapd (1),
.BR postmapd\-tables (5)
"#;

fn settings_file() -> String {
    let mut page = HEAD.to_owned() + ".SH SETTINGS\n";
    let of_table = |table: &str, page: &mut String| {
        for setting in setting::ALL {
            match setting.table_and_key() {
                Some((own, key)) if own == table => describe(setting, key, page),
                _ => {}
            }
        }
    };
    of_table("", &mut page);
    for table in setting::tables() {
        let values = match table {
            "reload" => "In seconds, from 0.01 to 86400; fractions are fine.\n",
            _ => "",
        };
        page.extend([".SS [", table, "]\n", values]);
        of_table(table, &mut page);
    }
    page + TAIL
}

fn describe(setting: &Setting, key: &str, page: &mut String) {
    page.extend([".TP\n.B ", key, "\n", &roff(setting.about), ".\n"]);
    page.extend(["Default: ", &roff(setting.default.text()), ".\n"]);
    *page += match setting.takes_effect {
        TakesEffect::OnReload => "Counts when the file is saved.\n",
        TakesEffect::OnRestart(_) => "Counts after a restart.\n",
    };
    let others: Vec<String> = [setting.flag, setting.variable]
        .into_iter()
        .flatten()
        .map(roff)
        .collect();
    if !others.is_empty() {
        page.extend(["Elsewhere: ", &others.join(", "), ".\n"]);
    }
}

/// Text that groff shows as it is.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
}
