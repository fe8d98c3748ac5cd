//! `postmapd serve`: the options of the server ([`crate::daemon`]) and of its log.

use std::process::ExitCode;

use clap::Args;

use super::{Error, log};
use crate::config::options::{Options, ServeOptions, ServiceOptions};
use crate::daemon;

/// Serve the tables of a directory to Postfix, in the foreground.
#[derive(Args)]
#[command(after_help = "\
SIGHUP reloads the files. A file that is missing or empty at that moment has the same grace period as in any other reload. \
On SIGTERM and SIGINT, the server answers the requests that it has received, and exits.

The default relay is set by RELAY_HOST, RELAY_PORT, RELAY_USER, RELAY_PASSWORD and RELAY_TLS, or by DEFAULT_RELAY_HOST. To read a value \
from a file, append _FILE to the name of its variable, and set that variable to the path.

Any client that can connect can query all maps but sasl. Only users in --allow-users, whom the kernel identifies on UNIX sockets and \
loopback TCP, and hosts in --allow-networks can query sasl. The server closes connections from other hosts. The reply \
to a query that is not allowed is PERM with the reason.

--admin serves health, status and metrics over HTTP; see postmapd-status(1).

If NOTIFY_SOCKET is set (sd_notify(3), Type=notify-reload), the server notifies the service manager when it is ready, after \
each reload with the result, at intervals while lookups are answered (WATCHDOG_USEC), and when it begins to stop. It serves \
sockets that the service manager passes (sd_listen_fds(3)) according to their names: socketmap, relayhost and sasl (both over \
tcp_table), or admin. It then does not listen on the default endpoint, only on endpoints that are set explicitly. Units are \
in contrib/systemd.

Once its sockets are bound, the server enters its sandbox: see SANDBOX in postmapd.toml(5). With --user, it also switches to \
that user.

Example:
  postmapd serve --dir /etc/postmapd --listen socketmap:inet:127.0.0.1:10451
  postmap -q someone@example.com socketmap:inet:127.0.0.1:10451:relayhost")]
pub(super) struct Serve {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    log: ServeOptions,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let format = log::init(&self.log)?;
        match daemon::run(self.options, self.service) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => log::report_fatal(format, error.into()),
        }
    }
}
