//! `RELAY_*` and `DEFAULT_RELAY_HOST`: the default relay, from variables or from the files that they name.
//!
//! docker-mailserver's variables, and both spellings of "from a file" that its users know: `RELAY_PASSWORD_FILE`
//! and `RELAY_PASSWORD__FILE`. A variable is read once, at the start; a file is read again with the tables.
//!
//! A file that is missing, empty or wrong is an error, never an unset value: the answer that would follow from
//! "no password" is to send without authenticating. For the same reason a user without a password, or a password without
//! a user, is an unknown login ([`Configured::Unreadable`]) and not an unset one: the next hop of the default
//! relay is then *cannot tell*, and the mail waits. The sender and the host, which Postfix asks for before the next hop,
//! stay *not found*, because only the last of the three answers decides to send without authenticating.

use std::path::{Path, PathBuf};

use super::foreign_variables;
use super::variables::Variables;
use crate::diagnostics::{Code, Finding, Findings, Place};
use crate::lookup::default_relay::{Configured, DefaultRelay};
use crate::lookup::nexthop;
use crate::lookup::suspicion::Suspicion;
use crate::lookup::table::line::MAX_LINE;
use crate::os::invisible;
use crate::os::secret::Secret;

/// Where one value comes from.
#[derive(Default)]
enum Origin {
    /// Nowhere.
    #[default]
    Unset,
    /// The variable itself.
    Inline(Secret),
    /// A file, named by a variable.
    File(PathBuf),
}

/// One of the variables.
struct Variable {
    name: &'static str,
    origin: Origin,
}

/// The variables of the default relay.
pub struct RelayEnvironment {
    host: Variable,
    port: Variable,
    user: Variable,
    password: Variable,
    default_host: Variable,
}

impl RelayEnvironment {
    /// Takes the variables, and warns of those that contradict each other or mean nothing here.
    pub(crate) fn new(variables: &Variables, findings: &mut Findings) -> Self {
        foreign_variables::warn(variables, findings);
        let mut take = |name, file_names| Variable::take(variables, name, file_names, findings);
        Self {
            host: take("RELAY_HOST", ["RELAY_HOST_FILE", "RELAY_HOST__FILE"]),
            port: take("RELAY_PORT", ["RELAY_PORT_FILE", "RELAY_PORT__FILE"]),
            user: take("RELAY_USER", ["RELAY_USER_FILE", "RELAY_USER__FILE"]),
            password: take("RELAY_PASSWORD", ["RELAY_PASSWORD_FILE", "RELAY_PASSWORD__FILE"]),
            default_host: take(
                "DEFAULT_RELAY_HOST",
                ["DEFAULT_RELAY_HOST_FILE", "DEFAULT_RELAY_HOST__FILE"],
            ),
        }
    }

    /// Whether any of the variables is set.
    pub(crate) fn is_set(&self) -> bool {
        self.all()
            .into_iter()
            .any(|variable| !matches!(variable.origin, Origin::Unset))
    }

    fn all(&self) -> [&Variable; 5] {
        [
            &self.host,
            &self.port,
            &self.user,
            &self.password,
            &self.default_host,
        ]
    }

    /// The files that are named.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.all()
            .into_iter()
            .filter_map(|variable| match &variable.origin {
                Origin::File(path) => Some(path.as_path()),
                _ => None,
            })
    }

    /// Judges what stands in the variables themselves. Values in files can change, and are judged when they are read.
    pub(super) fn judge_inline(&self, findings: &mut Findings) {
        let mut all = Findings::default();
        self.resolve(&mut |_| None, &mut all);
        for finding in all
            .iter()
            .filter(|finding| matches!(finding.place, Place::Setting(_)))
        {
            findings.push(finding.clone());
        }
    }

    /// The default relay, with the named files read by `read`, which says by itself what it could not read.
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
                Some(text) => variable.value_in(text, findings),
            },
        };
        let [host, port, user, password, default_host] = self.all().map(|variable| value(variable, findings));
        let relay_host = self.relay_host(host, &port, findings);
        let default_relay_host = self.default_relay_host(default_host, findings);
        let credentials = self.credentials(user, password, findings);
        let default = DefaultRelay::new(relay_host, default_relay_host, credentials);
        if !default.is_set()
            && !matches!(
                (&self.user.origin, &self.password.origin),
                (Origin::Unset, _) | (_, Origin::Unset)
            )
        {
            findings.push(
                self.password
                    .finding(Code::CredentialsWithoutRelay)
                    .says("RELAY_USER and RELAY_PASSWORD are set, and no default relay is")
                    .help("set RELAY_HOST or DEFAULT_RELAY_HOST, or remove them"),
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
                "set RELAY_HOST to one host; DEFAULT_RELAY_HOST takes a list",
            ),
            _ => (
                &self.host,
                host.expose(),
                "set RELAY_HOST to a host name or an address alone, and RELAY_PORT to the port",
            ),
        };
        findings.push(variable.unusable(Code::BadRelayHost, value, problem.to_string(), help));
        Configured::Unreadable
    }

    fn default_relay_host(&self, host: Configured<Secret>, findings: &mut Findings) -> Configured<Vec<u8>> {
        let Configured::Value(host) = host else {
            return host.map(|host| host.expose().to_vec());
        };
        let judged = if nexthop::is_dunno(host.expose()) {
            Err("DUNNO is no next hop".to_owned())
        } else {
            nexthop::validate(host.expose()).map_err(|fault| format!("this is not a next hop: {fault}"))
        };
        match judged {
            Ok(()) => Configured::Value(host.expose().to_vec()),
            Err(problem) => {
                findings.push(self.default_host.unusable(
                    Code::BadDefaultRelayHost,
                    host.expose(),
                    problem,
                    "set it to [host]:port, [host], host:port or host, or leave it empty",
                ));
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
                        .says(format!(
                            "{} is set without {}; the login of the default relay is 'cannot tell', and its mail waits",
                            set.name, missing.name
                        ))
                        .help(format!(
                            "set {} too, or neither, for a default relay without a login",
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
            let message = "the user has a `:`, at which Postfix would part it from the password";
            Some((&self.user, message.to_owned()))
        } else if let Some(name) = control(&user) {
            Some((&self.user, format!("the user has a control character, {name}")))
        } else if let Some(name) = control(&password) {
            Some((
                &self.password,
                format!("the password has a line end or another control character, {name}"),
            ))
        } else if user.len() + password.len() > MAX_LINE {
            Some((&self.password, "user and password are too long".to_owned()))
        } else {
            None
        };
        if let Some((variable, message)) = fault {
            findings.push(
                variable
                    .finding(Code::BadDefaultCredentials)
                    .says(message)
                    .help("set it to what the relay's operator gave you, in one line"),
            );
            return Configured::Unreadable;
        }
        for (variable, value) in [(&self.user, &user), (&self.password, &password)] {
            if let Some(suspicion) = Suspicion::first_in(value.expose()) {
                findings.push(
                    variable
                        .finding(suspicion.code())
                        .says(suspicion.message(&format!("the value of {}", variable.name)))
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
    fn take(
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
                        .says(
                            "the value is what Kubernetes or a link of Docker sets for a service named relay, and is \
                             ignored",
                        )
                        .help(
                            "set enableServiceLinks: false for the pod, or give the service another name, and set the \
                             variable yourself if the relay has another port than 25",
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
                    .says(format!("{used} is set as well, and counts"))
                    .help("set one of the two"),
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

    /// The value in the text of its file: everything but a byte order mark before it and one line end behind it.
    fn value_in(&self, mut text: Secret, findings: &mut Findings) -> Configured<Secret> {
        if text.strip_byte_order_mark() {
            findings.push(
                self.finding(Code::ByteOrderMark)
                    .says("the file begins with a byte order mark, which is not a part of the value")
                    .help("save it as UTF-8 without one"),
            );
        }
        text.strip_line_end();
        if text.is_empty() {
            findings.push(
                self.finding(Code::EmptySecretFile)
                    .says(format!("the file for {} is empty", self.name))
                    .help("write the value into it, or do not name it"),
            );
            return Configured::Unreadable;
        }
        Configured::Value(text)
    }

    /// An error about a value of which no next hop can be made. What other programs left on the value says more than its
    /// grammar does.
    fn unusable(&self, code: Code, value: &[u8], problem: String, help: &str) -> Finding {
        let finding = self.finding(code);
        match Suspicion::first_in(value) {
            Some(suspicion) => finding
                .says(suspicion.message(&format!("the value of {}", self.name)))
                .help(suspicion.help()),
            None => finding.says(problem).help(help),
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
