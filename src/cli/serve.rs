//! `postmapd serve`: the options of the server ([`crate::daemon`]) and of its log.

use std::process::ExitCode;

use clap::Args;

use super::{Error, log};
use crate::config::options::{Options, ServeOptions, ServiceOptions};
use crate::daemon;

/// Serve a folder of relay files to Postfix, in the foreground.
#[derive(Args)]
#[command(after_help = "\
SIGHUP reads the files again at once; one that is missing or empty at that moment has the same grace as ever. SIGTERM and SIGINT answer what was asked, and end.

The default relay comes from RELAY_HOST, RELAY_PORT, RELAY_USER and RELAY_PASSWORD, and from DEFAULT_RELAY_HOST. \
Each may stand in the file that a variable of its name with _FILE behind it names.

Whoever can connect may ask relayhost. Passwords are answered to allowed users alone, who are known on UNIX sockets and on \
loopback TCP; other hosts have to be in an allowed network, or are hung up on. A refusal is PERM and says why.

--admin tells health, status and metrics over HTTP; postmapd-status(1) says what.

A service manager hears by NOTIFY_SOCKET (sd_notify(3), Type=notify-reload) when the server is ready, what became of the \
last reload, that the thread that answers lives (WATCHDOG_USEC), and when the end begins. Sockets that it hands over \
(sd_listen_fds(3)) are served as their names say: socketmap, relayhost and sasl (over tcp_table), or admin; then only an \
endpoint that is set is listened at besides, not the default. Units are in contrib/systemd.

Once its sockets are bound, the server locks itself: see SANDBOX in postmapd.toml(5). With --user it also stops being root.

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
            Err(error) => format.report_fatal(error.into()),
        }
    }
}
