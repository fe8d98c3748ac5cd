//! `postmapd postconf`: prints the main.cf lines for the present settings, and checks a live Postfix against them.
//!
//! Printing needs no Postfix: without one, or without its main.cf, `queue_directory` is the usual one. Where there is
//! one, what its main.cf has that is stricter stays, and one that cannot be read is an error, because the lines might
//! weaken it. The check needs a Postfix: without one, the exit code is 69.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{EX_USAGE, Error, OutputFormat, count_of, exit_code, print};
use crate::config::options::{Options, ServiceOptions};
use crate::config::{Settings, Sources};
use crate::diagnostics::{Code, Finding, Findings, Place, machine};
use crate::lookup::map::{Map, Maps};
use crate::postfix::addressing::{Addressing, Unaddressable};
use crate::postfix::command::Commands;
use crate::postfix::config::PostfixConfig;
use crate::postfix::relay_domains::RelayDomainsService;
use crate::postfix::relay_services::{self, RelayServices};
use crate::postfix::requirements::Route;
use crate::postfix::{check, render, requirements, stricter};
use crate::protocol::Protocol;
use crate::protocol::endpoint::Endpoint;
use crate::source::evaluate;

/// `queue_directory` of nearly every Postfix.
const DEFAULT_QUEUE_DIRECTORY: &str = "/var/spool/postfix";

/// Print the main.cf parameters for these settings, or check a live Postfix against them.
#[derive(Args)]
#[command(after_help = "\
The output can be pasted into main.cf unchanged: a comment above each parameter gives its reason. The endpoint is the \
one on which `postmapd serve` listens with the same flags, variables and settings file. If there are several \
listeners, a UNIX socket inside the queue directory is preferred, with a path relative to that directory, so that \
chrooted services find it too; then TCP; then a UNIX socket elsewhere, through proxymap(8); then tcp_table. Stricter \
values of main.cf are kept: a smtp_tls_security_level above may, and the words of smtp_sasl_security_options and \
smtp_sasl_tls_security_options. Certificate authorities (smtp_tls_CAfile, smtp_tls_CApath) and other tables of \
smtp_tls_policy_maps stay too, the tables after postmapd's. The only exception is a noplaintext that smtp_sasl_tls_security_options has by \
default, from smtp_sasl_security_options: it is removed, because with it Postfix cannot log in at most relays. With \
--docker-mailserver, main.cf is not read.

Implicit TLS (port 465) is a property of a service of master.cf. --services prints the form for it: the map transport \
names a service and the next hop of each sender, smtp_sasl_auth_enable is off in main.cf, and two services log in, one for \
each kind of TLS, under the names in [transport] of postmapd.toml. If the name for STARTTLS is smtp, the service for \
implicit TLS is the only new one, smtp logs in, and the service relay does not: it delivers mail to relay_domains to their \
own servers, without the map transport. Without --services, a comment says if a relay needs it. With \
--docker-mailserver, --services prints lines of user-patches.sh, whichever FILE is given, because postfix-master.cf \
cannot add a service.

--check reads the installed Postfix (main.cf, master.cf with its -o options, the features of the build) and prints \
one line for each setting that defeats postmapd or leaks a password: the place, the severity, what is wrong, and the \
command that fixes it. If there is nothing to report, it prints nothing, like `postfix check`. An error defeats \
postmapd or leaks a password; a warning can be about a deliberate setting. --check never prints the value of a \
parameter other than recipient_delimiter. The proposed commands never weaken an explicit setting of main.cf or \
master.cf; if nothing else helps, the finding says what to weaken. After a change, run `postfix reload`.

--check reports settings that log passwords: -v for smtp (and for a proxymap that passes on passwords) in master.cf, \
and debug_peer_list. It does not detect how Postfix was started (postfix -v start), the contents of tables \
(smtp_tls_policy_maps, transport_maps), other instances, the logs of relays and proxies, an attached debugger or \
tracer, or which users can read the log.

docker-mailserver can be configured in two ways, each with a file in its config volume: postfix-main.cf (main) if its \
own relay feature is not in use, or postfix-master.cf (master) if RELAY_*, its two files and `setup relay` remain in \
use. Use only one of them.

Exit codes: 0 printed, or no errors found; 1 --check found errors (with --strict, also warnings); 2 usage or an invalid \
setting; 69 postconf is missing, or failed.

Examples:
  postmapd postconf
  postmapd postconf --listen socketmap:unix:/var/spool/postfix/postmapd/socketmap
  postmapd postconf --commands | sh && postfix reload
  postmapd postconf --services
  postmapd postconf --services --commands | sh && postfix reload
  postmapd postconf --check && echo all right
  postmapd postconf --check -c /etc/postfix-out --format json
  postmapd postconf --docker-mailserver=main --server socketmap:inet:postmapd:10451 \\
      > docker-data/dms/config/postfix-main.cf")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Postconf {
    #[command(flatten)]
    options: Options,

    #[command(flatten)]
    service: ServiceOptions,

    /// The server's endpoint as Postfix reaches it, if that differs from --listen (another container, port 0); can be
    /// repeated
    #[arg(long, value_name = "ENDPOINT")]
    server: Vec<String>,

    /// Postfix's configuration directory, as in postconf -c
    #[arg(short = 'c', value_name = "DIR")]
    config_directory: Option<PathBuf>,

    /// Print shell commands instead of lines
    #[arg(long, group = "output")]
    commands: bool,

    /// Print docker-mailserver's override files instead: main (postfix-main.cf), master (postfix-master.cf), or both
    #[arg(
        long,
        value_name = "FILE",
        group = "output",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "both"
    )]
    docker_mailserver: Option<OverrideFile>,

    /// Print the form with services of master.cf for relays, which implicit TLS (port 465) needs
    #[arg(long, conflicts_with = "check")]
    services: bool,

    /// Check an installed Postfix, and report everything that defeats postmapd or leaks a password
    #[arg(long, group = "output")]
    check: bool,

    /// Exit with 1 for warnings too
    #[arg(long, requires = "check")]
    strict: bool,

    /// The output format of --check
    #[arg(long, value_name = "FORMAT", requires = "check", default_value = "text")]
    format: OutputFormat,
}

/// The override files of docker-mailserver.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OverrideFile {
    Main,
    Master,
    Both,
}

impl Postconf {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let settings = self.settings()?;
        let endpoints = self.endpoints(settings.listen.clone())?;
        let services = self.relay_services(&settings);
        let commands = Commands {
            directory: self.config_directory.clone(),
        };
        if self.check {
            // Errors on this side do not depend on any Postfix.
            let default_addressing = Addressing::new(endpoints.clone(), DEFAULT_QUEUE_DIRECTORY.into());
            requirements::all(&default_addressing, None, Route::NextHops)
                .map_err(|reason| no_endpoint(&reason))?;
            let config = PostfixConfig::read(commands)?;
            let addressing = Addressing::new(endpoints, config.main_cf("queue_directory").into());
            let findings = check::check(&config, &addressing, &settings.delimiters, &services)
                .map_err(|reason| no_endpoint(&reason))?;
            return self.report(&findings);
        }
        let config = self.read_postfix(&commands)?;
        let addressing = if self.docker_mailserver.is_some() {
            Addressing::for_container(endpoints)
        } else {
            let config = config.as_ref();
            let queue_directory = config.map_or(DEFAULT_QUEUE_DIRECTORY, |config| {
                config.main_cf("queue_directory")
            });
            Addressing::new(endpoints, queue_directory.into())
        };
        let text = self
            .text(&addressing, config.as_ref(), &commands, &services)
            .map_err(|reason| no_endpoint(&reason))?;
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn settings(&self) -> Result<Settings, Error> {
        let mut findings = Findings::default();
        let sources = Sources::new(self.options.clone(), self.service.clone(), &mut findings);
        let settings = evaluate::read_settings(&sources, &mut findings);
        Error::fail_on_errors(findings, EX_USAGE)?;
        Ok(settings)
    }

    /// Returns the services of master.cf that the settings and the tables name. What cannot be read has no relay here;
    /// `postmapd check` reports it.
    fn relay_services(&self, settings: &Settings) -> RelayServices {
        let sources = Sources::for_command(self.options.clone(), &mut Findings::default());
        let snapshot = evaluate::load(&sources).snapshot;
        RelayServices::new(&settings.services, &snapshot.relay_tls)
    }

    fn endpoints(&self, listen: Vec<Endpoint>) -> Result<Vec<Endpoint>, Error> {
        if self.server.is_empty() {
            return Ok(listen);
        }
        let names = Maps::SERVED.names();
        let parse = |text: &String| {
            // In main.cf, the map follows a socketmap endpoint.
            let without_map = |map: Map| {
                let endpoint = Endpoint::parse_server(text, map.name, &names).ok();
                endpoint.filter(|endpoint| endpoint.protocol == Protocol::Socketmap)
            };
            Endpoint::parse_listener(text, &names).or_else(|problem| {
                Maps::SERVED.iter().find_map(without_map).ok_or_else(|| {
                    let place = Place::Setting("--server");
                    let finding = Finding::new(Code::BadEndpoint, place);
                    Error::usage(finding.message(format!("`{text}` is not a valid endpoint: {problem}")))
                })
            })
        };
        self.server.iter().map(parse).collect()
    }

    /// Reads the Postfix that the lines are for. `None` for docker-mailserver's, which is elsewhere, and where none is
    /// named and none is installed.
    fn read_postfix(&self, commands: &Commands) -> Result<Option<PostfixConfig>, Error> {
        if self.docker_mailserver.is_some() {
            return Ok(None);
        }
        match PostfixConfig::read(commands.clone()) {
            Ok(config) => Ok(Some(config)),
            Err(error) if error.is_absent() && self.config_directory.is_none() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn text(
        &self,
        addressing: &Addressing,
        config: Option<&PostfixConfig>,
        commands: &Commands,
        services: &RelayServices,
    ) -> Result<String, Unaddressable> {
        if self.services {
            return self.text_with_services(addressing, config, commands, services);
        }
        let mut requirements = requirements::all(addressing, config, Route::NextHops)?;
        let mut remarks = Vec::new();
        if services.has_implicit {
            remarks.push(
                "A relay uses implicit TLS (port 465, for example). It needs a service in master.cf, and other lines \
                 than these: postmapd postconf --services",
            );
        }
        if !requirements
            .iter()
            .any(|requirement| requirement.parameter == Map::TLS.parameter)
        {
            remarks.push(
                "No listener serves the map tls, so the certificates of relays are not verified. Listen on \
                 tcp:HOST:PORT:tls too, or on a socketmap endpoint.",
            );
        }
        let Some(file) = self.docker_mailserver else {
            if let Some(config) = config {
                stricter::keep(&mut requirements, config, addressing);
            }
            return Ok(if self.commands {
                render::shell(&requirements, addressing, commands, &remarks)
            } else {
                render::main_cf(&requirements, addressing, &remarks)
            });
        };
        let main = || render::docker_mailserver_main(&requirements, addressing, &remarks);
        let master = || render::docker_mailserver_master(&requirements, addressing, &remarks);
        Ok(match file {
            OverrideFile::Main => main(),
            OverrideFile::Master => master(),
            OverrideFile::Both => format!(
                "##### Either this file (--docker-mailserver=main):\n{}\n\
                 ##### or this one (--docker-mailserver=master), not both:\n{}",
                main(),
                master()
            ),
        })
    }

    fn text_with_services(
        &self,
        addressing: &Addressing,
        config: Option<&PostfixConfig>,
        commands: &Commands,
        services: &RelayServices,
    ) -> Result<String, Unaddressable> {
        let mut requirements = requirements::all(addressing, config, Route::Services)?;
        if self.docker_mailserver.is_some() {
            return render::docker_mailserver_services(&requirements, services, addressing);
        }
        if let Some(config) = config {
            stricter::keep(&mut requirements, config, addressing);
        }
        if services.is_separate {
            requirements = relay_services::of_direct_mail(requirements);
        }
        let relay_domains = RelayDomainsService::new(config, services);
        let relay_domains = relay_domains.as_ref();
        let to_add: Vec<_> = services.to_add(config).collect();
        if self.commands {
            render::services_shell(&requirements, &to_add, relay_domains, addressing, commands)
        } else {
            render::services(&requirements, &to_add, relay_domains, addressing)
        }
    }

    fn report(&self, findings: &Findings) -> Result<ExitCode, Error> {
        let (errors, warnings) = (findings.errors(), findings.warnings());
        let text = match self.format {
            OutputFormat::Json => {
                let mut out = io::stdout().lock();
                machine::print(findings.iter(), findings, &mut out).map_err(Error::system("cannot print"))?;
                String::new()
            }
            OutputFormat::Text if errors + warnings == 0 => String::new(),
            OutputFormat::Text => {
                let mut lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
                lines.push(format!(
                    "{}, {}\n",
                    count_of(errors, "error"),
                    count_of(warnings, "warning")
                ));
                lines.join("\n")
            }
        };
        print(&text)?;
        Ok(exit_code(errors == 0 && !(self.strict && warnings > 0)))
    }
}

fn no_endpoint(reason: &Unaddressable) -> Error {
    let help = match reason {
        Unaddressable::NoListener(map) => {
            format!("listen on a socketmap endpoint, or on tcp:HOST:PORT:{map}")
        }
        Unaddressable::EphemeralPort(_) => {
            "listen on a fixed port, or give the endpoint with --server".to_owned()
        }
        Unaddressable::UnsupportedPath(_) => "use another path for the socket".to_owned(),
    };
    let finding = Finding::new(Code::NoEndpoint, Place::Setting("--listen"));
    Error::usage(finding.message(reason.to_string()).help(help))
}
