//! `RELAY_*` and `DEFAULT_RELAY_HOST`: the default relay, from variables or from the files that they name.
//!
//! These are docker-mailserver's variables, with both suffixes for files that its users know: `RELAY_PASSWORD_FILE` and
//! `RELAY_PASSWORD__FILE`. A variable is read once, at the start; a file is read again with the tables.
//!
//! A file that is missing, empty or invalid is an error, never an unset value: with "no password", Postfix would send
//! without authenticating. For the same reason a user without a password, or a password without a user, is an unknown
//! login ([`Configured::Unreadable`]) and not an unset one: the answer for the next hop of the default relay is then
//! *cannot tell*, and the mail stays queued. The answers for the sender and the host, which Postfix asks for before the
//! next hop, stay *not found*, because only the last of the three answers decides to send without authenticating.

use std::path::{Path, PathBuf};

use super::foreign_variables;
use super::variables::Variables;
use crate::diagnostics::{Code, Finding, Findings, Place};
use crate::lookup::default_relay::{Configured, DefaultRelay};
use crate::lookup::nexthop;
use crate::lookup::suspicion::Suspicion;
use crate::lookup::table::line::MAX_LINE;
use crate::lookup::tls_policy::{self, TlsSetting};
use crate::os::invisible;
use crate::os::secret::Secret;

/// The source of one value.
#[derive(Clone, Default)]
enum Origin {
    /// No source: the variable is not set.
    #[default]
    Unset,
    /// The variable itself.
    Inline(Secret),
    /// A file, named by a variable.
    File(PathBuf),
}

/// One of the variables.
#[derive(Clone)]
struct Variable {
    name: &'static str,
    origin: Origin,
}

/// The variables of the default relay.
#[derive(Clone)]
pub struct RelayEnvironment {
    host: Variable,
    port: Variable,
    user: Variable,
    password: Variable,
    default_host: Variable,
    tls: Variable,
}

impl RelayEnvironment {
    /// Takes the variables, and warns of those that contradict each other or have no effect here.
    pub(crate) fn new(variables: &Variables, findings: &mut Findings) -> Self {
        foreign_variables::warn_foreign_variables(variables, findings);
        let mut variable = |name, file_names| Variable::new(variables, name, file_names, findings);
        Self {
            host: variable("RELAY_HOST", ["RELAY_HOST_FILE", "RELAY_HOST__FILE"]),
            port: variable("RELAY_PORT", ["RELAY_PORT_FILE", "RELAY_PORT__FILE"]),
            user: variable("RELAY_USER", ["RELAY_USER_FILE", "RELAY_USER__FILE"]),
            password: variable("RELAY_PASSWORD", ["RELAY_PASSWORD_FILE", "RELAY_PASSWORD__FILE"]),
            default_host: variable(
                "DEFAULT_RELAY_HOST",
                ["DEFAULT_RELAY_HOST_FILE", "DEFAULT_RELAY_HOST__FILE"],
            ),
            tls: variable("RELAY_TLS", ["RELAY_TLS_FILE", "RELAY_TLS__FILE"]),
        }
    }

    /// Returns whether any of the variables is set.
    pub(crate) fn is_set(&self) -> bool {
        self.all()
            .into_iter()
            .any(|variable| !matches!(variable.origin, Origin::Unset))
    }

    fn all(&self) -> [&Variable; 6] {
        [
            &self.host,
            &self.port,
            &self.user,
            &self.password,
            &self.default_host,
            &self.tls,
        ]
    }

    /// Returns the files that the variables name.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.all()
            .into_iter()
            .filter_map(|variable| match &variable.origin {
                Origin::File(path) => Some(path.as_path()),
                _ => None,
            })
    }

    /// Adds findings about the values of the variables themselves. Values in files can change, and are checked when
    /// they are read.
    pub(super) fn check_inline(&self, findings: &mut Findings) {
        let mut all = Findings::default();
        self.resolve(&mut |_| None, &mut all);
        for finding in all
            .iter()
            .filter(|finding| matches!(finding.place, Place::Setting(_)))
        {
            findings.push(finding.clone());
        }
    }

    /// Returns the default relay. `read` reads the named files, and reports those that it cannot read.
    pub(crate) fn resolve(
        &self,
        read: &mut dyn FnMut(&Path) -> Option<Secret>,
        findings: &mut Findings,
    ) -> DefaultRelay {
        let mut value = |variable: &Variable, findings: &mut Findings| match &variable.origin {
            Origin::Unset => Configured::Unset,
            Origin::Inline(value) => Configured::Value(value.clone()),
            Origin::File(path) => match read(path) {
                None => Configured::Unreadable,
                Some(text) => variable.parse_file_text(text, findings),
            },
        };
        let [host, port, user, password, default_host, tls] =
            self.all().map(|variable| value(variable, findings));
        let relay_host = self.relay_host(host, &port, findings);
        let default_relay_host = self.default_relay_host(default_host, findings);
        let credentials = self.credentials(user, password, findings);
        let default = DefaultRelay::new(relay_host, default_relay_host, credentials)
            .with_tls(self.relay_tls(tls, findings));
        if !default.is_set()
            && !matches!(
                (&self.user.origin, &self.password.origin),
                (Origin::Unset, _) | (_, Origin::Unset)
            )
        {
            findings.push(
                self.password
                    .finding(Code::CredentialsWithoutRelay)
                    .message("RELAY_USER and RELAY_PASSWORD are set without a default relay")
                    .help("set RELAY_HOST or DEFAULT_RELAY_HOST, or unset both"),
            );
        }
        if !default.is_set() && !matches!(self.tls.origin, Origin::Unset) {
            findings.push(
                self.tls
                    .finding(Code::TlsWithoutRelay)
                    .message("RELAY_TLS is set without a default relay")
                    .help("set RELAY_HOST or DEFAULT_RELAY_HOST, or write a line to postfix-relay-tls.cf instead"),
            );
        }
        default
    }

    fn relay_host(
        &self,
        host: Configured<Secret>,
        port: &Configured<Secret>,
        findings: &mut Findings,
    ) -> Configured<Vec<u8>> {
        let host = match host {
            Configured::Value(host) => host,
            Configured::Unset => return Configured::Unset,
            Configured::Unreadable => return Configured::Unreadable,
        };
        let port = match port {
            Configured::Value(port) => port.expose(),
            Configured::Unset => b"25",
            Configured::Unreadable => return Configured::Unreadable,
        };
        let problem = match nexthop::join_host_and_port(host.expose(), port) {
            Ok(next_hop) => return Configured::Value(next_hop),
            Err(problem) => problem,
        };
        let (variable, value, help) = match problem {
            nexthop::NextHopErrorKind::Port => (&self.port, port, "set it to a number from 1 to 65535"),
            nexthop::NextHopErrorKind::SeveralHosts => (
                &self.host,
                host.expose(),
                "set RELAY_HOST to one host; DEFAULT_RELAY_HOST accepts a list",
            ),
            _ => (
                &self.host,
                host.expose(),
                "set RELAY_HOST to only a host name or an address, and RELAY_PORT to the port",
            ),
        };
        findings.push(variable.invalid(Code::BadRelayHost, value, problem.to_string(), help));
        Configured::Unreadable
    }

    fn default_relay_host(&self, host: Configured<Secret>, findings: &mut Findings) -> Configured<Vec<u8>> {
        let Configured::Value(host) = host else {
            return host.map(|host| host.expose().to_vec());
        };
        let checked = if nexthop::is_dunno(host.expose()) {
            Err("DUNNO is not a next hop".to_owned())
        } else {
            nexthop::validate(host.expose()).map_err(|fault| format!("this is not a next hop: {fault}"))
        };
        match checked {
            Ok(()) => Configured::Value(host.expose().to_vec()),
            Err(problem) => {
                findings.push(self.default_host.invalid(
                    Code::BadDefaultRelayHost,
                    host.expose(),
                    problem,
                    "set it to [host]:port, [host], host:port or host, or leave it empty",
                ));
                Configured::Unreadable
            }
        }
    }

    fn relay_tls(&self, tls: Configured<Secret>, findings: &mut Findings) -> Configured<TlsSetting> {
        let Configured::Value(value) = tls else {
            return tls.map(|_| TlsSetting::default());
        };
        match tls_policy::parse(value.expose()) {
            Ok(setting) => Configured::Value(setting),
            Err(error) => {
                let finding = self.tls.finding(Code::BadTls);
                findings.push(finding.message(error.to_string()).help(error.kind.help()));
                Configured::Unreadable
            }
        }
    }

    fn credentials(
        &self,
        user: Configured<Secret>,
        password: Configured<Secret>,
        findings: &mut Findings,
    ) -> Configured<Secret> {
        let (user, password) = match (user, password) {
            (Configured::Unset, Configured::Unset) => return Configured::Unset,
            (Configured::Unset, _) | (_, Configured::Unset) => {
                let (set, missing) = match self.user.origin {
                    Origin::Unset => (&self.password, &self.user),
                    _ => (&self.user, &self.password),
                };
                findings.push(
                    set.finding(Code::HalfCredentials)
                        .message(format!(
                            "{} is set without {}; lookups of the default relay's login return a temporary error, and its mail stays queued",
                            set.name, missing.name
                        ))
                        .help(format!(
                            "set {} too, or neither if the default relay needs no login",
                            missing.name
                        )),
                );
                return Configured::Unreadable;
            }
            (Configured::Unreadable, _) | (_, Configured::Unreadable) => return Configured::Unreadable,
            (Configured::Value(user), Configured::Value(password)) => (user, password),
        };
        let control = |secret: &Secret| {
            let mut bytes = secret.expose().iter();
            let control = bytes.find(|c| c.is_ascii_control() && **c != b'\t')?;
            Some(invisible::name(char::from(*control)))
        };
        let fault = if user.expose().contains(&b':') {
            let message = "the user contains a `:`, where Postfix would split it from the password";
            Some((&self.user, message.to_owned()))
        } else if let Some(name) = control(&user) {
            Some((
                &self.user,
                format!("the user contains a control character, {name}"),
            ))
        } else if let Some(name) = control(&password) {
            Some((
                &self.password,
                format!("the password contains a line end or another control character, {name}"),
            ))
        } else if user.len() + password.len() > MAX_LINE {
            Some((
                &self.password,
                format!("user and password are longer than {MAX_LINE} bytes"),
            ))
        } else {
            None
        };
        if let Some((variable, message)) = fault {
            findings.push(
                variable
                    .finding(Code::BadDefaultCredentials)
                    .message(message)
                    .help("set it to the value from the relay's operator, on one line"),
            );
            return Configured::Unreadable;
        }
        for (variable, value) in [(&self.user, &user), (&self.password, &password)] {
            if let Some(suspicion) = Suspicion::first_in(value.expose()) {
                findings.push(
                    variable
                        .finding(suspicion.code())
                        .message(suspicion.message(&format!("the value of {}", variable.name)))
                        .help(suspicion.help()),
                );
            }
        }
        let mut credentials = Secret::with_capacity(user.len() + 1 + password.len());
        for part in [user.expose(), b":", password.expose()] {
            credentials.append(part);
        }
        Configured::Value(credentials)
    }
}

impl Variable {
    fn new(
        variables: &Variables,
        name: &'static str,
        file_names: [&'static str; 2],
        findings: &mut Findings,
    ) -> Self {
        let inline = variables.get(name).cloned();
        let inline = inline.filter(|value| {
            let is_link = name == "RELAY_PORT" && foreign_variables::is_service_link(value.expose());
            if is_link {
                findings.push(
                    Finding::new(Code::ServiceLink, Place::Setting(name))
                        .message(
                            "the value is one that Kubernetes or a Docker link sets for a service named relay, and is \
                             ignored",
                        )
                        .help(
                            "set enableServiceLinks: false in the pod, or rename the service, and set the variable to the \
                             relay's port if that is not 25",
                        ),
                );
            }
            !is_link
        });
        let mut named = file_names
            .into_iter()
            .filter_map(|file_name| Some((file_name, variables.file(file_name)?)));
        let file = named.next();
        let mut warn = |ignored: &'static str, used: &'static str| {
            findings.push(
                Finding::new(Code::VariableIgnored, Place::Setting(ignored))
                    .message(format!("{used} is also set, and takes precedence"))
                    .help("unset one of them"),
            );
        };
        if let (Some((used, _)), Some((ignored, _))) = (&file, named.next()) {
            warn(ignored, used);
        }
        let origin = match (inline, file) {
            (Some(value), file) => {
                if let Some((ignored, _)) = file {
                    warn(ignored, name);
                }
                Origin::Inline(value)
            }
            (None, Some((_, path))) => Origin::File(path),
            (None, None) => Origin::Unset,
        };
        Self { name, origin }
    }

    /// Returns the value in the text of its file: all but a leading byte order mark and one line end at the end.
    fn parse_file_text(&self, mut text: Secret, findings: &mut Findings) -> Configured<Secret> {
        if text.strip_byte_order_mark() {
            findings.push(
                self.finding(Code::ByteOrderMark)
                    .message("the file begins with a byte order mark, which is ignored")
                    .help("save it as UTF-8 without a byte order mark"),
            );
        }
        text.strip_line_end();
        if text.is_empty() {
            findings.push(
                self.finding(Code::EmptySecretFile)
                    .message(format!("the file for {} is empty", self.name))
                    .help("write the value to it, or unset the variable that names it"),
            );
            return Configured::Unreadable;
        }
        Configured::Value(text)
    }

    /// Returns an error about a value that is not a next hop. Traces that another program left in the value explain it
    /// better than a syntax error.
    fn invalid(&self, code: Code, value: &[u8], problem: String, help: &str) -> Finding {
        let finding = self.finding(code);
        match Suspicion::first_in(value) {
            Some(suspicion) => finding
                .message(suspicion.message(&format!("the value of {}", self.name)))
                .help(suspicion.help()),
            None => finding.message(problem).help(help),
        }
    }

    fn finding(&self, code: Code) -> Finding {
        let place = match &self.origin {
            Origin::File(path) => Place::File(path.clone(), None),
            Origin::Unset | Origin::Inline(_) => Place::Setting(self.name),
        };
        Finding::new(code, place)
    }
}
