//! `postmapd relay`: edits the table files, as `setup.sh relay` of docker-mailserver does, and prints what takes
//! effect.
//!
//! An edit reads the file, changes one entry of it ([`crate::lookup::table::edit`]), validates the result with the
//! server's own code, and replaces the file ([`crate::os::replace_file`]). A result with an error is not written,
//! whether the error is new or not: the server would reject the file, the new entry included. An edit that fixes the
//! last error is written.
//!
//! Then one line on standard output shows what is effective for the sender or the next hop, from a snapshot of the
//! whole directory and the environment of this command. Warnings go to standard error. With `--wait` it then waits for
//! the running server ([`wait`]). Exit codes: 0 the file is as requested, 1 rejected and nothing written, 2 usage; with
//! `--wait` also 1 written and rejected by the server, 75 written and unknown to the server.

mod disabled_entries;
mod edit;
mod effective;
mod key;
pub(super) mod list;
pub(super) mod tls;
mod toggle;
mod wait;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::password::{self, PasswordError};
use super::{EX_USAGE, Error, OutputFormat, print_message};
use crate::config::Sources;
use crate::config::options::Options;
use crate::diagnostics::Findings;
use crate::lookup::table::edit::NotRepresentable;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS};
use crate::os::printable::{printable, printable_path};
use crate::os::replace_file::{self, ReplaceError};
use crate::os::secret::Secret;
use edit::{Edit, EditAction, Hint};
use key::ArgumentError;
use wait::WaitOptions;

/// Add, change, remove and list relays and their credentials.
#[derive(Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
DOMAIN is a domain (example.com, or @example.com), all its subdomains (.example.com, or @.example.com), one sender \
(someone@example.com), the null sender ('<>'), or all other senders ('@*'). \
Running a command twice has the same effect as running it once. On a running server, the change takes effect within \
milliseconds.

A symbolic link in the path of a file is followed if it belongs to root, to you, or to the owner of its target.

Commands that edit have --wait, for scripts that add a relay and send at once: it returns when the edit is active in the \
running server. The server needs an admin listener: set admin in postmapd.toml, for example to 127.0.0.1:9451 or \
unix:/run/postmapd/admin. If the server rejects the files, --wait prints the errors and exits with 1. It exits with 75 if \
the server does not read the file within 30 seconds (or --wait=SECONDS), serves another directory, or cannot be reached. \
In all these cases the edit is written.

Exit codes: 0 done, 1 rejected (nothing was written, except with --wait) or no such entry, 2 usage, 75 it is unknown \
whether the edit is active (--wait).

Examples:
  postmapd relay add-domain example.com relay.example.net 587
  postmapd relay add-auth example.com relay_user
  postmapd relay add-domain example.com relay.example.net 587 --wait && ./send-welcome-mail
  postmapd relay list"
)]
pub(super) struct Relay {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send the mail of a domain or of one sender through a relay
    #[command(after_help = "\
Writes `@DOMAIN [HOST]:PORT` to postfix-relaymap.cf, or changes the existing entry.

Examples:
  postmapd relay add-domain example.com relay.example.net 587
  postmapd relay add-domain boss@example.com 192.0.2.1
  postmapd relay add-domain '@*' relay.example.net 587")]
    AddDomain {
        /// The domain, .domain for its subdomains, the sender, <> for the null sender, or @* for all others
        domain: OsString,
        /// The host name or address of the relay; its MX records are not looked up
        host: OsString,
        /// The port: a number, smtp, smtps, submission or submissions [default: 25]
        port: Option<OsString>,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Store the credentials of a domain, of one sender or of a next hop
    #[command(after_help = "\
Writes `@DOMAIN USER:PASSWORD` to postfix-sasl-password.cf, or changes the existing entry. A new file has mode 0600; if root \
creates it, it belongs to the owner of the directory.

Without PASSWORD and --password-stdin, the command prompts for the password twice on the terminal. PASSWORD on the \
command line is for scripts of docker-mailserver, and causes a warning: every local user can see it in the process list, \
and the shell may keep it in its history.

A DOMAIN in brackets or with a port is a next hop, written as in the relay map: [relay.example.net]:587. With \
--next-hop, so is a bare host name. All mail through that next hop uses its credentials, unless the sender has its own.

Examples:
  postmapd relay add-auth example.com relay_user
  postmapd relay add-auth example.com relay_user --password-stdin < password
  postmapd relay add-auth '[relay.example.net]:587' relay_user")]
    AddAuth {
        /// The domain, .domain for its subdomains, the sender or the next hop
        domain: OsString,
        /// The user name at the relay
        user: OsString,
        /// The password, visible to every local user; prompted for if omitted
        #[arg(allow_hyphen_values = true)]
        password: Option<OsString>,
        /// Read the password from standard input (one line)
        #[arg(long, conflicts_with = "password")]
        password_stdin: bool,
        /// DOMAIN is a host or a next hop, and is used unchanged
        #[arg(long)]
        next_hop: bool,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Deliver the mail of a domain or of one sender directly, regardless of the default relay
    #[command(after_help = "\
Writes `@DOMAIN` without a destination to postfix-relaymap.cf, or changes the existing entry.

Examples:
  postmapd relay exclude-domain example.com
  postmapd relay exclude-domain boss@example.com")]
    ExcludeDomain {
        /// The domain, .domain for its subdomains, the sender, <> for the null sender, or @* for all others
        domain: OsString,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Remove the relay map entry of a domain or of one sender; the default relay applies again
    #[command(after_help = "\
The credentials stay, and are withheld while the sender has no next hop; remove-auth removes them.

Examples:
  postmapd relay remove-domain example.com
  postmapd relay remove-domain '<>'")]
    RemoveDomain {
        /// The domain, .domain for its subdomains, the sender, <> for the null sender, or @* for all others
        domain: OsString,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Remove the credentials of a domain, of one sender or of a next hop
    #[command(after_help = "\
The relay map entry stays; the credentials of the domain or the next hop, if any, apply again.

Examples:
  postmapd relay remove-auth example.com
  postmapd relay remove-auth '[relay.example.net]:587'")]
    RemoveAuth {
        /// The domain, .domain for its subdomains, the sender or the next hop
        domain: OsString,
        /// DOMAIN is a host or a next hop, and is used unchanged
        #[arg(long)]
        next_hop: bool,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Turn the entries of a sender, a domain or a next hop into comments, to enable them again later
    #[command(after_help = "\
The entry of the relay map and the credentials with exactly this key become comments:

  # postmapd:disabled REASON | @example.com [relay.example.net]:587

Mail of the sender then uses the next less specific entry or the default relay, or is delivered directly. Both files change \
together, so that the credentials are not offered to another relay. The comment in postfix-sasl-password.cf holds the password; \
no command shows it. add-domain, add-auth, remove-domain and remove-auth replace or remove a disabled entry of their key as well.

Examples:
  postmapd relay disable example.com --reason 'relay.example.net is down'
  postmapd relay disable '[relay.example.net]:587'")]
    Disable {
        /// The key: a domain, .domain for its subdomains, a sender, <>, @*, or a next hop
        key: OsString,
        /// Why, for people: without `|` and line ends; relay list shows it
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: OsString,
        /// KEY is a host or a next hop, and is used unchanged
        #[arg(long)]
        next_hop: bool,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Turn the comments of a disabled key into its entries again
    #[command(after_help = "\
Examples:
  postmapd relay enable example.com
  postmapd relay enable '[relay.example.net]:587'")]
    Enable {
        /// The key, as for disable
        key: OsString,
        /// KEY is a host or a next hop, and is used unchanged
        #[arg(long)]
        next_hop: bool,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Set how Postfix speaks TLS to a next hop
    #[command(after_help = "\
Writes `NEXT_HOP VALUE...` to postfix-relay-tls.cf, or changes the existing entry. NEXT_HOP is written as in the relay map, \
[relay.example.net]:587; a host is for all its next hops without an entry of their own, and '*' for all others.

VALUE is [implicit|starttls] [LEVEL [ATTRIBUTE=VALUE]...] [via=SERVICE], at least one of the three. implicit is the default \
for the ports 465, smtps and submissions, starttls for all others. The levels and attributes are those of smtp_tls_policy_maps \
(postconf(5)); without a level, the certificate of a host name must match it. SERVICE is a service of master.cf that \
delivers instead of relay-starttls or relay-implicit. See postmapd-tables(5).

Examples:
  postmapd relay set-tls '[email-smtp.eu-west-1.amazonaws.com]:2465' implicit
  postmapd relay set-tls '[192.0.2.1]:587' secure match=mail.example.net
  postmapd relay set-tls '[relay.example.net]:587' via=relay-oauth")]
    SetTls {
        /// The next hop, a host, or * for all others
        next_hop: OsString,
        /// The mode, the level, its attributes, the service
        #[arg(required = true)]
        value: Vec<OsString>,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Remove the TLS entry of a next hop; the default for its port and host applies again
    #[command(after_help = "\
Examples:
  postmapd relay remove-tls '[relay.example.net]:2465'
  postmapd relay remove-tls '*'")]
    RemoveTls {
        /// The next hop, the host, or *, as in postfix-relay-tls.cf
        next_hop: OsString,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// List every sender with an entry, its next hop, its TLS and its user, but no password
    #[command(after_help = "\
The next hop, the mode and level of TLS, and the user are those that Postfix would get: for a sender without credentials of its own, the user of its \
domain or of its next hop. A user in the file that is not used, because the sender is delivered directly or has no next \
hop, is listed with the reason; so is a user that Postfix offers to several relays in a list.

The default relay comes from the environment of this command, if that sets one of its variables (RELAY_HOST and so on); \
else from the server that runs for the same directory; else from postmapd.env in that directory. Standard error names the \
source.

--format json prints [{\"sender\": \"@example.com\", \"nexthop\": \"[relay.example.net]:587\" or null, \"user\": \"relay_user\" \
or null, \"excluded\": false, \"tls\": [{\"nexthop\": \"[relay.example.net]:587\", \"mode\": \"starttls\", \"policy\": \
\"secure match=nexthop servername=hostname\"}] or null}], with \"unused\": \"REASON\" for a user that is not used, and \"warning\": \"REASON\" for one that \
is offered to several relays. A sender with a disabled entry has \"disabled\": true and \"disabled_entry\": {\"nexthop\": \
\"[relay.example.net]:587\" or null, \"excluded\": false, \"user\": \"relay_user\" or null, \"reason\": \"REASON\" or null}; its other \
members are what applies without that entry.

Examples:
  postmapd relay list
  postmapd relay list --dir /etc/postmapd --format json")]
    List {
        /// Output format
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: OutputFormat,
    },
}

/// The maximum number of errors of a file that are printed.
const MAX_ERRORS_SHOWN: usize = 5;

/// The reason why an edit was not made. Nothing was written, unless the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("{0}; nothing was written")]
    Argument(#[from] ArgumentError),
    #[error("{0}; nothing was written")]
    Password(#[from] PasswordError),
    /// The file format cannot represent an argument.
    #[error("{0}; nothing was written")]
    NotRepresentable(#[from] NotRepresentable),
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// The server would reject the result.
    #[error(
        "{}\n{} was not written: the server would reject the whole file because of this error; fix the line first",
        errors.join("\n"),
        printable_path(path)
    )]
    Errors {
        path: PathBuf,
        /// The first errors of the file.
        errors: Vec<String>,
    },
    /// An entry for a host or for all next hops does not fit one of them.
    #[error(
        "implicit TLS needs a level that always demands TLS, and {next_hop} would get another one; nothing was written"
    )]
    WeakTls {
        /// The next hop.
        next_hop: String,
    },
    /// There is nothing to disable or enable.
    #[error("{files} {what} for {key}")]
    NothingToToggle {
        /// The files, with a verb.
        files: String,
        /// What is missing.
        what: &'static str,
        /// The key, as far as it can be shown.
        key: String,
    },
    /// The key of a disabled entry has another one.
    #[error(
        "{} has another entry for {key} by now; remove it first; nothing was written",
        printable_path(path)
    )]
    EntryInTheWay {
        path: PathBuf,
        /// The key, as far as it can be shown.
        key: String,
    },
    /// There is nothing to remove.
    #[error("{} has no entry for {key}{hint}", printable_path(path))]
    NoEntry {
        path: PathBuf,
        /// The key, as far as it can be shown.
        key: String,
        /// What to try instead; may be empty.
        hint: &'static str,
    },
}

impl Command {
    /// Returns whether and where to wait for the server; `None` for a command that edits nothing.
    fn wait_options(&self) -> Option<&WaitOptions> {
        match self {
            Self::AddDomain { wait, .. }
            | Self::AddAuth { wait, .. }
            | Self::ExcludeDomain { wait, .. }
            | Self::RemoveDomain { wait, .. }
            | Self::RemoveAuth { wait, .. }
            | Self::Disable { wait, .. }
            | Self::Enable { wait, .. }
            | Self::SetTls { wait, .. }
            | Self::RemoveTls { wait, .. } => Some(wait),
            Self::List { .. } => None,
        }
    }
}

impl Relay {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let wait = self.command.wait_options();
        let wait = wait.map(|wait| wait.listener(&self.options)).transpose()?;
        let wait = wait.as_ref().and_then(Option::as_ref);
        // Findings about the environment concern the server, and are printed with the result.
        let sources = Sources::for_command(self.options, &mut Findings::default());
        match self.command {
            Command::List { format } => list::run(&sources, format),
            Command::AddDomain {
                domain, host, port, ..
            } => {
                let port = port.as_ref().map(|port| port.as_bytes());
                let key = key::sender_key(domain.as_bytes()).map_err(RelayError::from)?;
                let next_hop = key::next_hop(host.as_bytes(), port).map_err(RelayError::from)?;
                Edit {
                    table: &RELAY_MAP,
                    key,
                    action: EditAction::Set(&next_hop),
                }
                .run(&sources, wait)
            }
            Command::ExcludeDomain { domain, .. } => Edit {
                table: &RELAY_MAP,
                key: key::sender_key(domain.as_bytes()).map_err(RelayError::from)?,
                action: EditAction::Set(b""),
            }
            .run(&sources, wait),
            Command::AddAuth {
                domain,
                user,
                password,
                password_stdin,
                next_hop,
                ..
            } => {
                let password = password.map(|password| Secret::from(password.into_vec()));
                let is_on_command_line = password.is_some();
                if password.as_ref().is_some_and(looks_like_flag) {
                    return Err(RelayError::from(ArgumentError::LooksLikeFlag).into());
                }
                let key = key::credentials_key(domain.as_bytes(), next_hop).map_err(RelayError::from)?;
                let user = user.as_bytes();
                // Rejects what is wrong before asking for a password, not after.
                key::validate_user(user).map_err(RelayError::from)?;
                replace_file::check_directory(&sources.credentials()).map_err(RelayError::from)?;
                let password = match password {
                    Some(password) => Ok(password),
                    None if password_stdin => password::from_standard_input(),
                    None => password::prompt(&format!("{} at {}", printable(user), printable(&key))),
                };
                let password = password.map_err(RelayError::from)?;
                let value = key::credentials_value(user, &password).map_err(RelayError::from)?;
                let done = Edit {
                    table: &CREDENTIALS,
                    key,
                    action: EditAction::Set(value.expose()),
                }
                .run(&sources, wait)?;
                if is_on_command_line {
                    print_message(PASSWORD_ON_COMMAND_LINE);
                }
                Ok(done)
            }
            Command::Disable {
                key,
                reason,
                next_hop,
                ..
            } => toggle::disable(&key, next_hop, &reason, &sources, wait),
            Command::Enable { key, next_hop, .. } => toggle::enable(&key, next_hop, &sources, wait),
            Command::SetTls { next_hop, value, .. } => {
                let key = tls::entry_key(next_hop.as_bytes()).map_err(RelayError::from)?;
                let words = value.iter().map(|word| word.as_bytes());
                let value = tls::entry_value(&key, words).map_err(RelayError::from)?;
                Edit {
                    table: &RELAY_TLS,
                    key,
                    action: EditAction::Set(&value),
                }
                .run(&sources, wait)
            }
            Command::RemoveTls { next_hop, .. } => Edit {
                table: &RELAY_TLS,
                key: next_hop.into_vec(),
                action: EditAction::Remove(None),
            }
            .run(&sources, wait),
            Command::RemoveDomain { domain, .. } => Edit {
                table: &RELAY_MAP,
                key: key::key_to_remove(domain.as_bytes(), false).map_err(RelayError::from)?,
                action: EditAction::Remove(None),
            }
            .run(&sources, wait),
            Command::RemoveAuth { domain, next_hop, .. } => Edit {
                table: &CREDENTIALS,
                key: key::key_to_remove(domain.as_bytes(), next_hop).map_err(RelayError::from)?,
                action: EditAction::Remove(Some(Hint {
                    other_key: domain.as_bytes(),
                    text: "; it has one for the host of that name: add --next-hop",
                })),
            }
            .run(&sources, wait),
        }
    }
}

const PASSWORD_ON_COMMAND_LINE: &str = "warning: the password was on the command line, where every local user could see it, and the shell may keep \
     it in its history; omit it to be prompted for it, or use --password-stdin";

/// Whether a password may be a misspelt flag: after `--` it is none.
fn looks_like_flag(password: &Secret) -> bool {
    password.expose().starts_with(b"--") && !std::env::args_os().any(|word| word == "--")
}

/// Prints the usage if the arguments of an `add-auth` cannot be parsed, and returns the exit code. clap would repeat
/// the arguments, and one of them may be a password.
pub(super) fn usage_without_arguments(error: &clap::Error) -> Option<ExitCode> {
    use clap::error::ErrorKind;
    let quotes_arguments = !matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::ArgumentConflict
    );
    if !quotes_arguments || !std::env::args_os().any(|word| word == "add-auth") {
        return None;
    }
    print_message(
        "the arguments are invalid; they are not repeated here, because one of them may be a password\n\n\
         Usage: postmapd relay add-auth [OPTIONS] DOMAIN USER [PASSWORD]\n\n\
         Quote values that contain spaces, or read the password from standard input with --password-stdin. For more \
         information, try 'postmapd relay add-auth --help'.",
    );
    Some(ExitCode::from(EX_USAGE))
}
