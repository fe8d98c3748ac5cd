//! `postmapd query`: what the tables, or a running server, answer for some keys.
//!
//! The output is that of `postmap -q`: the value alone for one key, `key<TAB>value` lines for several, byte for byte;
//! on a terminal, in [`printable`] form. For the `sasl` map the value is the credential that was requested; it goes to
//! standard output and nowhere else.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::explain;
use super::tables::Tables;
use super::{EX_TEMPFAIL, EX_USAGE, Error, OutputFormat, print_environment, print_message};
use crate::config::options::Options;
use crate::control::admin::client;
use crate::diagnostics::{Code, Finding, Findings, Place, Severity};
use crate::lookup::map::{Map, Maps};
use crate::lookup::search::Scratch;
use crate::lookup::table::line::without_byte_order_mark;
use crate::net::address::Address;
use crate::os::printable::printable;
use crate::os::secret::Secret;
use crate::protocol::answer::Answer;
use crate::protocol::client::{Client, Response};
use crate::protocol::endpoint::Endpoint;

/// Look up keys in the tables, or on a running server.
#[derive(Args)]
#[command(after_help = "\
Without --server, the answer comes from the files and the default relay. The default relay comes from the environment of \
this command, if that sets one of its variables (RELAY_HOST and so on); else from the server that runs for the same \
directory, if this user can read its environment; else from postmapd.env in that directory. --explain names the source.

Exit codes: 0 found, 1 not found, 75 cannot tell (a temporary error), 2 usage or an invalid setting. For several keys: 75 if any \
lookup returns a temporary error, else 0 if any key is found.

A file or a pipe gets each value byte for byte. A terminal shows control characters and invisible ones as \\u{202e}, bytes \
that are not UTF-8 as \\xff, and a tab as a space.

--explain --admin asks the running server for the explanation, from its active snapshot and its own environment, and says \
which generation answered, since when it is active, and which files on disk differ from it. Logins are masked as a whole \
then. The server must run with --admin.

--server and --admin wait at most 10 seconds for each complete reply. A value with a control character is an error.

Examples:
  postmapd query --dir /etc/postmapd relayhost someone@example.com
  postmapd query --explain relayhost someone@example.com
  postmapd query --explain tls '[relay.example.com]:587'
  postmapd query --explain --admin 127.0.0.1:9451 relayhost someone@example.com
  postmapd query --server socketmap:inet:127.0.0.1:10451 sasl '[relay.example.com]:587'
  cut -f1 senders.txt | postmapd query relayhost -")]
pub(super) struct Query {
    #[command(flatten)]
    options: Options,

    /// Query a running server, named as in main.cf: socketmap:inet:HOST:PORT, socketmap:unix:PATH or tcp:HOST:PORT
    #[arg(long, value_name = "ENDPOINT")]
    server: Option<String>,

    /// Print which keys were tried, what answered and why, and what Postfix does next; never a password
    #[arg(long, conflicts_with = "server")]
    explain: bool,

    /// Ask a running server for the explanation: the address of its admin listener, HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS", requires = "explain", conflicts_with = "server")]
    admin: Option<String>,

    /// Output format of --explain; json prints one object per line
    #[arg(long, value_enum, default_value_t = OutputFormat::Text, requires = "explain", hide_possible_values = false)]
    format: OutputFormat,

    /// The map: relayhost, sasl, transport or tls
    #[arg(value_name = "MAP", value_parser = PossibleValuesParser::new(Maps::SERVED.names()), hide_possible_values = true)]
    map: String,

    /// The keys: an envelope sender, <>, a host or a next hop; - reads keys from standard input, one per line (line ends
    /// and a byte order mark are ignored)
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<OsString>,
}

/// What answers the lookups.
enum Backend {
    Tables(Box<Tables>),
    Server(Client),
}

impl Backend {
    fn lookup(&mut self, map: Map, key: &[u8]) -> Result<Response, String> {
        match self {
            Self::Tables(tables) => {
                let Tables {
                    snapshot,
                    keys,
                    scratch,
                    ..
                } = &mut **tables;
                Ok(match map.answer(snapshot, key, keys, scratch) {
                    Answer::Found(value) => Response::Found(Secret::from(value.expose().to_vec())),
                    Answer::NotFound => Response::NotFound,
                    Answer::CannotTell(reason) => Response::CannotTell(reason.to_string()),
                })
            }
            Self::Server(client) => client.lookup(map.name, key).map_err(|error| error.to_string()),
        }
    }
}

impl Query {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let Some(map) = Map::named(&self.map) else {
            return Ok(ExitCode::from(EX_USAGE));
        };
        let result = if let Some(admin) = &self.admin {
            self.explain_all_on_server(map, &admin_address(admin)?)
        } else if self.explain {
            self.explain_all(map, &Tables::read(&self.options)?)
        } else {
            let mut backend =
                match &self.server {
                    Some(server) => {
                        let endpoint = Endpoint::parse_server(server, map.name, &Maps::SERVED.names())
                            .map_err(|problem| {
                                let place = Place::Setting("--server");
                                let finding = Finding::new(Code::BadEndpoint, place);
                                Error::usage(finding.message(format!(
                                    "`{server}` is not the endpoint of a server: {problem}"
                                )))
                            })?;
                        match Client::connect(endpoint) {
                            Ok(client) => Backend::Server(client),
                            Err(error) => return Ok(print_cannot_tell(&error.to_string())),
                        }
                    }
                    None => Backend::Tables(Box::new(Tables::read(&self.options)?)),
                };
            if let Backend::Tables(tables) = &backend
                && tables.sources.environment.is_uncertain()
            {
                print_environment(&tables.sources);
            }
            self.answer_all(map, &mut backend)
        };
        result.map_err(Error::system("cannot read the keys or print the values"))
    }

    fn answer_all(&self, map: Map, backend: &mut Backend) -> io::Result<ExitCode> {
        let mut outcomes = Outcomes::default();
        let mut out = io::stdout().lock();
        let is_terminal = out.is_terminal();
        let shown = |bytes: &[u8]| {
            Secret::from(if is_terminal {
                printable(bytes).into_bytes()
            } else {
                bytes.to_vec()
            })
        };
        let is_single_key = matches!(self.keys.as_slice(), [key] if key != "-");
        self.each_key(|key| {
            outcomes.lookup(map, key, backend, |value| {
                if !is_single_key {
                    out.write_all(shown(key).expose())?;
                    out.write_all(b"\t")?;
                }
                out.write_all(shown(value).expose())?;
                out.write_all(b"\n")
            })
        })?;
        out.flush()?;
        Ok(outcomes.exit_code())
    }

    fn explain_all(&self, map: Map, tables: &Tables) -> io::Result<ExitCode> {
        let mut outcomes = Outcomes::default();
        let mut out = io::stdout().lock();
        self.each_key(|key| {
            let mut scratch = Scratch::default();
            let answer = explain::print(
                &tables.snapshot,
                &tables.sources,
                map,
                key,
                self.format,
                &mut scratch,
                &mut out,
            )?;
            outcomes.has_found |= matches!(answer, Answer::Found(_));
            if let Answer::CannotTell(reason) = answer {
                outcomes.record_cannot_tell(key, &reason.to_string(), &tables.findings);
            }
            Ok(())
        })?;
        out.flush()?;
        Ok(outcomes.exit_code())
    }

    /// Prints the explanations of a running server, up to the first that it does not return.
    fn explain_all_on_server(&self, map: Map, address: &Address) -> io::Result<ExitCode> {
        let mut outcomes = Outcomes::default();
        let mut out = io::stdout().lock();
        let mut failure = None;
        self.each_key(|key| {
            if failure.is_some() {
                return Ok(());
            }
            let (explanation, json) = match client::explain(address, map.name, key) {
                Ok(reply) => reply,
                Err(error) => {
                    failure = Some(error.to_string());
                    return Ok(());
                }
            };
            explain::print_of_server(&explanation, &json, self.format, &mut out)?;
            match explanation.explanation.outcome.as_str() {
                "found" => outcomes.has_found = true,
                "not_found" => {}
                _ => {
                    outcomes.record_cannot_tell(key, &explanation.explanation.reason, &Findings::default());
                }
            }
            Ok(())
        })?;
        out.flush()?;
        Ok(failure.map_or_else(|| outcomes.exit_code(), |error| print_cannot_tell(&error)))
    }

    /// Calls `handle` with each key, and with those from standard input in place of `-`.
    fn each_key(&self, mut handle: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for key in &self.keys {
            if key != "-" {
                handle(key.as_bytes())?;
                continue;
            }
            let mut input = io::stdin().lock();
            let mut line = Vec::new();
            let mut is_first = true;
            while input.read_until(b'\n', &mut line)? > 0 {
                // The same as for a line of the files.
                let key = line.strip_suffix(b"\n").unwrap_or(&line);
                let key = key.strip_suffix(b"\r").unwrap_or(key);
                let key = if is_first {
                    without_byte_order_mark(key)
                } else {
                    key
                };
                is_first = false;
                if !key.is_empty() {
                    handle(key)?;
                }
                line.clear();
            }
        }
        Ok(())
    }
}

fn admin_address(text: &str) -> Result<Address, Error> {
    Address::parse(text).map_err(|problem| {
        let finding = Finding::new(Code::BadAdminAddress, Place::Setting("--admin"));
        let finding = finding.message(format!(
            "`{text}` is not the address of an admin listener: {problem}"
        ));
        Error::usage(finding.help("for example, 127.0.0.1:9451 or unix:/run/postmapd/admin"))
    })
}

/// Prints the reason on standard error, and returns the exit code.
fn print_cannot_tell(reason: &str) -> ExitCode {
    print_message(printable(reason.as_bytes()));
    ExitCode::from(EX_TEMPFAIL)
}

#[derive(Default)]
struct Outcomes {
    has_found: bool,
    has_cannot_tell: bool,
}

impl Outcomes {
    fn lookup(
        &mut self,
        map: Map,
        key: &[u8],
        backend: &mut Backend,
        print: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match backend.lookup(map, key) {
            Ok(Response::Found(value)) => {
                self.has_found = true;
                print(value.expose())?;
            }
            Ok(Response::NotFound) => {}
            Ok(Response::CannotTell(reason)) | Err(reason) => {
                let none = Findings::default();
                let findings = match backend {
                    Backend::Tables(tables) => &tables.findings,
                    Backend::Server(_) => &none,
                };
                self.record_cannot_tell(key, &reason, findings);
            }
        }
        Ok(())
    }

    /// Prints the reason on standard error, the first time after all errors of the files.
    fn record_cannot_tell(&mut self, key: &[u8], reason: &str, findings: &Findings) {
        if !self.has_cannot_tell {
            let errors = findings.with_severity(Severity::Error);
            for finding in errors {
                print_cannot_tell(&finding.to_string());
            }
        }
        self.has_cannot_tell = true;
        print_cannot_tell(&format!("{}: {reason}", printable(key)));
    }

    fn exit_code(&self) -> ExitCode {
        match (self.has_cannot_tell, self.has_found) {
            (true, _) => ExitCode::from(EX_TEMPFAIL),
            (false, true) => ExitCode::SUCCESS,
            (false, false) => ExitCode::FAILURE,
        }
    }
}
