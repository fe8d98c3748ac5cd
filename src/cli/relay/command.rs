//! The commands of `postmapd relay`, their arguments and their help texts.

use std::ffi::OsString;

use clap::Subcommand;

use super::wait::WaitOptions;
use crate::cli::OutputFormat;

#[derive(Subcommand)]
pub(super) enum Command {
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

impl Command {
    /// Returns whether and where to wait for the server; `None` for a command that edits nothing.
    pub(super) fn wait_options(&self) -> Option<&WaitOptions> {
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
