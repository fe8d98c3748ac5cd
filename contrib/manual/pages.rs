//! The manual pages and the completions, made from the definitions of the command line and of the settings.

#[path = "command.rs"]
mod command;

use std::io;

use postmapd::cli;
use postmapd::config::setting::{self, Setting, TakesEffect};
use postmapd::diagnostics::{Code, Leak};

use command::{Manual, roff};

/// A file: its path below contrib/, and what it should hold.
pub(crate) type Page = (String, Vec<u8>);

/// All of them.
pub(crate) fn all() -> io::Result<Vec<Page>> {
    let mut pages = vec![("man/postmapd.toml.5".to_owned(), settings_file().into_bytes())];
    let manual = Manual {
        program: "postmapd",
        version: env!("CARGO_PKG_VERSION"),
        before_notes: |page| if page == "postmapd" { OF_THE_PROGRAM } else { "" }.to_owned(),
        at_the_end: |page| match page {
            "postmapd-check" => findings_of_files() + SEE_ALSO,
            "postmapd-postconf" => findings_of_postfix() + SEE_ALSO,
            _ => SEE_ALSO.to_owned(),
        },
    };
    manual.pages(&cli::definition(), &mut pages)?;
    Ok(pages)
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
                &roff(&capitalized(why)),
                ".\n",
            ]);
        }
    }
    section
}

/// Returns a sentence that starts with a capital letter, unless it starts with the name of a program.
fn capitalized(sentence: &str) -> String {
    let (word, _) = sentence.split_once(' ').unwrap_or((sentence, ""));
    let mut rest = sentence.chars();
    match rest.next() {
        Some(first) if !word.contains('(') => first.to_uppercase().chain(rest).collect(),
        _ => sentence.to_owned(),
    }
}

/// The kinds of findings about a live Postfix.
fn findings_of_postfix() -> String {
    let mut section = ".SH FINDINGS\nThe codes of the findings of\n.BR \\-\\-check .\nFor an SMTP client that gets mail only from a table of \
                       senders, an error becomes a warning. For one whose mail has its own next hop, only leaks are reported, \
                       as warnings. A leak of every password is always an error.\n"
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
.BR postmapd\-log (7),
.BR socketmap_table (5),
.BR postconf (5)
.PP
Guides, in contrib/guides of the source (of the Debian package, in /usr/share/doc/postmapd/examples/guides):
replace\-hash\-on\-a\-host.md, with\-docker\-mailserver.md, in\-kubernetes.md, relays\-of\-providers.md (the lines for eight
providers), services\-of\-their\-own.md (a source address, a client certificate or OAuth 2 for one relay), and what\-happens\-when.md, which lists each fault with
what Postfix logs, what a sender sees, and what to do.
";

const HEAD: &str = r#".TH POSTMAPD.TOML 5 "" postmapd "File formats"
.nh
.SH NAME
postmapd.toml \- settings of postmapd
.SH DESCRIPTION
The settings file of
.BR postmapd (1),
in TOML.
It is optional, and is read from the directory of the tables unless
.B \-\-config
names another file.
Environment variables take precedence over it, and flags over both.
.PP
An unknown key and an invalid value are errors: the server does not start or, while it is running, rejects the reload and
keeps its active settings.
"#;

const TAIL: &str = r#".SH "ACCESS CONTROL"
Any client that can connect can query the map relayhost.
Only allowed clients can query sasl.
A client on a UNIX socket is identified by its user, and so is a client on TCP from 127.0.0.0/8 or ::1 if the kernel reports
the owner of its socket; the user must be in
.BR allow_users .
A client from any other address, including the other addresses of this host, must be in
.BR allow_networks .
It can then query every map; otherwise the server closes the connection.
.PP
The reply to a query that is not allowed is PERM (400 over tcp_table) with the user or address and the setting; Postfix logs
it and keeps the mail in its queue.
The log of postmapd has each rejected user or host once a day, and each /64 for IPv6.
.PP
User names are looked up when the settings are read.
An ID always works, even for a user that has a name only in another container.
A user that is not mapped into the server's user namespace has the ID 65534 there, which is usually that of the user nobody.
If the namespace does not map all users, that ID is not allowed, even if it is in
.B allow_users
or is the ID of the server itself.
A client whose user the kernel does not report is not allowed: one that has already closed its connection, one behind a
firewall rule that redirects connections, or any client on TCP if the kernel has no socket diagnostics.
In the last case the server logs a warning on startup; use a UNIX socket.
.PP
trivial\-rewrite, smtp and proxymap query as the user mail_owner of main.cf, and postmap \-q as the user that runs it.
A proxy (socat, ssh \-L, the port forwarding of a container) is identified by its own user or address, not by that of its
clients.
root in a container without a user namespace is root of the host, and can query sasl.
With 127.0.0.0/8 in
.BR allow_networks ,
every local user gets passwords.
Connections to other hosts are not encrypted: use a network that carries nothing else, or a tunnel.
.PP
User, group and host names are looked up as nsswitch.conf(5) specifies.
The static program does not read it: it uses only /etc/passwd, /etc/group, /etc/hosts and the name servers of
resolv.conf(5).
Set a user that exists only in a directory service by ID.
.SH "CONNECTION LIMITS"
When the limit
.B connections
is reached, further clients wait in the kernel's queue until a connection is closed.
A client that exceeds
.B connections_per_peer
is identified only when its connection is accepted.
The server closes this connection immediately, so that other clients do not wait behind it.
It logs each such user or host once an hour, and counts the connections in the metric postmapd_refusals_total (reason:
connections).
The limit applies to a user, whichever way it connects, to an IPv4 address, or to an IPv6 /64.
.PP
Each Postfix process that does lookups has one connection to each endpoint: at most
.B default_process_limit
(100) for each service in master.cf that delivers mail, and a few for trivial\-rewrite.
Raise the limits if the total approaches 5000.
.SH SANDBOX
Once its sockets are bound, and before it reads a table, the server gives up all rights that it does not need:
.IP \(bu 2
It switches to
.BR user ,
if that is set.
.IP \(bu 2
It keeps only the capabilities to read files and, as root, to remove its sockets.
Files that only root can read (0600) stay readable after the change of user: the threads that read files keep
CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE in a container that does not grant it; the lookup thread keeps neither.
If neither is available, the server does not start.
A file system that checks permissions on its own (FUSE, NFS) must let that user read; the server logs what it cannot read on
startup.
.IP \(bu 2
It cannot gain privileges or dump core; other processes of the same user cannot read its memory or its environment.
.IP \(bu 2
It cannot write, create, rename or execute files, or open TCP connections (Landlock, Linux 5.13 or later; TCP 6.7 or later).
It can remove files in and below the directories of its UNIX sockets: put the sockets into a directory of their own.
Read access still follows the owner and mode of each file, so that files can be replaced, linked and mounted as before.
.IP \(bu 2
System calls that the server never makes fail (seccomp).
.PP
The server logs each mechanism that the kernel does not support, and runs without it.
.PP
The directory of a UNIX socket must be writable for
.BR user ;
otherwise the socket remains after exit, and the next start replaces it.
.PP
Set
.B "sandbox = false"
to attach a debugger, to get core dumps, or if users are looked up over TCP (an NSS module that connects to an LDAP server
itself).
The settings
.B user
and
.B sandbox
apply only to
.BR "postmapd serve" .
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
.BR postmapd\-tables (5),
.BR postmapd\-log (7)
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
            "reload" => {
                "All values but that of errors are seconds, from 0.01 to 86400; fractions are allowed.\n"
            }
            _ => "",
        };
        page.extend([".SS [", table, "]\n", values]);
        of_table(table, &mut page);
    }
    page + TAIL
}

fn describe(setting: &Setting, key: &str, page: &mut String) {
    page.extend([".TP\n.B ", key, "\n", &roff(setting.about), ".\n"]);
    page.extend([".br\nDefault: ", &roff(setting.default.text()), ".\n"]);
    *page += match setting.takes_effect {
        TakesEffect::OnReload => "Takes effect on reload.\n",
        TakesEffect::OnRestart(_) => "Takes effect on restart.\n",
    };
    let others: Vec<String> = [setting.flag, setting.variable]
        .into_iter()
        .flatten()
        .map(roff)
        .collect();
    if !others.is_empty() {
        page.extend(["Also set by: ", &others.join(", "), ".\n"]);
    }
}
